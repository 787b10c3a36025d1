//! Judges one input of `scan`, by what it turns out to be.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use super::super::input::Input;
use super::super::video::read_video;
use super::inputs::Item;
use super::picture::Picture;
use super::report::Row;
use spotd::detector::scoring::{Accumulated, FrameScore, ScoringError};
use spotd::detector::{Detector, Model};
use spotd::frame::picture::{self, Kind};
use spotd::frame::{Deinterlacer, FieldOrder, Frame};
use spotd::source::read::Content;
use spotd::source::{Pace, Truncated};
use spotd::verdict::{EventKind, Limits, Reason, Verdict, VerdictConfig, VerdictMachine, median};

/// Judges inputs; shared by all scan threads.
pub(super) struct Scanner {
    detector: Detector,
    verdict: VerdictConfig,
    fps: f64,
    live: Duration,
    /// Whether a report is wanted, which shows pictures and curves.
    pictures: bool,
    /// Whether nobody wants the results any more.
    stopped: AtomicBool,
}

impl Scanner {
    pub fn new(model: Model, verdict: VerdictConfig, max_tiles: usize, fps: f64, live: Duration) -> Self {
        let detector = Detector::new(model, &verdict, max_tiles);
        Self { detector, verdict, fps, live, pictures: false, stopped: AtomicBool::new(false) }
    }

    /// The same, for a report.
    pub fn with_pictures(self) -> Self {
        Self { pictures: true, ..self }
    }

    /// The limits in force.
    pub fn limits(&self) -> Limits {
        self.detector.limits()
    }

    /// Stops watching videos and streams: nobody wants the results any more.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// The result for one image, video or address; an error is a result too.
    pub fn scan(&self, item: &Item) -> Row {
        let (shown, result) = match item {
            Item::Picture(input, path) => (&input.shown, self.file(input, path)),
            Item::Video(input) => (&input.shown, self.video(input)),
            Item::Unusable(bad) => (&bad.shown, Err(bad.why.clone())),
        };
        let mut row = result.unwrap_or_else(|why| Row::failed(shown.clone(), why));
        if let Item::Picture(input, _) | Item::Video(input) = item {
            (row.path, row.path_bytes) = input.exact();
        }
        row
    }

    fn file(&self, input: &Input, path: &Path) -> Result<Row, String> {
        let bytes = picture::read(path).map_err(|e| e.to_string())?;
        if cfg!(feature = "gstreamer") && picture::is_motion_jpeg(&bytes) {
            return self.video(input);
        }
        self.pictures(input, &bytes)
    }

    /// Judges all pictures in a file's bytes: an animation is judged like a clip, and pages
    /// individually, of which the one that looks most generated counts.
    fn pictures(&self, input: &Input, bytes: &[u8]) -> Result<Row, String> {
        let shots = picture::shots(bytes).map_err(|e| e.to_string())?;
        let kind = shots.kind;
        let mut accumulated = Accumulated::new(self.verdict.window);
        let (mut track, mut worst, mut transparent) = (Track::new(self), None::<Row>, 0.0f64);
        for (shot, number) in shots.zip(1..) {
            let shot = match shot {
                Ok(shot) => shot,
                Err(error) if track.seen == 0 || kind == Kind::Pages => return Err(error.to_string()),
                Err(error) => {
                    log::debug!("{}: {error}", input.shown);
                    track.truncated = Some(Truncated { seconds: track.last, of: None });
                    break;
                }
            };
            let (at, share) = (shot.at, shot.transparent());
            let shown = self.pictures.then(|| shot.image.clone());
            let frame = Frame::from_rgb("scan".into(), 0, SystemTime::UNIX_EPOCH, at, shot.image);
            let size = (frame.width, frame.height);
            let score = match kind {
                Kind::Animation => accumulated.score_lines(&self.detector, frame),
                Kind::Still | Kind::Pages => self.detector.score_lines(frame),
            };
            let score = score.map_err(|e| e.to_string())?;
            track.add(at, size, &score);
            // Each page has a picture of its own; of an animation the frame with the highest score is shown.
            let mut own = Picture::default();
            if let Some(image) = shown {
                let picture = if kind == Kind::Pages { &mut own } else { &mut track.picture };
                picture.take(score.score, &image);
            }
            transparent = transparent.max(share);
            let mut row = self.still(input, size, score);
            row.transparent = (share > 0.0).then_some(share);
            row.page = (kind == Kind::Pages).then_some(number);
            row.picture = own.shown();
            // A page without a proper tile counts least.
            let proper = |row: &Row| row.note.is_none_or(|note| note == Reason::Degraded.as_str());
            let rank = |row: &Row| (proper(row), row.score.unwrap_or_default());
            if worst.as_ref().is_none_or(|worst| rank(&row) > rank(worst)) {
                worst = Some(row);
            }
        }
        let (Some(worst), frames) = (worst, track.seen) else { return Err("it holds no picture".into()) };
        match kind {
            _ if frames == 1 && track.truncated.is_none() => {
                let picture = worst.picture.or_else(|| track.picture.shown());
                Ok(Row { page: None, picture, ..worst })
            }
            Kind::Pages => Ok(Row { frames: Some(frames), ..worst }),
            Kind::Still | Kind::Animation => {
                let row = track.row(&input.shown, true).ok_or("it holds no picture")?;
                Ok(Row { transparent: (transparent > 0.0).then_some(transparent), ..row })
            }
        }
    }

