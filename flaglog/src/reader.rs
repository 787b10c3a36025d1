//! Reads a log record by record, across segments, and checks each on the way.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use thiserror::Error;

use super::chain::{self, Hash, MAX_LINE};
use super::cursor::{At, Mark};
use super::fs::Fs;
use super::record::{Entry, SCHEMA};
use super::segment;
use spotd_core::shown::Shown as _;

/// Bytes asked of the file system at once.
const CHUNK: usize = 64 * 1024;

/// A record and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// What it says.
    pub entry: Entry,
    /// Its exact line, without the line feed.
    pub line: String,
    /// Its place.
    pub place: Place,
}

impl Item {
    /// Its mark, for a reader that is done with it.
    pub fn mark(&self) -> Mark {
        let segment = segment::parse_name(&self.place.segment);
        let at = segment.map(|segment| At { segment, offset: self.place.offset });
        Mark { seq: self.entry.seq(), hash: self.entry.hash(), at }
    }
}

/// Where a line stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Name of the segment's file.
    pub segment: String,
    /// Offset of the line's first byte in it.
    pub offset: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}", self.segment, self.offset)
    }
}

/// What is wrong with a log.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file system refuses.
    #[error("{}: {error}", path.shown())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// A line does not hold.
    #[error("{place}: record {} does not hold: {reason}", seq.map_or("?".to_owned(), |s| s.to_string()))]
    Damaged {
        /// Where.
        place: Place,
        /// Its `seq`, where that can be read or follows from the line before.
        seq: Option<u64>,
        /// What is wrong.
        reason: String,
    },
    /// Records are missing.
    #[error("{place}: records {from} to {to} are missing before this one")]
    Missing {
        /// The first record behind the gap.
        place: Place,
        /// First that is missing.
        from: u64,
        /// Last that is missing.
        to: u64,
    },
    /// Written by a later version.
    #[error(
        "{place}: the record has schema {found}, this program knows {SCHEMA}; read it with a newer spotd"
    )]
    Newer {
        /// Where.
        place: Place,
        /// Its schema.
        found: u32,
    },
}

impl ReadError {
    /// Whether reading can go on behind it.
    pub fn is_passed(&self) -> bool {
        !matches!(self, ReadError::Io { .. })
    }
}

/// What the next line must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Expected {
    /// Its `seq`.
    seq: Option<u64>,
    /// Its `prev`.
    prev: Option<Hash>,
}

/// Iterates over a log. At the end it can be asked again later, when more may have been written.
///
/// A line that is not finished yet is left alone in the newest segment; in an older one it is damage.
/// Behind damage reading goes on with the next line.
#[derive(Debug)]
pub struct Reader {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    /// The segment being read and the offset of the next line in it.
    at: Option<(u64, u64)>,
    /// Bytes from that offset on.
    buffer: Vec<u8>,
    expected: Expected,
    /// Lines that were read as sound but stand behind a gap which has to be told first.
    ready: VecDeque<Item>,
    /// Whether to stay in the segment.
    only: bool,
}

impl Reader {
    /// A reader that stands before the oldest record there is.
    pub fn from_start(fs: Arc<dyn Fs>, dir: &Path) -> Self {
        Self {
            fs,
            dir: dir.to_owned(),
            at: None,
            buffer: Vec::new(),
            expected: Expected::default(),
            ready: VecDeque::new(),
            only: false,
        }
    }

    /// A reader of one segment alone.
    pub(super) fn of_segment(fs: Arc<dyn Fs>, dir: &Path, first: u64) -> Self {
        let expected = Expected { seq: Some(first), prev: None };
        Self { at: Some((first, 0)), expected, only: true, ..Self::from_start(fs, dir) }
    }

    /// What the line after the last one read must say: its `seq` and its `prev`, as far as they are known.
    pub(super) fn expected(&self) -> (Option<u64>, Option<Hash>) {
        (self.expected.seq, self.expected.prev)
    }

    /// The segment that is read, by the `seq` of its first record, and the offset of the next line in it.
    pub(super) fn position(&self) -> Option<(u64, u64)> {
        self.at
    }

