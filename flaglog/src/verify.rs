//! Whether a log is what was written: the chain, the evidence, what was removed, the signatures.
//!
//! Nothing is changed. A log that is being written can be checked as well; what is not finished at its end
//! is said and is no fault.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use thiserror::Error;
use ulid::Ulid;

use super::chain::Hash;
use super::evidence::{self, FOLDER, REMOVING};
use super::export::{MANIFEST, Manifest};
use super::fs::{Fs, TMP, read_whole};
use super::reader::{Item, ReadError, Reader};
use super::record::{Entry, EvidenceFile, EvidenceFiles, Note, NoteKind, Record, Signature};
use super::segment;
use super::sign::PublicKey;
use spotd_core::shown::Shown as _;

/// Problems that are kept; more are only counted.
const LISTED: usize = 1000;

/// Why a log cannot be checked at all.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// The file system refuses.
    #[error("{}: {error}", path.shown())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// There is no log.
    #[error("{}: no flag log is here (no flags-*.jsonl); give the folder that [log] dir names, or an export", dir.shown())]
    NoLog {
        /// The folder.
        dir: PathBuf,
    },
    /// A record of a later version.
    #[error("{0}")]
    Newer(String),
}

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The record it is about, where that is known.
    pub seq: Option<u64>,
    /// What is wrong, with its place.
    pub text: String,
}

/// What was found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Whether all of it holds.
    pub holds: bool,
    /// Sound records.
    pub records: u64,
    /// Events among them.
    pub events: u64,
    /// Reviews among them.
    pub reviews: u64,
    /// `seq` of the first sound record.
    pub first: Option<u64>,
    /// `seq` of the last sound record.
    pub last: Option<u64>,
    /// Hash of the last sound record: to be compared with one that left the box.
    pub head: Option<Hash>,
    /// When the log was exported for one event, that event.
    pub export_of: Option<Ulid>,
    /// Evidence files that hold.
    pub evidence_files: u64,
    /// Their bytes.
    pub evidence_bytes: u64,
    /// Evidence files that have made room, as the log says itself.
    pub evidence_removed: u64,
    /// Records up to this one have made room, as the log says itself.
    pub records_removed_until: Option<u64>,
    /// What a crash or a running daemon has left unfinished; the next start brings it in order.
    pub unfinished: Vec<String>,
    /// Signatures that hold.
    pub signatures: u64,
    /// The last record that a signature is about.
    pub signed_until: Option<u64>,
    /// The keys that signed.
    pub keys: BTreeSet<String>,
    /// Files in the folders that are not the log's; they do not matter.
    pub foreign: Vec<String>,
    /// What does not hold, in the log's order; at most 1000.
    pub problems: Vec<Problem>,
    /// How many problems there are.
    pub problem_count: u64,
}

/// Checks a log or an export. `key`: the one that must have signed.
///
/// # Errors
/// [`VerifyError`]: it could not be checked. What does not hold is no error but in the report.
pub fn verify(fs: &Arc<dyn Fs>, dir: &Path, key: Option<PublicKey>) -> Result<Report, VerifyError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| VerifyError::Io { path, error }
    };
    let names = fs.list(dir).map_err(io(dir))?;
    let export = match names.iter().any(|n| n == MANIFEST) {
        true => Some(Manifest::read(&**fs, dir).map_err(io(&dir.join(MANIFEST)))?),
        false => None,
    };
    let any = |test: &dyn Fn(&str) -> bool| names.iter().any(|n| test(n));
    if !any(&|n| n == "lock" || segment::parse_name(n).is_some()) {
        return Err(VerifyError::NoLog { dir: dir.to_owned() });
    }
    let mut check = Check {
        fs,
        dir,
        key,
        report: Report { export_of: export.as_ref().map(|e| e.event), ..Report::default() },
        events: BTreeSet::new(),
        start: None,
        missing: Vec::new(),
        removed: HashMap::new(),
        anchors: Vec::new(),
    };
    for name in &names {
        check.look_at_name(name);
    }
    let mut reader = Reader::from_start(fs.clone(), dir);
    loop {
        match reader.next() {
            Ok(Some(item)) => check.item(&item),
            Ok(None) => break,
            Err(ReadError::Io { path, error }) => return Err(VerifyError::Io { path, error }),
            Err(error @ ReadError::Newer { .. }) => return Err(VerifyError::Newer(error.to_string())),
            Err(error) => {
                let seq = match &error {
                    ReadError::Damaged { seq, .. } => *seq,
                    ReadError::Missing { from, .. } => Some(*from),
                    _ => None,
                };
                check.problem(seq, error.to_string());
            }
        }
    }
    if let Some((first, offset)) = reader.position()
        && let Ok(len) = fs.len(&segment::path(dir, first))
        && len > offset
    {
        let name = segment::file_name(first);
        check
            .report
            .unfinished
            .push(format!("a record of {} bytes so far at the end of {name}", len - offset));
    }
    Ok(check.finish(export.as_ref()))
}

