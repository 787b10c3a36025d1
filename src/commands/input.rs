//! What a command's argument names: a file, a folder, standard input, an address, a pipeline.

use std::ffi::OsStr;
use std::path::Path;

use spotd::shown::{Shown as _, exact};
use spotd::source::SourceUri;

/// Something to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Input {
    pub uri: SourceUri,
    /// Its name for people, without passwords.
    pub shown: String,
}

/// An argument that names nothing usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{shown}: {why}")]
pub(super) struct Unusable {
    /// Its name for people, without passwords.
    pub shown: String,
    /// What is wrong, and what would be right.
    pub why: String,
}

impl Input {
    /// # Errors
    /// [`Unusable`] for what is neither a file nor an address.
    pub fn parse(argument: &OsStr) -> Result<Self, Unusable> {
        match SourceUri::of_argument(argument) {
            Ok(uri) => Ok(Self::of(uri)),
            Err(why) => Err(Unusable { shown: argument.shown(), why }),
        }
    }

    /// A file that a folder holds.
    pub fn file(path: &Path) -> Self {
        Self::of(SourceUri::File(path.to_owned()))
    }

    fn of(uri: SourceUri) -> Self {
        let shown = uri.to_string();
        Self { uri, shown }
    }

    /// Its name for programs: the exact name of a file, and its bytes if that is not valid text.
    pub fn exact(&self) -> (String, Option<Vec<u8>>) {
        match &self.uri {
            SourceUri::File(path) => exact(path.as_os_str()),
            _ => (self.shown.clone(), None),
        }
    }

    /// The folder, if it is one.
    pub fn folder(&self) -> Option<&Path> {
        match &self.uri {
            SourceUri::File(path) if path.is_dir() => Some(path),
            _ => None,
        }
    }
}
