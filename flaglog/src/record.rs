//! What a line of the log says: the versioned schema, in the order in which its members are written.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::chain::{self, Hash};
use super::fs::{Fs, read_whole};
use super::review::Review;
use spotd_core::identity::ModelIdentity;
use spotd_core::judgement::{Judgement, Logits, ScoredTile};
use spotd_core::jump::Jump;
use spotd_core::raster::FieldOrder;
use spotd_core::verdict::{EventKind, Verdict};

/// Newest version of the schema that is written and read. It is raised when a member changes its meaning or goes away, and
/// for a new kind of record; new members alone do not raise it, and readers skip members that they do not know. Each record
/// names the version that its form came with: [`SCHEMA_OF_EVENTS`], or for a [`Review`] this one.
pub const SCHEMA: u32 = super::review::SCHEMA;
/// Version of the schema that events and notes name.
pub const SCHEMA_OF_EVENTS: u32 = 1;

/// Software that writes, as records name it.
pub const SOFTWARE: &str = concat!("spotd ", env!("CARGO_PKG_VERSION"));

/// Largest evidence file that is read, in bytes.
const MAX_FILE: usize = 256 << 20;

/// Whether the wall clock could be trusted when a record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClockStatus {
    /// The system says that it follows a time server.
    Synchronised,
    /// The system does not say that it follows a time server.
    Unknown,
    /// It shows an earlier time than in the record before: it was set back.
    SetBack,
}

/// Where the flagged frame came from and what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameInfo {
    /// SHA-256 of the frame's bytes as the source delivered them, before any conversion.
    pub sha256: Hash,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels, of the field where one was judged.
    pub height: u32,
    /// Of an interlaced frame, whose top field alone was judged: which field was filmed first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interlaced: Option<FieldOrder>,
}

/// A file of evidence, bound to the record by its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceFile {
    /// Path from the log's folder: `evidence/<event>/<sha256>.<jpg|png>`.
    pub file: String,
    /// SHA-256 of its content.
    pub sha256: Hash,
    /// Its length in bytes.
    pub bytes: u64,
}

/// A tile kept losslessly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TileFile {
    /// Where it lies in the frame, and its score.
    #[serde(flatten)]
    pub tile: ScoredTile,
    /// The PNG.
    #[serde(flatten)]
    pub png: EvidenceFile,
}

/// A map of the minutes before: how synthetic each place of the source's frames looked, as a grey PNG of one pixel a cell,
/// row by row from the frame's upper left corner. Grey 0 to 255 is a score of 0 to 1; where nothing was judged, the pixel is
/// transparent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapFile {
    /// Side of a cell in pixels of the frame.
    pub side: u32,
    /// When the first frame that counts was captured, by the wall clock in UTC, to the millisecond.
    #[serde(with = "millis")]
    pub since: Timestamp,
    /// The PNG.
    #[serde(flatten)]
    pub png: EvidenceFile,
}

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlertKind {
    /// The score has changed all at once: see [`spotd_core::jump`].
    Jump,
    /// A kind of a later version.
    #[serde(other)]
    Other,
}

/// What an alert has found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// What it is about.
    #[serde(rename = "kind")]
    pub what: AlertKind,
    /// Median score before, 0..1.
    pub before: f64,
    /// Score after, 0..1.
    pub after: f64,
    /// The last frame before.
    pub frame_before: FrameInfo,
    /// Its capture time, by the wall clock in UTC, to the millisecond.
    #[serde(with = "millis")]
    pub captured_before: Timestamp,
}

impl Alert {
    /// A jump, with the last frame before it and when that was captured.
    pub fn jump(jump: Jump, frame_before: FrameInfo, captured_before: SystemTime) -> Self {
        let captured_before = timestamp(captured_before);
        Self { what: AlertKind::Jump, before: jump.before, after: jump.after, frame_before, captured_before }
    }
}

/// The pictures of a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvidenceFiles {
    /// The whole frame as JPEG.
    pub frame: EvidenceFile,
    /// In an alert, the last frame before, as JPEG.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<EvidenceFile>,
    /// The tiles with the highest scores as PNG, highest first.
    pub tiles: Vec<TileFile>,
    /// The map of the minutes before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<MapFile>,
}

