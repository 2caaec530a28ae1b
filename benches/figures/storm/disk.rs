//! A small file system that can be filled: a tmpfs of this process's own.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// A mounted file system; dropping it unmounts it.
pub struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// Mounts one of so many MiB. Whoever may not mount goes on as root of a name space of their own.
    ///
    /// # Errors
    /// Neither is allowed.
    pub fn mount(mebibytes: u32) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "storm"])
            .arg(folder.path())
            .output()
            .context("mount")?;
        if mounted.status.success() {
            return Ok(Self { folder });
        }
        if std::env::var_os("STORM_NAMESPACE").is_some() {
            let why = String::from_utf8_lossy(&mounted.stderr);
            bail!("a small file system cannot be mounted: {why}; run as root");
        }
        drop(folder);
        let again = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount"])
            .arg(std::env::current_exe()?)
            .args(std::env::args_os().skip(1))
            .env("STORM_NAMESPACE", "1")
            .exec();
        bail!("a small file system cannot be mounted: unshare: {again}; run as root")
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Takes all the room that is left.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn fill(&self) -> Result<()> {
        let mut file = std::fs::File::create(self.ballast())?;
        // Ever smaller pieces, until not one page is left.
        for size in [1 << 20, 4_096] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        Ok(())
    }

    /// Gives it back.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn free(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.ballast())?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}
