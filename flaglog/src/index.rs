//! What the log holds, learnt by reading it once at open and kept up with every record: which events are
//! open, and what could make room.
//!
//! Age is counted in the order of the chain: a record is never older than one before it. So evidence that
//! was written while the clock was wrong (a board without a battery, before its time server answered) does
//! not go before its time.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use ulid::Ulid;

use super::chain::Hash;
use super::evidence::{self, FOLDER, REMOVING};
use super::fs::{Fs, TMP};
use super::reader::{ReadError, Reader};
use super::record::{Entry, EvidenceFiles, NoteKind, Record};
use super::review::{Review, Standing};
use super::segment;
use spotd_core::verdict::EventKind;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Segments, oldest first.
    pub segments: VecDeque<SegmentInfo>,
    /// Events without an `end`, with their last record.
    pub open: BTreeMap<Ulid, Record>,
    /// Events that have evidence on the disk, by the `seq` of their first record: oldest first.
    pub evidence: BTreeMap<u64, Kept>,
    /// Folders and segments whose removal was begun.
    pub removing: Removing,
    /// Whether the last record is a signature under all before it.
    pub ends_signed: bool,
    /// The newest review of each event that people have judged.
    pub reviews: HashMap<Ulid, Standing>,
    by_event: HashMap<Ulid, u64>,
    latest: Option<Timestamp>,
}

/// A segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct SegmentInfo {
    pub first: u64,
    pub bytes: u64,
    pub newest: Timestamp,
}

/// Evidence of one event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub event: Ulid,
    pub bytes: u64,
    pub newest: Timestamp,
}

/// What was taken out of the log's sight and is not noted in the chain yet.
#[derive(Debug, Default)]
pub(super) struct Removing {
    /// Events whose folders are called `removing-<event>`.
    pub evidence: Vec<Ulid>,
    /// Segments that are called `removing-<seq>.jsonl`.
    pub segments: Vec<u64>,
}

impl Index {
    /// Reads the whole log. Unfinished files that a crash has left are removed; so is evidence that no
    /// record names, unless records are damaged or missing, which might have named it.
    pub fn build(fs: &Arc<dyn Fs>, dir: &Path) -> io::Result<Self> {
        let mut index = Self::default();
        let mut named = HashSet::new();
        let mut events = HashSet::new();
        let mut damage: Option<ReadError> = None;
        for first in segment::list(&**fs, dir)? {
            let bytes = fs.len(&segment::path(dir, first))?;
            index.segments.push_back(SegmentInfo { first, bytes, newest: Timestamp::MIN });
        }
        let mut reader = Reader::from_start(fs.clone(), dir);
        loop {
            match reader.next() {
                Ok(Some(item)) => {
                    let newest = index.grown(item.entry.written());
                    if let Some(first) = segment::parse_name(&item.place.segment)
                        && let Some(info) = index.segments.iter_mut().find(|s| s.first == first)
                    {
                        info.newest = newest;
                    }
                    index.ends_signed = is_signature(&item.entry);
                    match item.entry {
                        Entry::Event(record) => {
                            named.extend(
                                record.evidence.iter().flat_map(EvidenceFiles::files).map(|f| f.sha256),
                            );
                            events.insert(record.event);
                            index.event(*record, newest, 0);
                        }
                        Entry::Review(review) => index.review(&review),
                        Entry::Note(_) => {}
                    }
                }
                Ok(None) => break,
                Err(ReadError::Io { error, .. }) => return Err(error),
                Err(error) => {
                    damage.get_or_insert(error);
                }
            }
        }
        // A segment without a sound record is as old as what stands before it.
        let mut newest = Timestamp::MIN;
        for info in &mut index.segments {
            newest = newest.max(info.newest);
            info.newest = newest;
        }
        if let Some(error) = &damage {
            log::warn!("flag log {}: {error}; see `spotd verify`", dir.display());
        }
        let begun = |name: String| segment::parse_removing(&name);
        index.removing.segments = fs.list(dir)?.into_iter().filter_map(begun).collect();
        index.removing.segments.sort_unstable();
        index.look_at_evidence(&**fs, dir, damage.is_none().then_some((&named, &events)))?;
        Ok(index)
    }

