//! Writes the access log: a thread of its own, since a disk or a pipe may stand still.
//!
//! Promises: what cannot be written is counted, and what can be written later is whole lines again;
//! a file that was moved away is opened anew when that is asked for; at the end what waits is
//! written, for as long as somebody waits for it.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use metrics::Counter;

use super::sheets::{Sheet, Sheets};
use super::{Journal, dropped_lines};
use crate::config::AccessLog;
use crate::meter::Meter;

/// How often lines are taken.
const LOOK: Duration = Duration::from_millis(20);

/// How often at most it is said that nothing can be written.
const SAID: Duration = Duration::from_mins(1);

/// The thread that writes.
pub struct Log {
    asked: Arc<Asked>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Asked {
    /// Open the file anew.
    anew: AtomicBool,
    /// Write what waits, and end.
    end: AtomicBool,
}

impl Log {
    /// Begins to write what is left in the journal; `None`: no log is wanted.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn start(
        config: &AccessLog,
        journal: &Arc<Journal>,
        meter: &Meter,
    ) -> Result<Option<Self>> {
        if journal.log.is_none() {
            return Ok(None);
        }
        let out = match &config.file {
            Some(path) => open(path).with_context(|| cannot(path))?,
            None => File::from(io::stdout().as_fd().try_clone_to_owned()?),
        };
        let asked = Arc::<Asked>::default();
        let mut writer = Writer {
            path: config.file.clone(),
            out,
            torn: false,
            said: None,
            lost: dropped_lines(meter, "unwritten"),
        };
        let (journal, told) = (journal.clone(), asked.clone());
        let thread = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || {
                if let Some(log) = &journal.log {
                    writer.run(&log.sheets, &told);
                }
            })?;
        Ok(Some(Self { asked, thread }))
    }

    /// Has the file opened anew: it may have been moved away.
    pub fn open_anew(&self) {
        self.asked.anew.store(true, Ordering::Relaxed);
    }

    /// Writes what waits, for so long at most, and ends.
    pub fn end(self, patience: Duration) {
        self.asked.end.store(true, Ordering::Release);
        let until = Instant::now() + patience;
        while !self.thread.is_finished() {
            if Instant::now() >= until {
                tracing::warn!("the access log stands still; what waited for it is lost");
                return;
            }
            std::thread::sleep(LOOK / 4);
        }
        let _ = self.thread.join();
    }
}

fn cannot(path: &Path) -> String {
    format!(
        "access_log.file: {} cannot be written; name another file or change its rights",
        path.display()
    )
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

struct Writer {
    path: Option<PathBuf>,
    out: File,
    /// The last line was not written to its end.
    torn: bool,
    /// When it was last said that nothing can be written.
    said: Option<Instant>,
    lost: Counter,
}

impl Writer {
    fn run(&mut self, sheets: &Sheets, asked: &Asked) {
        let mut taken = Vec::new();
        loop {
            // Asked before lines are taken: what was left there until then is written.
            let end = asked.end.load(Ordering::Acquire);
            if asked.anew.swap(false, Ordering::Relaxed) {
                self.open_anew();
            }
            let pressed = sheets.take(&mut taken);
            self.write(&taken);
            for sheet in taken.drain(..) {
                sheets.give_back(sheet);
            }
            match (pressed, end) {
                // However many there are, what is asked is looked at in between.
                (true, _) => {}
                (false, true) => return,
                (false, false) => std::thread::sleep(LOOK),
            }
        }
    }

    fn open_anew(&mut self) {
        let Some(path) = &self.path else { return };
        match open(path) {
            Ok(file) => (self.out, self.torn) = (file, false),
            Err(error) => tracing::error!(%error, "{}; the old one is kept", cannot(path)),
        }
    }

    /// Writes lines, as many at a time as there are, and counts those that could not be: of ten sheets at
    /// once the kernel makes a file for half the CPU that they take one by one.
    fn write(&mut self, sheets: &[Sheet]) {
        if self.torn && self.out.write_all(b"\n").is_ok() {
            self.torn = false;
        }
        let mut left: Vec<_> = sheets.iter().map(|one| IoSlice::new(&one.text)).collect();
        let mut left = &mut left[..];
        while !self.torn && !left.is_empty() {
            match self.out.write_vectored(left) {
                Ok(0) => break,
                Ok(written) => IoSlice::advance_slices(&mut left, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.say(&error);
                    break;
                }
            }
        }
        if let Some(first) = left.first() {
            let whole = &sheets[sheets.len() - left.len()].text;
            let written = &whole[..whole.len() - first.len()];
            self.torn |= written.last().is_some_and(|byte| *byte != b'\n');
        }
        let lines = |left: &IoSlice| memchr::memchr_iter(b'\n', left).count() as u64;
        self.lost.increment(left.iter().map(lines).sum());
    }

    fn say(&mut self, error: &io::Error) {
        let now = Instant::now();
        if self.said.is_none_or(|said| now - said >= SAID) {
            self.said = Some(now);
            tracing::error!(%error, "the access log cannot be written; lines are left out");
        }
    }
}
