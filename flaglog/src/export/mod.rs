//! One event as a folder, or as one ZIP file, that can be checked elsewhere: its records byte for byte with all
//! that lie between them (the chain needs these), its evidence, up to the next signature, and a page on how to
//! check it.

mod error;
mod target;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::chain::Hash;
use super::cursor::Mark;
use super::fs::{Fs, read_whole};
use super::reader::{Item, ReadError, Reader};
use super::record::{Entry, EvidenceFile, EvidenceFiles, NoteKind, SOFTWARE};
use super::segment;
pub use error::ExportError;
use target::Target;

/// Says what an export holds.
pub const MANIFEST: &str = "export.json";
/// How to check it, for people.
pub const HOW_TO: &str = "HOW-TO-CHECK.txt";
const VERSION: u32 = 1;

/// [`MANIFEST`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this file.
    pub export: u32,
    /// The event.
    pub event: Ulid,
    /// `seq` of the first record.
    pub from: u64,
    /// Its `prev`.
    pub prev: Hash,
    /// `seq` of the last record.
    pub until: u64,
    /// When it was exported.
    #[serde(with = "super::record::millis")]
    pub exported: Timestamp,
    /// By which program.
    pub software: String,
}

impl Manifest {
    /// Reads it from an export.
    ///
    /// # Errors
    /// As the operating system says, or `InvalidData`.
    pub fn read(fs: &dyn Fs, dir: &Path) -> io::Result<Self> {
        let bytes = read_whole(fs, &dir.join(MANIFEST), 4096)?;
        let manifest: Self = serde_json::from_slice(&bytes)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("it is no manifest: {e}")))?;
        if manifest.export != VERSION {
            let why = format!("it has version {}, this program knows {VERSION}", manifest.export);
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(manifest)
    }
}

/// What was exported.
#[derive(Debug, Clone, Serialize)]
pub struct Exported {
    /// The event.
    pub event: Ulid,
    /// The folder or ZIP file.
    #[serde(serialize_with = "spotd_core::shown::serialize_path")]
    pub path: PathBuf,
    /// The folder to check, which is in the ZIP file if there is one.
    #[serde(serialize_with = "spotd_core::shown::serialize_path")]
    pub folder: PathBuf,
    /// Records, those between the event's own included.
    pub records: u64,
    /// Evidence files.
    pub files: u64,
    /// Evidence files that had made room before.
    pub removed: u64,
    /// Whether a signature under all of it is there.
    pub signed: bool,
}

/// The records that an export needs.
#[derive(Debug, Default)]
struct Range {
    event: Option<Ulid>,
    first: u64,
    last: u64,
    files: Vec<EvidenceFile>,
    signed: Option<u64>,
    removed: Option<u64>,
}

impl Range {
    /// The evidence files, each once.
    fn files(&self) -> impl Iterator<Item = &EvidenceFile> {
        let mut there = BTreeSet::new();
        self.files.iter().filter(move |file| there.insert(&file.file))
    }
}

/// Copies an event, named by its id or that of one of its records, from the log in `dir` to a new folder, or
/// to a new ZIP file with that folder in it if `to` ends in `.zip`.
///
/// # Errors
/// [`ExportError`]; in a folder, what was written until then is left; of a ZIP file nothing is.
pub fn export(
    fs: &Arc<dyn Fs>,
    dir: &Path,
    id: Ulid,
    to: &Path,
    now: Timestamp,
) -> Result<Exported, ExportError> {
    let log = Log { fs, dir, before: None, durable: u64::MAX };
    let (range, event) = find(&log, id)?;
    let root = root(event);
    let mut target = Target::create(fs, to, &root, now)?;
    let done = write(&log, &range, event, &mut target, now)?;
    target.finish()?;
    let folder = if target::is_zip(to) { PathBuf::from(root) } else { to.to_owned() };
    Ok(Exported { path: to.to_owned(), folder, ..done })
}

/// An event that was found, and whose pictures are those that its records name or have made room: what [`export`] gives,
/// to be sent away as a ZIP file while it is made.
#[derive(Debug)]
pub struct Bundle {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    before: Option<Mark>,
    durable: u64,
    range: Range,
    event: Ulid,
}

