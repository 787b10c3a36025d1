//! Why a log cannot be opened or written, for people: each names the folder and the way out.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::chain::MAX_LINE;

/// Why the log cannot be opened or written.
#[derive(Debug, Error)]
pub enum LogError {
    /// The folder cannot be made, read or written.
    #[error("flag log {}: {error}; {}", dir.display(), way_out(error))]
    Dir {
        /// The log's folder.
        dir: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// Another process writes to it.
    #[error(
        "flag log {}: another process writes to it (is spotd running already?); stop that one or give [log] dir another folder",
        dir.display()
    )]
    Locked {
        /// The log's folder.
        dir: PathBuf,
    },
    /// A later version wrote to it.
    #[error("flag log {}: {reason}; run that version or give [log] dir another folder", dir.display())]
    Newer {
        /// The log's folder.
        dir: PathBuf,
        /// Which record.
        reason: String,
    },
    /// The path led to another folder, or something in it was replaced, while a record was being written; it is not in
    /// the log.
    #[error(
        "flag log {}: the folder, or a file in it, was renamed, removed, replaced or mounted over while a record was written",
        dir.display()
    )]
    Displaced {
        /// The log's folder.
        dir: PathBuf,
    },
    /// A record could not be made durable; it is not in the log.
    #[error("flag log {}: record {seq} could not be written: {error}; {}", path.display(), way_out(error))]
    Write {
        /// The segment.
        path: PathBuf,
        /// The record's `seq`, which the next one will get.
        seq: u64,
        /// What the operating system said.
        error: io::Error,
    },
    /// Old evidence or an old segment could not be removed.
    #[error("{}: it should make room and cannot be removed: {error}", path.display())]
    Remove {
        /// File or folder.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// A record is too long.
    #[error("flag log {}: record {seq} has {bytes} bytes, {MAX_LINE} are allowed", dir.display())]
    TooLong {
        /// The log's folder.
        dir: PathBuf,
        /// The record's `seq`, which the next one will get.
        seq: u64,
        /// Its length.
        bytes: usize,
    },
}

/// What a person can do about it.
fn way_out(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            "its disk is read-only, which systems make one that fails (see dmesg): mount it writable again, or give [log] dir \
             another place"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room on its disk, or set [log] keep_mib or keep_days"
        }
        _ => "is [log] dir a folder that this user may write to, on a disk that works?",
    }
}
