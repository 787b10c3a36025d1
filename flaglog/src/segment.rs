//! The segment that is appended to, and the names of the files in a log's folder.
//!
//! ```text
//! <dir>/flags-00000000000000000001.jsonl   a segment, named by the `seq` of its first record
//! <dir>/evidence/<event>/<sha256>.jpg      evidence of an event, named by the SHA-256 of its content
//! <dir>/cut-00000000000000000042-<id>.bin  what was cut from a segment's end after a crash
//! <dir>/cursor-<reader>.json               how far a reader has come
//! <dir>/lock                               held by the one process that writes
//! ```

use std::io;
use std::path::{Path, PathBuf};

use super::fs::{Fs, LogFile};

/// The folder of all evidence.
pub const EVIDENCE: &str = "evidence";

const PREFIX: &str = "flags-";
const SUFFIX: &str = ".jsonl";

/// The segment that is appended to.
pub(super) struct Segment {
    pub path: PathBuf,
    /// `seq` of its first record.
    pub first: u64,
    /// Its durable length in bytes.
    pub len: u64,
    /// `None`: what lies behind `len` is unknown and must be cut before it is written to again.
    pub file: Option<Box<dyn LogFile>>,
    /// Whether its name is durable.
    pub named: bool,
}

impl Segment {
    /// Appends a line and makes it durable; `dir` is the folder that the segment lies in.
    pub(super) fn append(&mut self, fs: &dyn Fs, dir: &Path, line: &[u8]) -> io::Result<()> {
        self.repair(fs)?;
        let file = self.file.as_mut().expect("repair opens it");
        file.write(line)?;
        file.sync()?;
        if !self.named {
            fs.sync_dir(dir)?;
            self.named = true;
        }
        self.len += line.len() as u64;
        Ok(())
    }

    /// Opens the file at its last durable length.
    pub(super) fn repair(&mut self, fs: &dyn Fs) -> io::Result<()> {
        if self.file.is_none() {
            let mut file = fs.append(&self.path)?;
            file.truncate(self.len)?;
            file.sync()?;
            self.file = Some(file);
        }
        Ok(())
    }

    /// Takes the last `bytes` back, in the very file that they were written to.
    pub(super) fn take_back(&mut self, bytes: u64) {
        self.len = self.len.saturating_sub(bytes);
        if let Some(file) = &mut self.file
            && file.len().is_ok_and(|len| len > self.len)
        {
            let _ = file.truncate(self.len).and_then(|()| file.sync());
        }
    }
}

/// Name of the segment whose first record has this `seq`.
pub fn file_name(first: u64) -> String {
    format!("{PREFIX}{first:020}{SUFFIX}")
}

/// Path of the segment whose first record has this `seq`.
pub fn path(dir: &Path, first: u64) -> PathBuf {
    dir.join(file_name(first))
}

/// The `seq` in a segment's name; `None` for a file that is no segment.
pub fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let ours = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| ours)
}

/// What a segment is called while it is being removed.
pub fn removing_name(first: u64) -> String {
    format!("removing-{first:020}{SUFFIX}")
}

/// The `seq` in the name of a segment that is being removed.
pub fn parse_removing(name: &str) -> Option<u64> {
    parse_name(&format!("{PREFIX}{}", name.strip_prefix("removing-")?))
}

/// The segments in a folder, by the `seq` of their first record, ascending; other files are left alone.
///
/// # Errors
/// As [`Fs::list`].
pub fn list(fs: &dyn Fs, dir: &Path) -> io::Result<Vec<u64>> {
    let mut firsts: Vec<u64> = fs.list(dir)?.iter().filter_map(|name| parse_name(name)).collect();
    firsts.sort_unstable();
    Ok(firsts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_names_are_segments() {
        assert_eq!(parse_name(&file_name(42)), Some(42));
        assert_eq!(parse_name(&file_name(u64::MAX)), Some(u64::MAX));
        for foreign in [
            "flags-42.jsonl",
            "flags-0000000000000000004x.jsonl",
            "flags-+0000000000000000042.jsonl",
            "flags-99999999999999999999.jsonl",
            "flags-00000000000000000042.jsonl.bak",
            "xflags-00000000000000000042.jsonl",
            "notes.txt",
        ] {
            assert_eq!(parse_name(foreign), None, "{foreign}");
        }
    }
}
