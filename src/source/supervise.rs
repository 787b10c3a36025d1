//! The one owner of retrying: a thread a source that runs it, again and again, until the daemon ends.
//!
//! A source only knows how to run once. Whatever ends a run, an error, a panic, the end of a stream that
//! has no end, this decides whether and when it runs again, and says so on the board.

use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Ended, FrameSink, Source, SourceError};
use crate::clock::{Moment, SharedClock, Stop};
use crate::config::{SourceConfig, SourceUri};
use crate::frame::Frame;
use crate::health::{Board, SourceState};

/// When a source is run again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Pause after the first failure; it doubles with every further one.
    pub first: Duration,
    /// Longest pause.
    pub cap: Duration,
    /// Pause after a failure that a person has to mend.
    pub configuration: Duration,
    /// A source that delivered frames for this long has recovered: its next failure counts as the first.
    pub steady: Duration,
    /// Run again at the end of the stream.
    pub repeat: bool,
    /// The stream has no end of its own (a camera, a live stream), so its end is a failure.
    pub endless: bool,
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
        }
    }
}

impl Policy {
    /// The usual pauses, and what the source's kind says about its end.
    pub fn of(config: &SourceConfig) -> Self {
        let endless = match config.uri {
            SourceUri::V4l(_) | SourceUri::Demo { .. } => true,
            // A clip on a web server is a stream with an end: who wants it again says so.
            SourceUri::Stream(_) => !config.repeat,
            // A live pipeline makes a failure of its end by itself.
            SourceUri::File(_) | SourceUri::Pipeline(_) => false,
        };
        Self { repeat: config.repeat, endless, ..Self::default() }
    }

    /// The pause after the `attempt`th failure in a row (from 1), between half and all of the doubled
    /// first pause, by `random` in 0..=1, so that cameras behind one switch do not come back in step.
    fn pause(&self, attempt: u32, random: f64) -> Duration {
        let doubled = self.first.saturating_mul(1u32.checked_shl(attempt - 1).unwrap_or(u32::MAX));
        doubled.min(self.cap).mul_f64(0.5 + 0.5 * random)
    }
}

/// Runs `source` on a thread of its own until `stop` is given, or until its stream is over and `policy`
/// neither repeats it nor calls it endless.
///
/// # Errors
/// When the machine cannot start another thread.
pub fn spawn(
    source: Box<dyn Source>,
    sink: Arc<dyn FrameSink>,
    board: Board,
    clock: SharedClock,
    stop: Stop,
    policy: Policy,
) -> std::io::Result<JoinHandle<()>> {
    let id = sink.source();
    // The kernel shows 15 bytes of a thread's name.
    let name = format!("src {id}");
    let supervisor = Supervisor { id, sink, board, clock, stop, policy, random: RandomState::new() };
    std::thread::Builder::new().name(name).spawn(move || supervisor.run(source))
}

struct Supervisor {
    id: Arc<str>,
    sink: Arc<dyn FrameSink>,
    board: Board,
    clock: SharedClock,
    stop: Stop,
    policy: Policy,
    random: RandomState,
}

