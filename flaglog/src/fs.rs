//! The few file operations that the log needs, behind a trait, so that tests can put a file system in
//! their place that fails, fills up or loses power.

use std::fmt::Debug;
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Timespec, Timestamps};

/// Mode of the log's files: the owner writes, the group reads.
pub const FILE_MODE: u32 = 0o640;
/// Mode of the log's folders.
pub const DIR_MODE: u32 = 0o750;

/// Ends the name of a file that is not finished yet.
pub const TMP: &str = ".tmp";

/// Which file or folder something is, whatever it is called: the same as long as anybody holds it open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The disk, or what is mounted as one.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

/// What the log asks of a file system.
pub trait Fs: Debug + Send + Sync {
    /// This file system with the folder `dir` held: for the answer, paths in `dir` mean what lies in that very
    /// folder, whatever becomes of its name, and other paths are errors.
    ///
    /// # Errors
    /// As the operating system says; `NotFound` when there is no such folder.
    fn hold(&self, dir: &Path) -> io::Result<Arc<dyn Fs>>;

    /// Which file or folder a path leads to; symbolic links are followed.
    ///
    /// # Errors
    /// As the operating system says; `NotFound` when it leads nowhere.
    fn identity(&self, path: &Path) -> io::Result<Identity>;

    /// Makes a folder and the ones above it where they are missing, with [`DIR_MODE`].
    ///
    /// # Errors
    /// As the operating system says.
    fn create_dirs(&self, dir: &Path) -> io::Result<()>;

    /// Names of the entries in a folder, in no order. A name that is not UTF-8 comes with its odd bytes
    /// replaced: no name of ours has any.
    ///
    /// # Errors
    /// As the operating system says; `NotFound` when there is no such folder.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Length of a file in bytes.
    ///
    /// # Errors
    /// As the operating system says; `NotFound` when there is no such file.
    fn len(&self, path: &Path) -> io::Result<u64>;

    /// Up to `max` bytes of a file from `offset` on; fewer only at its end.
    ///
    /// # Errors
    /// As the operating system says; `NotFound` when there is no such file.
    fn read(&self, path: &Path, offset: u64, max: usize) -> io::Result<Vec<u8>>;

    /// Opens a file for appending, with [`FILE_MODE`] if it has to be made.
    ///
    /// # Errors
    /// As the operating system says.
    fn append(&self, path: &Path) -> io::Result<Box<dyn LogFile>>;

    /// Puts a file in another's place, atomically; or gives a folder another name within its folder.
    ///
    /// # Errors
    /// As the operating system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// As the operating system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty folder.
    ///
    /// # Errors
    /// As the operating system says; `DirectoryNotEmpty` when something is in it.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;

    /// Bytes that can still be written on the disk that `dir` lies on.
    ///
    /// # Errors
    /// As the operating system says.
    fn free(&self, dir: &Path) -> io::Result<u64>;

    /// Whether a file or folder may be written to, as far as can be told without writing.
    ///
    /// # Errors
    /// `ReadOnlyFilesystem` or `PermissionDenied` when it may not; `NotFound` when there is none.
    fn may_write(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// As the operating system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes the exclusive right to write here, held until the returned value is dropped.
    ///
    /// # Errors
    /// `WouldBlock` when another process has it; else as the operating system says.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
}

/// The right to write, given back when it is dropped.
pub trait Lock: Send + Sync {
    /// Which file it stands for.
    ///
    /// # Errors
    /// As the operating system says.
    fn identity(&self) -> io::Result<Identity>;

    /// Gives it the present time, the least that a disk can be asked to write: where the system has taken it out of
    /// service for a fault, only writing tells.
    ///
    /// # Errors
    /// As the operating system says.
    fn touch(&self) -> io::Result<()>;
}

/// A file open for appending.
#[allow(clippy::len_without_is_empty, reason = "only lengths are compared")]
pub trait LogFile: Send {
    /// Which file it is.
    ///
    /// # Errors
    /// As the operating system says.
    fn identity(&self) -> io::Result<Identity>;

    /// Its length in bytes.
    ///
    /// # Errors
    /// As the operating system says.
    fn len(&self) -> io::Result<u64>;

    /// Appends all of `bytes`; after an error any part of them may have been written.
    ///
    /// # Errors
    /// As the operating system says.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes contents and length durable.
    ///
    /// # Errors
    /// As the operating system says; what was written since the last success may be lost then.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file to `len` bytes.
    ///
    /// # Errors
    /// As the operating system says.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// Writes a whole file so that after a crash either all of it is there or nothing of that name: a
/// temporary file, fsync, rename, fsync of the folder.
///
/// # Errors
/// As the operating system says; the temporary file is removed again if that can be done.
pub fn write_whole(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_file(fs, path, bytes)?;
    fs.sync_dir(path.parent().ok_or(io::ErrorKind::InvalidInput)?)
}

/// As [`write_whole`], but the name is not durable yet: the folder has to be synced.
///
/// # Errors
/// As [`write_whole`].
pub fn write_file(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(TMP);
    let tmp = dir.join(name);
    let write = || {
        let mut file = fs.append(&tmp)?;
        // A crash may have left one of that name behind.
        file.truncate(0)?;
        file.write(bytes)?;
        file.sync()?;
        fs.rename(&tmp, path)
    };
    write().inspect_err(|_| {
        let _ = fs.remove(&tmp);
    })
}

/// A file's whole contents.
///
/// # Errors
/// As the operating system says; `FileTooLarge` for more than `max` bytes.
pub fn read_whole(fs: &dyn Fs, path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let bytes = fs.read(path, 0, max.saturating_add(1))?;
    if bytes.len() > max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {max} bytes")));
    }
    Ok(bytes)
}

/// Whether an error says that there is no room.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Takes the lock of an open file.
pub(super) fn locked(file: File) -> io::Result<Box<dyn Lock>> {
    match file.try_lock() {
        Ok(()) => Ok(Box::new(file)),
        Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

impl Lock for File {
    fn identity(&self) -> io::Result<Identity> {
        let of = self.metadata()?;
        Ok(Identity { device: of.dev(), inode: of.ino() })
    }

    fn touch(&self) -> io::Result<()> {
        let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        Ok(rustix::fs::futimens(self, &Timestamps { last_access: now, last_modification: now })?)
    }
}

impl LogFile for File {
    fn identity(&self) -> io::Result<Identity> {
        Lock::identity(self)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}
