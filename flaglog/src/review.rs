//! An operator's judgement of an event, as a record of its own kind: somebody has looked, and says whether the alarm was
//! right. It names the event and changes nothing of it; the newest one counts, and all of them stay in the chain.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use ulid::Ulid;

use super::chain::Hash;
use super::error::LogError;
use super::fs::Fs;
use super::reader::{ReadError, Reader};
use super::record::{ClockStatus, Entry, EvidenceFiles, Record, millis};

/// Schema of the first version that knew reviews. Events and notes keep theirs, so that older programs read a log
/// until the first review, and say of that one that they are too old.
pub(super) const SCHEMA: u32 = 2;
/// Characters of a name at most.
pub const MAX_NAME: usize = 80;
/// Characters of a comment at most.
pub const MAX_COMMENT: usize = 1000;

/// What an operator found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// What was flagged is generated.
    Confirmed,
    /// It is true footage.
    FalseAlarm,
    /// What was found before is taken back.
    Withdrawn,
    /// A finding of a later version.
    #[serde(other)]
    Other,
}

impl Finding {
    /// The word used in records and on the page.
    pub fn as_str(self) -> &'static str {
        match self {
            Finding::Confirmed => "confirmed",
            Finding::FalseAlarm => "false-alarm",
            Finding::Withdrawn => "withdrawn",
            Finding::Other => "other",
        }
    }
}

/// What somebody says of an event; the log adds id, time and place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewReview {
    /// The event.
    pub event: Ulid,
    /// Id of its source.
    pub source: String,
    /// What was found.
    pub finding: Finding,
    /// Who found it, 1..=[`MAX_NAME`] characters.
    pub by: String,
    /// What is to be remembered with it, up to [`MAX_COMMENT`] characters.
    pub comment: Option<String>,
    /// The review that whoever judges has seen: [`Review::id`] of the event's newest. None if there was none.
    pub replaces: Option<Ulid>,
}

impl NewReview {
    /// Whether it can be kept.
    ///
    /// # Errors
    /// [`ReviewError::Invalid`] says what is wrong and what would be right.
    pub fn check(&self) -> Result<(), ReviewError> {
        let invalid = |why: String| Err(ReviewError::Invalid(why));
        let by = self.by.trim();
        if by.is_empty() || by != self.by || by.chars().count() > MAX_NAME {
            return invalid(format!(
                "a review needs the name of who judges, 1 to {MAX_NAME} characters without blanks around them"
            ));
        }
        if by.chars().any(is_hidden) {
            return invalid("the name has control characters; give letters".to_owned());
        }
        if let Some(comment) = &self.comment {
            if comment.chars().count() > MAX_COMMENT {
                return invalid(format!("the comment is longer than {MAX_COMMENT} characters"));
            }
            if comment.chars().any(|c| is_hidden(c) && c != '\n') {
                return invalid(
                    "the comment has control characters; only line feeds may be in it".to_owned(),
                );
            }
        }
        match (self.finding, self.replaces) {
            (Finding::Other, _) => {
                invalid("a review is one of confirmed, false-alarm and withdrawn".to_owned())
            }
            (Finding::Withdrawn, None) => invalid("there is no review that could be taken back".to_owned()),
            _ => Ok(()),
        }
    }
}

/// Characters that show nothing, or change how those around them are shown.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A review as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    /// Version of the schema.
    pub schema: u32,
    /// Counts the log's records without a gap, from 1.
    pub seq: u64,
    /// Id of the record.
    pub id: Ulid,
    /// The event that is judged.
    pub event: Ulid,
    /// Name of the box.
    pub node: String,
    /// Id of the event's source.
    pub source: String,
    /// What was found.
    pub review: Finding,
    /// Who found it, as given by whoever judged.
    pub by: String,
    /// What is to be remembered with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The review that counted before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Ulid>,
    /// When it was written, by the wall clock in UTC, to the millisecond.
    #[serde(with = "millis")]
    pub written: Timestamp,
    /// What is known of the clock that told this time.
    pub clock: ClockStatus,
    /// Program and version that wrote this.
    pub software: String,
    /// Hash of the record before.
    pub prev: Hash,
    /// Hash of this one; zero (and not written) until it is sealed.
    #[serde(default, skip_serializing_if = "Hash::is_zero")]
    pub hash: Hash,
}

