//! Sources that follow a script, under their supervisor, by a clock that a test moves.

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
    /// Put the wall clock back by seconds.
    Back(u64),
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
                    sink.offer(Captured::rgb(self.clock.wall(), image));
                }
                Step::Pass(seconds) => self.clock.advance(Duration::from_secs(seconds)),
                Step::Back(seconds) => {
                    self.clock.set_wall(self.clock.wall() - Duration::from_secs(seconds));
                }
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

/// A sink that wants everything and keeps the times alone.
struct Times(Mutex<Vec<SystemTime>>);

impl FrameSink for Times {
    fn source(&self) -> Arc<str> {
        "cam".into()
    }
    fn wants_frame(&self) -> bool {
        true
    }
    fn offer(&self, captured: Captured) {
        self.0.lock().expect("lock").push(captured.at);
    }
    fn lost(&self, _: &'static str) {}
}

struct Rig {
    clock: ManualClock,
    board: Board,
    begun: Receiver<Moment>,
    stop: StopHandle,
    thread: JoinHandle<()>,
    sink: Arc<Times>,
}

fn rig(policy: Policy, runs: Vec<Vec<Step>>) -> Rig {
    let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
    let board = Board::new(["cam".into()]);
    let (tx, begun) = unbounded();
    let (handle, stop) = stop_signal();
    let sink = Arc::new(Times(Mutex::default()));
    let source = Scripted { runs: runs.into(), clock: clock.clone(), begun: tx };
    let thread = spawn(Box::new(source), sink.clone(), board.clone(), Arc::new(clock.clone()), stop, policy)
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
    assert_eq!(rig.sink.0.lock().expect("lock").len(), 1);
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

#[test]
fn times_rise_across_reconnects_although_the_clock_is_put_back() {
    let gone = || Step::End(Err(SourceError::Retry("gone".into())));
    let runs = vec![
        vec![Step::Frame, Step::Pass(1), Step::Frame, Step::Back(100), gone()],
        vec![Step::Frame, Step::Pass(2), Step::Frame, Step::Back(100), Step::Frame, gone()],
        vec![Step::Pass(1), Step::Frame, Step::Pass(1000), Step::Frame, Step::Hold],
    ];
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let rig = rig(Policy::default(), runs);
    rig.clock.set_wall(start);
    for _ in 0..2 {
        rig.begun.recv().expect("begins");
        rig.paused();
        rig.clock.advance(Duration::from_secs(30));
    }
    rig.begun.recv().expect("begins");
    while rig.sink.0.lock().expect("lock").len() < 7 {
        std::thread::yield_now();
    }
    let times = rig.sink.0.lock().expect("lock").clone();
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
    assert_eq!(times.last(), Some(&rig.clock.wall()), "caught up");
    rig.end();
}