impl EvidenceFiles {
    /// All files: the frames', the tiles', then the map's.
    pub fn files(&self) -> impl Iterator<Item = &EvidenceFile> {
        let tiles = self.tiles.iter().map(|t| &t.png);
        std::iter::once(&self.frame).chain(&self.before).chain(tiles).chain(self.map.as_ref().map(|m| &m.png))
    }
}

/// What the pipeline gives to the log; the log adds ids, times, place in the chain and evidence.
#[derive(Debug, Clone)]
pub struct NewRecord {
    /// The event that this continues: [`Record::event`] of its start. `None` begins one.
    pub event: Option<Ulid>,
    /// Id of the source.
    pub source: String,
    /// What happened.
    pub kind: EventKind,
    /// The verdict now.
    pub verdict: Verdict,
    /// What the verdict rests on.
    pub judgement: Judgement,
    /// The frame, where the record is about one.
    pub frame: Option<FrameInfo>,
    /// All tiles that were judged in the frame.
    pub tiles: Vec<ScoredTile>,
    /// When the frame was captured; for a record without a frame, when it was found out.
    pub captured: SystemTime,
    /// What each part of the detector said of the frame.
    pub logits: Option<Logits>,
    /// Who judged.
    pub model: ModelIdentity,
    /// What was found, in an alert.
    pub alert: Option<Alert>,
}

impl NewRecord {
    /// What is said of an event without having judged a frame, after its last record.
    pub(super) fn without_frame(last: &Record, kind: EventKind, verdict: Verdict, now: SystemTime) -> Self {
        Self {
            event: Some(last.event),
            source: last.source.clone(),
            kind,
            verdict,
            judgement: Judgement { raw: None, smoothed: None, frames: 0, ..last.judgement },
            frame: None,
            tiles: Vec::new(),
            captured: now,
            logits: None,
            model: last.model.clone(),
            alert: None,
        }
    }
}

/// An event as it stands in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version of the schema.
    pub schema: u32,
    /// Counts the log's records without a gap, from 1.
    pub seq: u64,
    /// Id of the record, for telling duplicates.
    pub id: Ulid,
    /// Id of the event: the id of its first record.
    pub event: Ulid,
    /// Name of the box.
    pub node: String,
    /// Id of the source.
    pub source: String,
    /// What happened.
    pub kind: EventKind,
    /// The verdict.
    pub verdict: Verdict,
    /// Capture time of the frame, by the wall clock in UTC, to the millisecond.
    #[serde(with = "millis")]
    pub captured: Timestamp,
    /// When the record was written, likewise.
    #[serde(with = "millis")]
    pub written: Timestamp,
    /// What is known of the clock that told these times.
    pub clock: ClockStatus,
    /// What the verdict rests on: `raw`, `smoothed`, `peak`, `threshold`, `unsure_from`, `window`, `frames`.
    #[serde(flatten)]
    pub judgement: Judgement,
    /// The frame.
    pub frame: Option<FrameInfo>,
    /// All tiles that were judged in the frame.
    pub tiles: Vec<ScoredTile>,
    /// What each part of the detector said of the frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logits: Option<Logits>,
    /// Who judged.
    pub model: ModelIdentity,
    /// What was found, in an alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<Alert>,
    /// Program and version that wrote this.
    pub software: String,
    /// The pictures; `None` where there is no frame or they could not be written.
    pub evidence: Option<EvidenceFiles>,
    /// Why there are no pictures although there should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence_error: Option<String>,
    /// Why the record stands here, where that is not a judged frame: an `end` that a crash left to the
    /// next start, or an `update` with which an event goes on in another log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Hash of the record before.
    pub prev: Hash,
    /// Hash of this one; zero (and not written) until it is sealed.
    #[serde(default, skip_serializing_if = "Hash::is_zero")]
    pub hash: Hash,
}

