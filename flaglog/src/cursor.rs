//! How far a reader of the log has come, kept in a file beside the log.
//!
//! The file is replaced atomically and fsynced. It names the last record that is done with by `seq` and
//! hash, so that a cursor of another log (the folder was emptied, a disk was swapped) is told from one of
//! this log. A cursor that cannot be used is said and the reader begins at the log's start: a duplicate
//! can be recognised, a record that was never sent cannot.
//!
//! It also says where that record stood, so that a reader that comes back need not read a whole segment to find
//! it. That is only a hint: `seq` and hash of what stands there decide, and without it all still works.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::chain::Hash;
use super::fs::{Fs, read_whole, write_whole};

/// Longest cursor file that is read, in bytes; ours have about 170.
const MAX_BYTES: usize = 4096;
const VERSION: u32 = 1;

/// The last record that a reader is done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Its place in the log.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
    /// Where it stood when it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<At>,
}

/// A line's place, as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    /// The segment, by the `seq` of its first record.
    pub segment: u64,
    /// Offset of the line's first byte in it.
    pub offset: u64,
}

impl Mark {
    /// The mark of a record by what it is alone.
    pub fn new(seq: u64, hash: Hash) -> Self {
        Self { seq, hash, at: None }
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    #[serde(flatten)]
    mark: Mark,
}

/// A cursor file.
#[derive(Debug, Clone)]
pub struct CursorFile {
    fs: Arc<dyn Fs>,
    path: PathBuf,
}

impl CursorFile {
    /// The cursor of the reader `name` (letters, digits and `-`) of the log in `dir`; touches nothing yet.
    ///
    /// # Panics
    /// When `name` has other characters, which would be an error in this program.
    pub fn new(fs: Arc<dyn Fs>, dir: &Path, name: &str) -> Self {
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "odd cursor name {name:?}");
        Self { fs, path: dir.join(format!("cursor-{name}.json")) }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it; `None` when there is none yet.
    ///
    /// # Errors
    /// A text that says what is wrong with the file.
    pub fn load(&self) -> Result<Option<Mark>, String> {
        let bytes = match read_whole(&*self.fs, &self.path, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.to_string()),
        };
        let stored: Stored = serde_json::from_slice(&bytes).map_err(|e| format!("it is no cursor: {e}"))?;
        if stored.version != VERSION {
            return Err(format!("it has version {}, this program knows {VERSION}", stored.version));
        }
        Ok(Some(stored.mark))
    }

    /// Replaces it durably.
    ///
    /// # Errors
    /// As the operating system says; the old one is still there then.
    pub fn save(&self, mark: Mark) -> io::Result<()> {
        let text = serde_json::to_string(&Stored { version: VERSION, mark }).expect("plain members");
        write_whole(&*self.fs, &self.path, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OsFs;

    #[test]
    fn a_cursor_is_read_as_it_was_saved_and_damage_is_named() {
        let dir = tempfile::tempdir().expect("tempdir");
        let cursor = CursorFile::new(Arc::new(OsFs), dir.path(), "mqtt");
        assert_eq!(cursor.load(), Ok(None));
        for seq in [1, 2, u64::MAX] {
            let plain = Mark::new(seq, Hash::of(&seq.to_le_bytes()));
            for at in [None, Some(At { segment: seq, offset: 17 })] {
                let mark = Mark { at, ..plain };
                cursor.save(mark).expect("save");
                assert_eq!(cursor.load(), Ok(Some(mark)));
            }
        }
        for (bad, why) in [
            ("", "no cursor"),
            ("{}", "no cursor"),
            ("{\"version\":1,\"seq\":-1,\"hash\":\"\"}", "no cursor"),
            (&"x".repeat(5000), "larger than"),
        ] {
            std::fs::write(cursor.path(), bad).expect("write");
            let error = cursor.load().expect_err(bad);
            assert!(error.contains(why), "{error}");
        }
        std::fs::write(cursor.path(), format!("{{\"version\":2,\"seq\":1,\"hash\":\"{}\"}}", Hash::ZERO))
            .expect("write");
        assert!(cursor.load().expect_err("newer").contains("version 2"));
    }
}
