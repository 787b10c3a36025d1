//! What was flagged, as the page lists it: an index over the newest events of the log, kept by following the log as
//! publishers do. Pictures and whole records stay on the disk and are read when somebody asks.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;

#[cfg(test)]
use super::described;
use crate::flaglog::cursor::Mark;
use crate::flaglog::record::NoteKind;
use crate::flaglog::review::Standing;
use crate::flaglog::sign::PublicKey;
use crate::flaglog::{Entry, Finding, Item, Note, Record};
use crate::verdict::{EventKind, Verdict};

/// Events that are listed at most, so that memory stays bounded; older ones are in the log.
pub(super) const MOST: usize = 10_000;

/// What began the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub(super) enum Began {
    /// A verdict of synthetic.
    Flag,
    /// A sudden change of the score.
    Alert,
}

/// An event in one line.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(super) struct Event {
    /// Its id.
    #[cfg_attr(test, schema(value_type = String))]
    pub id: Ulid,
    /// Id of the source.
    pub source: String,
    /// What it is.
    pub kind: Began,
    /// The verdict when it began.
    #[cfg_attr(test, schema(value_type = described::Verdict))]
    pub verdict: Verdict,
    /// When its first frame was captured, UTC.
    #[serde(serialize_with = "rfc3339")]
    #[cfg_attr(test, schema(value_type = String, format = DateTime))]
    pub began: Timestamp,
    /// When it ended; none while it goes on.
    #[serde(serialize_with = "rfc3339_opt")]
    #[cfg_attr(test, schema(value_type = Option<String>, format = DateTime))]
    pub ended: Option<Timestamp>,
    /// Highest smoothed score, or what a jump came to, 0..1.
    pub peak: Option<f64>,
    /// Records of it.
    pub records: u64,
    /// SHA-256 of its first picture, if one was kept.
    pub picture: Option<String>,
    /// Whether its pictures have made room since.
    pub removed: bool,
    /// What an operator said of it last, if anybody did.
    #[cfg_attr(test, schema(value_type = Option<described::Standing>))]
    pub review: Option<Standing>,
    /// Where that stands.
    #[serde(skip)]
    pub reviewed: Option<Place>,
    /// Where its first record stands.
    #[serde(skip)]
    pub first: Place,
    /// Where its newest one stands.
    #[serde(skip)]
    pub last: Place,
}

/// Where a record stands: behind another one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    /// The record before; none at the log's beginning.
    pub before: Option<Mark>,
    /// Its own place in the log.
    pub seq: u64,
}

/// What operators have said of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub(super) enum Judged {
    /// Confirmed.
    Confirmed,
    /// A false alarm.
    FalseAlarm,
    /// Nothing, or it was taken back.
    None,
}

impl Judged {
    fn of(event: &Event) -> Self {
        match event.review.as_ref().map(|r| r.review) {
            Some(Finding::Confirmed) => Judged::Confirmed,
            Some(Finding::FalseAlarm) => Judged::FalseAlarm,
            _ => Judged::None,
        }
    }
}

/// Which events are wanted.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// Of this source.
    pub source: Option<String>,
    /// Of this kind.
    pub kind: Option<Began>,
    /// With this verdict when it began.
    pub verdict: Option<Verdict>,
    /// With this review.
    pub review: Option<Judged>,
    /// Captured at or after this moment, RFC 3339.
    #[serde(default, deserialize_with = "moment")]
    pub from: Option<Timestamp>,
    /// Captured before this moment, RFC 3339.
    #[serde(default, deserialize_with = "moment")]
    pub to: Option<Timestamp>,
    /// Older than this event: the `next` of the page before.
    pub before: Option<Ulid>,
    /// How many, 1..=200; 24 unless told otherwise.
    #[serde(default, deserialize_with = "limit")]
    pub limit: Option<usize>,
}

fn rfc3339<S: Serializer>(time: &Timestamp, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&format_args!("{time:.3}"))
}

fn rfc3339_opt<S: Serializer>(time: &Option<Timestamp>, s: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => rfc3339(time, s),
        None => s.serialize_none(),
    }
}

fn moment<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Timestamp>, D::Error> {
    let text = String::deserialize(d)?;
    let wrong = |_| D::Error::custom("from and to are moments such as 2026-11-29T12:00:00Z");
    text.parse().map(Some).map_err(wrong)
}

