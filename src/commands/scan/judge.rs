//! One input of `scan`: what it is, and what the detector says of it.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use super::super::input::Input;
use super::super::video::read_video;
use super::inputs::Item;
use super::report::Row;
use crate::detector::Model;
use crate::detector::judge::{judge, limits};
use crate::forensics::dataset;
use crate::frame::Frame;
use crate::verdict::{EventKind, Limits, Verdict, VerdictConfig, VerdictMachine, median};

/// Judges inputs; shared by all scan threads.
pub(super) struct Scanner {
    model: Model,
    limits: Limits,
    verdict: VerdictConfig,
    max_tiles: usize,
    fps: f64,
    live: Duration,
    /// Nobody wants the answers any more.
    stopped: AtomicBool,
}

impl Scanner {
    pub fn new(model: Model, verdict: VerdictConfig, max_tiles: usize, fps: f64, live: Duration) -> Self {
        let limits = limits(&model, &verdict);
        Self { model, limits, verdict, max_tiles, fps, live, stopped: AtomicBool::new(false) }
    }

    /// Ends the watching of videos and streams: nobody wants the answers any more.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// The answer for one image, video or address; an error is an answer too.
    pub fn judge(&self, item: &Item) -> Row {
        let (shown, result) = match item {
            Item::Picture(input, path) => (&input.shown, self.image(input, path)),
            Item::Video(input) => (&input.shown, self.video(input)),
            Item::Unusable(bad) => (&bad.shown, Err(bad.why.clone())),
        };
        let mut row = result.unwrap_or_else(|why| Row::failed(shown.clone(), why));
        if let Item::Picture(input, _) | Item::Video(input) = item {
            (row.path, row.path_bytes) = input.exact();
        }
        row
    }

    fn image(&self, input: &Input, path: &Path) -> Result<Row, String> {
        let image = dataset::load(path).map_err(|s| s.reason)?;
        let frame = Frame::from_rgb("scan".into(), 0, SystemTime::UNIX_EPOCH, Duration::ZERO, image);
        let size = (frame.width, frame.height);
        let score = judge(&self.model, frame, self.max_tiles).map_err(|e| e.to_string())?;
        Ok(Row {
            score: Some(score.score),
            verdict: Some(score.verdict(self.limits)),
            size: Some(size),
            note: score.limited.map(|l| l.as_str()),
            tiles: score.tiles,
            error: None,
            ..Row::failed(input.shown.clone(), String::new())
        })
    }

    /// Every judged frame goes through the daemon's own verdict machine, on the video's time.
    fn video(&self, input: &Input) -> Result<Row, String> {
        let mut track = Track::new(self);
        let mut failure = None;
        read_video(input, self.fps, self.live, |frame| {
            let (at, size) = (frame.arrived, (frame.width, frame.height));
            match judge(&self.model, frame, self.max_tiles) {
                Ok(score) => track.add(at, size, score.score, score.limited.map(|l| l.as_str())),
                Err(error) => {
                    // A damaged frame is passed over; a broken network would fail on all.
                    log::debug!("{}: {error}", input.shown);
                    failure = Some(error.to_string());
                }
            }
            if self.stopped.load(Ordering::Relaxed) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        track
            .row(&input.shown)
            .ok_or_else(|| failure.unwrap_or_else(|| "it has no frame that can be judged".into()))
    }
}

/// A video's scores so far.
struct Track {
    machine: VerdictMachine,
    scores: Vec<f64>,
    min_frames: usize,
    limits: Limits,
    peak: Option<f64>,
    seen: u64,
    note: Option<&'static str>,
    size: Option<(u32, u32)>,
    spans: Vec<(f64, f64)>,
    open: Option<f64>,
    last: f64,
}

impl Track {
    fn new(scanner: &Scanner) -> Self {
        Self {
            machine: VerdictMachine::new(scanner.verdict.clone(), scanner.limits, Duration::MAX),
            scores: vec![],
            min_frames: scanner.verdict.min_frames,
            limits: scanner.limits,
            peak: None,
            seen: 0,
            note: None,
            size: None,
            spans: vec![],
            open: None,
            last: 0.0,
        }
    }

    fn add(&mut self, at: Duration, size: (u32, u32), score: f64, limited: Option<&'static str>) {
        self.seen += 1;
        self.size = Some(size);
        if limited.is_some() {
            self.note = limited;
            return;
        }
        self.scores.push(score);
        self.last = at.as_secs_f64();
        let outcome = self.machine.push(at, score);
        if outcome.frames >= self.min_frames {
            let smoothed = outcome.smoothed.unwrap_or_default();
            self.peak = Some(self.peak.map_or(smoothed, |p| p.max(smoothed)));
        }
        match outcome.event {
            Some(EventKind::Start) => self.open = Some(self.last),
            Some(EventKind::End) => self.close(),
            _ => {}
        }
    }

    fn close(&mut self) {
        if let Some(from) = self.open.take() {
            self.spans.push((from, self.last));
        }
    }

    fn row(mut self, shown: &str) -> Option<Row> {
        let few = self.scores.len() < self.min_frames;
        self.close();
        let score = self.peak.or_else(|| median(self.scores.iter().copied()));
        if self.seen == 0 {
            return None;
        }
        let verdict = match score {
            Some(score) if !few => Verdict::of_score(score, self.limits),
            _ => Verdict::Unsure,
        };
        Some(Row {
            score,
            verdict: Some(verdict),
            size: self.size,
            frames: Some(self.seen),
            spans: self.spans,
            note: if few { self.note.or(Some("few-frames")) } else { None },
            error: None,
            ..Row::failed(shown.to_owned(), String::new())
        })
    }
}
