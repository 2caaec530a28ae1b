//! Figures in few characters.

/// A time in seconds: `870us`, `12ms`, `1.25s`, `3m05s`, `2h10m`.
pub fn time(seconds: f64) -> String {
    // Whole units below 2^53.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = |number: f64| number.round().max(0.0) as u64;
    match seconds {
        _ if seconds <= 0.0 => "0".into(),
        _ if seconds < 0.000_999_5 => format!("{}us", whole(seconds * 1e6)),
        _ if seconds < 0.999_5 => format!("{}ms", whole(seconds * 1e3)),
        _ if seconds < 9.995 => format!("{seconds:.2}s"),
        _ if seconds < 59.95 => format!("{seconds:.1}s"),
        _ if seconds < 3_599.5 => format!("{}m{:02}s", whole(seconds) / 60, whole(seconds) % 60),
        _ => format!(
            "{}h{:02}m",
            whole(seconds) / 3_600,
            whole(seconds) % 3_600 / 60
        ),
    }
}

/// A rate: `0`, `0.05`, `12.3`, `1234`.
pub fn rate(number: f64) -> String {
    match number {
        _ if number <= 0.0 => "0".into(),
        _ if number < 0.995 => format!("{number:.2}"),
        _ if number < 99.95 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

/// A share: `0%`, `0.4%`, `12%`.
pub fn share(share: f64) -> String {
    match share * 100.0 {
        percent if percent <= 0.0 => "0%".into(),
        percent if percent < 9.95 => format!("{percent:.1}%"),
        percent => format!("{percent:.0}%"),
    }
}

const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The last values as bars against the largest of them, newest at the right.
pub fn bars(values: &[f64], width: usize) -> String {
    let shown = &values[values.len().saturating_sub(width)..];
    let most = shown.iter().copied().fold(0.0, f64::max);
    let bar = |value: &f64| {
        if most <= 0.0 || *value <= 0.0 {
            return BARS[0];
        }
        // From 1 to 8.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let height = (value / most * 8.0).ceil() as usize;
        BARS[height.clamp(1, 8)]
    };
    let bars: String = shown.iter().map(bar).collect();
    format!("{bars:>width$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_keep_two_digits() {
        let times = [0.0, 0.000_87, 0.0124, 0.999_6, 1.254, 12.34, 185.0, 7_800.0];
        let told = times.map(time);
        assert_eq!(
            told,
            [
                "0", "870us", "12ms", "1.00s", "1.25s", "12.3s", "3m05s", "2h10m"
            ]
        );
        assert_eq!(
            [0.0, 0.049, 12.34, 1_234.4].map(rate),
            ["0", "0.05", "12.3", "1234"]
        );
        assert_eq!(
            [0.0, 0.004, 0.123, 1.0].map(share),
            ["0%", "0.4%", "12%", "100%"]
        );
    }

    #[test]
    fn bars_stand_against_the_largest_that_is_shown() {
        assert_eq!(bars(&[9.0, 0.0, 1.0, 4.0, 8.0], 4), " ▁▄█");
        assert_eq!(bars(&[1.0], 3), "  █");
        assert_eq!(bars(&[0.0, 0.0], 3), "   ");
    }
}
