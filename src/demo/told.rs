//! What the demo says, from what was counted. Pure.
//!
//! Promises: the live line fits 80 columns; each first is told once.

use std::fmt::Write as _;
use std::time::Duration;

use crate::latency::Summary;

/// Takes away what stood behind.
const ERASED: &str = "\x1b[K";

/// What the demo's apps saw so far.
#[derive(Clone, Copy, Default)]
pub struct Figures {
    /// Calls straight to the provider, to their last byte.
    pub straight: Summary,
    /// The same calls through the gateway.
    pub through: Summary,
    /// Calls through the gateway that took more than one attempt.
    pub hedged: u64,
    /// Calls that became jobs.
    pub demoted: u64,
    /// Callbacks whose signature was right.
    pub verified: u64,
    /// Others.
    pub refused: u64,
    /// Calls with another status, or that ended early.
    pub failed: u64,
}

/// The addresses to look at.
pub struct Addresses {
    /// The admin listener's.
    pub admin: String,
    /// The callers'.
    pub public: String,
    /// The simulated provider's.
    pub provider: String,
    /// The file of the access log.
    pub calls: String,
}

/// What is where, before anything happens.
pub fn introduction(at: &Addresses, rate: u32, stream_every: u64, slow_every: u64) -> String {
    let Addresses {
        admin,
        public,
        provider,
        calls,
    } = at;
    format!(
        "  page      http://{admin}/\n  \
         terminal  shunt top --admin http://{admin}\n  \
         metrics   http://{admin}/metrics\n  \
         routes    http://{admin}/api/routes\n  \
         gateway   http://{public}/v1/chat/completions\n  \
         provider  http://{provider}/stats\n  \
         calls     {calls}\n  \
         Ctrl-C ends it\n\n\
         {rate} calls a second go straight to a simulated provider, and the same through\n\
         Shunt; one in {stream_every} is a stream. One in 20 meets the provider's tail (1.2 s\n\
         instead of 0.12 s) and is hedged. One in {slow_every} takes 4 s, past the route's\n\
         budget of 1.5 s, and becomes a job with a signed callback.\n"
    )
}

/// What a terminal shows in place of the live line, or a log as a line of its own.
pub fn shown(line: &str, terminal: bool, stays: bool) -> String {
    match (terminal, stays) {
        (false, _) => format!("{line}\n"),
        (true, false) => format!("\r{line}{ERASED}"),
        (true, true) => format!("\r{line}{ERASED}\n"),
    }
}

/// The live line.
pub fn line(all: &Figures) -> String {
    format!(
        "p99 straight {}, Shunt {} | hedged {} | jobs {} | callbacks {}",
        seconds(all.straight.p99),
        seconds(all.through.p99),
        all.hedged,
        all.demoted,
        all.verified,
    )
}

/// What was promised, and which of it was seen.
#[derive(Default)]
pub struct Firsts([bool; 3]);

impl Firsts {
    /// Says what is seen for the first time.
    pub fn news(&mut self, all: &Figures, since: Duration) -> Vec<String> {
        let promises = [
            ("hedged call", all.hedged),
            ("demoted call", all.demoted),
            ("verified callback", all.verified),
        ];
        let mut news = Vec::new();
        for (seen, (what, count)) in self.0.iter_mut().zip(promises) {
            if count > 0 && !*seen {
                *seen = true;
                news.push(format!("first {what} after {:.1} s", since.as_secs_f64()));
            }
        }
        news
    }
}

/// All of it, at the end.
pub fn summary(all: &Figures, hedges_won: u64) -> String {
    let row = |name: &str, all: &Summary| {
        format!(
            "{name:<16}{:>8}{:>10}{:>10}{:>10}\n",
            all.count,
            seconds(all.p50),
            seconds(all.p95),
            seconds(all.p99)
        )
    };
    let mut text = format!(
        "{:<16}{:>8}{:>10}{:>10}{:>10}\n",
        "", "calls", "p50", "p95", "p99"
    );
    text += &row("straight", &all.straight);
    text += &row("through Shunt", &all.through);
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "\nhedged calls {}, hedges won {hedges_won}, calls demoted {}, failed calls {},\n\
         callbacks received and verified {}, refused {}",
        all.hedged, all.demoted, all.failed, all.verified, all.refused,
    );
    text
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(p99: f64, calls: u64) -> Figures {
        let tail = Summary {
            p99: Duration::from_secs_f64(p99),
            ..Summary::default()
        };
        Figures {
            straight: tail,
            through: tail,
            hedged: calls / 20,
            demoted: calls / 40,
            verified: calls / 40,
            ..Figures::default()
        }
    }

    #[test]
    fn the_live_line_fits_80_columns_after_half_a_day_and_covers_what_stood_there() {
        let half_a_day = figures(4.0, 40 * 43_200);
        assert_eq!(
            line(&half_a_day),
            "p99 straight 4.00 s, Shunt 4.00 s | hedged 86400 | jobs 43200 | callbacks 43200"
        );
        assert!(line(&half_a_day).len() < 80);
        assert_eq!(shown("first", true, true), "\rfirst\x1b[K\n");
        assert_eq!(shown("line", true, false), "\rline\x1b[K");
    }

    #[test]
    fn a_log_has_whole_lines_and_no_carriage_return() {
        for stays in [true, false] {
            assert_eq!(shown("one", false, stays), "one\n");
        }
    }

    #[test]
    fn each_first_is_told_once_when_it_is_seen() {
        let mut firsts = Firsts::default();
        let mut all = Figures::default();
        let at = Duration::from_millis(1_040);
        assert!(firsts.news(&all, at).is_empty());
        all.hedged = 1;
        assert_eq!(firsts.news(&all, at), ["first hedged call after 1.0 s"]);
        assert!(firsts.news(&all, at).is_empty());
        (all.hedged, all.demoted, all.verified) = (2, 1, 1);
        assert_eq!(
            firsts.news(&all, 4 * at),
            [
                "first demoted call after 4.2 s",
                "first verified callback after 4.2 s"
            ]
        );
        assert!(firsts.news(&all, 9 * at).is_empty());
    }

    #[test]
    fn the_introduction_names_the_page_first_and_fits_80_columns() {
        let at = Addresses {
            admin: "127.0.0.1:40001".into(),
            public: "127.0.0.1:40002".into(),
            provider: "127.0.0.1:40003".into(),
            calls: "/tmp/shunt-demo-4194304/calls.log".into(),
        };
        let text = introduction(&at, 40, 3, 40);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..3],
            [
                "  page      http://127.0.0.1:40001/",
                "  terminal  shunt top --admin http://127.0.0.1:40001",
                "  metrics   http://127.0.0.1:40001/metrics",
            ]
        );
        assert!(text.contains("\n  Ctrl-C ends it\n"));
        assert!(lines.iter().all(|line| line.len() < 80), "{text}");
    }
}