/// What a [`Note`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoteKind {
    /// An unfinished record was cut from the end after a crash.
    Recovered,
    /// At start the newest segment did not hold; it was left as it is.
    Damaged,
    /// Old evidence or old records have made room: [`Note::evidence`] and [`Note::records`].
    Removed,
    /// A signature under the chain up to the record before: [`Note::signature`].
    Signed,
    /// The folder was taken away while the daemon ran, and this log took its place: [`Note::events`].
    Moved,
    /// A kind of a later version.
    #[serde(other)]
    Other,
}

/// Something that the log says about itself, bound into the chain like an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Version of the schema.
    pub schema: u32,
    /// Counts the log's records without a gap, from 1.
    pub seq: u64,
    /// Id of the record.
    pub id: Ulid,
    /// Name of the box.
    pub node: String,
    /// When it was written, by the wall clock in UTC.
    #[serde(with = "millis")]
    pub written: Timestamp,
    /// What it is about.
    pub note: NoteKind,
    /// The same for people.
    pub text: String,
    /// Events whose evidence in the records before this one was removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Ulid>,
    /// Events that began in a log whose place this one has taken, and go on here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Ulid>,
    /// Records that were removed from the log's beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<RemovedRecords>,
    /// A signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// Program and version that wrote this.
    pub software: String,
    /// Hash of the record before.
    pub prev: Hash,
    /// Hash of this one; zero (and not written) until it is sealed.
    #[serde(default, skip_serializing_if = "Hash::is_zero")]
    pub hash: Hash,
}

/// Records that retention has removed, so that the chain can begin behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedRecords {
    /// The last of them; all before it are gone too.
    pub until: u64,
    /// Its hash, which the record behind it names as `prev`.
    pub hash: Hash,
}

/// A signature under everything up to the record before the note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Ed25519 public key, 64 hex digits.
    pub key: String,
    /// Ed25519 signature, 128 hex digits, of the text that [`super::sign::message`] gives.
    pub value: String,
}

/// A line of the log.
#[allow(clippy::large_enum_variant, reason = "lines are read one at a time, not kept in numbers")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Entry {
    /// A source has become synthetic, still is, or no longer is.
    Event(Box<Record>),
    /// The log about itself.
    Note(Note),
    /// What an operator says of an event.
    Review(Review),
}

impl Entry {
    /// Place in the log, from 1.
    pub fn seq(&self) -> u64 {
        match self {
            Entry::Event(r) => r.seq,
            Entry::Note(n) => n.seq,
            Entry::Review(r) => r.seq,
        }
    }

    /// Id of the record.
    pub fn id(&self) -> Ulid {
        match self {
            Entry::Event(r) => r.id,
            Entry::Note(n) => n.id,
            Entry::Review(r) => r.id,
        }
    }

    /// Its hash; zero until it is sealed.
    pub fn hash(&self) -> Hash {
        match self {
            Entry::Event(r) => r.hash,
            Entry::Note(n) => n.hash,
            Entry::Review(r) => r.hash,
        }
    }

    /// When it was written.
    pub fn written(&self) -> Timestamp {
        match self {
            Entry::Event(r) => r.written,
            Entry::Note(n) => n.written,
            Entry::Review(r) => r.written,
        }
    }

    /// Hash of the record before.
    pub fn prev(&self) -> Hash {
        match self {
            Entry::Event(r) => r.prev,
            Entry::Note(n) => n.prev,
            Entry::Review(r) => r.prev,
        }
    }

    /// Puts it in its place in the chain.
    pub(super) fn place(&mut self, seq: u64, prev: Hash) {
        match self {
            Entry::Event(r) => (r.seq, r.prev) = (seq, prev),
            Entry::Note(n) => (n.seq, n.prev) = (seq, prev),
            Entry::Review(r) => (r.seq, r.prev) = (seq, prev),
        }
    }

    /// Puts the hash in and returns the line with its line feed.
    pub(super) fn seal(&mut self) -> String {
        let hash = match self {
            Entry::Event(r) => &mut r.hash,
            Entry::Note(n) => &mut n.hash,
            Entry::Review(r) => &mut r.hash,
        };
        *hash = Hash::ZERO;
        let object = serde_json::to_string(self).expect("a record has no maps with odd keys");
        let (sealed, line) = chain::seal(&object);
        match self {
            Entry::Event(r) => r.hash = sealed,
            Entry::Note(n) => n.hash = sealed,
            Entry::Review(r) => r.hash = sealed,
        }
        line
    }
}

