//! One number of cameras, played and measured.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use spotd::clock::{Moment, SharedClock};
use spotd::config::Config;
use spotd::detector::Model;
use spotd::health::process::{ThreadTime, process, threads};
use spotd::health::{Board, SourceState, SourceStatus, Stage};
use spotd::pipeline::Daemon;
use spotd::source::clip::Clip;
use spotd::source::{Decode, SourceConfig, SourceUri};

use super::super::machine;

/// Frames that arrive later than this by their stream's clock are late: decoding falls behind.
pub(super) const LATE: Duration = Duration::from_millis(500);

/// Cameras begin one after the other within this time at most, as their key frames are not in step either.
const SPREAD: Duration = Duration::from_millis(2500);
/// Before it is measured, a daemon has met so many key frames of each camera, after which it knows whether they are enough,
/// and runs for at least and at most so long. Until it knows it decodes every frame, which many cameras that are carried
/// later cannot do at their own pace.
const KEY_FRAMES: u32 = 5;
const SETTLE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// What is due in between is worked off in this time.
const CALM: Duration = Duration::from_secs(2);
/// A camera that has not delivered by then does not.
const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// How much longer the clip should be than what is measured: one that begins again is decoded whole at first.
pub(super) const LEAD: Duration = Duration::from_secs(80);

/// Plays a clip to the daemon.
pub(super) struct Player<'a> {
    pub fps: f64,
    pub decode: Decode,
    /// How long each number of cameras is measured.
    pub seconds: Duration,
    /// For flag logs.
    pub folder: &'a Path,
    /// What each camera plays.
    pub file: &'a Path,
    pub clip: &'a Clip,
    pub config: Config,
    pub model: &'a Model,
    pub clock: &'a SharedClock,
}

/// What was measured of a number of cameras.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Step {
    pub cameras: usize,
    /// Whether that many are carried.
    pub carried: bool,
    /// Cameras that did not deliver at all.
    pub silent: usize,
    /// Frames that were due.
    pub due: u64,
    /// Of these, those that were replaced by a newer one before a worker was free.
    pub overwritten: u64,
    /// Of these, those that arrived more than [`LATE`] late.
    pub late: u64,
    /// Frames judged per second.
    pub judged_per_second: f64,
    /// Frames that were decoded, of all.
    pub decoded_share: Option<f64>,
    /// Processors that the daemon kept busy, where Linux says so.
    pub cpus: Option<f64>,
    pub shares: Option<Shares>,
    /// Resident memory of the process in MiB, unless more cameras ran before: not all of theirs is given back.
    pub memory_mib: Option<f64>,
}

/// Shares of the CPU time; together they are 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Shares {
    /// Reading the clip and decoding it, and handing frames over.
    pub decoding: f64,
    /// Choosing tiles; of Motion JPEG its decoding as well.
    pub choosing: f64,
    /// The network on tiles, and the coherent part.
    pub inference: f64,
    /// Verdicts, the flag log, whose turn it is.
    pub rest: f64,
}

impl Step {
    /// Whether the frames that were due were judged, and in time: at most one in a hundred was overwritten, at most one in
    /// a hundred was late, or one of ten and more, and every camera delivered.
    fn judge(mut self) -> Self {
        let most = (self.due / 100).max(u64::from(self.due >= 10));
        self.carried = self.silent == 0 && self.due > 0 && self.overwritten <= most && self.late <= most;
        self
    }

    /// Whether that many are carried.
    pub fn is_carried(&self) -> bool {
        self.carried
    }

    /// Why that many are too many.
    pub fn why(&self) -> String {
        let share = |n: u64| format!("{:.1} %", 100.0 * n as f64 / self.due.max(1) as f64);
        let (overwritten, late) = (share(self.overwritten), share(self.late));
        match self.silent {
            0 => format!(
                "of the frames that were due {overwritten} were overwritten, {late} came more than {} ms late",
                LATE.as_millis()
            ),
            silent => format!("{silent} of them did not start within {} s", STARTS_WITHIN.as_secs()),
        }
    }

    #[cfg(test)]
    pub fn like(cameras: usize, carried: bool) -> Self {
        Self {
            cameras,
            carried,
            silent: 0,
            due: 1,
            overwritten: 0,
            late: 0,
            judged_per_second: 1.0,
            decoded_share: None,
            cpus: None,
            shares: None,
            memory_mib: None,
        }
    }
}

