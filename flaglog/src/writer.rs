//! Appends to the log.
//!
//! # Constraints
//!
//! - When [`FlagLog::append`] returns a record, that record and its evidence are durable: they survive
//!   `kill -9` and loss of power.
//! - At most the one record in progress is lost in a crash, and the log says so.
//! - A full or failing disk costs evidence before it costs records, and never more than that: every
//!   append tries anew.
//! - One process writes (`lock`); any number read.
//!
//! # Order of writing
//!
//! Evidence files (each: temporary file, fsync, rename), then their folders' fsync; the line with one
//! `write`; the segment's fsync; for a new segment the log folder's fsync; a look whether the path still leads to all
//! of it; then readers are woken.
//! Segments are begun when the newest has reached [`Options::segment_bytes`].
//!
//! # When a write or fsync fails
//!
//! What is on the disk behind the last durable record is unknown then (after a failed fsync a later
//! success proves nothing), so the segment is closed and, before anything else is appended, opened again
//! and cut to its last durable length. Until that works every append fails.
//!
//! # When the folder is renamed, removed or mounted over
//!
//! See `settle.rs`.
//!
//! # Recovery at open
//!
//! See `recover.rs`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use spotd_core::clock::SharedClock;
use spotd_core::judgement::Judgement;
use spotd_core::verdict::{EventKind, Verdict};
use ulid::Ulid;

use super::chain::{Hash, MAX_LINE};
use super::disk::OsFs;
use super::error::LogError;
use super::evidence::{self, Evidence, EvidenceError, Stored};
use super::fs::{Fs, is_full};
use super::index::Index;
use super::place::{Carried, Opened, Place};
use super::record::{
    ClockStatus, Entry, NewRecord, Note, NoteKind, Record, SCHEMA_OF_EVENTS, SOFTWARE, timestamp,
};
use super::review::{self, NewReview, Review, ReviewError};
use super::segment::{self, Segment};
use super::settings::{LogConfig, RetentionConfig};
use super::sign::Signer;
use super::tail::Tail;

/// systemd-timesyncd makes this file once the clock follows a server.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";
/// Tiles listed in a record at most, so that its line never gets too long; the best ones are.
const MAX_LISTED: usize = 512;
/// How far the clock may step back between two records without being said: time servers adjust that much.
const STEP_BACK: jiff::SignedDuration = jiff::SignedDuration::from_secs(2);

/// How often old evidence is asked to make room for one write.
const TRIES: u32 = 8;
/// Bytes made free beyond what is needed: for lines, and for what file systems take by the block.
const SLACK: u64 = 64 * 1024;

/// What rarely has to be chosen.
#[derive(Debug, Clone)]
pub struct Options {
    /// A segment of this many bytes is full.
    pub segment_bytes: u64,
    /// The file system.
    pub fs: Arc<dyn Fs>,
    /// What is kept how long.
    pub keep: RetentionConfig,
    /// Signs the chain.
    pub signer: Option<Signer>,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 4 << 20, fs: Arc::new(OsFs), keep: RetentionConfig::default(), signer: None }
    }
}

/// The log, open for writing.
pub struct FlagLog {
    pub(super) place: Place,
    node: String,
    pub(super) options: Options,
    pub(super) clock: SharedClock,
    pub(super) tail: Tail,
    pub(super) next_seq: u64,
    pub(super) prev: Hash,
    pub(super) latest: Option<Timestamp>,
    pub(super) segment: Option<Segment>,
    pub(super) index: Index,
    /// Events that were open when the log was.
    pub(super) left_open: BTreeMap<Ulid, Record>,
    /// What [`super::LogStatus::alarm`] says, until it is over.
    pub(super) trouble: Option<String>,
    /// What it says until the next start.
    pub(super) lasting: Option<String>,
    /// What a log that has taken another's place has yet to say.
    pub(super) carried: Carried,
    /// Whether the folder was taken away and no new log could be begun yet.
    pub(super) homeless: bool,
    /// How often something of the log was found in another's place.
    pub(super) displaced: u64,
    pub(super) evidence_removed: u64,
}

impl FlagLog {
    /// Opens the log in `config.dir`, making the folder if there is none, and recovers from a crash.
    ///
    /// # Errors
    /// [`LogError::Dir`], [`LogError::Locked`] and [`LogError::Newer`] name the folder and the way out.
    pub fn open(config: &LogConfig, node: &str, clock: SharedClock) -> Result<Self, LogError> {
        Self::open_with(config, node, clock, Options::default())
    }