impl EvidenceFile {
    /// Where the file lies, given the log's folder. `None` unless the name is one that this log gives:
    /// records come from a disk that others may have written to.
    pub fn path_in(&self, dir: &Path) -> Option<PathBuf> {
        let relative = Path::new(&self.file);
        let parts: Option<Vec<&str>> = relative
            .components()
            .map(|c| match c {
                Component::Normal(part) => part.to_str(),
                _ => None,
            })
            .collect();
        let [top, event, name] = parts?.try_into().ok()?;
        let (stem, extension) = name.split_once('.')?;
        let ours = top == super::segment::EVIDENCE
            && Ulid::from_string(event).is_ok_and(|id| id.to_string() == event)
            && stem == self.sha256.to_string()
            && matches!(extension, "jpg" | "png");
        ours.then(|| dir.join(top).join(event).join(name))
    }

    /// Its content, given the log's folder: the one that the record names. `None` where it is not there (any more).
    ///
    /// # Errors
    /// As the operating system says; `InvalidData` where another content lies there, or the record names a file that is
    /// none of the log's.
    pub fn read_in(&self, fs: &dyn Fs, dir: &Path) -> io::Result<Option<Vec<u8>>> {
        let wrong =
            |why: &str| Err(io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", self.file)));
        let Some(path) = self.path_in(dir) else { return wrong("a name that this log does not give") };
        let most = usize::try_from(self.bytes).unwrap_or(MAX_FILE).min(MAX_FILE);
        match read_whole(fs, &path, most) {
            Ok(bytes) if Hash::of(&bytes) == self.sha256 => Ok(Some(bytes)),
            Ok(_) => wrong("its content is not what the record names"),
            Err(e) if e.kind() == io::ErrorKind::FileTooLarge => wrong("it is longer than the record says"),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A wall-clock time to the millisecond, as records hold it.
pub fn timestamp(time: SystemTime) -> Timestamp {
    let clamped = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(_) => Timestamp::MAX,
        Err(_) => Timestamp::MIN,
    };
    let whole = Timestamp::try_from(time).unwrap_or(clamped);
    Timestamp::from_millisecond(whole.as_millisecond()).unwrap_or(whole)
}

pub(super) mod millis {
    use jiff::Timestamp;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(time: &Timestamp, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&format_args!("{time:.3}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Timestamp, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(|e| D::Error::custom(format!("`{text}` is no RFC 3339 time: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, hash: Hash) -> EvidenceFile {
        EvidenceFile { file: name.to_owned(), sha256: hash, bytes: 1 }
    }

    #[test]
    fn evidence_paths_never_leave_the_folder() {
        let hash = Hash::of(b"x");
        let event = Ulid::from_parts(0x0123_4567_89ab, 0xfedc_ba98_7654_3210);
        let dir = Path::new("/log");
        let good = format!("evidence/{event}/{hash}.jpg");
        assert_eq!(file(&good, hash).path_in(dir), Some(dir.join(&good)));
        for bad in [
            format!("/evidence/{event}/{hash}.jpg"),
            format!("evidence/../{hash}.jpg"),
            format!("evidence/{event}/../{hash}.jpg"),
            format!("../evidence/{event}/{hash}.jpg"),
            format!("evidence/{event}/{hash}.sh"),
            format!("evidence/{event}/{}.jpg", Hash::of(b"y")),
            format!("evidence/{}/{hash}.jpg", event.to_string().to_lowercase()),
            format!("other/{event}/{hash}.jpg"),
            String::new(),
        ] {
            assert_eq!(file(&bad, hash).path_in(dir), None, "{bad}");
        }
    }

    #[test]
    fn times_outside_the_calendar_are_clamped() {
        let far = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(u32::MAX as u64 * 1000);
        assert!(timestamp(far) <= Timestamp::MAX);
        let odd = SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(1_234_567_891);
        assert_eq!(timestamp(odd).to_string(), "1970-01-01T00:00:01.234Z");
    }
}