    /// Sums up what lies in the folders of evidence, and removes leftovers of crashes. `known`: all files
    /// and events that records name, if all records could be read.
    fn look_at_evidence(
        &mut self,
        fs: &dyn Fs,
        dir: &Path,
        known: Option<(&HashSet<Hash>, &HashSet<Ulid>)>,
    ) -> io::Result<()> {
        for name in fs.list(dir)?.iter().filter(|n| n.starts_with("cursor-") || n.starts_with("cut-")) {
            if name.ends_with(TMP) {
                discard(fs, &dir.join(name));
            }
        }
        let top = dir.join(FOLDER);
        let folders = match fs.list(&top) {
            Ok(folders) => folders,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        let mut sizes = HashMap::new();
        for name in folders {
            if let Some(event) = name.strip_prefix(REMOVING).and_then(evidence::event_of) {
                self.removing.evidence.push(event);
                continue;
            }
            let Some(event) = evidence::event_of(&name) else { continue };
            let folder = top.join(&name);
            let mut bytes = 0;
            for file in fs.list(&folder)?.into_iter().filter(|f| evidence::is_ours(f)) {
                let path = folder.join(&file);
                let hash = file.split('.').next().and_then(Hash::parse);
                let orphan = known.is_some_and(|(named, _)| hash.is_none_or(|h| !named.contains(&h)));
                if file.ends_with(TMP) || orphan {
                    discard(fs, &path);
                } else {
                    bytes += fs.len(&path)?;
                }
            }
            if bytes > 0 {
                sizes.insert(event, bytes);
            } else if known.is_some_and(|(_, events)| !events.contains(&event)) {
                // Fails where a foreign file lies in it, which is left alone.
                let _ = fs.remove_dir(&folder);
            }
        }
        let latest = self.latest.unwrap_or(Timestamp::MIN);
        self.evidence.retain(|_, kept| sizes.remove(&kept.event).map(|bytes| kept.bytes = bytes).is_some());
        // Evidence that damaged records may name is kept as long as the oldest; there is no order in it.
        for (event, bytes) in sizes {
            let place = (0..).find(|seq| !self.evidence.contains_key(seq)).expect("there are enough numbers");
            self.evidence.insert(place, Kept { event, bytes, newest: latest });
            self.by_event.insert(event, place);
        }
        Ok(())
    }

    /// Takes in what was just appended to the segment that begins at `first`: a line and its new evidence,
    /// in bytes.
    pub fn appended(&mut self, entry: &Entry, first: u64, line: u64, evidence: u64) {
        let newest = self.grown(entry.written());
        match self.segments.back_mut().filter(|s| s.first == first) {
            Some(info) => {
                info.bytes += line;
                info.newest = newest;
            }
            None => self.segments.push_back(SegmentInfo { first, bytes: line, newest }),
        }
        self.ends_signed = is_signature(entry);
        match entry {
            Entry::Event(record) => self.event((**record).clone(), newest, evidence),
            Entry::Review(review) => self.review(review),
            Entry::Note(_) => {}
        }
    }

    fn review(&mut self, review: &Review) {
        self.reviews.insert(review.event, review.into());
    }

    /// Forgets reviews that were removed with their records; those of the event itself, being older, went before.
    pub fn forget_reviews(&mut self, before: u64) {
        self.reviews.retain(|_, review| review.seq >= before);
    }

    fn event(&mut self, mut record: Record, newest: Timestamp, evidence: u64) {
        let seq = *self.by_event.entry(record.event).or_insert(record.seq);
        if record.evidence.is_some() {
            let kept = self.evidence.entry(seq).or_insert(Kept { event: record.event, bytes: 0, newest });
            kept.newest = newest;
            kept.bytes += evidence;
        }
        if matches!(record.kind, EventKind::End | EventKind::Alert) {
            self.open.remove(&record.event);
            if !self.evidence.contains_key(&seq) {
                self.by_event.remove(&record.event);
            }
        } else {
            record.tiles = Vec::new();
            self.open.insert(record.event, record);
        }
    }

    /// Forgets evidence that was removed.
    pub fn forget_evidence(&mut self, event: Ulid) {
        if let Some(seq) = self.by_event.get(&event) {
            self.evidence.remove(seq);
            if !self.open.contains_key(&event) {
                self.by_event.remove(&event);
            }
        }
    }

    /// Somebody has changed a segment's length.
    pub fn segment_is(&mut self, first: u64, bytes: u64) {
        self.segments.iter_mut().filter(|s| s.first == first).for_each(|s| s.bytes = bytes);
    }

    /// Somebody has removed a segment.
    pub fn forget_segment(&mut self, first: u64) {
        self.segments.retain(|s| s.first != first);
    }

    /// Bytes of all evidence.
    pub fn evidence_bytes(&self) -> u64 {
        self.evidence.values().map(|k| k.bytes).sum()
    }

    /// Bytes of all segments.
    pub fn segment_bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.bytes).sum()
    }

    fn grown(&mut self, written: Timestamp) -> Timestamp {
        let newest = self.latest.map_or(written, |l| l.max(written));
        self.latest = Some(newest);
        newest
    }
}

fn is_signature(entry: &Entry) -> bool {
    matches!(entry, Entry::Note(note) if note.note == NoteKind::Signed)
}

fn discard(fs: &dyn Fs, path: &Path) {
    match fs.remove(path) {
        Ok(()) => log::info!("{}: left by a crash, named by no record; removed", path.display()),
        Err(e) => log::warn!("{}: left by a crash, cannot be removed: {e}", path.display()),
    }
}
