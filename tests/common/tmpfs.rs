//! A disk that is really full: a small tmpfs. Needs permission to mount; says so loudly if it does
//! not have it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A tmpfs, unmounted at the end.
pub struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    /// One with this many KiB, or `None` if it may not be mounted.
    pub fn mount(kib: u32) -> Option<Self> {
        let dir = tempfile::tempdir().expect("tempdir");
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={kib}k,mode=0700"), "spotd-test"])
            .arg(dir.path())
            .output();
        match done {
            Ok(output) if output.status.success() => Some(Self { dir }),
            refused => {
                eprintln!(
                    "\n*** SKIPPED: no small tmpfs can be mounted here ({refused:?}); run as root ***\n"
                );
                None
            }
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A folder on it for a flag log.
    pub fn log(&self) -> PathBuf {
        self.path().join("flags")
    }

    /// A file on it that takes all the space.
    pub fn hog(&self) -> PathBuf {
        self.path().join("hog")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}
