//! Turns footage into smoothed logits as the daemon would: with its tiles, its workers, its median.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use crossbeam_channel::Receiver;
use indicatif::ProgressBar;

use super::super::input::Input;
use super::super::video::read_frames;
use spotd::detector::Detector;
use spotd::detector::pool::{Arrival, Done, Feed, Pool, Refusal};
use spotd::detector::scoring::{Accumulated, FrameScore};
use spotd::forensics::alarms::Recording;
use spotd::forensics::dataset::{list_pictures, load};
use spotd::frame::Frame;
use spotd::source::Pace;
use spotd::verdict::{Limits, VerdictConfig, VerdictMachine};

/// Watches footage as the daemon would.
pub(super) struct Watcher<'a> {
    pub detector: &'a Detector,
    pub verdict: &'a VerdictConfig,
    /// Frames judged per second.
    pub fps: f64,
    /// How long a live stream is watched.
    pub live: Duration,
    pub jobs: usize,
}

/// What was seen of one input.
#[derive(Default)]
pub(super) struct Seen {
    pub recording: Recording,
    /// Frames with a score.
    pub frames: usize,
    /// Frames without one: too small or flat, as the daemon would count them.
    pub without: usize,
}

impl Watcher<'_> {
    /// Watches a folder of pictures (frames ordered by name), a video, or an address.
    pub fn watch(&self, input: &Input, bar: &ProgressBar) -> anyhow::Result<Seen> {
        let (pool, done) = Pool::start(self.detector, self.jobs).context("inference threads")?;
        let (detector, window) = (self.detector.clone(), self.verdict.window);
        // The pool blocks when nobody takes its results.
        let taker = std::thread::Builder::new()
            .name("scores".into())
            .spawn(move || in_order(&detector, window, &done))
            .context("a thread")?;
        let feed: Arc<Mutex<Feed>> = Arc::default();
        let mut each = |frame: Frame| {
            bar.inc(1);
            pool.submit(Arrival { source: 0, frame, feed: feed.clone(), mapped: false });
            ControlFlow::Continue(())
        };
        let read = match input.folder() {
            Some(folder) => self.folder(folder, &mut each),
            None => {
                let pace = Pace { fps: self.fps, live: self.live, as_run: false };
                read_frames(input, pace, &mut each).map_err(Into::into)
            }
        };
        pool.join();
        let Taken { scores, without, failure } =
            taker.join().map_err(|_| anyhow::anyhow!("the thread that takes scores panicked"))?;
        read?;
        if let Some(why) = failure {
            log::warn!("{}: some frames could not be read; one of them: {why}", input.shown);
        }
        let frames = scores.len();
        Ok(Seen { recording: self.smooth(scores), frames, without })
    }

    fn folder(&self, folder: &Path, each: &mut dyn FnMut(Frame) -> ControlFlow<()>) -> anyhow::Result<()> {
        let files = list_pictures(folder)?;
        if files.is_empty() {
            bail!("{}: holds no picture", folder.display());
        }
        for (number, path) in files.iter().enumerate() {
            match load(path) {
                Ok(picture) => {
                    let at = Duration::from_secs_f64(number as f64 / self.fps);
                    let _ = each(Frame::from_rgb(
                        "file".into(),
                        number as u64,
                        SystemTime::UNIX_EPOCH,
                        at,
                        picture,
                    ));
                }
                Err(bad) => log::warn!("{}: skipped, cannot be read: {}", bad.path.display(), bad.reason),
            }
        }
        Ok(())
    }

    /// The daemon's median over scores, converted back into logits.
    fn smooth(&self, scores: Vec<(Duration, f32)>) -> Recording {
        let card = self.detector.card();
        // No verdict is wanted.
        let limits = Limits { threshold: 2.0, unsure_from: 2.0 };
        let mut machine = VerdictMachine::new(self.verdict.clone(), limits, Duration::MAX);
        let mut recording = Recording::default();
        for (at, logit) in scores {
            let outcome = machine.push(at, card.score(logit));
            if let Some(smoothed) = outcome.judgement.smoothed
                && outcome.judgement.frames >= self.verdict.min_frames
            {
                recording.times.push(at.as_secs_f64());
                recording.logits.push(logit_of(smoothed, card.temperature));
            }
        }
        recording
    }
}

/// How many frames may overtake each other in the pool at most; far more than it has threads.
const OVERTAKEN: usize = 256;

/// Size and score of frames, by time and number.
type Waiting = BTreeMap<(Duration, u64), ((u32, u32), FrameScore)>;

/// What came of all frames.
#[derive(Default)]
struct Taken {
    /// Times and logits of those that were judged.
    scores: Vec<(Duration, f32)>,
    /// How many were not: too small or flat.
    without: usize,
    /// Why one of them could not be read.
    failure: Option<String>,
}

/// Takes frames from the pool, each logit including the coherent part of those before it. They leave it slightly out of
/// order; the sums of a whole day would not fit into memory, so only a few are held back.
fn in_order(detector: &Detector, window: usize, done: &Receiver<Done>) -> Taken {
    let mut accumulated = Accumulated::new(window);
    let mut waiting = Waiting::new();
    let Taken { mut scores, mut without, mut failure } = Taken::default();
    let mut next = |waiting: &mut Waiting| {
        if let Some(((at, _), (size, mut score))) = waiting.pop_first() {
            match accumulated.add(detector, size, &mut score) {
                Ok(()) => scores.push((at, score.logit)),
                Err(error) => log::warn!("a frame is left out: {error}"),
            }
        }
    };
    for done in done {
        match done {
            Done::Judged(work) => {
                if let Some(score) = work.score(detector) {
                    let frame = &work.frame;
                    waiting.insert((frame.arrived, frame.seq), ((frame.width, frame.height), score));
                }
            }
            Done::Refused(refused) => match refused.why {
                Refusal::Limited(..) => without += 1,
                Refusal::Damaged(error) => failure = Some(error.to_string()),
                Refusal::Panicked => {}
            },
        }
        if waiting.len() > OVERTAKEN {
            next(&mut waiting);
        }
    }
    while !waiting.is_empty() {
        next(&mut waiting);
    }
    Taken { scores, without, failure }
}

/// The logit that corresponds to this score at this temperature.
pub(super) fn logit_of(score: f64, temperature: f64) -> f64 {
    // Scores of 0 and 1 correspond to logits beyond the precision of a double.
    let score = score.clamp(1e-15, 1.0 - 1e-15);
    temperature * (score / (1.0 - score)).ln()
}
