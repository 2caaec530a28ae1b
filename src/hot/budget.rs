//! One clock for a call: when it must have answered, and what happens then.

use std::time::Duration;

use super::intent::Intent;
use crate::cold::job::Reason;
use crate::config::{Action, Budget, OverBudget, Unasked};

/// What is done at the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// A job, and 202.
    Demote,
    /// A job, and 303 to its result.
    SeeOther,
    /// 504.
    Fail,
    /// The call goes on; `observe` or `wait` is counted.
    GoOn(&'static str),
}

impl Then {
    /// Its name in `shunt_budget_exceeded_total`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Demote => "demote",
            Self::SeeOther => "see-other",
            Self::Fail => "fail",
            Self::GoOn(name) => name,
        }
    }

    /// Whether it makes a job.
    pub const fn is_job(self) -> bool {
        matches!(self, Self::Demote | Self::SeeOther)
    }
}

/// A call's deadline, counted from its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// The budget.
    pub budget: Duration,
    /// What follows.
    pub then: Then,
    /// Why, if it becomes a job.
    pub reason: Reason,
}

impl Deadline {
    /// The same of a call of which no job can be made any more.
    pub const fn failing(self) -> Self {
        Self {
            then: Then::Fail,
            ..self
        }
    }
}

/// Taken off the SDK's own patience, so that the answer is there before the SDK goes.
fn margin(patience: Duration) -> Duration {
    (patience / 10).clamp(Duration::from_millis(20), Duration::from_secs(1))
}

/// The deadline of a call. `demotable`: it was kept, so a job can be made of it.
pub fn deadline(
    budget: &Budget,
    over: &OverBudget,
    intent: &Intent,
    streamed: bool,
    demotable: bool,
) -> Deadline {
    let total = budget.total.get();
    let route = if streamed {
        budget.first_token.get().min(total)
    } else {
        total
    };
    let mut limit = route.min(intent.budget.unwrap_or(route));
    if let Some(patience) = intent.patience {
        limit = limit.min(patience.saturating_sub(margin(patience)));
    }
    let then = match over.action {
        Action::Observe => Then::GoOn("observe"),
        Action::Fail => Then::Fail,
        Action::Demote if intent.respond_async && demotable => Then::Demote,
        Action::Demote => match over.unasked {
            Unasked::SeeOther if demotable => Then::SeeOther,
            Unasked::Wait => Then::GoOn("wait"),
            Unasked::SeeOther | Unasked::Fail => Then::Fail,
        },
    };
    let mut reason = Reason::BudgetExceeded;
    // A wait is for what comes after it: where no job can come, there is none.
    if then == Then::Demote
        && let Some(wait) = intent.wait
        && wait < limit
    {
        limit = wait;
        reason = Reason::Requested;
    }
    Deadline {
        budget: limit,
        then,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Period;

    fn budget() -> Budget {
        Budget {
            first_token: Period::from_secs(2),
            total: Period::from_secs(10),
            ..Budget::default()
        }
    }

    fn of(intent: &Intent, streamed: bool) -> Deadline {
        deadline(&budget(), &OverBudget::default(), intent, streamed, true)
    }

    #[test]
    fn streams_are_held_to_their_first_token_and_others_to_their_last_byte() {
        let none = Intent::default();
        assert_eq!(of(&none, true).budget, Duration::from_secs(2));
        assert_eq!(of(&none, false).budget, Duration::from_secs(10));
    }

    #[test]
    fn a_caller_can_lower_its_budget_and_never_raise_it() {
        let with = |millis| Intent {
            budget: Some(Duration::from_millis(millis)),
            ..Intent::default()
        };
        assert_eq!(of(&with(800), false).budget, Duration::from_millis(800));
        assert_eq!(of(&with(60_000), false).budget, Duration::from_secs(10));
    }

    #[test]
    fn the_answer_is_there_before_the_sdk_goes() {
        let intent = Intent {
            patience: Some(Duration::from_secs(4)),
            ..Intent::default()
        };
        assert_eq!(of(&intent, false).budget, Duration::from_millis(3_600));
    }

    #[test]
    fn a_wait_counts_for_those_who_asked_for_a_202() {
        let mut intent = Intent {
            wait: Some(Duration::from_secs(1)),
            ..Intent::default()
        };
        assert_eq!(of(&intent, false).budget, Duration::from_secs(10));
        intent.respond_async = true;
        let lowered = of(&intent, false);
        assert_eq!(lowered.budget, Duration::from_secs(1));
        assert_eq!(lowered.reason, Reason::Requested);
        assert_eq!(lowered.then, Then::Demote);
    }

    #[test]
    fn a_wait_does_not_lower_a_budget_after_which_no_job_comes() {
        let intent = Intent {
            respond_async: true,
            wait: Some(Duration::from_secs(1)),
            ..Intent::default()
        };
        for action in [Action::Fail, Action::Observe] {
            let over = OverBudget {
                action,
                ..OverBudget::default()
            };
            let kept = deadline(&budget(), &over, &intent, false, true);
            assert_eq!(kept.budget, Duration::from_secs(10));
        }
        let too_long = deadline(&budget(), &OverBudget::default(), &intent, false, false);
        assert_eq!(too_long.budget, Duration::from_secs(10));
    }

    #[test]
    fn a_202_goes_to_those_who_asked_and_only_for_what_was_kept() {
        let asked = Intent {
            respond_async: true,
            ..Intent::default()
        };
        let over = OverBudget::default();
        let kept = |intent: &Intent, kept| deadline(&budget(), &over, intent, false, kept).then;
        assert_eq!(kept(&asked, true), Then::Demote);
        assert_eq!(kept(&asked, false), Then::Fail);
        assert_eq!(kept(&Intent::default(), true), Then::Fail);
        let over = OverBudget {
            unasked: Unasked::SeeOther,
            ..over
        };
        let then = deadline(&budget(), &over, &Intent::default(), false, true).then;
        assert_eq!(then, Then::SeeOther);
    }
}