    /// As [`FlagLog::open`], with what rarely has to be chosen.
    ///
    /// # Errors
    /// As [`FlagLog::open`].
    pub fn open_with(
        config: &LogConfig,
        node: &str,
        clock: SharedClock,
        options: Options,
    ) -> Result<Self, LogError> {
        let Opened { place, found, index } = Opened::open(&options.fs, &config.dir)?;
        let mut log = Self {
            tail: Tail::new(place.fs.clone(), &config.dir, found.next_seq - 1),
            place,
            node: node.to_owned(),
            options,
            clock,
            next_seq: found.next_seq,
            prev: found.prev,
            latest: found.latest,
            segment: found.segment,
            left_open: index.open.clone(),
            index,
            trouble: None,
            lasting: None,
            carried: Carried::default(),
            homeless: false,
            displaced: 0,
            evidence_removed: 0,
        };
        log.say(found.notes);
        log.tidy();
        log.sign_if(true);
        Ok(log)
    }

    /// Notes what was found at open.
    pub(super) fn say(&mut self, notes: Vec<(NoteKind, String)>) {
        for (kind, text) in notes {
            log::warn!("flag log {}: {text}", self.place.dir.display());
            if let Err(e) = self.note(kind, text) {
                log::error!("{e}; it was not noted in the log itself");
            }
        }
    }

    /// Appends a record, with its evidence first. When it returns, both are durable, and where the log's path leads.
    ///
    /// Evidence that cannot be written does not hold the record up: it is appended without, and says why
    /// in [`Record::evidence_error`].
    ///
    /// # Errors
    /// [`LogError::Write`]: the record is not in the log, and the next call tries anew. So do
    /// [`LogError::Displaced`], and what [`FlagLog::open`] has, where the log's path leads elsewhere now.
    pub fn append(&mut self, new: NewRecord, evidence: Option<&Evidence>) -> Result<Record, LogError> {
        self.append_with(new, Ok(evidence))
    }

    /// Appends a record whose pictures could not be made, and says why in [`Record::evidence_error`].
    ///
    /// # Errors
    /// As [`FlagLog::append`].
    pub fn append_without_evidence(&mut self, new: NewRecord, why: &str) -> Result<Record, LogError> {
        self.append_with(new, Err(why))
    }

    /// Appends what somebody says of an event that was read in the log `of`; durable when it returns. The newest review
    /// counts. It is signed at once, if the log is.
    ///
    /// # Errors
    /// [`ReviewError`]; the review is not in the log then.
    pub fn review(&mut self, new: NewReview, of: &Tail) -> Result<Review, ReviewError> {
        new.check()?;
        let mut tries = TRIES;
        loop {
            self.settle()?;
            if !self.tail.is_same(of) {
                return Err(ReviewError::Elsewhere);
            }
            let standing = self.index.reviews.get(&new.event);
            if standing.map(|s| s.id) != new.replaces {
                return Err(ReviewError::Overtaken(standing.cloned()));
            }
            let entry = Entry::Review(self.review_of(new.clone()));
            match self.write_in_need(entry, 0) {
                Err(LogError::Displaced { .. }) if tries > 0 => tries -= 1,
                Err(error) => {
                    self.trouble = Some(error.to_string());
                    return Err(error.into());
                }
                Ok(Entry::Review(review)) => {
                    self.sign_if(true);
                    self.tidy();
                    return Ok(review);
                }
                Ok(_) => unreachable!("what was written comes back"),
            }
        }
    }

    fn review_of(&self, new: NewReview) -> Review {
        let wall = self.clock.wall();
        let written = timestamp(wall);
        Review {
            schema: review::SCHEMA,
            seq: 0,
            id: Ulid::from_datetime(wall),
            event: new.event,
            node: self.node.clone(),
            source: new.source,
            review: new.finding,
            by: new.by,
            comment: new.comment.filter(|c| !c.trim().is_empty()),
            replaces: new.replaces,
            written,
            clock: self.clock_status(written),
            software: SOFTWARE.to_owned(),
            prev: Hash::ZERO,
            hash: Hash::ZERO,
        }
    }

    fn append_with(
        &mut self,
        new: NewRecord,
        evidence: Result<Option<&Evidence>, &str>,
    ) -> Result<Record, LogError> {
        let record = self.record(new);
        let mut tries = TRIES;
        loop {
            self.settle()?;
            match self.append_settled(record.clone(), evidence) {
                Err(LogError::Displaced { .. }) if tries > 0 => tries -= 1,
                done => return done,
            }
        }
    }

