//! What is done at open, before anything is appended.
//!
//! The newest segment is read. Bytes behind its last line feed, or a last line of which whole sectors are
//! zero (they never reached the disk), are a record in progress: they are moved to a `cut-*.bin` file and
//! cut off, and a `recovered` note follows in the chain. Other damage is no crash of ours. It is left for
//! `spotd verify`, a `damaged` note follows in the chain, and where even the last line does not hold,
//! writing goes on in a new segment. Older segments are not read.

use std::io;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::chain::{Hash, MAX_LINE};
use super::error::LogError;
use super::fs::{Fs, write_whole};
use super::reader::{ReadError, Reader};
use super::record::NoteKind;
use super::segment::{self, Segment};

/// Disks write so many bytes whole or not at all, or multiples of it.
const SECTOR: usize = 512;

/// What was found at open.
pub(super) struct Found {
    /// `seq` of the next record.
    pub next_seq: u64,
    /// Its `prev`.
    pub prev: Hash,
    /// When the last record was written.
    pub latest: Option<Timestamp>,
    /// The segment to go on in.
    pub segment: Option<Segment>,
    /// What the log should say about itself.
    pub notes: Vec<(NoteKind, String)>,
}

/// Reads the newest segment, cuts a record in progress off its end, and says where to go on.
pub(super) fn recover(fs: &Arc<dyn Fs>, dir: &Path) -> Result<Found, LogError> {
    let failed = |error: io::Error| LogError::Dir { dir: dir.to_owned(), error };
    let mut found = Found { next_seq: 1, prev: Hash::ZERO, latest: None, segment: None, notes: Vec::new() };
    let firsts = segment::list(&**fs, dir).map_err(failed)?;
    let Some(&newest) = firsts.last() else { return Ok(found) };
    let path = segment::path(dir, newest);
    let mut len = fs.len(&path).map_err(failed)?;
    found.next_seq = newest;
    let torn = torn_tail(&**fs, &path, len).map_err(failed)?;
    if torn < len {
        found.notes.push((NoteKind::Recovered, cut(&**fs, dir, &path, newest, torn, len).map_err(failed)?));
        len = torn;
    }
    // A process that was killed may have left a whole record that was never synced; it counts from here on.
    let mut file = fs.append(&path).map_err(failed)?;
    file.sync().and_then(|()| fs.sync_dir(dir)).map_err(failed)?;
    let segment = Segment { path, first: newest, len, file: Some(file), named: true };
    if len == 0 {
        // A segment was begun and its first record did not get there. What stands before it is needed.
        if let [.., before, _] = firsts[..] {
            let last = last_of(fs, dir, before)?;
            (found.prev, found.latest) = (last.prev, last.latest);
            found.next_seq = newest.max(last.next_seq);
        }
        // A segment is named by its first record.
        found.segment = (found.next_seq == newest).then_some(segment);
        return Ok(found);
    }
    let last = last_of(fs, dir, newest)?;
    (found.next_seq, found.prev, found.latest) = (last.next_seq, last.prev, last.latest);
    // A segment whose last line does not hold is left alone for ever.
    found.segment = (!last.last_is_damaged).then_some(segment);
    if let Some(damage) = last.damage {
        found.notes.push((NoteKind::Damaged, format!("{damage}; it was left as it is, see `spotd verify`")));
    }
    Ok(found)
}

/// Where a record in progress begins: behind the last line feed, or where the last line lacks sectors.
/// `len` when there is none.
fn torn_tail(fs: &dyn Fs, path: &Path, len: u64) -> io::Result<u64> {
    // A line is at most MAX_LINE long, so its start is in the last two of that.
    let from = len.saturating_sub(2 * MAX_LINE as u64);
    let bytes = fs.read(path, from, 2 * MAX_LINE)?;
    let after_last = |bytes: &[u8]| bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
    let mut end = after_last(&bytes);
    if end == bytes.len() && end > 0 {
        let start = after_last(&bytes[..end - 1]);
        if lacks_sectors(&bytes[start..end], from + start as u64) {
            end = start;
        }
    }
    Ok(from + end as u64)
}

/// Whether a line at `offset` of its file begins with zeros up to the end of a sector, or has a whole
/// sector of them. A lone NUL is no such thing, but somebody's edit.
fn lacks_sectors(line: &[u8], offset: u64) -> bool {
    let first = SECTOR - (offset % SECTOR as u64) as usize;
    let (head, rest) = line.split_at(first.min(line.len()));
    let zero = |part: &[u8]| !part.is_empty() && part.iter().all(|&b| b == 0);
    zero(head) || rest.chunks_exact(SECTOR).any(zero)
}

/// Moves the bytes from `at` on out of a segment; returns what is to be said about it.
fn cut(fs: &dyn Fs, dir: &Path, path: &Path, newest: u64, at: u64, len: u64) -> io::Result<String> {
    let bytes = fs.read(path, at, usize::try_from(len - at).unwrap_or(usize::MAX))?;
    let hash = Hash::of(&bytes).to_string();
    let copy = format!("cut-{newest:020}-{}.bin", &hash[..16]);
    let kept = match write_whole(fs, &dir.join(&copy), &bytes) {
        Ok(()) => format!("kept in {copy}"),
        // A full disk must not keep the daemon from starting.
        Err(e) => format!("not kept: {copy}: {e}"),
    };
    let mut file = fs.append(path)?;
    file.truncate(at)?;
    file.sync()?;
    Ok(format!(
        "an unfinished record of {} bytes (SHA-256 {hash}) was cut from {} at byte {at} after a crash; {kept}",
        bytes.len(),
        segment::file_name(newest),
    ))
}

/// The end of a segment as far as it holds.
struct Last {
    next_seq: u64,
    prev: Hash,
    latest: Option<Timestamp>,
    last_is_damaged: bool,
    damage: Option<ReadError>,
}

fn last_of(fs: &Arc<dyn Fs>, dir: &Path, first: u64) -> Result<Last, LogError> {
    let mut last =
        Last { next_seq: first, prev: Hash::ZERO, latest: None, last_is_damaged: false, damage: None };
    let mut reader = Reader::of_segment(fs.clone(), dir, first);
    loop {
        match reader.next() {
            Ok(Some(item)) => {
                last.latest = Some(item.entry.written());
                last.last_is_damaged = false;
            }
            Ok(None) => return Ok(last),
            Err(error @ ReadError::Newer { .. }) => {
                return Err(LogError::Newer { dir: dir.to_owned(), reason: error.to_string() });
            }
            Err(ReadError::Io { error, .. }) => return Err(LogError::Dir { dir: dir.to_owned(), error }),
            Err(error) => {
                last.last_is_damaged = true;
                last.damage.get_or_insert(error);
            }
        }
        // The writer goes on with what the next reader will expect, also behind damage.
        let (seq, prev) = reader.expected();
        last.next_seq = seq.unwrap_or(last.next_seq);
        last.prev = prev.unwrap_or(last.prev);
    }
}