impl Supervisor {
    fn run(&self, mut source: Box<dyn Source>) {
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
            let result = catch_unwind(AssertUnwindSafe(|| source.run_once(&watch, &self.stop)));
            let seen = watch.seen.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
            if seen.first.zip(seen.last).is_some_and(|(first, last)| last - first >= self.policy.steady) {
                failures = Failures::default();
            }
            let error = match result {
                Ok(Ok(Ended::Stopped)) => break,
                Ok(Ok(Ended::EndOfStream)) if !self.policy.endless && !self.policy.repeat => break,
                Ok(Ok(Ended::EndOfStream)) if !self.policy.endless && seen.first.is_some() => {
                    log::debug!("source {}: {what} is at its end and begins again", self.id);
                    failures = Failures::default();
                    // One that is over at once must not spin.
                    let ran = self.clock.now().saturating_sub(begun);
                    if ran < self.policy.first && !self.stop.wait(&*self.clock, self.policy.first - ran) {
                        break;
                    }
                    continue;
                }
                // Without this, repeating an empty file would spin.
                Ok(Ok(Ended::EndOfStream)) if !self.policy.endless => {
                    SourceError::Retry(format!("{what} ended without a single frame"))
                }
                Ok(Ok(Ended::EndOfStream)) => SourceError::Retry(format!("{what} was ended by its sender")),
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

    /// Says what failed and when it will be tried again, and waits for that. False when told to stop.
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
        // A camera that is away for weeks must not fill the journal: the 1st, 2nd, 4th, 8th ... time.
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
    /// Counts one more; returns how many there were in a row.
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

/// Stands between a source and its sink, and sees whether frames come.
struct Watch<'a> {
    sup: &'a Supervisor,
    what: &'a str,
    seen: Mutex<Seen>,
}

impl Watch<'_> {
    fn alive(&self) {
        let now = self.sup.clock.now();
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

    fn offer(&self, frame: Frame) {
        self.alive();
        self.sup.sink.offer(frame);
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
mod tests {
    use std::collections::VecDeque;
    use std::time::SystemTime;

    use crossbeam_channel::{Receiver, Sender, unbounded};
    use image::RgbImage;

    use super::*;
    use crate::clock::{Clock, ManualClock, StopHandle, stop_signal};

    /// What a scripted run does.
    enum Step {
        /// Deliver a frame.
        Frame,
        /// Let this much time pass.
        Pass(u64),
        /// Say that nothing came for long.
        Stall,
        /// End as told.
        End(Result<Ended, SourceError>),
        Panic,
        /// Wait for the stop signal.
        Hold,
    }

    struct Scripted {
        runs: VecDeque<Vec<Step>>,
        clock: ManualClock,
        /// Tells the test that a run has begun, and the state at every step.
        begun: Sender<Moment>,
    }

    impl Source for Scripted {
        fn run_once(&mut self, sink: &dyn FrameSink, stop: &Stop) -> Result<Ended, SourceError> {
            self.begun.send(self.clock.now()).expect("the test listens");
            for step in self.runs.pop_front().unwrap_or_else(|| vec![Step::Hold]) {
                match step {
                    Step::Frame => {
                        let image = RgbImage::new(1, 1);
                        sink.offer(Frame::from_rgb(
                            sink.source(),
                            0,
                            self.clock.wall(),
                            Duration::ZERO,
                            image,
                        ));
                    }
                    Step::Pass(seconds) => self.clock.advance(Duration::from_secs(seconds)),
                    Step::Stall => sink.stalled(),
                    Step::End(result) => return result,
                    Step::Panic => panic!("scripted"),
                    Step::Hold => {
                        let _ = stop.channel().recv();
                        return Ok(Ended::Stopped);
                    }
                }
            }
            unreachable!("a script ends with an end")
        }

        fn describe(&self) -> String {
            "script".into()
        }
    }

    /// A sink that wants everything and keeps nothing.
    struct Count(Mutex<u64>);

    impl FrameSink for Count {
        fn source(&self) -> Arc<str> {
            "cam".into()
        }
        fn wants_frame(&self) -> bool {
            true
        }
        fn offer(&self, _: Frame) {
            *self.0.lock().expect("lock") += 1;
        }
        fn lost(&self, _: &'static str) {}
    }

    struct Rig {
        clock: ManualClock,
        board: Board,
        begun: Receiver<Moment>,
        stop: StopHandle,
        thread: JoinHandle<()>,
        sink: Arc<Count>,
    }

    fn rig(policy: Policy, runs: Vec<Vec<Step>>) -> Rig {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
        let board = Board::new(["cam".into()]);
        let (tx, begun) = unbounded();
        let (handle, stop) = stop_signal();
        let sink = Arc::new(Count(Mutex::new(0)));
        let source = Scripted { runs: runs.into(), clock: clock.clone(), begun: tx };
        let thread =
            spawn(Box::new(source), sink.clone(), board.clone(), Arc::new(clock.clone()), stop, policy)
                .expect("thread");
        Rig { clock, board, begun, stop: handle, thread, sink }
    }

    impl Rig {
        /// Waits until the supervisor is in its pause and returns the state that it shows meanwhile.
        fn paused(&self) -> SourceState {
            while self.clock.waiting() == 0 {
                std::thread::yield_now();
            }
            self.state()
        }

        fn state(&self) -> SourceState {
            self.board.snapshot()[0].1.state.clone()
        }

        fn end(self) {
            self.stop.stop();
            self.thread.join().expect("no panic");
            assert_eq!(self.board.snapshot()[0].1.state, SourceState::Ended);
        }
    }

    fn refused() -> Vec<Step> {
        vec![Step::End(Err(SourceError::Retry("refused".into())))]
    }

    #[test]
    fn pauses_double_up_to_the_cap_and_are_spread() {
        let policy = Policy::default();
        let full: Vec<u64> = (1..=9).map(|n| policy.pause(n, 1.0).as_millis() as u64).collect();
        assert_eq!(full, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        assert_eq!(policy.pause(1, 0.0), Duration::from_millis(250));
        assert_eq!(policy.pause(u32::MAX, 1.0), policy.cap);
    }

    #[test]
    fn a_failing_source_is_tried_again_after_its_pause_and_not_before() {
        let rig = rig(Policy::default(), vec![refused(), refused(), refused()]);
        for attempt in 1..=3 {
            let begun = rig.begun.recv().expect("begins");
            let SourceState::Retrying { why, attempt: shown, at } = rig.paused() else {
                panic!("{:?}", rig.state())
            };
            assert_eq!((why.as_str(), shown), ("refused", attempt));
            let pause = at.duration_since(SystemTime::UNIX_EPOCH).expect("later") - begun;
            let full = Duration::from_millis(500) * 2u32.pow(attempt - 1);
            assert!(pause >= full / 2 && pause <= full, "{pause:?}");
            rig.clock.advance(pause - Duration::from_nanos(1));
            assert!(rig.begun.try_recv().is_err(), "too early");
            rig.clock.advance(Duration::from_nanos(1));
        }
        rig.begun.recv().expect("the fourth run");
        assert_eq!(rig.board.snapshot()[0].1.reconnects, 3);
        rig.end();
    }

    #[test]
    fn a_mistake_in_the_configuration_is_tried_slowly_and_named() {
        let bad = || vec![Step::End(Err(SourceError::Configuration("no such element".into())))];
        let rig = rig(Policy::default(), vec![bad()]);
        rig.begun.recv().expect("begins");
        assert_eq!(rig.paused(), SourceState::Failed { why: "no such element".into() });
        rig.clock.advance(Duration::from_secs(59));
        assert!(rig.begun.try_recv().is_err());
        rig.clock.advance(Duration::from_secs(1));
        rig.begun.recv().expect("tried again");
        rig.end();
    }

    #[test]
    fn a_source_that_was_live_for_long_starts_counting_anew() {
        let drop_after = |seconds| {
            let error = SourceError::Retry("gone".into());
            vec![Step::Frame, Step::Pass(seconds), Step::Frame, Step::End(Err(error))]
        };
        let rig = rig(Policy::default(), vec![refused(), drop_after(5), drop_after(31)]);
        for want in [1, 2, 1] {
            rig.begun.recv().expect("begins");
            let SourceState::Retrying { attempt, .. } = rig.paused() else { panic!("{:?}", rig.state()) };
            assert_eq!(attempt, want);
            rig.clock.advance(Duration::from_secs(30));
        }
        rig.begun.recv().expect("begins");
        rig.end();
    }

    #[test]
    fn a_panic_is_a_failure_like_others() {
        let rig = rig(Policy::default(), vec![vec![Step::Frame, Step::Panic]]);
        rig.begun.recv().expect("begins");
        let SourceState::Retrying { why, .. } = rig.paused() else { panic!("{:?}", rig.state()) };
        assert!(why.contains("scripted"), "{why}");
        rig.clock.advance(Duration::from_secs(1));
        rig.begun.recv().expect("tried again");
        assert_eq!(*rig.sink.0.lock().expect("lock"), 1);
        rig.end();
    }

    #[test]
    fn a_file_ends_repeats_or_fails_as_told() {
        let played = || vec![Step::Frame, Step::Pass(1), Step::Frame, Step::End(Ok(Ended::EndOfStream))];
        let file = Policy { endless: false, ..Policy::default() };

        let once = rig(file.clone(), vec![played()]);
        once.begun.recv().expect("begins");
        once.thread.join().expect("ends by itself");
        assert_eq!(once.board.snapshot()[0].1.state, SourceState::Ended);

        let again = rig(Policy { repeat: true, ..file.clone() }, vec![played(), played()]);
        for seconds in 0..3 {
            assert_eq!(again.begun.recv().expect("at once"), Duration::from_secs(seconds));
        }
        again.end();

        let empty = rig(Policy { repeat: true, ..file }, vec![vec![Step::End(Ok(Ended::EndOfStream))]]);
        empty.begun.recv().expect("begins");
        let SourceState::Retrying { why, .. } = empty.paused() else { panic!("{:?}", empty.state()) };
        assert!(why.contains("without a single frame"), "{why}");
        empty.end();
    }

    #[test]
    fn the_end_of_a_live_stream_is_a_failure() {
        let rig = rig(Policy::default(), vec![vec![Step::Frame, Step::End(Ok(Ended::EndOfStream))]]);
        rig.begun.recv().expect("begins");
        assert!(matches!(rig.paused(), SourceState::Retrying { .. }));
        rig.end();
    }

    #[test]
    fn live_and_stalled_are_shown() {
        let rig = rig(Policy::default(), vec![vec![Step::Frame, Step::Stall, Step::Hold]]);
        rig.begun.recv().expect("begins");
        while rig.state() != SourceState::Stalled {
            std::thread::yield_now();
        }
        rig.end();

        let rig2 = self::rig(Policy::default(), vec![vec![Step::Stall, Step::Frame, Step::Hold]]);
        rig2.begun.recv().expect("begins");
        while rig2.state() != SourceState::Live {
            std::thread::yield_now();
        }
        rig2.end();
    }
}
