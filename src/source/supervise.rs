//! The only place that retries: one thread per source runs it again and again until the daemon
//! ends.
//!
//! A source only knows how to run once. Whatever ends a run (an error, a panic, the end of a stream
//! that should have none), the supervisor decides whether and when it runs again, and shows that on
//! the board.

use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::timeline::Timeline;
use super::{Ended, FrameSink, Source, SourceError};
use crate::clock::{Moment, SharedClock, Stop};
use crate::frame::Captured;
use crate::health::{Beat, Board, SourceState, Stage};
use crate::source::{SourceConfig, SourceUri};

/// When a source is run again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Pause after the first failure; it doubles with every further one.
    pub first: Duration,
    /// Longest pause.
    pub cap: Duration,
    /// Pause after a failure that somebody has to fix.
    pub configuration: Duration,
    /// A source that delivered frames for this long has recovered: its next failure counts as the
    /// first.
    pub steady: Duration,
    /// Run again at the end of the stream.
    pub repeat: bool,
    /// Whether the stream has no end of its own (a camera, a live stream), so that its end is a
    /// failure.
    pub endless: bool,
    /// A source that delivers is silent for this long at most, or reports that it stalls and ends its run; one that is
    /// silent for longer has hung.
    pub silence: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            cap: Duration::from_secs(30),
            configuration: Duration::from_secs(60),
            steady: Duration::from_secs(30),
            repeat: false,
            endless: true,
            silence: Duration::from_secs(120),
        }
    }
}

impl Policy {
    /// The default pauses, and whether a source of this kind has an end.
    pub fn of(config: &SourceConfig) -> Self {
        let endless = match config.uri {
            SourceUri::V4l(_) | SourceUri::Contribution(_) | SourceUri::Demo { .. } => true,
            // A clip on a web server is a stream with an end; `repeat` asks for it again.
            SourceUri::Stream(_) => !config.repeat,
            // A live pipeline reports its end as a failure itself.
            SourceUri::File(_) | SourceUri::Pipeline(_) => false,
        };
        let default = Self::default();
        // A folder of pictures is read at the rate that is wanted.
        let own = Duration::from_secs_f64(3.0 / config.fps);
        let silence = default.silence.max(own).max(config.stall_timeout.unwrap_or_default());
        Self { repeat: config.repeat, endless, silence, ..default }
    }

    /// The pause after the `attempt`th failure in a row (from 1): between half and all of the
    /// exponential backoff, by `random` in 0..=1, so that cameras behind one switch do not
    /// reconnect in step.
    fn pause(&self, attempt: u32, random: f64) -> Duration {
        let doubled = self.first.saturating_mul(1u32.checked_shl(attempt - 1).unwrap_or(u32::MAX));
        doubled.min(self.cap).mul_f64(0.5 + 0.5 * random)
    }
}

/// Runs `source` on its own thread until `stop` is given, or until its stream is over and `policy`
/// neither repeats it nor calls it endless.
///
/// # Errors
/// When the OS cannot start a thread.
pub fn spawn(
    source: Box<dyn Source>,
    sink: Arc<dyn FrameSink>,
    board: Board,
    clock: SharedClock,
    stop: Stop,
    policy: Policy,
) -> std::io::Result<JoinHandle<()>> {
    let id = sink.source();
    // The kernel keeps 15 bytes of a thread's name.
    let name = format!("src {id}");
    let times = Mutex::default();
    let beat = board.progress().stage(&*name, &clock);
    let supervisor =
        Supervisor { id, sink, board, clock, beat, stop, policy, times, random: RandomState::new() };
    std::thread::Builder::new().name(name).spawn(move || supervisor.run(source))
}

/// Opening takes at most so much longer than a source may be silent: names are looked up, logins tried, old elements
/// taken down.
const OPENING: Duration = Duration::from_secs(60);

struct Supervisor {
    id: Arc<str>,
    sink: Arc<dyn FrameSink>,
    board: Board,
    clock: SharedClock,
    beat: Beat,
    stop: Stop,
    policy: Policy,
    /// Lives as long as the source is watched, so that times rise across reconnects.
    times: Mutex<Timeline>,
    random: RandomState,
}

