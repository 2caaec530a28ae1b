//! Distributions of latencies, in seconds.

use std::str::FromStr;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use serde::{Deserialize, Deserializer};

use crate::config::Period;

/// A distribution; parameters in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// Always the same.
    Fixed(f64),
    /// Evenly between two.
    Uniform(f64, f64),
    /// Log-normal: median, and sigma of the logarithm.
    Lognormal(f64, f64),
    /// Pareto: least value, and shape.
    Pareto(f64, f64),
    /// One of two: fast, slow, and the share that is slow.
    Bimodal(f64, f64, f64),
}

/// Longest latency drawn.
const LONGEST: f64 = 3_600.0;

impl Distribution {
    /// Draws one.
    pub fn draw(&self, random: &mut StdRng) -> Duration {
        // Never zero, so that its logarithm is finite.
        let uniform = |random: &mut StdRng| 1.0 - random.random::<f64>();
        let seconds = match *self {
            Self::Fixed(value) => value,
            Self::Uniform(low, high) => low + (high - low) * uniform(random),
            Self::Lognormal(median, sigma) => {
                // Box and Muller, 1958.
                let radius = (-2.0 * uniform(random).ln()).sqrt();
                let normal = radius * (std::f64::consts::TAU * uniform(random)).cos();
                median * (sigma * normal).exp()
            }
            Self::Pareto(least, shape) => least / uniform(random).powf(1.0 / shape),
            Self::Bimodal(fast, slow, share) => {
                if uniform(random) <= share {
                    slow
                } else {
                    fast
                }
            }
        };
        Duration::from_secs_f64(seconds.clamp(0.0, LONGEST))
    }
}

impl FromStr for Distribution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no distribution; write fixed(50ms), uniform(10ms, 90ms), \
                 lognormal(400ms, 0.5), pareto(100ms, 1.5) or bimodal(100ms, 1s, 0.05)"
            )
        };
        let (name, rest) = text.split_once('(').ok_or_else(wrong)?;
        let inside = rest.trim().strip_suffix(')').ok_or_else(wrong)?;
        let parts: Vec<&str> = inside.split(',').map(str::trim).collect();
        let time = |at: usize| -> Result<f64, String> {
            let period: Period = parts.get(at).ok_or_else(wrong)?.parse()?;
            Ok(period.get().as_secs_f64())
        };
        let number = |at: usize| -> Result<f64, String> {
            let number: f64 = parts
                .get(at)
                .and_then(|one| one.parse().ok())
                .ok_or_else(wrong)?;
            if number.is_finite() && number >= 0.0 {
                Ok(number)
            } else {
                Err(wrong())
            }
        };
        let (made, count) = match name.trim() {
            "fixed" => (Self::Fixed(time(0)?), 1),
            "uniform" => (Self::Uniform(time(0)?, time(1)?), 2),
            "lognormal" => (Self::Lognormal(time(0)?, number(1)?), 2),
            "pareto" => (Self::Pareto(time(0)?, number(1)?.max(0.01)), 2),
            "bimodal" => (Self::Bimodal(time(0)?, time(1)?, number(2)?), 3),
            _ => return Err(wrong()),
        };
        if parts.len() == count {
            Ok(made)
        } else {
            Err(wrong())
        }
    }
}

impl<'de> Deserialize<'de> for Distribution {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    fn quantile(text: &str, share: f64) -> f64 {
        let distribution: Distribution = text.parse().unwrap();
        let mut random = StdRng::seed_from_u64(7);
        let mut all: Vec<f64> = (0..20_000)
            .map(|_| distribution.draw(&mut random).as_secs_f64())
            .collect();
        all.sort_by(f64::total_cmp);
        all.into_iter().rev().nth(skip(share)).unwrap()
    }

    /// Values above a quantile of 20,000.
    fn skip(share: f64) -> usize {
        (0..20_000u32)
            .filter(|at| f64::from(*at) >= share * 20_000.0)
            .count()
    }

    #[test]
    fn draws_have_the_quantiles_of_their_distribution() {
        let near = |found: f64, wanted: f64| (found / wanted - 1.0).abs() < 0.05;
        assert!(near(quantile("lognormal(400ms, 0.5)", 0.5), 0.4));
        assert!(near(
            quantile("lognormal(400ms, 0.5)", 0.95),
            0.4 * (1.645f64 * 0.5).exp()
        ));
        assert!(near(
            quantile("pareto(100ms, 1.5)", 0.9),
            0.1 / 0.1f64.powf(1.0 / 1.5)
        ));
        assert!(near(quantile("uniform(10ms, 90ms)", 0.5), 0.05));
        assert!(near(quantile("bimodal(100ms, 1s, 0.05)", 0.94), 0.1));
        assert!(near(quantile("bimodal(100ms, 1s, 0.05)", 0.96), 1.0));
    }

    #[test]
    fn what_is_no_distribution_is_told_how_to_write_one() {
        for text in [
            "",
            "fixed",
            "fixed(5)",
            "uniform(1ms)",
            "normal(1s, 2)",
            "fixed(1s, 2s)",
        ] {
            assert!(text.parse::<Distribution>().is_err(), "{text}");
        }
    }
}
