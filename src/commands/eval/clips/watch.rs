//! Watches one clip as `run` would: its frames at that rate, its tiles, the network, the verdict
//! machine.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use crate::commands::video::watch_file;
use spotd::detector::Detector;
use spotd::detector::scoring::{Accumulated, ScoringError};
use spotd::verdict::{EventKind, Verdict, VerdictConfig, VerdictMachine, median};

/// How clips are judged.
pub(super) struct Watcher {
    pub detector: Detector,
    pub verdict: VerdictConfig,
    /// Frames judged per second.
    pub fps: f64,
}

/// What was seen of a clip.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// Frames that were judged, in order.
    pub frames: Vec<Judged>,
    /// Frames that `run` would drop: flat, smaller than a tile, or damaged.
    pub without: u64,
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// Position of its last frame at that rate, in seconds.
    pub last: f64,
}

/// One judged frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judged {
    /// Seconds from the clip's start.
    pub at: f64,
    /// Its own score, 0..1; the coherent part includes the frames before it.
    pub raw: f64,
    /// Its own logit.
    pub logit: f32,
    /// Median over the window, once there are enough frames for a verdict.
    pub smoothed: Option<f64>,
    /// Whether an event began with it.
    pub flagged: bool,
}

/// The result for a clip after some time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Answer {
    /// `Synthetic` if that was the verdict at any time so far.
    pub verdict: Verdict,
    /// The highest median so far: the highest threshold at which it would have been flagged. Before
    /// there are enough frames for a verdict, the median of those there are; `None` if no frame was
    /// judged.
    pub score: Option<f64>,
    /// Mean of the frames' logits.
    pub mean_logit: Option<f32>,
    /// Frames judged.
    pub frames: usize,
}

impl Watcher {
    /// Whether a clip has video, and enough of it for a verdict.
    ///
    /// # Errors
    /// What is wrong, in a sentence.
    pub fn check(&self, clip: &Path) -> Result<(), String> {
        let (mut frames, needed) = (0, self.verdict.min_frames);
        watch_file(clip, self.fps, |_| {
            frames += 1;
            if frames < needed { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .map_err(|e| e.to_string())?;
        match frames {
            0 => Err("holds no video".into()),
            n if n < needed => Err(format!(
                "is shorter than a window: {n} frames at {} a second, and a verdict needs {needed}; judge more \
                 frames a second with --fps, or leave it out",
                self.fps
            )),
            _ => Ok(()),
        }
    }

    /// Judges a clip to its end.
    ///
    /// # Errors
    /// It cannot be read to its end, or the network fails.
    pub fn watch(&self, clip: &Path) -> Result<Watched, String> {
        let mut machine = VerdictMachine::new(self.verdict.clone(), self.detector.limits(), Duration::MAX);
        let mut accumulated = Accumulated::new(self.verdict.window);
        let mut watched = Watched::default();
        let mut failure = None;
        let lost = watch_file(clip, self.fps, |frame| {
            let at = frame.arrived;
            watched.size = (frame.width, frame.height);
            watched.last = at.as_secs_f64();
            match accumulated.score(&self.detector, frame) {
                Ok(score) if score.limited.is_none() => {
                    let outcome = machine.push_frame(at, score.score, score.degraded);
                    watched.frames.push(Judged {
                        at: at.as_secs_f64(),
                        raw: score.score,
                        logit: score.logit,
                        smoothed: outcome
                            .judgement
                            .smoothed
                            .filter(|_| outcome.judgement.frames >= self.verdict.min_frames),
                        flagged: outcome.event == Some(EventKind::Start),
                    });
                }
                Ok(_) | Err(ScoringError::Frame(_)) => watched.without += 1,
                Err(ScoringError::Model(error)) => {
                    failure = Some(error.to_string());
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })
        .map_err(|e| e.to_string())?;
        watched.without += lost;
        failure.map_or(Ok(watched), Err)
    }

    /// The result after so many seconds, or at the end.
    pub fn after(&self, watched: &Watched, seconds: Option<f64>) -> Answer {
        let seen = watched.frames.partition_point(|frame| seconds.is_none_or(|s| frame.at < s));
        let seen = &watched.frames[..seen];
        let peak = seen.iter().filter_map(|frame| frame.smoothed).reduce(f64::max);
        let verdict = match peak {
            _ if seen.iter().any(|frame| frame.flagged) => Verdict::Synthetic,
            Some(peak) if peak < self.detector.limits().unsure_from => Verdict::Clear,
            _ => Verdict::Unsure,
        };
        let mean = seen.iter().map(|frame| frame.logit).sum::<f32>() / seen.len() as f32;
        Answer {
            verdict,
            score: peak.or_else(|| median(seen.iter().map(|frame| frame.raw))),
            mean_logit: (!seen.is_empty()).then_some(mean),
            frames: seen.len(),
        }
    }
}

impl Watched {
    /// Seconds after which it was first flagged.
    pub fn flagged_at(&self) -> Option<f64> {
        self.frames.iter().find(|frame| frame.flagged).map(|frame| frame.at)
    }
}
