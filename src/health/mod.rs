//! The daemon's status, kept in one place that terminal, publishers and metrics read: each source's
//! state, scores, rates and dropped frames.

#[cfg(all(test, feature = "web"))]
pub(crate) mod described;
pub mod metrics;
pub mod process;
pub mod progress;
mod settings;
pub mod stages;

pub use progress::{Beat, Progress};
pub use settings::MetricsConfig;
pub(crate) use settings::RawMetrics;
pub use stages::{Stage, Stages};

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::flaglog::LogStatus;
use crate::flaglog::record::AlertKind;
use crate::frame::FieldOrder;
use crate::judgement::{HeatMap, Logits, ScoredTile};
use crate::verdict::{Reason, Verdict};

/// The state of a source.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
#[cfg_attr(all(test, feature = "web"), derive(utoipa::ToSchema))]
pub enum SourceState {
    /// Opened, no frame yet.
    Starting,
    /// Frames arrive.
    Live,
    /// Open, but no frame for longer than its rate allows.
    Stalled,
    /// Failed, to be retried at a known time.
    Retrying {
        /// What went wrong.
        why: String,
        /// Failures in a row.
        attempt: u32,
        /// When it is retried.
        #[serde(serialize_with = "rfc3339")]
        #[cfg_attr(all(test, feature = "web"), schema(value_type = String, format = DateTime))]
        at: SystemTime,
    },
    /// Somebody has to change something before it can work; still retried now and then.
    Failed {
        /// What to change.
        why: String,
    },
    /// Its stream is over (a file at its end), or the daemon is ending.
    Ended,
}

impl SourceState {
    /// All names of states.
    pub const NAMES: [&'static str; 6] = ["starting", "live", "stalled", "retrying", "failed", "ended"];

    /// Its name, as in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            SourceState::Starting => "starting",
            SourceState::Live => "live",
            SourceState::Stalled => "stalled",
            SourceState::Retrying { .. } => "retrying",
            SourceState::Failed { .. } => "failed",
            SourceState::Ended => "ended",
        }
    }
}

/// An alert, as shown in its source's state.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(all(test, feature = "web"), derive(utoipa::ToSchema))]
pub struct SourceAlert {
    /// What it is about.
    #[cfg_attr(all(test, feature = "web"), schema(value_type = String))]
    pub kind: AlertKind,
    /// When the frame that it is about was captured.
    #[serde(serialize_with = "rfc3339")]
    #[cfg_attr(all(test, feature = "web"), schema(value_type = String, format = DateTime))]
    pub at: SystemTime,
    /// Median score before, 0..1.
    pub before: f64,
    /// Score after, 0..1.
    pub after: f64,
}

/// The frame of a source that was judged last, for display.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(all(test, feature = "web"), derive(utoipa::ToSchema))]
pub struct JudgedFrame {
    /// When it was captured.
    #[serde(serialize_with = "rfc3339")]
    #[cfg_attr(all(test, feature = "web"), schema(value_type = String, format = DateTime))]
    pub at: SystemTime,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels, of the field where one was judged.
    pub height: u32,
    /// The tiles that were judged in it.
    #[cfg_attr(all(test, feature = "web"), schema(value_type = Vec<described::Tile>))]
    pub tiles: Vec<ScoredTile>,
    /// What each part of the detector said.
    #[cfg_attr(all(test, feature = "web"), schema(value_type = described::Logits))]
    pub logits: Logits,
}

/// A source's map as publishers send it.
#[derive(Debug, Serialize)]
#[cfg_attr(all(test, feature = "web"), derive(utoipa::ToSchema))]
pub struct ShownMap<'a> {
    /// When the first frame that counts was captured.
    #[serde(serialize_with = "rfc3339")]
    #[cfg_attr(all(test, feature = "web"), schema(value_type = String, format = DateTime))]
    since: SystemTime,
    /// When the newest one was.
    #[serde(serialize_with = "rfc3339")]
    #[cfg_attr(all(test, feature = "web"), schema(value_type = String, format = DateTime))]
    at: SystemTime,
    /// The rest.
    #[serde(flatten)]
    #[cfg_attr(all(test, feature = "web"), schema(value_type = described::Map))]
    map: &'a HeatMap,
}

impl<'a> From<&'a HeatMap> for ShownMap<'a> {
    fn from(map: &'a HeatMap) -> Self {
        Self { since: map.since, at: map.at, map }
    }
}

