//! `[access_log]`: one line for each call.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

/// One line for each call, with its times; never a header's value, a query or a body.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLog {
    /// How a line is written.
    pub format: LogFormat,
    /// Where to; made where it is not there, opened again on SIGHUP. Absent: standard output.
    pub file: Option<PathBuf>,
    /// Calls that may wait to be written, in sheets of 64 for each thread; past it they are left out and counted.
    pub queue: usize,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            format: LogFormat::Off,
            file: None,
            queue: 8_192,
        }
    }
}

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Not at all.
    #[default]
    Off,
    /// As text on a terminal, else as JSON.
    Auto,
    /// An object of JSON.
    Json,
    /// For a person to read.
    Text,
}
