//! What is shown, and what the reader wants to see of it. Pure.

use std::cmp::Ordering;
use std::collections::HashMap;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::feed::Update;
use crate::latency::Window;
use crate::observe::live::{Figures, Route, Snapshot};

/// Moments that a sparkline remembers, a second each.
const REMEMBERED: usize = 120;

/// Longest filter.
const LONGEST_FILTER: usize = 64;

/// What follows on a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It goes on.
    Stay,
    /// The reader leaves.
    Leave,
}

/// By what routes are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// As they are tried.
    Order,
    /// By name.
    Name,
    /// Calls a second, most first.
    Calls,
    /// p99 against the budget, worst first.
    Tail,
    /// Share past the budget, most first.
    Over,
    /// In flight, most first.
    InFlight,
}

impl Sort {
    const ALL: [Self; 6] = [
        Self::Order,
        Self::Name,
        Self::Calls,
        Self::Tail,
        Self::Over,
        Self::InFlight,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Name => "name",
            Self::Calls => "calls",
            Self::Tail => "p99",
            Self::Over => "over",
            Self::InFlight => "in flight",
        }
    }
}

/// A gateway at one moment, and calls a second before it by route.
#[derive(Clone, Debug)]
pub struct Picture {
    /// How it stands.
    pub snapshot: Snapshot,
    trails: HashMap<String, Vec<f64>>,
}

impl Picture {
    /// Calls a second of a route, oldest first.
    pub fn trail(&self, route: &str) -> &[f64] {
        self.trails.get(route).map_or(&[], Vec::as_slice)
    }
}

/// All that is shown.
pub struct App {
    /// The admin listener.
    pub admin: String,
    /// Why nothing is heard of the gateway just now.
    pub away: Option<String>,
    latest: Option<Picture>,
    /// What is shown while time stands still.
    held: Option<Picture>,
    /// By what routes are sorted.
    pub sort: Sort,
    /// The other way round.
    pub reversed: bool,
    /// The window of percentiles.
    pub window: Window,
    /// First tokens rather than whole answers.
    pub first_tokens: bool,
    /// Only routes with this in their names.
    pub filter: String,
    /// The filter is being written.
    pub filtering: bool,
    /// The keys are shown.
    pub help: bool,
    selected: Option<String>,
}

impl App {
    /// Of a gateway that nothing was heard of yet.
    pub fn new(admin: String) -> Self {
        Self {
            admin,
            away: None,
            latest: None,
            held: None,
            sort: Sort::Order,
            reversed: false,
            window: Window::Minute,
            first_tokens: false,
            filter: String::new(),
            filtering: false,
            help: false,
            selected: None,
        }
    }

    /// Takes what was heard of the gateway.
    pub fn hear(&mut self, update: Update) {
        let snapshot = match update {
            Update::Away(why) => {
                self.away = Some(why);
                return;
            }
            Update::Snapshot(snapshot) => *snapshot,
        };
        self.away = None;
        let before = self.latest.take().filter(|before| {
            // Another process begins at zero.
            (before.snapshot.gateway.started - snapshot.gateway.started).abs() < 1e-6
        });
        let mut old = before.map(|before| before.trails).unwrap_or_default();
        let mut trails = HashMap::new();
        for route in &snapshot.routes {
            let mut trail = old.remove(&route.name).unwrap_or_default();
            trail.extend(route.per_second.map(|flow| flow.calls));
            let surplus = trail.len().saturating_sub(REMEMBERED);
            trail.drain(..surplus);
            trails.insert(route.name.clone(), trail);
        }
        self.latest = Some(Picture { snapshot, trails });
    }

    /// What is shown; `None`: nothing was heard yet.
    pub fn picture(&self) -> Option<&Picture> {
        self.held.as_ref().or(self.latest.as_ref())
    }

    /// Whether time stands still.
    pub fn is_frozen(&self) -> bool {
        self.held.is_some()
    }