    /// A reader that stands behind the record of a cursor.
    ///
    /// # Errors
    /// A text, when the record is not in the log or is another one there: the cursor belongs to another
    /// log, or was damaged. Records that were removed since with their whole segments are no error.
    pub fn after(fs: Arc<dyn Fs>, dir: &Path, mark: Mark) -> Result<Self, String> {
        match Self::after_hint(&fs, dir, mark) {
            Some(reader) => Ok(reader),
            None => Self::after_search(fs, dir, mark),
        }
    }

    /// As [`Reader::after`], if the record stands where the cursor says.
    fn after_hint(fs: &Arc<dyn Fs>, dir: &Path, mark: Mark) -> Option<Self> {
        let at = mark.at?;
        let mut reader = Self::of_segment(fs.clone(), dir, at.segment);
        reader.at = Some((at.segment, at.offset));
        reader.expected.seq = Some(mark.seq);
        let item = reader.next().ok()??;
        reader.only = false;
        ((item.entry.seq(), item.entry.hash()) == (mark.seq, mark.hash)).then_some(reader)
    }

    fn after_search(fs: Arc<dyn Fs>, dir: &Path, mark: Mark) -> Result<Self, String> {
        let firsts = segment::list(&*fs, dir).map_err(|e| format!("{}: {e}", dir.shown()))?;
        let mut reader = Self::from_start(fs, dir);
        let Some(&first) = firsts.iter().rev().find(|&&f| f <= mark.seq) else {
            return match firsts.first() {
                None => Err(format!("it stands at record {}, but the log is empty", mark.seq)),
                // Everything up to the mark and perhaps more was removed; the reader tells the gap.
                Some(_) => {
                    reader.expected.seq = Some(mark.seq.saturating_add(1));
                    Ok(reader)
                }
            };
        };
        reader.at = Some((first, 0));
        reader.expected.seq = Some(first);
        loop {
            match reader.next() {
                Ok(Some(item)) if item.entry.seq() == mark.seq => {
                    return if item.entry.hash() == mark.hash {
                        Ok(reader)
                    } else {
                        Err(format!("record {} of this log is another one", mark.seq))
                    };
                }
                Ok(Some(item)) if item.entry.seq() > mark.seq => {
                    // The marked line itself does not hold any more; what follows it does.
                    reader.ready.push_front(item);
                    return Ok(reader);
                }
                Ok(Some(_)) => {}
                Ok(None) => {
                    return Err(format!(
                        "it stands at record {}, which is beyond the end of the log",
                        mark.seq
                    ));
                }
                Err(e) if e.is_passed() => {}
                Err(e) => return Err(e.to_string()),
            }
        }
    }

