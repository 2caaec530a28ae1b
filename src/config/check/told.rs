//! Mistakes about what is told of calls.

use super::Found;
use crate::config::{Config, LogFormat};

pub(super) fn check(config: &Config, found: &mut Found) {
    let log = &config.access_log;
    if log.queue == 0 {
        found.add("access_log.queue", "must be at least 1");
    }
    if log.file.is_some() && log.format == LogFormat::Off {
        let says = "is written only with a format; write format = \"json\"";
        found.add("access_log.file", says);
    }
    if log
        .file
        .as_ref()
        .is_some_and(|path| path.as_os_str().is_empty())
    {
        let says = "is empty; name a file, or leave it out for standard output";
        found.add("access_log.file", says);
    }
}