    /// A route's figures that are shown, and the budget for them.
    pub fn figures<'a>(&self, route: &'a Route) -> (&'a Figures, f64) {
        if self.first_tokens {
            (route.first_token.of(self.window), route.budget.first_token)
        } else {
            (route.duration.of(self.window), route.budget.total)
        }
    }

    /// The routes that are shown, sorted.
    pub fn routes(&self) -> Vec<&Route> {
        let Some(picture) = self.picture() else {
            return Vec::new();
        };
        let wanted = self.filter.to_lowercase();
        let fits = |route: &&Route| route.name.to_lowercase().contains(&wanted);
        let mut routes: Vec<&Route> = picture.snapshot.routes.iter().filter(fits).collect();
        // Stable: what is alike stays in the order in which it is tried.
        routes.sort_by(|one, other| self.compare(one, other));
        if self.reversed {
            routes.reverse();
        }
        routes
    }

    fn compare(&self, one: &Route, other: &Route) -> Ordering {
        let most_first = |of: &dyn Fn(&Route) -> f64| of(other).total_cmp(&of(one));
        match self.sort {
            Sort::Order => Ordering::Equal,
            Sort::Name => one.name.cmp(&other.name),
            Sort::Calls => most_first(&|route| route.per_second.map_or(0.0, |flow| flow.calls)),
            Sort::Tail => most_first(&|route| {
                let (figures, budget) = self.figures(route);
                figures.p99 / budget.max(1e-9)
            }),
            Sort::Over => most_first(&|route| self.figures(route).0.over.unwrap_or(0.0)),
            Sort::InFlight => most_first(&|route| route.in_flight as f64),
        }
    }

    /// The selected route's place among those that are shown.
    pub fn selected(&self) -> usize {
        let name = self.selected.as_deref();
        let routes = self.routes();
        let at = routes
            .iter()
            .position(|route| Some(route.name.as_str()) == name);
        at.unwrap_or(0)
    }

    fn step(&mut self, by: isize) {
        let routes = self.routes();
        let Some(last) = routes.len().checked_sub(1) else {
            return;
        };
        let at = self.selected().saturating_add_signed(by).min(last);
        self.selected = Some(routes[at].name.clone());
    }

    /// Does what the reader wants.
    pub fn press(&mut self, key: KeyEvent) -> Then {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            let leaves = matches!(key.code, KeyCode::Char('c' | 'd'));
            return if leaves { Then::Leave } else { Then::Stay };
        }
        if self.filtering {
            self.write_filter(key.code);
            return Then::Stay;
        }
        if self.help {
            self.help = false;
            return Then::Stay;
        }
        match key.code {
            KeyCode::Char('q') => return Then::Leave,
            KeyCode::Esc if self.filter.is_empty() => return Then::Leave,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::Home | KeyCode::Char('g') => self.step(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX),
            KeyCode::Char('s') => self.sort = next(&Sort::ALL, self.sort),
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Char('w') => self.window = next(&Window::ALL, self.window),
            KeyCode::Char('t') => self.first_tokens = !self.first_tokens,
            KeyCode::Char('/') => self.filtering = true,
            KeyCode::Char(' ' | 'f') => {
                self.held = match self.held {
                    Some(_) => None,
                    None => self.latest.clone(),
                };
            }
            KeyCode::Char('h' | '?') => self.help = true,
            _ => {}
        }
        Then::Stay
    }

    fn write_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.filtering = false,
            KeyCode::Esc => {
                self.filter.clear();
                self.filtering = false;
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(one) if self.filter.len() < LONGEST_FILTER => self.filter.push(one),
            _ => {}
        }
    }
}

fn next<T: Copy + PartialEq>(all: &[T], now: T) -> T {
    let at = all.iter().position(|one| *one == now).unwrap_or(0);
    all[(at + 1) % all.len()]
}

#[cfg(test)]
pub mod tests;
