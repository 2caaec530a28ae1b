//! How many calls a server takes at once: Gradient2 of Netflix's concurrency-limits (2018).
//!
//! In each window limit ← limit · gradient + √limit, smoothed, with gradient = tolerance · long /
//! short in ½..1: latency that rises over its long average means a queue, and shrinks the limit.
//! Two changes. The published long average follows the queue that the limit itself allows, doubles
//! in some minutes of overload, and with it the limit; here it rises only while the limit does not
//! bind. And where half the limit is as slow, the server is slower and has no queue: that latency
//! is the new average, with no minutes of starving. Promises: stays in its bounds, whatever it is
//! told; does not grow while less than half of it is used; a sample is three atomic writes.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Latency up to this many times its long average is no queue.
const TOLERANCE: f64 = 1.5;

/// The share of a window's verdict that is followed.
const SMOOTHING: f64 = 0.2;

/// Windows that the long average remembers.
const LONG: u32 = 600;

/// Windows from which the long average is first made, whether the limit binds or not.
const FIRST: u32 = 10;

/// A window is at least so long, and holds about as many samples as calls run: one round of them.
const WINDOW: Duration = Duration::from_millis(250);
const SAMPLES: std::ops::RangeInclusive<u32> = 10..=100;

/// With half of the limit a queue is half as long: above this share the latency is no queue's.
const SAME: f64 = 0.8;

/// A number that threads share.
#[derive(Debug)]
struct Number(AtomicU64);

impl Number {
    fn new(value: f64) -> Self {
        Self(AtomicU64::new(value.to_bits()))
    }

    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }
}

/// A limit that follows a server's latency.
#[derive(Debug)]
pub struct Limit {
    least: f64,
    most: f64,
    places: Number,
    /// The long average, in seconds; zero: unknown.
    long: Number,
    /// Windows that it was made from.
    windows: AtomicU32,
    /// The limit and the latency from which a fall is judged; zero: it does not fall.
    fell_from: Number,
    fell_at: Number,
    /// The window: when it may close, in microseconds; its samples; the most calls at once.
    closes: AtomicU64,
    sum: AtomicU64,
    count: AtomicU32,
    busiest: AtomicU32,
}

impl Limit {
    /// A limit that begins at `first` and stays from `least`, at least 1, to `most`.
    pub fn new(first: u32, least: u32, most: u32) -> Self {
        let least = f64::from(least.max(1));
        let most = f64::from(most).max(least);
        Self {
            least,
            most,
            places: Number::new(f64::from(first).clamp(least, most)),
            long: Number::new(0.0),
            windows: AtomicU32::new(0),
            fell_from: Number::new(0.0),
            fell_at: Number::new(0.0),
            closes: AtomicU64::new(0),
            sum: AtomicU64::new(0),
            count: AtomicU32::new(0),
            busiest: AtomicU32::new(0),
        }
    }

    /// Calls that may run at once.
    pub fn get(&self) -> u32 {
        // It lies between two numbers that are `u32`.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let limit = self.places.get() as u32;
        limit
    }

    /// A call had its answer after so long, with so many running, itself included. `now` counts
    /// from any fixed moment.
    pub fn saw(&self, took: Duration, running: u32, now: Duration) {
        self.sum.fetch_add(micros(took), Ordering::Relaxed);
        self.busiest.fetch_max(running, Ordering::Relaxed);
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if count < self.get().clamp(*SAMPLES.start(), *SAMPLES.end()) {
            return;
        }
        let (now, closes) = (micros(now), self.closes.load(Ordering::Relaxed));
        // Whoever moves the end on closes the window; the others' samples count for the next.
        let next = now + micros(WINDOW);
        let (ours, relaxed) = (now >= closes, Ordering::Relaxed);
        if ours
            && self
                .closes
                .compare_exchange(closes, next, relaxed, relaxed)
                .is_ok()
        {
            self.close();
        }
    }

    /// A call was given up at this age: it would have taken longer.
    pub fn at_least(&self, age: Duration, running: u32, now: Duration) {
        if age.as_secs_f64() > self.long.get() {
            self.saw(age, running, now);
        }
    }

