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
//! `write`; the segment's fsync; for a new segment the log folder's fsync; then readers are woken.
//! Segments are begun when the newest has reached [`Options::segment_bytes`].
//!
//! # When a write or fsync fails
//!
//! What is on the disk behind the last durable record is unknown then (after a failed fsync a later
//! success proves nothing), so the segment is closed and, before anything else is appended, opened again
//! and cut to its last durable length. Until that works every append fails.
//!
//! # Recovery at open
//!
//! See [`super::recover`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use thiserror::Error;
use ulid::Ulid;

use super::chain::{Hash, MAX_LINE};
use super::evidence::{self, Caption, Evidence, Stored};
use super::fs::{Fs, LogFile, OsFs};
use super::record::{ClockStatus, Entry, NewRecord, Note, NoteKind, Record, SCHEMA, SOFTWARE, timestamp};
use super::recover::recover;
use super::segment;
use super::tail::Tail;
use crate::clock::SharedClock;
use crate::config::LogConfig;

/// systemd-timesyncd makes this file once the clock follows a server.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";
/// Tiles listed in a record at most, so that its line never gets too long; the best ones are.
const MAX_LISTED: usize = 512;
/// How far the clock may step back between two records without being said: time servers adjust that much.
const STEP_BACK: jiff::SignedDuration = jiff::SignedDuration::from_secs(2);

/// What rarely has to be chosen.
#[derive(Debug, Clone)]
pub struct Options {
    /// A segment of this many bytes is full.
    pub segment_bytes: u64,
    /// The file system.
    pub fs: Arc<dyn Fs>,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 4 << 20, fs: Arc::new(OsFs) }
    }
}