struct Check<'a> {
    fs: &'a Arc<dyn Fs>,
    dir: &'a Path,
    key: Option<PublicKey>,
    report: Report,
    events: BTreeSet<Ulid>,
    /// `seq` and `prev` of the first record.
    start: Option<(u64, Hash)>,
    /// Evidence that is not there: which record, whose event, what to say.
    missing: Vec<(u64, Ulid, String)>,
    /// Events whose evidence was removed, and the last note that says so.
    removed: HashMap<Ulid, u64>,
    /// Behind these records the log may begin.
    anchors: Vec<(u64, Hash)>,
}

impl Check<'_> {
    fn problem(&mut self, seq: Option<u64>, text: String) {
        self.report.problem_count += 1;
        if self.report.problems.len() < LISTED {
            self.report.problems.push(Problem { seq, text });
        }
    }

    fn look_at_name(&mut self, name: &str) {
        if segment::parse_removing(name).is_some() {
            self.report.unfinished.push(format!("the removal of an old segment ({name})"));
        }
        let ours = segment::parse_name(name).is_some()
            || segment::parse_removing(name).is_some()
            || matches!(name, FOLDER | "lock" | MANIFEST | super::export::HOW_TO | "mqtt-retained.json")
            || ((name.starts_with("cut-") || name.starts_with("cursor-"))
                && (name.ends_with(".bin") || name.ends_with(".json") || name.ends_with(TMP)));
        if !ours {
            self.report.foreign.push(name.to_owned());
        }
    }

    fn item(&mut self, item: &Item) {
        let entry = &item.entry;
        if self.start.is_none() {
            self.start = Some((entry.seq(), entry.prev()));
            self.report.first = Some(entry.seq());
        }
        self.report.records += 1;
        self.report.last = Some(entry.seq());
        self.report.head = Some(entry.hash());
        match entry {
            Entry::Event(record) => {
                self.events.insert(record.event);
                if self.report.export_of.is_none_or(|event| event == record.event) {
                    self.evidence(record);
                }
            }
            Entry::Note(note) => self.note(note),
            Entry::Review(_) => self.report.reviews += 1,
        }
    }

    fn evidence(&mut self, record: &Record) {
        for file in record.evidence.iter().flat_map(EvidenceFiles::files) {
            match self.evidence_file(record, file) {
                Ok(true) => {
                    self.report.evidence_files += 1;
                    self.report.evidence_bytes += file.bytes;
                }
                Ok(false) => {
                    let folder = self.dir.join(FOLDER).join(format!("{REMOVING}{}", record.event));
                    if self.fs.list(&folder).is_ok() {
                        // It is being removed now, or a crash has interrupted that.
                        let text = format!("the removal of evidence of event {}", record.event);
                        if !self.report.unfinished.contains(&text) {
                            self.report.unfinished.push(text);
                        }
                        self.report.evidence_removed += 1;
                        continue;
                    }
                    let text = format!(
                        "record {}: its evidence {} is missing, and no note says that it was removed",
                        record.seq, file.file
                    );
                    self.missing.push((record.seq, record.event, text));
                }
                Err(why) => self.problem(
                    Some(record.seq),
                    format!("record {}: evidence {}: {why}", record.seq, file.file),
                ),
            }
        }
    }

    /// Whether the file is there and what the record says; an error when it is something else.
    fn evidence_file(&self, record: &Record, file: &EvidenceFile) -> Result<bool, String> {
        let path = file
            .path_in(self.dir)
            .filter(|p| p.parent().and_then(Path::file_name) == Some(record.event.to_string().as_ref()))
            .ok_or("it has a name that this log does not give")?;
        let bytes = match read_whole(&**self.fs, &path, usize::try_from(file.bytes).unwrap_or(usize::MAX - 1))
        {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e.to_string()),
        };
        if Hash::of(&bytes) != file.sha256 {
            return Err("its content is not what the record names: it was changed".to_owned());
        }
        Ok(true)
    }

    fn note(&mut self, note: &Note) {
        if note.note == NoteKind::Removed {
            for &event in &note.evidence {
                self.removed.insert(event, note.seq);
            }
            self.anchors.extend(note.records.map(|r| (r.until, r.hash)));
        }
        if let Some(signature) = &note.signature
            && let Err(why) = self.signature(note, signature)
        {
            self.problem(Some(note.seq), format!("record {}: {why}", note.seq));
        }
    }

    fn signature(&mut self, note: &Note, signature: &Signature) -> Result<(), String> {
        let key = PublicKey::parse(&signature.key).ok_or("its signature names no Ed25519 key")?;
        let until = note.seq.saturating_sub(1);
        if !key.holds(until, note.prev, signature) {
            return Err(format!("its signature under the records up to {until} does not hold"));
        }
        if self.key.is_some_and(|k| k != key) {
            return Err(format!("the records up to {until} are signed with another key, {key}"));
        }
        self.report.signatures += 1;
        self.report.signed_until = Some(until);
        self.report.keys.insert(key.to_string());
        Ok(())
    }

    fn finish(mut self, export: Option<&Manifest>) -> Report {
        if let Some((first, prev)) = self.start {
            self.beginning(first, prev, export);
        }
        for (seq, event, text) in std::mem::take(&mut self.missing) {
            if self.removed.get(&event).is_some_and(|&note| note > seq) {
                self.report.evidence_removed += 1;
            } else {
                self.problem(Some(seq), text);
            }
        }
        if let (Some(key), None) = (self.key, self.report.signed_until) {
            self.problem(None, format!("nothing in the log is signed with key {key}"));
        }
        if let Some(event) = self.report.export_of.filter(|e| !self.events.contains(e)) {
            self.problem(None, format!("no record of event {event}, which the export is of, is here"));
        }
        self.foreign_evidence();
        self.report.problems.sort_by_key(|p| p.seq.unwrap_or(u64::MAX));
        self.report.events = self.events.len() as u64;
        self.report.holds = self.report.problem_count == 0;
        self.report
    }

    /// Whether the log may begin where it does.
    fn beginning(&mut self, first: u64, prev: Hash, export: Option<&Manifest>) {
        let until = first.saturating_sub(1);
        if let Some(manifest) = export {
            if (manifest.from, manifest.prev) != (first, prev) {
                let text =
                    format!("record {first}: the export begins with another record, {}", manifest.from);
                self.problem(Some(first), text);
            }
        } else if until == 0 {
            if !prev.is_zero() {
                self.problem(
                    Some(first),
                    "record 1: it names a record before it, but is the first".to_owned(),
                );
            }
        } else if self.anchors.contains(&(until, prev)) {
            self.report.records_removed_until = Some(until);
        } else if self.report.unfinished.iter().any(|u| u.contains("old segment")) {
            // A crash came between taking the segment away and noting it.
            self.report.records_removed_until = Some(until);
        } else {
            self.problem(
                Some(1),
                format!("records 1 to {until} are missing, and no note says that they were removed"),
            );
        }
    }

    fn foreign_evidence(&mut self) {
        let top = self.dir.join(FOLDER);
        for folder in self.fs.list(&top).unwrap_or_default() {
            if evidence::event_of(folder.strip_prefix(REMOVING).unwrap_or(&folder)).is_none() {
                self.report.foreign.push(format!("{FOLDER}/{folder}"));
                continue;
            }
            for name in self.fs.list(&top.join(&folder)).unwrap_or_default() {
                if !evidence::is_ours(&name) {
                    self.report.foreign.push(format!("{FOLDER}/{folder}/{name}"));
                }
            }
        }
        self.report.foreign.sort();
    }
}