    fn close(&self) {
        let count = self.count.swap(0, Ordering::Relaxed);
        let sum = self.sum.swap(0, Ordering::Relaxed);
        let busiest = f64::from(self.busiest.swap(0, Ordering::Relaxed));
        // In seconds, and never zero.
        let short = (sum as f64 / f64::from(count.max(1))).max(1.0) / 1e6;
        let limit = self.places.get();
        self.learn(short, limit, busiest >= limit.floor());
        if busiest < limit / 2.0 {
            return;
        }
        let gradient = (TOLERANCE * self.long.get() / short).clamp(0.5, 1.0);
        let wanted = limit * gradient + limit.sqrt();
        let next = limit + (wanted - limit) * SMOOTHING;
        self.places.set(next.clamp(self.least, self.most));
    }

    /// Follows the long average. `bound`: as many calls ran as the limit allows.
    fn learn(&self, short: f64, limit: f64, bound: bool) {
        let (long, windows) = (self.long.get(), self.windows.load(Ordering::Relaxed));
        if bound && windows >= FIRST && short > long {
            self.judge_fall(short, limit);
            return;
        }
        let windows = windows.saturating_add(1).min(LONG);
        self.windows.store(windows, Ordering::Relaxed);
        // An average that was learned from a queue, or before a server became faster, goes sooner.
        let long = if long > 2.0 * short {
            long * 0.95
        } else {
            long
        };
        self.long.set(long + (short - long) / f64::from(windows));
        self.fell_from.set(0.0);
    }