impl Supervisor {
    fn run(&self, mut source: Box<dyn Source>) {
        let _about = crate::about::source(&self.id);
        let what = source.describe();
        let mut failures = Failures::default();
        let mut first = true;
        while !self.stop.is_set() {
            self.board.update(&self.id, |s| {
                s.state = SourceState::Starting;
                s.reconnects += u64::from(!first);
            });
            first = false;
            let begun = self.clock.now();
            let watch = Watch { sup: self, what: &what, seen: Mutex::default() };
            self.beat.within(self.policy.silence + OPENING);
            let result = catch_unwind(AssertUnwindSafe(|| source.run_once(&watch, &self.stop)));
            self.beat.rest();
            let seen = watch.seen.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
            if seen.first.zip(seen.last).is_some_and(|(first, last)| last - first >= self.policy.steady) {
                failures = Failures::default();
            }
            let error = match result {
                Ok(Ok(Ended::Stopped)) => break,
                Ok(Ok(Ended::EndOfStream)) if !self.policy.endless && !self.policy.repeat => break,
                Ok(Ok(Ended::Picture)) if !self.policy.repeat => {
                    let again = "with repeat = true it is asked for again, at the source's rate";
                    log::info!("source {}: {what} is a still picture; {again}", self.id);
                    break;
                }
                Ok(Ok(end)) if end == Ended::Picture || !self.policy.endless && seen.first.is_some() => {
                    log::debug!("source {}: {what} is at its end and begins again", self.id);
                    failures = Failures::default();
                    // A run that is over at once must not spin.
                    let ran = self.clock.now().saturating_sub(begun);
                    if ran < self.policy.first && !self.stop.wait(&*self.clock, self.policy.first - ran) {
                        break;
                    }
                    continue;
                }
                // Without this, repeating an empty file would spin.
                Ok(Ok(_)) if !self.policy.endless => {
                    SourceError::Retry(format!("{what} ended without a single frame"))
                }
                Ok(Ok(_)) => SourceError::Retry(format!("{what} was ended by its sender")),
                Ok(Err(error)) => error,
                Err(panic) => SourceError::Retry(format!("{what}: internal error: {}", panic_text(&*panic))),
            };
            if !self.pause(&what, error, &mut failures) {
                break;
            }
        }
        log::info!("source {}: {what} ended", self.id);
        self.board.update(&self.id, |s| s.state = SourceState::Ended);
    }

    /// Reports what failed and when it is tried again, and waits until then. False when stopped.
    fn pause(&self, what: &str, error: SourceError, failures: &mut Failures) -> bool {
        let attempt = failures.count(&error.to_string());
        let (pause, state, why) = match error {
            SourceError::Configuration(why) => {
                (self.policy.configuration, SourceState::Failed { why: why.clone() }, why)
            }
            SourceError::Retry(why) => {
                let random = (self.random.hash_one(attempt) >> 11) as f64 / (1u64 << 53) as f64;
                let pause = self.policy.pause(attempt, random);
                let at = self.clock.wall() + pause;
                (pause, SourceState::Retrying { why: why.clone(), attempt, at }, why)
            }
        };
        // A camera that is away for weeks must not fill the journal: only the 1st, 2nd, 4th, 8th
        // ... failure is a warning.
        let level = if failures.same.is_power_of_two() { log::Level::Warn } else { log::Level::Debug };
        let seconds = pause.as_secs_f64();
        log::log!(
            level,
            "source {}: {why} [{what}; failure {attempt}, tried again in {seconds:.1} s]",
            self.id
        );
        self.board.update(&self.id, |s| s.state = state);
        self.stop.wait(&*self.clock, pause)
    }
}

/// Failures in a row.
#[derive(Default)]
struct Failures {
    all: u32,
    same: u32,
    last: String,
}

impl Failures {
    /// Counts one more and returns how many there were in a row.
    fn count(&mut self, why: &str) -> u32 {
        self.all = self.all.saturating_add(1);
        if self.last != why {
            why.clone_into(&mut self.last);
            self.same = 0;
        }
        self.same = self.same.saturating_add(1);
        self.all
    }
}

/// First and last sign of life of a run.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    first: Option<Moment>,
    last: Option<Moment>,
    stalled: bool,
}

/// Sits between a source and its sink and sees whether frames come.
struct Watch<'a> {
    sup: &'a Supervisor,
    what: &'a str,
    seen: Mutex<Seen>,
}

impl Watch<'_> {
    fn alive(&self) {
        let now = self.sup.clock.now();
        self.sup.beat.within(self.sup.policy.silence);
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if seen.first.is_none() || seen.stalled {
            let again = if seen.stalled { " again" } else { "" };
            log::info!("source {}: {} delivers{again}", self.sup.id, self.what);
            self.sup.board.update(&self.sup.id, |s| s.state = SourceState::Live);
        }
        seen.first.get_or_insert(now);
        seen.last = Some(now);
        seen.stalled = false;
    }
}

impl FrameSink for Watch<'_> {
    fn source(&self) -> Arc<str> {
        self.sup.sink.source()
    }

    fn wants_frame(&self) -> bool {
        self.alive();
        self.sup.sink.wants_frame()
    }

    fn offer(&self, mut captured: Captured) {
        self.alive();
        let late = self.sup.clock.wall().duration_since(captured.at).unwrap_or_default();
        self.sup.board.stages().observe(Stage::Arrival, late);
        let mut times = self.sup.times.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        captured.at = times.place(captured.at, &*self.sup.clock);
        drop(times);
        self.sup.sink.offer(captured);
    }

    fn lost(&self, reason: &'static str) {
        self.sup.sink.lost(reason);
    }

    fn stalled(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if seen.first.is_some() && !seen.stalled {
            seen.stalled = true;
            self.sup.board.update(&self.sup.id, |s| s.state = SourceState::Stalled);
        }
        self.sup.sink.stalled();
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a text")
}

#[cfg(test)]
mod tests;