/// Why the log cannot be opened or written.
#[derive(Debug, Error)]
pub enum LogError {
    /// The folder cannot be made, read or written.
    #[error("flag log {}: {error}; is [log] dir a folder that this user may write to?", dir.display())]
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
    /// A record could not be made durable; it is not in the log.
    #[error("flag log {}: record {seq} could not be written: {error}", path.display())]
    Write {
        /// The segment.
        path: PathBuf,
        /// The record's `seq`, which the next one will get.
        seq: u64,
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

/// The log, open for writing.
pub struct FlagLog {
    dir: PathBuf,
    node: String,
    jpeg_quality: u8,
    options: Options,
    clock: SharedClock,
    tail: Tail,
    next_seq: u64,
    prev: Hash,
    latest: Option<Timestamp>,
    segment: Option<Segment>,
    _lock: Box<dyn Send + Sync>,
}

/// The segment that is appended to.
pub(super) struct Segment {
    pub path: PathBuf,
    /// Its durable length in bytes.
    pub len: u64,
    /// `None`: what lies behind `len` is unknown and must be cut before it is written to again.
    pub file: Option<Box<dyn LogFile>>,
    /// Whether its name is durable.
    pub named: bool,
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
        let dir = config.dir.clone();
        let failed = |error: io::Error| LogError::Dir { dir: dir.clone(), error };
        options.fs.create_dirs(&dir).map_err(failed)?;
        if let Some(parent) = dir.parent() {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            // The folder above may be closed to us; whoever made this one there has then made it durable.
            let _ = options.fs.sync_dir(parent);
        }
        let lock = options.fs.lock(&dir.join("lock")).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => LogError::Locked { dir: dir.clone() },
            _ => failed(e),
        })?;
        let found = recover(&options.fs, &dir)?;
        let mut log = Self {
            tail: Tail::new(options.fs.clone(), &dir, found.next_seq - 1),
            dir,
            node: node.to_owned(),
            jpeg_quality: config.jpeg_quality,
            options,
            clock,
            next_seq: found.next_seq,
            prev: found.prev,
            latest: found.latest,
            segment: found.segment,
            _lock: lock,
        };
        for (kind, text) in found.notes {
            log::warn!("flag log {}: {text}", log.dir.display());
            if let Err(e) = log.note(kind, text) {
                log::error!("{e}; it was not noted in the log itself");
            }
        }
        Ok(log)
    }

    /// Appends a record, with its evidence first. When it returns, both are durable.
    ///
    /// Evidence that cannot be written does not hold the record up: it is appended without, and says why
    /// in [`Record::evidence_error`].
    ///
    /// # Errors
    /// [`LogError::Write`]: the record is not in the log, and the next call tries anew.
    pub fn append(&mut self, new: NewRecord, evidence: Option<&Evidence<'_>>) -> Result<Record, LogError> {
        let mut record = self.record(new);
        let mut stored = None;
        if let Some(evidence) = evidence {
            match self.store(&record, evidence) {
                Ok(done) => {
                    record.evidence = Some(done.files.clone());
                    stored = Some(done);
                }
                Err(e) => {
                    log::error!(
                        "flag log {}: evidence of {} not kept: {e}",
                        self.dir.display(),
                        record.source
                    );
                    record.evidence_error = Some(e.to_string());
                }
            }
        }
        let written = match (self.write(Entry::Event(Box::new(record.clone()))), stored) {
            (Err(e), Some(stored)) => {
                // A full disk may take the line once the pictures are gone; the record matters more.
                stored.discard(&*self.options.fs, &self.dir);
                log::error!("{e}; trying again without its evidence");
                record.evidence = None;
                record.evidence_error = Some(format!("removed to make room for the record: {e}"));
                self.write(Entry::Event(Box::new(record)))
            }
            (done, _) => done,
        }?;
        match written {
            Entry::Event(record) => Ok(*record),
            Entry::Note(_) => unreachable!("an event was written"),
        }
    }

    /// A handle for readers in this process.
    pub fn tail(&self) -> Tail {
        self.tail.clone()
    }

    /// The log's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn record(&mut self, new: NewRecord) -> Record {
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
            schema: SCHEMA,
            seq: self.next_seq,
            id,
            event: new.event.unwrap_or(id),
            node: self.node.clone(),
            source: new.source,
            kind: new.kind,
            verdict: new.verdict,
            captured: timestamp(new.captured),
            written,
            clock: self.clock_status(written),
            raw: finite(new.raw),
            smoothed: finite(new.smoothed),
            peak: finite(new.peak),
            threshold: new.threshold,
            unsure_from: new.unsure_from,
            window: new.window,
            frames: new.frames,
            frame: new.frame,
            tiles,
            model: new.model,
            software: SOFTWARE.to_owned(),
            evidence: None,
            evidence_error: None,
            prev: self.prev,
            hash: Hash::ZERO,
        }
    }

    fn clock_status(&self, now: Timestamp) -> ClockStatus {
        match self.latest {
            Some(latest) if latest.duration_since(now) > STEP_BACK => {
                log::warn!(
                    "flag log {}: the clock shows {now}, the record before was written at {latest}: it was set back",
                    self.dir.display()
                );
                ClockStatus::SetBack
            }
            _ if Path::new(SYNCHRONISED).exists() => ClockStatus::Synchronised,
            _ => ClockStatus::Unknown,
        }
    }

    fn store(&self, record: &Record, evidence: &Evidence<'_>) -> Result<Stored, evidence::EvidenceError> {
        let caption = Caption { node: &self.node, source: &record.source, captured: record.captured };
        evidence::store(&*self.options.fs, &self.dir, record.event, evidence, caption, self.jpeg_quality)
    }

    fn note(&mut self, note: NoteKind, text: String) -> Result<(), LogError> {
        let wall = self.clock.wall();
        self.write(Entry::Note(Note {
            schema: SCHEMA,
            seq: self.next_seq,
            id: Ulid::from_datetime(wall),
            node: self.node.clone(),
            written: timestamp(wall),
            note,
            text,
            software: SOFTWARE.to_owned(),
            prev: self.prev,
            hash: Hash::ZERO,
        }))?;
        Ok(())
    }

    /// Makes a line durable and tells the readers; returns the sealed entry.
    fn write(&mut self, mut entry: Entry) -> Result<Entry, LogError> {
        let line = entry.seal();
        let seq = entry.seq();
        if line.len() > MAX_LINE {
            return Err(LogError::TooLong { dir: self.dir.clone(), seq, bytes: line.len() });
        }
        if self.segment.as_ref().is_none_or(|s| s.len >= self.options.segment_bytes && s.file.is_some()) {
            let path = segment::path(&self.dir, seq);
            self.segment = Some(Segment { path, len: 0, file: None, named: false });
        }
        let segment = self.segment.as_mut().expect("just made");
        if let Err(error) = segment.append(&*self.options.fs, &self.dir, line.as_bytes()) {
            // Try at once to take back what may have been written, so that other readers do not see it.
            segment.file = None;
            let _ = segment.repair(&*self.options.fs);
            return Err(LogError::Write { path: segment.path.clone(), seq, error });
        }
        self.next_seq = seq + 1;
        self.prev = entry.hash();
        self.latest = Some(entry.written());
        self.tail.advance(seq);
        Ok(entry)
    }
}

impl Segment {
    fn append(&mut self, fs: &dyn Fs, dir: &Path, line: &[u8]) -> io::Result<()> {
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
    fn repair(&mut self, fs: &dyn Fs) -> io::Result<()> {
        if self.file.is_none() {
            let mut file = fs.append(&self.path)?;
            file.truncate(self.len)?;
            file.sync()?;
            self.file = Some(file);
        }
        Ok(())
    }
}
