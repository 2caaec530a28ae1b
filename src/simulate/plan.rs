//! What one call is answered with: drawn from the settings by the call's number, so that a seed
//! says the same twice, unless the request forces it (`metadata.sim_*` of its body, or `x-sim-*`
//! headers).

use std::time::Duration;

use http::HeaderMap;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

use super::Settings;

pub(super) struct Plan {
    /// Until the first token.
    pub latency: Duration,
    /// Before each further token.
    pub gaps: Vec<Duration>,
    /// An error instead of an answer.
    pub status: Option<u16>,
    /// How the answer breaks off: `reset`, `stall`, `truncate` or `lie`.
    pub fault: Option<String>,
    pub tokens: u32,
}

impl Plan {
    pub fn of(request: &Value, headers: &HeaderMap, call: u64, settings: &Settings) -> Self {
        let mut random =
            StdRng::seed_from_u64(settings.seed ^ call.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let number =
            |name| forced(request, headers, name).and_then(|text| text.parse::<u64>().ok());
        let drawn = settings.first_token.draw(&mut random);
        let mut status = number("status").and_then(|status| u16::try_from(status).ok());
        let mut fault = forced(request, headers, "fault");
        let faults = settings.faults;
        let mut draw: f64 = random.random();
        for (share, code) in [
            (faults.rate_limited, 429),
            (faults.server_error, 500),
            (faults.overloaded, 529),
        ] {
            if (0.0..share).contains(&draw) {
                status.get_or_insert(code);
            }
            draw -= share;
        }
        for (share, name) in [
            (faults.reset, "reset"),
            (faults.stall, "stall"),
            (faults.truncate, "truncate"),
        ] {
            if (0.0..share).contains(&draw) {
                fault.get_or_insert(name.to_owned());
            }
            draw -= share;
        }
        let tokens = number("tokens").and_then(|tokens| u32::try_from(tokens).ok());
        let tokens = tokens.unwrap_or(settings.tokens).clamp(1, 100_000);
        let gap = number("gap_ms").map(Duration::from_millis);
        // A forced latency is the whole of an answer that is not streamed.
        let forced_latency = number("latency_ms").map(Duration::from_millis);
        let gapless = forced_latency.is_some() && request["stream"] != true;
        let gaps = (1..tokens).map(|_| match gap {
            _ if gapless => Duration::ZERO,
            Some(gap) => gap,
            None => settings.token_gap.draw(&mut random),
        });
        Self {
            gaps: gaps.collect(),
            latency: forced_latency.unwrap_or(drawn),
            status,
            fault,
            tokens,
        }
    }
}

fn forced(body: &Value, headers: &HeaderMap, name: &str) -> Option<String> {
    let key = format!("sim_{name}");
    let header = format!("x-sim-{}", name.replace('_', "-"));
    match &body["metadata"][&key] {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => Some(headers.get(header)?.to_str().ok()?.to_owned()),
    }
}
