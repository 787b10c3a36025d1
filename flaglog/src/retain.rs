//! What makes room: by age, by size, and when the disk gets full.
//!
//! # Constraints
//!
//! - Evidence goes before records, the oldest first, an event's evidence as a whole; of an event that is
//!   still open last.
//! - The chain says what went, so that `spotd verify` can tell it from evidence that somebody took away,
//!   and can begin behind removed records.
//! - It works on a disk that has no byte left, and a crash at any moment leaves nothing half done.
//!
//! # Order
//!
//! 1. `evidence/<event>` is renamed to `evidence/removing-<event>`, a segment to `removing-<seq>.jsonl`:
//!    that needs no room, and is what a later start finds after a crash.
//! 2. Their contents are removed. Now there is room.
//! 3. A `removed` note says it in the chain.
//! 4. The empty remainders are removed.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;
use ulid::Ulid;

use super::chain::{self, Hash, MAX_LINE};
use super::cursor::CursorFile;
use super::error::LogError;
use super::evidence::{self, FOLDER, REMOVING};
use super::index::{Kept, Removing};
use super::record::{NoteKind, RemovedRecords, timestamp};
use super::segment;
use super::writer::FlagLog;

/// Events that one note names at most, so that its line never gets too long.
const PER_NOTE: usize = 1000;
/// With so much free, a disk that was full counts as mended.
const MENDED: u64 = 1 << 20;

/// How the log is, for those who watch the box.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LogStatus {
    /// What a person should look after: a disk that is full or fails, or a folder that was taken away.
    pub alarm: Option<String>,
    /// Bytes of evidence.
    pub evidence_bytes: u64,
    /// Bytes of records.
    pub record_bytes: u64,
    /// Bytes that can still be written on its disk, where that is known.
    pub free_bytes: Option<u64>,
    /// Events whose evidence has made room since the start.
    pub evidence_removed: u64,
    /// How often since the start the log's folder, or a part of it, was renamed, removed, replaced or mounted over.
    pub displaced: u64,
    /// Records that wait in memory because the log cannot be written now; who keeps them says so, the log knows of none.
    pub waiting: u64,
    /// Records that were given up since the start because the log could not be written; likewise.
    pub lost: u64,
}

impl FlagLog {
    /// Removes what is older than it is to be kept, and the oldest where there is too much of it or too
    /// little room, and finds out whether the log can still be written. To be called now and then, also when nothing is
    /// written; what cannot be done is said in [`FlagLog::status`].
    pub fn tidy(&mut self) {
        if self.settle().is_err() {
            return;
        }
        if let Err(error) = self.place.takes_writes(self.segment.as_ref()) {
            self.trouble = Some(LogError::Dir { dir: self.place.dir.clone(), error }.to_string());
            return;
        }
        if let Err(e) = self.finish("a removal that a crash had interrupted was finished") {
            self.trouble = Some(e.to_string());
            return;
        }
        let result = self.tidy_evidence().and_then(|()| self.tidy_segments());
        let free = self.free();
        let short = free.filter(|&free| free < self.options.keep.min_free);
        self.trouble = match (result, short) {
            (Err(e), _) => Some(e.to_string()),
            (Ok(()), Some(free)) => Some(format!(
                "only {} are free on the disk of {}, less than [log] min_free_mib asks for; make room on it",
                size(free),
                self.place.dir.display()
            )),
            // Until there is room, a full disk stays an alarm.
            (Ok(()), None) => self.trouble.take().filter(|_| free.is_some_and(|free| free < MENDED)),
        };
    }

    /// Whether something is wrong that may pass: [`LogStatus::alarm`], unless it is about what was taken away.
    pub fn is_troubled(&self) -> bool {
        self.trouble.is_some()
    }

    /// How the log is.
    pub fn status(&self) -> LogStatus {
        // Errors say what they are about, and so does whoever shows this.
        let alarm = self.trouble.as_deref().or(self.lasting.as_deref());
        LogStatus {
            alarm: alarm.map(|a| a.strip_prefix("flag log ").unwrap_or(a).to_owned()),
            evidence_bytes: self.index.evidence_bytes(),
            record_bytes: self.index.segment_bytes(),
            free_bytes: self.free(),
            evidence_removed: self.evidence_removed,
            displaced: self.displaced,
            waiting: 0,
            lost: 0,
        }
    }