    /// While the limit binds and the latency is high: is it a queue, which a lower limit shortens?
    fn judge_fall(&self, short: f64, limit: f64) {
        let from = self.fell_from.get();
        let halved = limit <= from / 2.0;
        if (halved && short > SAME * self.fell_at.get()) || limit <= self.least {
            self.long.set(short);
            self.fell_from.set(0.0);
        } else if halved || limit > from {
            self.fell_from.set(limit);
            self.fell_at.set(short);
        } else {
            // A queue takes a while to build: its peak is what a lower limit is held against.
            self.fell_at.set(short.max(self.fell_at.get()));
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX >> 1)
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    /// A server with so many slots and a queue before them, behind a limit; in virtual time.
    struct Server {
        limit: Limit,
        slots: usize,
        service: Duration,
        /// Times vary from none to twice the service time.
        varies: Option<StdRng>,
        now: Duration,
        /// When each slot is free, of those that were used.
        free: BinaryHeap<Reverse<Duration>>,
        /// When a call ends, and when it began.
        running: BinaryHeap<Reverse<(Duration, Duration)>>,
        served: u32,
    }

    impl Server {
        fn new(slots: usize, millis: u64) -> Self {
            Self {
                limit: Limit::new(20, 4, 1_000),
                slots,
                service: Duration::from_millis(millis),
                varies: None,
                now: Duration::ZERO,
                free: BinaryHeap::new(),
                running: BinaryHeap::new(),
                served: 0,
            }
        }

        /// So many calls a second for so many seconds; gives those that were served in a second.
        fn offer(&mut self, rate: u32, seconds: u32) -> f64 {
            let began = self.now;
            self.served = 0;
            for call in 0..rate * seconds {
                self.now = began + Duration::from_secs(1) / rate * call;
                self.end_what_is_over();
                if self.running.len() < self.limit.get() as usize {
                    self.begin();
                }
            }
            f64::from(self.served) / f64::from(seconds)
        }

        fn begin(&mut self) {
            while self.free.len() >= self.slots {
                let Reverse(free) = self.free.pop().expect("a slot");
                if self.free.len() < self.slots {
                    // The one that is free first takes the call.
                    self.take_slot(free.max(self.now));
                    return;
                }
            }
            self.take_slot(self.now);
        }

        fn take_slot(&mut self, at: Duration) {
            let factor = match &mut self.varies {
                Some(random) => 2.0 * random.random::<f64>(),
                None => 1.0,
            };
            let end = at + self.service.mul_f64(factor);
            self.free.push(Reverse(end));
            self.running.push(Reverse((end, self.now)));
        }

        fn end_what_is_over(&mut self) {
            while let Some(Reverse((end, began))) = self.running.peek().copied()
                && end <= self.now
            {
                let running = u32::try_from(self.running.len()).expect("few");
                self.running.pop();
                self.served += 1;
                let took = end.saturating_sub(began);
                self.limit.saw(took, running, end);
            }
        }
    }

    #[test]
    fn under_overload_it_finds_what_the_server_takes_and_stays_there() {
        let mut server = Server::new(20, 50);
        server.varies = Some(StdRng::seed_from_u64(1));
        server.offer(800, 20);
        // With an average that follows the queue it is at its upper bound in ten minutes.
        for _ in 0..60 {
            let served = server.offer(800, 60);
            let limit = server.limit.get();
            assert!((20..=45).contains(&limit), "{limit}");
            assert!(served > 0.95 * 400.0, "{served}");
        }
    }

    #[test]
    fn it_grows_to_a_large_server() {
        let mut server = Server::new(200, 50);
        server.offer(8_000, 60);
        let limit = server.limit.get();
        assert!((200..=420).contains(&limit), "{limit}");
    }

    #[test]
    fn it_does_not_grow_while_it_is_not_used() {
        let mut server = Server::new(1_000, 50);
        server.offer(150, 60);
        assert_eq!(server.limit.get(), 20);
    }

    #[test]
    fn it_falls_when_the_server_loses_slots_and_recovers_with_them() {
        let mut server = Server::new(40, 50);
        server.offer(1_600, 60);
        assert!(server.limit.get() >= 40);
        server.slots = 8;
        server.offer(1_600, 60);
        let fallen = server.limit.get();
        assert!((8..=25).contains(&fallen), "{fallen}");
        server.slots = 40;
        server.offer(1_600, 60);
        let served = server.offer(1_600, 10);
        assert!(served > 0.95 * 800.0, "{served}");
    }

    #[test]
    fn a_server_that_became_slower_is_not_starved_for_long() {
        let mut server = Server::new(40, 50);
        server.offer(1_600, 60);
        server.service *= 4;
        server.offer(1_600, 60);
        let served = server.offer(1_600, 10);
        assert!(served > 0.9 * 200.0, "{served}");
        // A server that is faster again may get some times what it needs while the limit binds.
        server.service /= 4;
        server.offer(1_600, 60);
        let limit = server.limit.get();
        assert!((40..=240).contains(&limit), "{limit}");
        // With a minute in which it does not bind, that is over.
        server.offer(400, 60);
        server.offer(1_600, 60);
        let limit = server.limit.get();
        assert!((40..=120).contains(&limit), "{limit}");
    }

    #[test]
    fn latencies_with_a_heavy_tail_do_not_wear_it_down() {
        let limit = Limit::new(50, 4, 1_000);
        let mut random = StdRng::seed_from_u64(1);
        for step in 0..200_000u32 {
            // Median 400 ms; one in 33 stalls for three to ten seconds.
            let stall = random.random_bool(0.03);
            let seconds: f64 = if stall {
                random.random_range(3.0..10.0)
            } else {
                0.4 * random.random_range(-1.0..1.0f64).exp()
            };
            let running = limit.get();
            let now = Duration::from_millis(10) * step;
            limit.saw(Duration::from_secs_f64(seconds), running, now);
        }
        assert!(limit.get() > 100, "{}", limit.get());
    }

    #[test]
    fn what_was_given_up_early_makes_no_server_faster() {
        let limit = Limit::new(20, 4, 1_000);
        for step in 0..100 {
            limit.saw(Duration::from_millis(100), 5, WINDOW * step);
        }
        let before = limit.long.get();
        for step in 100..400 {
            limit.at_least(Duration::from_millis(1), 5, WINDOW * step);
        }
        assert!((limit.long.get() - before).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn it_stays_in_its_bounds(
            first in 0..2_000u32,
            least in 0..50u32,
            most in 0..2_000u32,
            samples in prop::collection::vec((0..u64::MAX, 0..5_000u32, 0..2_000u64), 0..400),
        ) {
            let limit = Limit::new(first, least, most);
            let mut now = Duration::ZERO;
            for (took, running, later) in samples {
                now += Duration::from_millis(later);
                limit.saw(Duration::from_micros(took >> 8), running, now);
                prop_assert!(limit.get() >= least.max(1));
                prop_assert!(limit.get() <= most.max(least.max(1)));
            }
        }
    }
}