impl Bundle {
    /// Finds an event. `before`: the record before its first one, if that is known; records behind `durable` are not
    /// there yet.
    ///
    /// # Errors
    /// [`ExportError`].
    pub(super) fn find(
        fs: Arc<dyn Fs>,
        dir: PathBuf,
        event: Ulid,
        before: Option<Mark>,
        durable: u64,
    ) -> Result<Self, ExportError> {
        let log = Log { fs: &fs, dir: &dir, before, durable };
        let (range, event) = find(&log, event)?;
        for file in range.files() {
            evidence(&log, &range, file)?;
        }
        Ok(Self { range, event, before, durable, fs, dir })
    }

    /// Name for the ZIP file.
    pub fn file_name(&self) -> String {
        root(self.event) + ".zip"
    }

    /// Writes the ZIP file from its beginning to its end, holding one picture at a time.
    ///
    /// # Errors
    /// [`ExportError`]: what was written until then is no ZIP file.
    pub fn write(&self, to: &mut dyn Write, now: Timestamp) -> Result<Exported, ExportError> {
        let log = Log { fs: &self.fs, dir: &self.dir, before: self.before, durable: self.durable };
        let mut target = Target::stream(to, &root(self.event), now);
        let done = write(&log, &self.range, self.event, &mut target, now)?;
        target.finish()?;
        Ok(done)
    }
}

/// Name of the folder with an export in it.
fn root(event: Ulid) -> String {
    format!("event-{event}")
}

/// Where an event is looked for.
struct Log<'a> {
    fs: &'a Arc<dyn Fs>,
    dir: &'a Path,
    /// The record before the event's first one, if that is known.
    before: Option<Mark>,
    durable: u64,
}

impl Log<'_> {
    fn reader(&self) -> Reader {
        let after = |mark| Reader::after(self.fs.clone(), self.dir, mark).ok();
        self.before.and_then(after).unwrap_or_else(|| Reader::from_start(self.fs.clone(), self.dir))
    }

    /// The next record that is durable.
    fn next(&self, reader: &mut Reader) -> Result<Option<Item>, ReadError> {
        Ok(reader.next()?.filter(|item| item.entry.seq() <= self.durable))
    }
}

/// A picture, or none where it has made room.
fn evidence(log: &Log<'_>, range: &Range, file: &EvidenceFile) -> Result<Option<Vec<u8>>, ExportError> {
    match file.read_in(&**log.fs, log.dir) {
        Ok(None) if range.removed.is_none() => {
            Err(ExportError::Damaged(format!("evidence {} is missing", file.file)))
        }
        Ok(bytes) => Ok(bytes),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => {
            Err(ExportError::Damaged(format!("evidence {} does not hold: {e}", file.file)))
        }
        Err(error) => Err(ExportError::Io { path: log.dir.join(&file.file), error }),
    }
}

/// Writes all but the end of the target.
fn write(
    log: &Log<'_>,
    range: &Range,
    event: Ulid,
    target: &mut Target<'_>,
    now: Timestamp,
) -> Result<Exported, ExportError> {
    let (mut files, mut removed) = (0, 0);
    for file in range.files() {
        match evidence(log, range, file)? {
            Some(bytes) => {
                target.put(&file.file, &bytes)?;
                files += 1;
            }
            None => removed += 1,
        }
    }
    let until = range.last.max(range.signed.unwrap_or(0)).max(range.removed.unwrap_or(0));
    let (prev, records) = copy_records(log, target, range.first, until)?;
    let manifest = Manifest {
        export: VERSION,
        event,
        from: range.first,
        prev,
        until,
        exported: now,
        software: SOFTWARE.to_owned(),
    };
    let text = serde_json::to_string_pretty(&manifest).expect("plain members") + "\n";
    target.put(MANIFEST, text.as_bytes())?;
    target.put(HOW_TO, how_to(&manifest).as_bytes())?;
    let signed = range.signed.is_some();
    let (path, folder) = (PathBuf::from(root(event) + ".zip"), PathBuf::from(root(event)));
    Ok(Exported { event, path, folder, records, files, removed, signed })
}