impl Player<'_> {
    /// Plays it by so many cameras.
    ///
    /// # Errors
    /// The daemon does not start, or the clip cannot be played.
    pub fn play(&self, cameras: usize) -> anyhow::Result<Step> {
        let mut config = self.config.clone();
        config.log.dir = self.folder.join(format!("flags-{cameras}"));
        let camera = |n: usize| SourceConfig {
            id: format!("camera-{n}").into(),
            uri: SourceUri::File(self.file.to_owned()),
            fps: self.fps,
            decode: self.decode,
            stall_timeout: None,
            repeat: true,
        };
        config.sources = vec![camera(1)];
        let mut daemon = Daemon::start(config.clone(), self.model.clone(), self.clock.clone())?;
        let measured = (|| -> anyhow::Result<Step> {
            let apart = SPREAD.min(self.clip.key_frames_every) / u32::try_from(cameras)?;
            for n in 2..=cameras {
                self.wait(apart);
                config.sources.push(camera(n));
                daemon.reload(config.clone())?;
            }
            let silent = self.until_all_deliver(&daemon.board)?;
            self.settle(&daemon.board);
            let before = Reading::now(&daemon.board, self.clock.now());
            self.wait(self.seconds);
            let after = Reading::now(&daemon.board, self.clock.now());
            Ok(after.since(&before, cameras, silent))
        })();
        let well = daemon.stop();
        anyhow::ensure!(well, "a thread panicked (see above); please report this");
        measured
    }

    fn wait(&self, how_long: Duration) {
        let _ = self.clock.after(how_long).recv();
    }

    /// Waits until it is known of each camera whether its key frames are enough.
    fn settle(&self, board: &Board) {
        let wanted = (self.clip.key_frames_every * KEY_FRAMES).as_secs_f64() * self.clip.fps;
        let until = self.clock.now() + SETTLE.1;
        self.wait(SETTLE.0);
        let known = || board.snapshot().iter().all(|(_, status)| met(status) as f64 >= wanted);
        while !known() && self.clock.now() < until {
            self.wait(Duration::from_millis(100));
        }
        self.wait(CALM);
    }

    /// Waits until each camera delivers; returns how many do not.
    fn until_all_deliver(&self, board: &Board) -> anyhow::Result<usize> {
        let until = self.clock.now() + STARTS_WITHIN;
        loop {
            let all = board.snapshot();
            for (_, status) in &all {
                match &status.state {
                    SourceState::Failed { why } => anyhow::bail!("{why}"),
                    // Where there are many, the machine may be too busy to start them.
                    SourceState::Retrying { why, .. } if all.len() == 1 => anyhow::bail!("{why}"),
                    _ => {}
                }
            }
            let silent = all.iter().filter(|(_, status)| status.frames == 0).count();
            if silent == 0 || self.clock.now() >= until {
                return Ok(silent);
            }
            self.wait(Duration::from_millis(50));
        }
    }
}

/// Why frames that were decoded are not due, and why others are not decoded.
const NOT_DUE: [&str; 2] = ["rate", "unread"];
const NOT_DECODED: [&str; 2] = ["undecoded", "behind"];

/// Frames of a camera that were dropped for one of these reasons.
fn dropped(status: &SourceStatus, reasons: &[&str]) -> u64 {
    reasons.iter().filter_map(|reason| status.dropped.get(reason)).sum()
}

/// Frames of a camera, decoded or not.
fn met(status: &SourceStatus) -> u64 {
    status.frames + dropped(status, &NOT_DUE) + dropped(status, &NOT_DECODED)
}

/// Counters of a daemon at a moment.
struct Reading {
    at: Moment,
    due: u64,
    judged: u64,
    overwritten: u64,
    late: u64,
    /// Frames decoded, and not.
    decoded: u64,
    undecoded: u64,
    /// CPU seconds of the whole process, of the workers, and of the other threads that neither read nor decode.
    all: Option<f64>,
    workers: f64,
    others: f64,
    /// Seconds that the workers were at it, waiting for a processor included.
    choosing: f64,
    inference: f64,
}