    fn append_settled(
        &mut self,
        mut record: Record,
        evidence: Result<Option<&Evidence>, &str>,
    ) -> Result<Record, LogError> {
        let mut stored = None;
        let mut trouble = None;
        let kept = match evidence {
            Ok(Some(evidence)) => self.store(record.event, evidence).map(Some).map_err(|e| e.to_string()),
            Ok(None) => Ok(None),
            Err(why) => Err(why.to_owned()),
        };
        match kept {
            Ok(done) => {
                record.evidence = done.as_ref().map(|done| done.files.clone());
                stored = done;
            }
            Err(why) => {
                trouble = Some(format!("evidence of {} not kept: {why}", record.source));
                record.evidence_error = Some(why);
            }
        }
        let entry = Entry::Event(Box::new(record.clone()));
        let bytes = stored.as_ref().map_or(0, |s| s.bytes);
        let written = match (self.write_in_need(entry, bytes), stored) {
            (Err(e), Some(stored)) => {
                stored.discard(&*self.place.fs, &self.place.dir);
                if matches!(e, LogError::Displaced { .. }) {
                    return Err(e);
                }
                // A full disk may take the line once the pictures are gone; the record matters more.
                record.evidence = None;
                record.evidence_error = Some(format!("removed to make room for the record: {e}"));
                trouble = Some(format!("evidence of {} not kept: {e}", record.source));
                self.write_in_need(Entry::Event(Box::new(record)), 0)
            }
            (done, _) => done,
        };
        match (&written, &trouble) {
            // Whoever called says so, and may try again and again.
            (Err(e), _) => trouble = Some(e.to_string()),
            (Ok(_), Some(why)) => log::error!("flag log {}: {why}", self.place.dir.display()),
            (Ok(_), None) => {}
        }
        let failed = trouble.is_some();
        if failed {
            self.trouble = trouble;
        }
        let Entry::Event(record) = written? else { unreachable!("an event was written") };
        self.sign_if(record.kind == EventKind::End);
        if !failed {
            self.tidy();
        }
        Ok(*record)
    }

    /// Appends an `end` for every event that an earlier run has left open, with the reason in it. Returns
    /// how many. What could not be written is tried again with the next call.
    ///
    /// # Errors
    /// As [`FlagLog::append`].
    pub fn close_left_open(&mut self) -> Result<usize, LogError> {
        if self.left_open.is_empty() {
            return Ok(0);
        }
        self.settle()?;
        let mut closed = 0;
        while let Some((&event, last)) = self.left_open.first_key_value() {
            let reason = format!(
                "spotd ended without closing this event (last record written {:.3}); it was closed at the \
                 next start, and what the source showed in between is not known",
                last.written
            );
            let new = NewRecord::without_frame(last, EventKind::End, Verdict::Unsure, self.clock.wall());
            let mut record = self.record(new);
            record.reason = Some(reason);
            log::warn!("{}: event {event} was left open by an earlier run; closing it", record.source);
            self.write_in_need(Entry::Event(Box::new(record)), 0)?;
            self.left_open.remove(&event);
            closed += 1;
        }
        self.sign_if(closed > 0);
        Ok(closed)
    }

    /// A handle for readers in this process.
    pub fn tail(&self) -> Tail {
        self.tail.clone()
    }

    /// The log's folder.
    pub fn dir(&self) -> &Path {
        &self.place.dir
    }

    pub(super) fn record(&mut self, new: NewRecord) -> Record {
        let wall = self.clock.wall();
        let id = Ulid::from_datetime(wall);
        let written = timestamp(wall);
        let finite = |score: Option<f64>| score.filter(|s| s.is_finite());
        let mut tiles = new.tiles;
        tiles.retain(|t| t.score.is_finite());
        if tiles.len() > MAX_LISTED {
            tiles.sort_by(|a, b| b.score.total_cmp(&a.score));
            tiles.truncate(MAX_LISTED);
        }
        Record {
            schema: SCHEMA_OF_EVENTS,
            seq: 0,
            id,
            event: new.event.unwrap_or(id),
            node: self.node.clone(),
            source: new.source,
            kind: new.kind,
            verdict: new.verdict,
            captured: timestamp(new.captured),
            written,
            clock: self.clock_status(written),
            judgement: Judgement {
                raw: finite(new.judgement.raw),
                smoothed: finite(new.judgement.smoothed),
                peak: finite(new.judgement.peak),
                ..new.judgement
            },
            frame: new.frame,
            tiles,
            logits: new.logits,
            model: new.model,
            alert: new.alert,
            software: SOFTWARE.to_owned(),
            evidence: None,
            evidence_error: None,
            reason: None,
            prev: Hash::ZERO,
            hash: Hash::ZERO,
        }
    }

    fn clock_status(&self, now: Timestamp) -> ClockStatus {
        match self.latest {
            Some(latest) if latest.duration_since(now) > STEP_BACK => {
                log::warn!(
                    "flag log {}: the clock shows {now}, the record before was written at {latest}: it was set back",
                    self.place.dir.display()
                );
                ClockStatus::SetBack
            }
            _ if Path::new(SYNCHRONISED).exists() => ClockStatus::Synchronised,
            _ => ClockStatus::Unknown,
        }
    }