/// Finds the event's records, its reviews, the first signature behind them and the notes on its evidence.
fn find(log: &Log<'_>, id: Ulid) -> Result<(Range, Ulid), ExportError> {
    let range = find_event(log, id)?;
    match range.event {
        None => Err(ExportError::Unknown { dir: log.dir.to_owned(), event: id }),
        // It was named by a later record of it.
        Some(event) if event != id => Ok((find_event(log, event)?, event)),
        Some(event) => Ok((range, event)),
    }
}

fn find_event(log: &Log<'_>, id: Ulid) -> Result<Range, ExportError> {
    let mut range = Range::default();
    let mut reader = log.reader();
    loop {
        let item = match log.next(&mut reader) {
            Ok(Some(item)) => item,
            Ok(None) => return Ok(range),
            Err(ReadError::Io { path, error }) => return Err(ExportError::Io { path, error }),
            // Damage elsewhere does not matter; in the range copying finds it again.
            Err(_) => continue,
        };
        match &item.entry {
            Entry::Event(r) if Some(r.event) == range.event || (range.event.is_none() && names(r, id)) => {
                if range.event.is_none() {
                    range.event = Some(r.event);
                    range.first = r.seq;
                }
                range.last = r.seq;
                range.signed = None;
                range.files.extend(r.evidence.iter().flat_map(EvidenceFiles::files).cloned());
            }
            // What people have said of it belongs to it.
            Entry::Review(r) if Some(r.event) == range.event => {
                range.last = r.seq;
                range.signed = None;
            }
            Entry::Note(n) if range.event.is_some() => {
                if n.note == NoteKind::Signed && range.signed.is_none() {
                    range.signed = Some(n.seq);
                }
                if range.event.is_some_and(|e| n.evidence.contains(&e)) {
                    range.removed = Some(n.seq);
                }
            }
            _ => {}
        }
    }
}

fn names(record: &super::Record, id: Ulid) -> bool {
    record.event == id || record.id == id
}

/// Copies the records from `first` to `until`, and says the `prev` of the first and how many there are.
fn copy_records(
    log: &Log<'_>,
    target: &mut Target<'_>,
    first: u64,
    until: u64,
) -> Result<(Hash, u64), ExportError> {
    let mut reader = log.reader();
    let (mut prev, mut records, mut over) = (Hash::ZERO, 0, false);
    target.put_lines(&segment::file_name(first), || {
        while !over {
            match log.next(&mut reader) {
                Ok(Some(item)) if item.entry.seq() < first => {}
                Ok(Some(item)) => {
                    if records == 0 {
                        prev = item.entry.prev();
                    }
                    records += 1;
                    over = item.entry.seq() >= until;
                    return Ok(Some(item.line));
                }
                Ok(None) => over = true,
                Err(ReadError::Io { path, error }) => return Err(ExportError::Io { path, error }),
                Err(error) if records > 0 => return Err(ExportError::Damaged(error.to_string())),
                Err(_) => {}
            }
        }
        Ok(None)
    })?;
    Ok((prev, records))
}

fn how_to(manifest: &Manifest) -> String {
    let segment = segment::file_name(manifest.from);
    format!(
        "Event {}, records {} to {} of a spotd flag log, exported {:.3} by {}.\n\
         \n\
         All of it at once:      spotd verify THIS-FOLDER   (with --public-key KEY if the log is signed)\n\
         One record by hand:     head -n 1 {segment} | sed 's/,\"hash\":\"[0-9a-f]*\"}}$//' | tr -d '\\n' | sha256sum\n\
         \x20                       gives the `hash` at the line's end; `prev` is the `hash` of the line before.\n\
         A picture:              sha256sum evidence/*/*   gives its name, which a record holds.\n\
         \n\
         Records of other events stand between those of this one, because the chain runs through them;\n\
         their pictures are not here. Compare the last `hash` with one that left the box at the time (every\n\
         MQTT event carries its own).\n",
        manifest.event, manifest.from, manifest.until, manifest.exported, manifest.software
    )
}
