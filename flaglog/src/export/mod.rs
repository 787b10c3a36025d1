//! One event as a folder, or as one ZIP file, that can be checked elsewhere: its records byte for byte with all
//! that lie between them (the chain needs these), its evidence, up to the next signature, and a page on how to
//! check it.

mod error;
mod target;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::chain::Hash;
use super::fs::{Fs, read_whole};
use super::reader::{ReadError, Reader};
use super::record::{Entry, EvidenceFile, EvidenceFiles, NoteKind, SOFTWARE};
use super::segment;
pub use error::ExportError;
use target::Target;

/// Says what an export holds.
pub const MANIFEST: &str = "export.json";
/// How to check it, for people.
pub const HOW_TO: &str = "HOW-TO-CHECK.txt";
/// Largest evidence file that is copied, in bytes.
const MAX_FILE: usize = 256 << 20;
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
#[derive(Default)]
struct Range {
    event: Option<Ulid>,
    first: u64,
    last: u64,
    files: Vec<EvidenceFile>,
    signed: Option<u64>,
    removed: Option<u64>,
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
    let range = find(fs, dir, id)?;
    let Some(event) = range.event else {
        return Err(ExportError::Unknown { dir: dir.to_owned(), event: id });
    };
    let root = format!("event-{event}");
    let mut target = Target::create(fs, to, &root, now)?;
    let (mut files, mut removed) = (0, 0);
    let mut there = BTreeSet::new();
    for file in range.files.iter().filter(|f| there.insert(&f.file)) {
        let bad = || ExportError::Damaged(format!("evidence {} does not hold", file.file));
        let from = file.path_in(dir).ok_or_else(bad)?;
        let bytes = match read_whole(&**fs, &from, MAX_FILE) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && range.removed.is_some() => {
                removed += 1;
                continue;
            }
            bytes => bytes.map_err(|error| ExportError::Io { path: from, error })?,
        };
        if Hash::of(&bytes) != file.sha256 {
            return Err(bad());
        }
        target.put(&file.file, &bytes)?;
        files += 1;
    }
    let until = range.last.max(range.signed.unwrap_or(0)).max(range.removed.unwrap_or(0));
    let (prev, records) = copy_records(fs, dir, &mut target, range.first, until)?;
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
    target.finish()?;
    let folder = if target::is_zip(to) { PathBuf::from(root) } else { to.to_owned() };
    let signed = range.signed.is_some();
    Ok(Exported { event, path: to.to_owned(), folder, records, files, removed, signed })
}

/// Finds the event's records, the first signature behind them and the notes on its evidence.
fn find(fs: &Arc<dyn Fs>, dir: &Path, id: Ulid) -> Result<Range, ExportError> {
    let range = find_event(fs, dir, id)?;
    match range.event {
        // It was named by a later record of it.
        Some(event) if event != id => find_event(fs, dir, event),
        _ => Ok(range),
    }
}

fn find_event(fs: &Arc<dyn Fs>, dir: &Path, id: Ulid) -> Result<Range, ExportError> {
    let mut range = Range::default();
    let mut reader = Reader::from_start(fs.clone(), dir);
    loop {
        let item = match reader.next() {
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

fn copy_records(
    fs: &Arc<dyn Fs>,
    dir: &Path,
    target: &mut Target,
    first: u64,
    until: u64,
) -> Result<(Hash, u64), ExportError> {
    let mut reader = Reader::from_start(fs.clone(), dir);
    let (mut prev, mut lines, mut records) = (Hash::ZERO, String::new(), 0);
    loop {
        match reader.next() {
            Ok(Some(item)) if item.entry.seq() < first => {}
            Ok(Some(item)) => {
                if records == 0 {
                    prev = item.entry.prev();
                }
                lines += &item.line;
                lines.push('\n');
                records += 1;
                if item.entry.seq() >= until {
                    break;
                }
            }
            Ok(None) => break,
            Err(ReadError::Io { path, error }) => return Err(ExportError::Io { path, error }),
            Err(error) if records > 0 => return Err(ExportError::Damaged(error.to_string())),
            Err(_) => {}
        }
    }
    target.put(&segment::file_name(first), lines.as_bytes())?;
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