    /// The result for one picture.
    fn still(&self, input: &Input, size: (u32, u32), score: FrameScore) -> Row {
        Row {
            score: Some(score.score),
            verdict: Some(score.verdict(self.detector.limits())),
            size: Some(size),
            note: score
                .limited
                .map(|l| l.as_str())
                .or_else(|| score.reason(self.detector.limits()).map(Reason::as_str)),
            tiles: score.tiles,
            error: None,
            ..Row::failed(input.shown.clone(), String::new())
        }
    }

    /// Every judged frame goes through the daemon's verdict machine, at the video's time.
    fn video(&self, input: &Input) -> Result<Row, String> {
        let mut track = Track::new(self);
        let mut last = None;
        let mut fields = Deinterlacer::default();
        let mut failure = None;
        let mut accumulated = Accumulated::new(self.verdict.window);
        let pace = Pace { fps: self.fps, live: self.live, as_run: false };
        let read = read_video(input, pace, |frame| {
            let (at, size) = (frame.arrived, (frame.width, frame.height));
            let judged = frame.decoded().map_err(ScoringError::from).and_then(|frame| {
                let frame = fields.take(frame);
                track.interlaced = track.interlaced.or(frame.interlacing.field());
                let shown = if self.pictures { frame.to_rgb().ok() } else { None };
                let score = accumulated.score_lines(&self.detector, frame)?;
                if let Some(image) = shown {
                    track.picture.take(score.score, &image);
                }
                Ok(score)
            });
            match judged {
                Ok(score) => {
                    track.add(at, size, &score);
                    last = Some((size, score));
                }
                Err(error) => {
                    // A damaged frame is skipped; a broken network would fail on all.
                    log::debug!("{}: {error}", input.shown);
                    failure = Some(error.to_string());
                }
            }
            if self.stopped.load(Ordering::Relaxed) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .map_err(|e| e.to_string())?;
        match (read.content, last) {
            (Content::Picture(bytes), _) => return self.pictures(input, &bytes),
            (Content::Still, Some((size, score))) => {
                return Ok(Row { picture: track.picture.shown(), ..self.still(input, size, score) });
            }
            (Content::Still, None) => {}
            (Content::Video, _) => track.truncated = read.truncated,
        }
        track
            .row(&input.shown, false)
            .ok_or_else(|| failure.unwrap_or_else(|| "it has no frame that can be judged".into()))
    }
}

/// A video's scores so far.
struct Track {
    machine: VerdictMachine,
    scores: Vec<f64>,
    degraded: usize,
    min_frames: usize,
    limits: Limits,
    peak: Option<f64>,
    seen: u64,
    note: Option<&'static str>,
    size: Option<(u32, u32)>,
    interlaced: Option<FieldOrder>,
    spans: Vec<(f64, f64)>,
    open: Option<f64>,
    last: f64,
    truncated: Option<Truncated>,
    picture: Picture,
}

impl Track {
    fn new(scanner: &Scanner) -> Self {
        Self {
            machine: VerdictMachine::new(scanner.verdict.clone(), scanner.detector.limits(), Duration::MAX),
            scores: vec![],
            degraded: 0,
            min_frames: scanner.verdict.min_frames,
            limits: scanner.detector.limits(),
            peak: None,
            seen: 0,
            note: None,
            size: None,
            interlaced: None,
            spans: vec![],
            open: None,
            last: 0.0,
            truncated: None,
            picture: Picture::default(),
        }
    }

    fn add(&mut self, at: Duration, size: (u32, u32), score: &FrameScore) {
        self.seen += 1;
        self.size = Some(size);
        if let Some(limited) = score.limited {
            self.note = Some(limited.as_str());
            return;
        }
        self.scores.push(score.score);
        self.degraded += usize::from(score.degraded);
        self.last = at.as_secs_f64();
        self.picture.curve.push(self.last, score.score);
        let outcome = self.machine.push_frame(at, score.score, score.degraded);
        if outcome.judgement.frames >= self.min_frames {
            let smoothed = outcome.judgement.smoothed.unwrap_or_default();
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

    /// The result. A video needs enough frames for a verdict; an animation with fewer is judged
    /// like one picture.
    fn row(mut self, shown: &str, animation: bool) -> Option<Row> {
        let few = self.scores.len() < self.min_frames && (!animation || self.scores.is_empty());
        self.close();
        let score = self.peak.or_else(|| median(self.scores.iter().copied()));
        if self.seen == 0 {
            return None;
        }
        let mut verdict = match score {
            Some(score) if !few => Verdict::of_score(score, self.limits),
            _ => Verdict::Unsure,
        };
        let mut note = if few { self.note.or(Some(Reason::FewFrames.as_str())) } else { None };
        if verdict == Verdict::Clear && 2 * self.degraded > self.scores.len() {
            (verdict, note) = (Verdict::Unsure, Some(Reason::Degraded.as_str()));
        }
        // Nobody knows what is missing.
        if self.truncated.is_some() && verdict == Verdict::Clear {
            (verdict, note) = (Verdict::Unsure, note.or(Some("truncated")));
        }
        Some(Row {
            score,
            verdict: Some(verdict),
            size: self.size,
            frames: Some(self.seen),
            spans: self.spans,
            note,
            truncated: self.truncated,
            interlaced: self.interlaced,
            error: None,
            picture: self.picture.shown(),
            ..Row::failed(shown.to_owned(), String::new())
        })
    }
}