fn limit<'de, D: Deserializer<'de>>(d: D) -> Result<Option<usize>, D::Error> {
    let wrong = || D::Error::custom("limit is a number from 1 to 200");
    let limit: usize = String::deserialize(d)?.parse().map_err(|_| wrong())?;
    if (1..=200).contains(&limit) { Ok(Some(limit)) } else { Err(wrong()) }
}

/// A page of events, newest first.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(super) struct Page {
    /// The events.
    pub events: Vec<Event>,
    /// `before` of the page after this one, if there are more.
    #[cfg_attr(test, schema(value_type = Option<String>))]
    pub next: Option<Ulid>,
}

/// The newest events, oldest first.
#[derive(Debug, Default)]
pub(super) struct Index {
    events: VecDeque<Event>,
    before: Option<Mark>,
    /// The last record under a signature that holds.
    signed_until: Option<u64>,
    /// Rises with every change that the page shows.
    changes: u64,
}

impl Index {
    /// Takes the log's next record.
    pub fn take(&mut self, item: &Item) {
        let place = Place { before: self.before, seq: item.entry.seq() };
        self.before = Some(item.mark());
        match &item.entry {
            Entry::Event(record) => self.record(record, place),
            Entry::Note(note) => self.note(note),
            Entry::Review(review) => {
                // It may be of an event that is too old to be listed.
                if let Some(event) = self.events.iter_mut().rev().find(|e| e.id == review.event) {
                    event.review = Some(review.into());
                    event.reviewed = Some(place);
                }
            }
        }
        self.changes += 1;
    }

    fn record(&mut self, record: &Record, place: Place) {
        let peak = match &record.alert {
            Some(alert) => Some(alert.after),
            None => record.judgement.peak.or(record.judgement.smoothed),
        };
        let ended = matches!(record.kind, EventKind::End | EventKind::Alert).then_some(record.captured);
        // An event is nearly always one of the newest.
        if let Some(event) = self.events.iter_mut().rev().find(|e| e.id == record.event) {
            event.ended = ended.or(event.ended);
            event.peak = peak.into_iter().chain(event.peak).reduce(f64::max);
            event.records += 1;
            event.last = place;
            return;
        }
        if self.events.len() == MOST {
            self.events.pop_front();
        }
        self.events.push_back(Event {
            id: record.event,
            source: record.source.clone(),
            kind: if record.kind == EventKind::Alert { Began::Alert } else { Began::Flag },
            verdict: record.verdict,
            began: record.captured,
            ended,
            peak,
            records: 1,
            picture: record.evidence.as_ref().map(|e| e.frame.sha256.to_string()),
            removed: false,
            review: None,
            reviewed: None,
            first: place,
            last: place,
        });
    }

    fn note(&mut self, note: &Note) {
        for event in self.events.iter_mut().filter(|e| note.evidence.contains(&e.id)) {
            event.removed = true;
        }
        if let (NoteKind::Signed, Some(signature)) = (note.note, &note.signature) {
            let until = note.seq.saturating_sub(1);
            if PublicKey::parse(&signature.key).is_some_and(|key| key.holds(until, note.prev, signature)) {
                self.signed_until = Some(until);
            }
        }
    }

    /// A page of those that are wanted.
    pub fn page(&self, filter: &Filter) -> Page {
        let limit = filter.limit.unwrap_or(24);
        // Ids begin with their time, but a clock may have been set back: the order is the log's.
        let older = match filter.before {
            None => self.events.len(),
            Some(id) => self.events.iter().position(|e| e.id == id).unwrap_or(0),
        };
        let wanted = |e: &&Event| {
            filter.source.as_ref().is_none_or(|s| *s == e.source)
                && filter.kind.is_none_or(|k| k == e.kind)
                && filter.verdict.is_none_or(|v| v == e.verdict)
                && filter.review.is_none_or(|r| r == Judged::of(e))
                && filter.from.is_none_or(|from| e.began >= from)
                && filter.to.is_none_or(|to| e.began < to)
        };
        let mut events: Vec<Event> =
            self.events.iter().take(older).rev().filter(wanted).take(limit + 1).cloned().collect();
        let more = events.len() > limit;
        events.truncate(limit);
        Page { next: events.last().filter(|_| more).map(|e| e.id), events }
    }

    /// One event.
    pub fn event(&self, id: Ulid) -> Option<&Event> {
        self.events.iter().rev().find(|e| e.id == id)
    }

    /// The last record under a signature that holds.
    pub fn signed_until(&self) -> Option<u64> {
        self.signed_until
    }

    /// Rises with every record.
    pub fn changes(&self) -> u64 {
        self.changes
    }
}