/// The status of one source.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(all(test, feature = "web"), derive(utoipa::ToSchema))]
pub struct SourceStatus {
    /// Its state.
    #[serde(flatten)]
    pub state: SourceState,
    /// Whether it is paused by a command, so that its frames are not judged.
    pub paused: bool,
    /// Current verdict.
    #[cfg_attr(all(test, feature = "web"), schema(value_type = String))]
    pub verdict: Verdict,
    /// Why it is unsure, where the scores alone do not tell.
    #[cfg_attr(all(test, feature = "web"), schema(value_type = Option<String>))]
    pub reason: Option<Reason>,
    /// Score of the last frame, 0..1.
    pub raw: Option<f64>,
    /// Median over the window, 0..1.
    pub smoothed: Option<f64>,
    /// Highest smoothed score of the current or last event, 0..1.
    pub peak: Option<f64>,
    /// The last alert since the start.
    pub alert: Option<SourceAlert>,
    /// Alerts since the start.
    pub alerts: u64,
    /// Frames handed over by the source.
    pub frames: u64,
    /// Frames judged.
    pub judged: u64,
    /// How often the source was reopened.
    pub reconnects: u64,
    /// Frames not judged, by reason: `undecoded`, `unread` and `rate` before they were frames,
    /// `overwritten`, `flat`, `corrupt-jpeg`, ...
    #[cfg_attr(all(test, feature = "web"), schema(value_type = BTreeMap<String, u64>))]
    pub dropped: BTreeMap<&'static str, u64>,
    /// When the last frame was captured.
    #[serde(serialize_with = "rfc3339_opt")]
    #[cfg_attr(all(test, feature = "web"), schema(value_type = Option<String>, format = DateTime))]
    pub last_frame: Option<SystemTime>,
    /// Width and height of the last frame in pixels.
    #[cfg_attr(all(test, feature = "web"), schema(value_type = Option<Vec<u32>>, min_items = 2, max_items = 2))]
    pub size: Option<(u32, u32)>,
    /// The field order, if the last frame was interlaced, so that one field of it is judged.
    #[cfg_attr(all(test, feature = "web"), schema(value_type = Option<String>))]
    pub interlaced: Option<FieldOrder>,
    /// Time from the last judged frame's arrival to its verdict.
    #[serde(serialize_with = "millis_opt", rename = "latency_ms")]
    #[cfg_attr(all(test, feature = "web"), schema(value_type = Option<f64>))]
    pub latency: Option<Duration>,
    /// The last judged frame, without its pixels; publishers leave it out.
    #[serde(skip)]
    pub newest: Option<Arc<JudgedFrame>>,
    /// How synthetic each place has looked over the last minutes; publishers send it on request.
    #[serde(skip)]
    pub map: Option<Arc<HeatMap>>,
}

impl Default for SourceStatus {
    fn default() -> Self {
        Self {
            state: SourceState::Starting,
            paused: false,
            verdict: Verdict::Unsure,
            reason: None,
            raw: None,
            smoothed: None,
            peak: None,
            alert: None,
            alerts: 0,
            frames: 0,
            judged: 0,
            reconnects: 0,
            dropped: BTreeMap::new(),
            last_frame: None,
            size: None,
            interlaced: None,
            latency: None,
            newest: None,
            map: None,
        }
    }
}

/// The delivery status of one publisher.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(all(test, feature = "web"), derive(utoipa::ToSchema))]
pub struct PublisherStatus {
    /// Whether there is a connection.
    pub connected: bool,
    /// Connections that were made.
    pub connections: u64,
    /// Records that were acknowledged, including repeated ones.
    pub sent: u64,
    /// Records that were refused; they are only in the log.
    pub refused: u64,
    /// Records that are not acknowledged yet.
    pub behind: u64,
}

/// The shared board: one status per source, and one per publisher. Clones share it.
#[derive(Clone, Default)]
pub struct Board {
    sources: Arc<Mutex<BTreeMap<Arc<str>, SourceStatus>>>,
    log: Arc<Mutex<LogStatus>>,
    publishers: Arc<Mutex<BTreeMap<String, PublisherStatus>>>,
    stages: Stages,
    progress: Progress,
}

