//! Why an event cannot be exported.

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use ulid::Ulid;

use spotd_core::shown::Shown as _;

/// Why an event cannot be exported.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The file system refuses.
    #[error("{}: {error}", path.shown())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// No such event.
    #[error("{}: no event {event} is in this log; `spotd log` lists those that are", dir.shown())]
    Unknown {
        /// The log's folder.
        dir: PathBuf,
        /// What was asked for.
        event: Ulid,
    },
    /// The log does not hold there.
    #[error("{0}; the export would not hold either, see `spotd verify`")]
    Damaged(String),
    /// The folder is in use.
    #[error("{}: it is there already and not empty; give another folder", to.shown())]
    NotEmpty {
        /// The folder.
        to: PathBuf,
    },
    /// A file of that name is there.
    #[error("{}: it is there already; give another name", to.shown())]
    Exists {
        /// The file.
        to: PathBuf,
    },
}
