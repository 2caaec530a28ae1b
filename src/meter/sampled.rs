//! Times of attempts for a policy to learn from: those seen to their end and those given up.

use std::sync::Arc;
use std::time::Duration;

use super::Tracked;
use crate::latency::{Survival, Window};

/// Both, as two histograms with the same windows.
pub struct Sampled {
    pub(super) ended: Arc<Tracked>,
    pub(super) given_up: Arc<Tracked>,
}

impl Sampled {
    /// An attempt had its answer after so long.
    pub fn ended(&self, took: Duration) {
        self.ended.record(took);
    }

    /// An attempt was given up at this age, without an answer.
    pub fn given_up(&self, age: Duration) {
        self.given_up.record(age);
    }

    /// Samples in a window.
    pub fn count(&self, window: Window) -> u64 {
        let (ended, given_up) = (self.ended.views(), self.given_up.views());
        ended.window(window).count() + given_up.window(window).count()
    }

    /// What a window tells.
    pub fn survival(&self, window: Window) -> Survival {
        let (ended, given_up) = (self.ended.views(), self.given_up.views());
        Survival::of(ended.window(window), given_up.window(window))
    }
}
