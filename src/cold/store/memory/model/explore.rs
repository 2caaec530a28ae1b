//! Breadth first over every state that can be reached.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::State;
use super::steps::Action;

/// More are not explored: it would take too long.
const MOST: usize = 600_000;

/// A run without further faults ends every job in fewer steps.
const MOST_STEPS: usize = 200;

/// What must not be.
pub struct Found {
    pub why: String,
    /// The shortest way there.
    pub path: Vec<String>,
}

/// How a state was reached first.
struct Reached {
    from: usize,
    by: Option<Action>,
    /// Where a run without further faults goes from here.
    fair: Option<usize>,
    over: bool,
}

fn path(reached: &[Reached], mut at: usize) -> Vec<String> {
    let mut path = Vec::new();
    while let Some(by) = &reached[at].by {
        path.push(format!("{by:?}"));
        at = reached[at].from;
    }
    path.reverse();
    path
}

/// Explores all that can come of a state. Gives how many states there are.
pub fn explore(first: State) -> Result<usize, Found> {
    let mut known = HashMap::from([(first.key(), 0)]);
    let mut reached = vec![Reached {
        from: 0,
        by: None,
        fair: None,
        over: first.is_over(),
    }];
    let mut level = vec![(0, first)];
    while !level.is_empty() {
        let mut next = Vec::new();
        for (at, state) in level {
            let actions = state.actions();
            let fair = state.fair(&actions);
            for action in actions {
                let is_fair = fair.as_ref() == Some(&action);
                let then = state.act(&action).map_err(|why| {
                    let mut path = path(&reached, at);
                    path.push(format!("{action:?}"));
                    Found { why, path }
                })?;
                let new = reached.len();
                let to = match known.entry(then.key()) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(free) => {
                        reached.push(Reached {
                            from: at,
                            by: Some(action),
                            fair: None,
                            over: then.is_over(),
                        });
                        next.push((new, then));
                        *free.insert(new)
                    }
                };
                if is_fair {
                    reached[at].fair = Some(to);
                }
            }
        }
        if reached.len() > MOST {
            let last = reached.len() - 1;
            return Err(Found {
                why: format!("more than {MOST} states: explore less"),
                path: path(&reached, last),
            });
        }
        level = next;
    }
    ends(&reached)?;
    Ok(reached.len())
}

/// From every state a run without further faults ends every job.
fn ends(reached: &[Reached]) -> Result<(), Found> {
    let mut good: Vec<bool> = reached.iter().map(|one| one.over).collect();
    for start in 0..reached.len() {
        let (mut way, mut at) = (Vec::new(), start);
        while !good[at] {
            way.push(at);
            let lost = |why: &str| Found {
                why: format!("a job is lost: {why}"),
                path: path(reached, at),
            };
            if way.len() > MOST_STEPS {
                return Err(lost("it never ends"));
            }
            at = reached[at]
                .fair
                .ok_or_else(|| lost("nothing more happens"))?;
        }
        for at in way {
            good[at] = true;
        }
    }
    Ok(())
}