impl Reading {
    fn now(board: &Board, at: Moment) -> Self {
        let sources = board.snapshot();
        let sum = |of: &dyn Fn(&SourceStatus) -> u64| sources.iter().map(|(_, s)| of(s)).sum::<u64>();
        let dropped = |reasons: &[&str]| sum(&|s| dropped(s, reasons));
        let stages = board.stages();
        let seconds = |stage| stages.histogram(stage).sum;
        let (workers, others): (Vec<_>, Vec<_>) = threads()
            .into_iter()
            .filter(|t| {
                t.is_main || ["select", "verdict"].contains(&&*t.name) || t.name.starts_with("infer-")
            })
            .partition(|t| t.name.starts_with("infer-"));
        let cpu = |threads: Vec<ThreadTime>| threads.iter().map(|thread| thread.cpu_seconds).sum::<f64>();
        let due = sum(&|s| s.frames);
        Self {
            at,
            due,
            judged: sum(&|s| s.judged),
            overwritten: dropped(&["overwritten"]),
            late: stages.histogram(Stage::Arrival).longer_than(LATE),
            decoded: due + dropped(&NOT_DUE),
            undecoded: dropped(&NOT_DECODED),
            all: process().cpu_seconds,
            workers: cpu(workers),
            others: cpu(others),
            choosing: seconds(Stage::Choosing),
            inference: seconds(Stage::Tile) + seconds(Stage::Sums),
        }
    }

    /// What happened since an earlier one.
    fn since(&self, before: &Reading, cameras: usize, silent: usize) -> Step {
        let seconds = (self.at - before.at).as_secs_f64();
        let all = self.all.zip(before.all).map(|(after, before)| after - before).filter(|all| *all > 0.0);
        let (decoded, undecoded) = (self.decoded - before.decoded, self.undecoded - before.undecoded);
        let step = Step {
            cameras,
            carried: false,
            silent,
            due: self.due - before.due,
            overwritten: self.overwritten - before.overwritten,
            late: self.late - before.late,
            judged_per_second: (self.judged - before.judged) as f64 / seconds,
            decoded_share: (decoded > 0).then(|| decoded as f64 / (decoded + undecoded) as f64),
            cpus: all.map(|all| all / seconds),
            shares: all.map(|all| {
                let choosing = self.choosing - before.choosing;
                let work = choosing + self.inference - before.inference;
                let (workers, others) = (self.workers - before.workers, self.others - before.others);
                Shares::of(all, workers, others, if work > 0.0 { choosing / work } else { 0.0 })
            }),
            memory_mib: machine::memory().map(|(now, _)| now),
        };
        step.judge()
    }
}

impl Shares {
    /// Of CPU seconds: of the process, of its workers, of its other threads that neither read nor decode. `choosing` is the
    /// share of it in the workers' time. Linux counts in hundredths of a second, which may make a part larger than the
    /// whole.
    fn of(all: f64, workers: f64, others: f64, choosing: f64) -> Self {
        let all = all.max(workers + others);
        let (workers, others) = (workers / all, others / all);
        Self {
            decoding: 1.0 - workers - others,
            choosing: choosing * workers,
            inference: (1.0 - choosing) * workers,
            rest: others,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_or_late_is_too_many() {
        let judged = |due, overwritten, late, silent| {
            let step = Step { due, overwritten, late, silent, ..Step::like(3, false) };
            step.judge().is_carried()
        };
        assert!(judged(500, 0, 0, 0) && judged(500, 5, 5, 0) && judged(10, 1, 1, 0));
        assert!(
            !judged(500, 6, 0, 0) && !judged(500, 0, 6, 0) && !judged(10, 2, 0, 0) && !judged(9, 1, 0, 0)
        );
        assert!(!judged(500, 0, 0, 1) && !judged(0, 0, 0, 0));
    }

    #[test]
    fn shares_are_of_a_whole() {
        let shares = Shares::of(8.0, 2.0, 1.0, 0.25);
        assert_eq!(shares, Shares { decoding: 0.625, choosing: 0.0625, inference: 0.1875, rest: 0.125 });
        // Rounded counters never make a share negative.
        let shares = Shares::of(0.01, 0.02, 0.0, 0.5);
        assert_eq!(shares, Shares { decoding: 0.0, choosing: 0.5, inference: 0.5, rest: 0.0 });
    }
}