/// The newest review of an event, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// [`Review::id`].
    pub id: Ulid,
    /// What was found.
    pub review: Finding,
    /// Who found it.
    pub by: String,
    /// When it was written.
    #[serde(with = "millis")]
    pub written: Timestamp,
    /// Its place in the log.
    #[serde(skip)]
    pub seq: u64,
}

impl From<&Review> for Standing {
    fn from(review: &Review) -> Self {
        Self {
            id: review.id,
            review: review.review,
            by: review.by.clone(),
            written: review.written,
            seq: review.seq,
        }
    }
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} by {}, {:.0}", self.review.as_str(), self.by, self.written)
    }
}

/// Why a review is not in the log.
#[derive(Debug, Error)]
pub enum ReviewError {
    /// It cannot be kept as it is.
    #[error("{0}")]
    Invalid(String),
    /// Whoever judged has seen another review, or none.
    #[error(
        "somebody else has judged this event meanwhile: {}; look at that and judge again",
        .0.as_ref().map_or_else(|| "what stood was removed".to_owned(), ToString::to_string)
    )]
    Overtaken(Option<Standing>),
    /// The log that the event is in no longer stands where its path leads.
    #[error(
        "the log of this event was taken away while spotd ran, and another one took its place; the event is not in that one"
    )]
    Elsewhere,
    /// The log cannot be written.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// An event that was judged, with all its pictures.
#[derive(Debug, Clone)]
pub struct Reviewed {
    /// The event.
    pub event: Ulid,
    /// Id of its source.
    pub source: String,
    /// Whether it was confirmed, or a false alarm.
    pub finding: Finding,
    /// Its records with pictures, in order.
    pub records: Vec<Picture>,
}

/// The pictures of one record.
#[derive(Debug, Clone)]
pub struct Picture {
    /// When the frame was captured.
    pub captured: Timestamp,
    /// Its files; they may have made room since.
    pub files: EvidenceFiles,
}

/// Reads which events of a log count as confirmed or as false alarms, in the order of the log. Records that do not hold
/// are passed over and said; their number is bounded by that of the events that people have judged.
///
/// # Errors
/// The log cannot be read.
pub fn reviewed(fs: &Arc<dyn Fs>, dir: &Path) -> io::Result<Vec<Reviewed>> {
    let mut newest: HashMap<Ulid, Finding> = HashMap::new();
    each(fs, dir, |entry| {
        if let Entry::Review(review) = entry {
            newest.insert(review.event, review.review);
        }
    })?;
    newest.retain(|_, finding| matches!(finding, Finding::Confirmed | Finding::FalseAlarm));
    let mut all: Vec<Reviewed> = Vec::new();
    let mut places: HashMap<Ulid, usize> = HashMap::new();
    // The same picture may stand in several records.
    let mut seen = HashSet::new();
    each(fs, dir, |entry| {
        let Entry::Event(record) = entry else { return };
        let Record { event, source, captured, evidence, .. } = *record;
        let Some(&finding) = newest.get(&event) else { return };
        let place = *places.entry(event).or_insert_with(|| {
            all.push(Reviewed { event, source, finding, records: Vec::new() });
            all.len() - 1
        });
        if let Some(files) = evidence.filter(|files| seen.insert(files.frame.sha256)) {
            all[place].records.push(Picture { captured, files });
        }
    })?;
    Ok(all)
}

fn each(fs: &Arc<dyn Fs>, dir: &Path, mut take: impl FnMut(Entry)) -> io::Result<()> {
    let mut reader = Reader::from_start(fs.clone(), dir);
    loop {
        match reader.next() {
            Ok(Some(item)) => take(item.entry),
            Ok(None) => return Ok(()),
            Err(ReadError::Io { error, .. }) => return Err(error),
            Err(error) => log::warn!("{}: {error}; passed over, see `spotd verify`", dir.display()),
        }
    }
}