    /// Makes room on a full disk, evidence of `except` aside; false when there is nothing left to give.
    pub(super) fn make_room(&mut self, bytes: u64, except: Option<Ulid>) -> bool {
        // What was begun first: after its first two steps there is room.
        let begun = !self.index.removing.evidence.is_empty() || !self.index.removing.segments.is_empty();
        if begun && self.finish("the disk is full").is_ok() {
            return true;
        }
        let victims = self.oldest(bytes, except);
        let taken = if victims.is_empty() { self.take_segment() } else { self.take_evidence(&victims) };
        let done = taken.is_ok_and(|taken| taken) && self.finish("the disk is full").is_ok();
        if done {
            self.trouble = Some(format!(
                "the disk of {} is full: the oldest evidence makes room; free some or set [log] keep_mib",
                self.place.dir.display()
            ));
        }
        done
    }

    fn tidy_evidence(&mut self) -> Result<(), LogError> {
        if let Some(horizon) = self.horizon() {
            let old: Vec<Ulid> = self
                .index
                .evidence
                .values()
                .filter(|k| k.newest < horizon && !self.index.open.contains_key(&k.event))
                .map(|k| k.event)
                .collect();
            if !old.is_empty() {
                self.take_evidence(&old)?;
                self.finish("older than [log] keep_days")?;
            }
        }
        while let Some((excess, why)) = self.excess() {
            let victims = self.oldest(excess, None);
            if victims.is_empty() {
                break;
            }
            self.take_evidence(&victims)?;
            self.finish(why)?;
        }
        Ok(())
    }

    fn tidy_segments(&mut self) -> Result<(), LogError> {
        loop {
            let [oldest, next, ..] = self.index.segments.make_contiguous() else { return Ok(()) };
            let (newest, behind) = (oldest.newest, next.first);
            if self.index.evidence.range(..behind).next().is_some() {
                return Ok(());
            }
            let why = match (self.horizon().is_some_and(|h| newest < h), self.excess()) {
                (true, _) => "older than [log] keep_days",
                (false, Some((_, why))) => why,
                (false, None) => return Ok(()),
            };
            self.take_segment()?;
            self.finish(why)?;
        }
    }

    /// Bytes that are too many, a little more than needed so that not every record removes something, and
    /// by which rule.
    fn excess(&self) -> Option<(u64, &'static str)> {
        let keep = &self.options.keep;
        let used = self.index.evidence_bytes() + self.index.segment_bytes();
        if let Some(max) = keep.max_bytes.filter(|&max| used > max) {
            return Some((used - max + max / 20, "more than [log] keep_mib"));
        }
        let free = self.free().filter(|&free| free < keep.min_free)?;
        Some((keep.min_free - free + keep.min_free / 20, "less free on the disk than [log] min_free_mib"))
    }

    fn horizon(&self) -> Option<Timestamp> {
        let age = jiff::SignedDuration::try_from(self.options.keep.max_age?).ok()?;
        timestamp(self.clock.wall()).checked_sub(age).ok()
    }

    fn free(&self) -> Option<u64> {
        self.place.fs.free(&self.place.dir).ok()
    }

    /// The oldest events whose evidence together has so many bytes; open ones last.
    fn oldest(&self, bytes: u64, except: Option<Ulid>) -> Vec<Ulid> {
        let open = |event: &Ulid| self.index.open.contains_key(event);
        let (later, first): (Vec<&Kept>, Vec<&Kept>) =
            self.index.evidence.values().filter(|k| Some(k.event) != except).partition(|k| open(&k.event));
        let mut sum = 0;
        first
            .into_iter()
            .chain(later)
            .take_while(|k| {
                let more = sum < bytes;
                sum += k.bytes;
                more
            })
            .map(|k| k.event)
            .collect()
    }

    /// Step 1 for evidence.
    fn take_evidence(&mut self, events: &[Ulid]) -> Result<bool, LogError> {
        let fs = self.place.fs.clone();
        for event in events {
            let path = self.place.dir.join(FOLDER).join(event.to_string());
            match fs.rename(&path, &self.removing_path(*event)) {
                Ok(()) => self.index.removing.evidence.push(*event),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(LogError::Remove { path, error }),
            }
            self.index.forget_evidence(*event);
        }
        let path = self.place.dir.join(FOLDER);
        fs.sync_dir(&path).map_err(|error| LogError::Remove { path, error })?;
        Ok(true)
    }

    /// Step 1 for the oldest segment; false when there is only the one that is written to.
    fn take_segment(&mut self) -> Result<bool, LogError> {
        if self.index.segments.len() < 2 {
            return Ok(false);
        }
        let first = self.index.segments[0].first;
        let fs = self.place.fs.clone();
        let path = segment::path(&self.place.dir, first);
        fs.rename(&path, &self.place.dir.join(segment::removing_name(first)))
            .and_then(|()| fs.sync_dir(&self.place.dir))
            .map_err(|error| LogError::Remove { path, error })?;
        self.index.segments.pop_front();
        self.index.removing.segments.push(first);
        self.index.forget_reviews(self.index.segments[0].first);
        Ok(true)
    }