    /// The next record, or `None` at the end of what is there now.
    ///
    /// # Errors
    /// [`ReadError`]; unless it is one of the file system, the next call goes on behind it.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Item>, ReadError> {
        if let Some(item) = self.ready.pop_front() {
            return Ok(Some(item));
        }
        loop {
            let Some((first, offset)) = self.at else {
                match self.next_segment(None)? {
                    Some(first) => {
                        self.at = Some((first, 0));
                        self.expected.seq.get_or_insert(first);
                    }
                    None => return Ok(None),
                }
                continue;
            };
            let place = Place { segment: segment::file_name(first), offset };
            if let Some(end) = self.buffer.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).take(end).collect();
                self.at = Some((first, offset + end as u64 + 1));
                return self.take(line, place).map(Some);
            }
            if self.buffer.len() >= MAX_LINE {
                return Err(self.skip_rest(first, place, format!("a line of more than {MAX_LINE} bytes")));
            }
            if self.fill(first, offset)? {
                continue;
            }
            // The end of this segment. Only when there is a later one is it final, and then only after
            // another look: the last lines may have come between reading and listing.
            let Some(later) = self.next_segment(Some(first))? else {
                self.buffer.clear();
                return Ok(None);
            };
            if self.fill(first, offset)? {
                continue;
            }
            if self.buffer.is_empty() {
                self.at = Some((later, 0));
            } else {
                return Err(self.skip_rest(first, place, "its line has no end".to_owned()));
            }
        }
    }

    /// Where reading stands, to come back to with [`Reader::rewind`].
    pub(super) fn bookmark(&self) -> Bookmark {
        Bookmark { at: self.at, expected: self.expected, ready: self.ready.clone() }
    }

    /// Goes back to a bookmark; bytes read since are read again.
    pub(super) fn rewind(&mut self, to: Bookmark) {
        self.buffer.clear();
        (self.at, self.expected, self.ready) = (to.at, to.expected, to.ready);
    }

    /// Checks a line that was cut out at `place`.
    fn take(&mut self, line: Vec<u8>, place: Place) -> Result<Item, ReadError> {
        let expected = self.expected;
        let link = chain::link(&line);
        // Whatever is wrong with this line, the next one is held against what this one claims.
        self.expected =
            Expected { seq: expected.seq.map(|s| s.saturating_add(1)), prev: link.map(|l| l.hash) };
        let damaged =
            |seq: Option<u64>, reason: String| ReadError::Damaged { place: place.clone(), seq, reason };
        let Some(link) = link else {
            return Err(damaged(expected.seq, "it does not end in `prev` and `hash`".to_owned()));
        };
        if !link.fits {
            return Err(damaged(
                expected.seq,
                "its hash is not that of its bytes: it was changed".to_owned(),
            ));
        }
        let text =
            String::from_utf8(line).map_err(|_| damaged(expected.seq, "it is not UTF-8".to_owned()))?;
        let head: Head =
            serde_json::from_str(&text).map_err(|e| damaged(expected.seq, format!("not a record: {e}")))?;
        self.expected.seq = Some(head.seq.saturating_add(1));
        if let Some(prev) = expected.prev
            && prev != link.prev
            && expected.seq == Some(head.seq)
        {
            return Err(damaged(
                Some(head.seq),
                "its `prev` is not the hash of the record before".to_owned(),
            ));
        }
        if head.schema > SCHEMA {
            return Err(ReadError::Newer { place, found: head.schema });
        }
        let entry =
            serde_json::from_str(&text).map_err(|e| damaged(Some(head.seq), format!("not a record: {e}")))?;
        let item = Item { entry, line: text, place: place.clone() };
        match expected.seq {
            Some(seq) if head.seq > seq => {
                self.ready.push_back(item);
                Err(ReadError::Missing { place, from: seq, to: head.seq - 1 })
            }
            Some(seq) if head.seq < seq => Err(damaged(
                Some(head.seq),
                format!("record {seq} should stand here: it was moved or repeated"),
            )),
            _ => Ok(item),
        }
    }

    /// Reads more of a segment into the buffer; false when there is no more now.
    fn fill(&mut self, first: u64, offset: u64) -> Result<bool, ReadError> {
        let path = segment::path(&self.dir, first);
        match self.fs.read(&path, offset + self.buffer.len() as u64, CHUNK) {
            Ok(bytes) => {
                self.buffer.extend_from_slice(&bytes);
                Ok(!bytes.is_empty())
            }
            // Removed by retention while it was read.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.buffer.clear();
                Ok(false)
            }
            Err(error) => Err(ReadError::Io { path, error }),
        }
    }

    /// The oldest segment after `current`, or the oldest of all.
    fn next_segment(&self, current: Option<u64>) -> Result<Option<u64>, ReadError> {
        if self.only {
            return Ok(None);
        }
        let firsts = match segment::list(&*self.fs, &self.dir) {
            Ok(firsts) => firsts,
            Err(error) => return Err(ReadError::Io { path: self.dir.clone(), error }),
        };
        Ok(firsts.into_iter().find(|&f| current.is_none_or(|c| f > c)))
    }

    /// Gives up the rest of a segment.
    fn skip_rest(&mut self, first: u64, place: Place, reason: String) -> ReadError {
        let seq = self.expected.seq;
        self.buffer.clear();
        let end = self.fs.len(&segment::path(&self.dir, first)).unwrap_or(u64::MAX);
        self.at = Some((first, end.max(place.offset)));
        self.expected.prev = None;
        ReadError::Damaged { place, seq, reason }
    }
}

/// A place in a [`Reader`]'s way.
#[derive(Debug, Clone)]
pub(super) struct Bookmark {
    at: Option<(u64, u64)>,
    expected: Expected,
    ready: VecDeque<Item>,
}

/// What every schema, also a later one, says.
#[derive(Deserialize)]
struct Head {
    schema: u32,
    seq: u64,
}
