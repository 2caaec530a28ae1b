//! How a demo ends, and what is gone then.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A folder that is gone when the demo ends, and for its user alone: there is a secret in it.
pub struct Folder(pub PathBuf);

impl Folder {
    /// A new one in the system's temporary folder.
    pub fn new() -> Result<Self> {
        let name = format!("shunt-demo-{:08x}", rand::random::<u32>());
        let path = std::env::temp_dir().join(name);
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is in the system's temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Who asks the demo to end: Ctrl-C, or whatever supervises it.
pub struct Stops {
    interrupt: Signal,
    terminate: Signal,
}

impl Stops {
    /// From now on nothing of it is missed.
    pub fn hear() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next.
    pub async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