    /// Steps 2 to 4 for all that step 1 has taken.
    pub(super) fn finish(&mut self, why: &str) -> Result<(), LogError> {
        let events = self.index.removing.evidence.clone();
        let segments = self.index.removing.segments.clone();
        if events.is_empty() && segments.is_empty() {
            return Ok(());
        }
        let fs = self.place.fs.clone();
        let mut bytes = 0;
        for event in &events {
            let folder = self.removing_path(*event);
            let failed = |error| LogError::Remove { path: folder.clone(), error };
            let names = match fs.list(&folder) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
                names => names.map_err(failed)?,
            };
            for name in names.iter().filter(|n| evidence::is_ours(n)) {
                bytes += fs.len(&folder.join(name)).unwrap_or(0);
                fs.remove(&folder.join(name)).map_err(failed)?;
            }
        }
        for &first in &segments {
            let path = self.place.dir.join(segment::removing_name(first));
            let emptied = fs.append(&path).and_then(|mut f| f.truncate(0));
            emptied.map_err(|error| LogError::Remove { path, error })?;
        }
        for chunk in events.chunks(PER_NOTE) {
            let text = format!("evidence of {} event(s), {}, was removed: {why}", chunk.len(), size(bytes));
            log::info!("flag log {}: {text}", self.place.dir.display());
            self.write_note(NoteKind::Removed, text, |note| note.evidence = chunk.to_vec())?;
        }
        if !segments.is_empty() {
            let records = self.removed_records();
            let mut text = format!("records up to {} were removed: {why}", records.until);
            for (reader, seq) in self.readers_before(records.until) {
                text += &format!("; reader {reader} had not got those after {seq}");
            }
            log::info!("flag log {}: {text}", self.place.dir.display());
            self.write_note(NoteKind::Removed, text, |note| note.records = Some(records))?;
        }
        self.evidence_removed += events.len() as u64;
        self.clear(&events, &segments);
        Ok(())
    }

    /// Step 4. What cannot be cleared now is found at the next start.
    fn clear(&mut self, events: &[Ulid], segments: &[u64]) {
        let fs = self.place.fs.clone();
        for event in events {
            let folder = self.removing_path(*event);
            if let Err(e) = fs.remove_dir(&folder)
                && e.kind() == io::ErrorKind::DirectoryNotEmpty
            {
                // A foreign file lies in it, which is not ours to remove.
                log::warn!("{}: it holds files that are not spotd's; left alone", folder.display());
                let _ = fs.rename(&folder, &self.place.dir.join(FOLDER).join(event.to_string()));
            }
        }
        for &first in segments {
            let _ = fs.remove(&self.place.dir.join(segment::removing_name(first)));
        }
        let _ = fs.sync_dir(&self.place.dir.join(FOLDER));
        let _ = fs.sync_dir(&self.place.dir);
        self.index.removing = Removing::default();
    }

    /// What stands before the oldest segment that is left.
    fn removed_records(&self) -> RemovedRecords {
        let first = self.index.segments.front().map_or(self.next_seq, |s| s.first);
        // Where the oldest one left is empty, because its first record could not be written, the note itself becomes
        // its first line.
        if first >= self.next_seq {
            return RemovedRecords { until: self.next_seq.saturating_sub(1), hash: self.prev };
        }
        let path = segment::path(&self.place.dir, first);
        let line = self.place.fs.read(&path, 0, MAX_LINE).unwrap_or_default();
        let line = line.split(|&b| b == b'\n').next().unwrap_or_default();
        // Where the first line left is damaged, `verify` says so of it.
        let hash = chain::link(line).map_or(Hash::ZERO, |link| link.prev);
        RemovedRecords { until: first.saturating_sub(1), hash }
    }

    /// Readers whose cursor stands before a record, with where it stands.
    fn readers_before(&self, seq: u64) -> Vec<(String, u64)> {
        let names = self.place.fs.list(&self.place.dir).unwrap_or_default();
        let reader = |name: &String| {
            let name = name.strip_prefix("cursor-")?.strip_suffix(".json")?.to_owned();
            let ours = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            let mark = ours.then(|| CursorFile::new(self.place.fs.clone(), &self.place.dir, &name).load());
            mark?.ok().flatten().filter(|m| m.seq < seq).map(|m| (name, m.seq))
        };
        names.iter().filter_map(reader).collect()
    }

    fn removing_path(&self, event: Ulid) -> PathBuf {
        self.place.dir.join(FOLDER).join(format!("{REMOVING}{event}"))
    }
}

/// A number of bytes for people.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..0x10_0000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}