    fn store(&mut self, event: Ulid, pictures: &Evidence) -> Result<Stored, EvidenceError> {
        let mut tries = TRIES;
        loop {
            match evidence::store(&*self.place.fs, &self.place.dir, event, pictures) {
                Err(e) if tries > 0 && e.is_full() && self.make_room(pictures.bytes() + SLACK, None) => {
                    tries -= 1;
                }
                done => return done,
            }
        }
    }

    /// As [`FlagLog::write`], and on a full disk old evidence makes room. `evidence`: bytes of the pictures
    /// that the record has brought.
    pub(super) fn write_in_need(&mut self, entry: Entry, evidence: u64) -> Result<Entry, LogError> {
        let event = match &entry {
            Entry::Event(record) => Some(record.event),
            Entry::Review(review) => Some(review.event),
            Entry::Note(_) => None,
        };
        let mut tries = TRIES;
        loop {
            match self.write_with(entry.clone(), evidence) {
                Err(LogError::Write { error, .. })
                    if tries > 0 && is_full(&error) && self.make_room(SLACK, event) =>
                {
                    tries -= 1;
                }
                done => return done,
            }
        }
    }

    /// Signs what is not signed yet, if there is a key and it is due: at the end of an event, after a review,
    /// when a segment is full, at start and at the end.
    fn sign_if(&mut self, due: bool) {
        let Some(signer) = self.options.signer.clone() else { return };
        let full = self.segment.as_ref().is_some_and(|s| s.len >= self.options.segment_bytes);
        if self.next_seq == 1 || self.index.ends_signed || !(due || full) {
            return;
        }
        let (seq, hash) = (self.next_seq - 1, self.prev);
        let signature = signer.sign(seq, hash);
        let text = format!("records up to {seq} are signed with key {}", signature.key);
        if let Err(e) = self.write_note(NoteKind::Signed, text, |note| note.signature = Some(signature)) {
            log::error!("{e}; the log is not signed up to here, the next signature will be about it too");
        }
    }

    pub(super) fn note(&mut self, note: NoteKind, text: String) -> Result<(), LogError> {
        self.write_note(note, text, |_| ())
    }

    /// Appends a note, with `fill` adding what only notes of its kind say.
    pub(super) fn write_note(
        &mut self,
        note: NoteKind,
        text: String,
        fill: impl FnOnce(&mut Note),
    ) -> Result<(), LogError> {
        let wall = self.clock.wall();
        let mut note = Note {
            schema: SCHEMA_OF_EVENTS,
            seq: 0,
            id: Ulid::from_datetime(wall),
            node: self.node.clone(),
            written: timestamp(wall),
            note,
            text,
            evidence: Vec::new(),
            events: Vec::new(),
            records: None,
            signature: None,
            software: SOFTWARE.to_owned(),
            prev: Hash::ZERO,
            hash: Hash::ZERO,
        };
        fill(&mut note);
        self.write(Entry::Note(note))?;
        Ok(())
    }

    /// Makes a line durable and tells the readers; returns the sealed entry.
    fn write(&mut self, entry: Entry) -> Result<Entry, LogError> {
        self.write_with(entry, 0)
    }

    fn write_with(&mut self, mut entry: Entry, evidence: u64) -> Result<Entry, LogError> {
        entry.place(self.next_seq, self.prev);
        let line = entry.seal();
        let seq = entry.seq();
        if line.len() > MAX_LINE {
            return Err(LogError::TooLong { dir: self.place.dir.clone(), seq, bytes: line.len() });
        }
        self.still_in_place()?;
        if self.segment.as_ref().is_none_or(|s| s.len >= self.options.segment_bytes && s.file.is_some()) {
            let path = segment::path(&self.place.dir, seq);
            self.segment = Some(Segment { path, first: seq, len: 0, file: None, named: false });
        }
        let segment = self.segment.as_mut().expect("just made");
        let first = segment.first;
        if let Err(error) = segment.append(&*self.place.fs, &self.place.dir, line.as_bytes()) {
            // Try at once to take back what may have been written, so that other readers do not see it.
            segment.file = None;
            let _ = segment.repair(&*self.place.fs);
            return Err(LogError::Write { path: segment.path.clone(), seq, error });
        }
        if let Err(error) = self.still_in_place().and_then(|()| self.evidence_in_place(&entry)) {
            // It is durable, but not where anybody would look for it.
            self.segment.as_mut().expect("it was written to").take_back(line.len() as u64);
            return Err(error);
        }
        self.next_seq = seq + 1;
        self.prev = entry.hash();
        self.latest = Some(entry.written());
        self.index.appended(&entry, first, line.len() as u64, evidence);
        self.tail.advance(seq);
        Ok(entry)
    }
}

impl Drop for FlagLog {
    fn drop(&mut self) {
        self.sign_if(true);
    }
}
