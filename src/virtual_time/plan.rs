//! What a caller does: drawn from the seed and the call's number, whatever happens around it.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// A route of `house.toml`, and what its callers may hold it to.
#[derive(Debug)]
pub struct Lane {
    /// Its name, and the first part of its path.
    pub name: &'static str,
    /// Budgets of streams and of other answers, milliseconds.
    pub budget: (u64, u64),
    /// Calls can become jobs.
    pub demotes: bool,
    /// Callers that did not ask for a 202 are let wait.
    pub waits: bool,
    /// A stream past its total is cut.
    pub cuts: bool,
    /// The cap on hedges: extra calls per call.
    pub max_extra: f64,
}

const fn lane(name: &'static str, first_token: u64, total: u64) -> Lane {
    Lane {
        name,
        budget: (first_token, total),
        demotes: false,
        waits: false,
        cuts: false,
        max_extra: 0.05,
    }
}

/// The routes.
pub static LANES: [Lane; 7] = [
    lane("hedged", 2_000, 4_000),
    lane("auto", 3_000, 6_000),
    Lane {
        cuts: true,
        max_extra: 0.0,
        ..lane("failing", 1_000, 2_000)
    },
    Lane {
        max_extra: 0.0,
        ..lane("keeping", 2_000, 3_000)
    },
    Lane {
        demotes: true,
        ..lane("demoting", 1_500, 2_000)
    },
    Lane {
        demotes: true,
        max_extra: 0.0,
        ..lane("seeing", 1_500, 2_000)
    },
    Lane {
        demotes: true,
        waits: true,
        max_extra: 0.0,
        ..lane("waiting", 1_500, 2_000)
    },
];

/// What a caller does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The call's number.
    pub call: u64,
    /// The number of the key that it comes with.
    pub key: u64,
    /// Where it goes.
    pub lane: &'static Lane,
    /// It wants a stream.
    pub streamed: bool,
    /// It comes over HTTP/2, beside others.
    pub http2: bool,
    /// It takes a 202.
    pub respond_async: bool,
    /// After so many seconds.
    pub wait: Option<u64>,
    /// `X-Shunt-Budget`, milliseconds.
    pub budget: Option<u64>,
    /// `x-stainless-read-timeout`, seconds.
    pub patience: Option<u64>,
    /// It leaves after so long.
    pub leaves: Option<Duration>,
    /// It cancels its job after so long.
    pub cancels: Option<Duration>,
}

/// Longest that a caller waits where its route lets it.
const LONGEST: Duration = Duration::from_secs(45);

impl Plan {
    /// The plan of a call.
    pub fn draw(seed: u64, call: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ call.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let lane = &LANES[random.random_range(0..LANES.len())];
        let chance = |share: f64, random: &mut StdRng| random.random::<f64>() < share;
        let millis =
            |most: u64, random: &mut StdRng| Duration::from_millis(random.random_range(0..most));
        let asks = lane.demotes || chance(0.1, &mut random);
        let respond_async = asks && chance(0.7, &mut random);
        let waits = lane.waits && !respond_async;
        Self {
            call,
            key: call % 5,
            lane,
            streamed: chance(0.5, &mut random),
            http2: chance(0.4, &mut random),
            respond_async,
            wait: [None, None, None, Some(0), Some(1)][random.random_range(0..5)],
            budget: chance(0.2, &mut random).then(|| random.random_range(200..3_000)),
            patience: chance(0.1, &mut random).then(|| random.random_range(1..6)),
            leaves: if chance(0.12, &mut random) {
                Some(millis(4_000, &mut random))
            } else {
                waits.then_some(LONGEST)
            },
            // Some at once, while the job is being claimed.
            cancels: chance(0.12, &mut random).then(|| {
                let most = [10, 20_000][random.random_range(0..2)];
                millis(most, &mut random)
            }),
        }
    }

    /// When the caller must have its answer, counted from its request: the contract's words, not
    /// the gateway's code. `None`: it is let wait.
    pub fn deadline(&self) -> Option<Duration> {
        if self.lane.waits && !self.respond_async {
            return None;
        }
        let (first_token, total) = self.lane.budget;
        let mut limit = if self.streamed { first_token } else { total };
        limit = limit.min(self.budget.unwrap_or(limit));
        // A wait is for the job that comes after it.
        if let (true, true, Some(wait)) = (self.lane.demotes, self.respond_async, self.wait) {
            limit = limit.min(wait * 1_000);
        }
        // An answer is there before the caller's own library goes.
        let patience = self.patience.map_or(limit, |seconds| seconds * 1_000);
        Some(Duration::from_millis(limit.min(patience)))
    }
}
