//! What the process itself uses, under the names that Prometheus's own clients give it.
//!
//! Read from Linux's `/proc` at a scrape; where there is none, nothing is told.

use std::fmt::Write as _;
use std::fs;

/// Ticks a second in `/proc`: `USER_HZ`, which Linux has fixed for programs.
const TICKS: f64 = 100.0;

/// Appends the process's metrics to a text in Prometheus's format.
pub fn render(text: &mut String) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
    let open = fs::read_dir("/proc/self/fd").map(|all| all.count().saturating_sub(1));
    let figures = [
        (
            "process_cpu_seconds_total",
            "counter",
            "CPU time that this process used, in seconds.",
            cpu(&stat),
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Memory that this process has in use, in bytes.",
            resident(&status),
        ),
        (
            "process_open_fds",
            "gauge",
            "Open file descriptors: connections, above all.",
            open.ok().map(|open| open as f64),
        ),
        (
            "process_max_fds",
            "gauge",
            "Most open file descriptors that this process may have.",
            most_open(&limits),
        ),
        (
            "process_start_time_seconds",
            "gauge",
            "When this process began, in seconds since 1970.",
            began(&stat, &boot),
        ),
    ];
    for (name, kind, help, figure) in figures {
        if let Some(figure) = figure {
            let _ = writeln!(
                text,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {figure}\n"
            );
        }
    }
}

/// A field of `/proc/self/stat` by its number in proc(5); the second may hold blanks.
fn field(stat: &str, number: usize) -> Option<f64> {
    let after = stat.rsplit_once(')')?.1;
    after.split_whitespace().nth(number - 3)?.parse().ok()
}

fn cpu(stat: &str) -> Option<f64> {
    Some((field(stat, 14)? + field(stat, 15)?) / TICKS)
}

fn began(stat: &str, boot: &str) -> Option<f64> {
    let booted = boot.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(booted.trim().parse::<f64>().ok()? + field(stat, 22)? / TICKS)
}

fn resident(status: &str) -> Option<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

fn most_open(limits: &str) -> Option<f64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_as_linux_writes_them() {
        let fields: Vec<String> = (3..=52).map(|number| number.to_string()).collect();
        let stat = format!("71 (shunt ) (x) {}", fields.join(" "));
        assert_eq!(cpu(&stat), Some(0.29));
        assert_eq!(began(&stat, "cpu 1 2\nbtime 1000\n"), Some(1000.22));
        assert_eq!(resident("Name:\tshunt\nVmRSS:\t   12 kB\n"), Some(12_288.0));
        let limits = "Limit  Soft Limit  Hard Limit\nMax open files  1024  4096  files\n";
        assert_eq!(most_open(limits), Some(1024.0));
        assert_eq!(
            (cpu("71 (shunt"), resident(""), most_open("")),
            (None, None, None)
        );
    }

    #[test]
    fn this_process_tells_its_own() {
        let mut text = String::new();
        render(&mut text);
        let of = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        };
        assert!(of("process_resident_memory_bytes ").is_some_and(|bytes| bytes > 1e6));
        assert!(of("process_open_fds ") < of("process_max_fds "));
        assert!(of("process_start_time_seconds ").is_some_and(|at| at > 1.6e9));
        assert!(of("process_cpu_seconds_total ").is_some());
    }
}