impl Board {
    /// A board with an entry for each source.
    pub fn new(ids: impl IntoIterator<Item = Arc<str>>) -> Self {
        let board = Self::default();
        for id in ids {
            board.lock().insert(id, SourceStatus::default());
        }
        board
    }

    /// How synthetic each place of a source's frames has looked over the last minutes; `None` before the first judged frame,
    /// and for an unknown source.
    pub fn map(&self, source: &str) -> Option<Arc<HeatMap>> {
        self.lock().get(source).and_then(|s| s.map.clone())
    }

    /// Changes one source's status; an unknown source gets an entry.
    pub fn update(&self, source: &str, change: impl FnOnce(&mut SourceStatus)) {
        let mut sources = self.lock();
        match sources.get_mut(source) {
            Some(status) => change(status),
            None => change(sources.entry(source.into()).or_default()),
        }
    }

    /// Removes a source that is no longer watched.
    pub(crate) fn forget(&self, source: &str) {
        self.lock().remove(source);
    }

    /// Removes a publisher that is no longer configured.
    pub(crate) fn forget_publisher(&self, name: &str) {
        self.publishers.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(name);
    }

    /// Counts a frame that is not judged, by reason.
    pub(crate) fn drop_frame(&self, source: &str, reason: &'static str) {
        self.update(source, |s| *s.dropped.entry(reason).or_default() += 1);
    }

    /// A copy of everything, in the order of the ids.
    pub fn snapshot(&self) -> Vec<(Arc<str>, SourceStatus)> {
        self.lock().iter().map(|(id, s)| (id.clone(), s.clone())).collect()
    }

    /// The flag log's status; its `alarm` is what needs somebody's attention.
    pub fn log(&self) -> LogStatus {
        self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Sets the flag log's status and returns the previous one.
    pub(crate) fn set_log(&self, status: LogStatus) -> LogStatus {
        let mut log = self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        std::mem::replace(&mut log, status)
    }

    /// Pauses judging a source's frames, or resumes it.
    pub fn pause(&self, source: &str, pause: bool) {
        self.update(source, |s| s.paused = pause);
    }

    /// Whether a source is paused.
    pub fn is_paused(&self, source: &str) -> bool {
        self.lock().get(source).is_some_and(|s| s.paused)
    }

    /// Changes the status of the publisher of this name; an unknown one gets an entry.
    pub fn update_publisher(&self, name: &str, change: impl FnOnce(&mut PublisherStatus)) {
        let mut all = self.publishers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match all.get_mut(name) {
            Some(status) => change(status),
            None => change(all.entry(name.to_owned()).or_default()),
        }
    }

    /// One publisher's delivery status; the default if there is none of this name.
    pub fn publisher(&self, name: &str) -> PublisherStatus {
        self.publishers().remove(name).unwrap_or_default()
    }

    /// All publishers' delivery status, by name.
    pub fn publishers(&self) -> BTreeMap<String, PublisherStatus> {
        self.publishers.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// How long each stage takes.
    pub fn stages(&self) -> &Stages {
        &self.stages
    }

    /// Whether each stage gets on with its work.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, SourceStatus>> {
        // Whatever a panic while counting leaves half-written is better than no board at all.
        self.sources.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A wall-clock time as RFC 3339 in UTC with milliseconds, as in records, messages and logs.
pub fn rfc3339_text(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| "unknown".to_owned(), |t| format!("{t:.3}"))
}

fn rfc3339<S: serde::Serializer>(time: &SystemTime, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&rfc3339_text(*time))
}

fn rfc3339_opt<S: serde::Serializer>(time: &Option<SystemTime>, s: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => rfc3339(time, s),
        None => s.serialize_none(),
    }
}

fn millis_opt<S: serde::Serializer>(d: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
    match d {
        Some(d) => s.serialize_f64((d.as_secs_f64() * 1e6).round() / 1e3),
        None => s.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_named_as_in_their_json_form() {
        let all = [
            SourceState::Starting,
            SourceState::Live,
            SourceState::Stalled,
            SourceState::Retrying { why: "x".into(), attempt: 1, at: SystemTime::UNIX_EPOCH },
            SourceState::Failed { why: "x".into() },
            SourceState::Ended,
        ];
        assert_eq!(all.each_ref().map(SourceState::name), SourceState::NAMES);
        for state in all {
            assert_eq!(serde_json::to_value(&state).expect("JSON")["state"], state.name());
        }
    }
}
