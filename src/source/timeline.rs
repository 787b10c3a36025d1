//! The wall-clock times of one source's frames, across reconnects and steps of the box's clock.
//!
//! Frames are placed by the monotonic clock, which never steps, plus an offset to the wall clock.
//! When the wall clock steps, the offset follows, but the times that are given out keep rising:
//!
//! - forward (a box without a battery-backed clock that learns the time): followed at once;
//! - back by less than `WRONG`: the times run at half speed until the wall clock has caught up;
//! - back by more: the clock was simply wrong, and so were the times. They go back, once, with a
//!   warning: records that lie in the future for days would be worse.

use std::time::{Duration, SystemTime};

use crate::clock::{Clock, Moment};

/// Smaller differences come from reading the two clocks one after the other.
const TOLERANCE: i128 = 20_000_000;
/// A clock that is set back by more than this was simply wrong.
const WRONG: i128 = 600_000_000_000;

/// Places the frames of one source on the wall clock.
#[derive(Debug, Default)]
pub struct Timeline {
    state: Option<State>,
}

/// All in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct State {
    /// Wall clock minus monotonic clock, as used.
    offset: i128,
    /// Monotonic time at which the offset was last examined.
    seen: i128,
    /// The last time given out.
    last: i128,
}

impl Timeline {
    /// The time of a frame captured at `captured` by the current wall clock. Later than every time
    /// given out before, unless the wall clock was set back by more than ten minutes.
    pub fn place(&mut self, captured: SystemTime, clock: &dyn Clock) -> SystemTime {
        let (now, wall) = (nanos(clock.now()), since_epoch(clock.wall()));
        let age = (wall - since_epoch(captured)).max(0);
        let target = wall - now;
        let state = self.state.get_or_insert(State { offset: target, seen: now, last: i128::MIN });
        let step = target - state.offset;
        if step < -WRONG {
            log::warn!(
                "the clock was set back by {} s; times of frames go back with it",
                -step / 1_000_000_000
            );
            *state = State { offset: target, seen: now, last: i128::MIN };
        } else if step > TOLERANCE {
            state.offset = target;
        } else if step < -TOLERANCE {
            state.offset -= (-step).min((now - state.seen).max(0) / 2);
        }
        state.seen = now;
        state.last = (now - age + state.offset).max(state.last.saturating_add(1));
        from_epoch(state.last)
    }
}

fn nanos(moment: Moment) -> i128 {
    i128::try_from(moment.as_nanos()).unwrap_or(i128::MAX)
}

fn since_epoch(time: SystemTime) -> i128 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => nanos(after),
        Err(before) => -nanos(before.duration()),
    }
}

fn from_epoch(at: i128) -> SystemTime {
    let size = u64::try_from(at.unsigned_abs() / 1_000_000_000).unwrap_or(u64::MAX);
    let size = Duration::new(size, (at.unsigned_abs() % 1_000_000_000) as u32);
    let epoch = SystemTime::UNIX_EPOCH;
    if at < 0 { epoch.checked_sub(size) } else { epoch.checked_add(size) }.unwrap_or(epoch)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::ManualClock;
    use crate::source::stamp::Stamper;

    const MS: fn(u64) -> Duration = Duration::from_millis;
    const START: Duration = Duration::from_secs(1_700_000_000);

    fn clock() -> ManualClock {
        ManualClock::new(SystemTime::UNIX_EPOCH + START)
    }

    fn step(clock: &ManualClock, millis: i64) {
        let size = MS(millis.unsigned_abs());
        clock.set_wall(if millis < 0 { clock.wall() - size } else { clock.wall() + size });
    }

    #[test]
    fn a_steady_clock_leaves_times_as_they_are() {
        let (clock, mut line) = (clock(), Timeline::default());
        for age in [30, 0, 12] {
            clock.advance(MS(40));
            let captured = clock.wall() - MS(age);
            assert_eq!(line.place(captured, &clock), captured);
        }
    }

    #[test]
    fn a_step_forward_is_followed_at_once() {
        let (clock, mut line) = (ManualClock::new(SystemTime::UNIX_EPOCH), Timeline::default());
        line.place(clock.wall(), &clock);
        clock.set_wall(SystemTime::UNIX_EPOCH + START);
        clock.advance(MS(40));
        assert_eq!(line.place(clock.wall(), &clock), clock.wall());
    }

    #[test]
    fn a_step_back_is_caught_up_at_half_speed() {
        let (clock, mut line) = (clock(), Timeline::default());
        let before = line.place(clock.wall(), &clock);
        step(&clock, -10_000);
        clock.advance(MS(4_000));
        assert_eq!(line.place(clock.wall(), &clock), before + MS(2_000));
        clock.advance(MS(16_000));
        assert_eq!(line.place(clock.wall(), &clock), clock.wall());
    }

    #[test]
    fn a_clock_that_was_wrong_by_days_is_corrected() {
        let (clock, mut line) = (clock(), Timeline::default());
        line.place(clock.wall(), &clock);
        step(&clock, -86_400_000);
        clock.advance(MS(40));
        assert_eq!(line.place(clock.wall(), &clock), clock.wall());
    }

    #[test]
    fn times_before_the_epoch_are_times_too() {
        for at in [-1_500_000_001i128, -1, 0, 1, 1_500_000_001] {
            assert_eq!(since_epoch(from_epoch(at)), at);
        }
    }

    /// What can happen between two frames.
    #[derive(Debug, Clone)]
    enum Happens {
        /// The next frame comes this much later, and late by that much.
        Frame(u64, u64),
        /// The connection is made anew; the stream's own clock starts anywhere.
        Reconnect(u64),
        /// The wall clock steps by milliseconds.
        Step(i64),
    }

    fn happenings() -> impl Strategy<Value = Vec<Happens>> {
        let one = prop_oneof![
            8 => (0u64..200, 0u64..2_000).prop_map(|(gap, late)| Happens::Frame(gap, late)),
            1 => (0u64..100_000).prop_map(Happens::Reconnect),
            1 => (-40_000i64..40_000).prop_map(Happens::Step),
        ];
        prop::collection::vec(one, 1..200)
    }

    proptest! {
        /// Whatever reconnects and steps there are (less than ten minutes back in total): times
        /// rise from frame to frame, and they are right again after twice the time that the steps
        /// went back in total.
        #[test]
        fn times_rise_and_come_right_again(happenings in happenings()) {
            let (clock, mut line, mut stamper) = (clock(), Timeline::default(), Stamper::default());
            // The stream's clock minus ours, and when the sender made the last frame.
            let (mut ahead, mut sent, mut last) = (MS(0), MS(0), None);
            let mut back = 0;
            let mut take = |line: &mut Timeline, stamper: &mut Stamper, stream, clock: &ManualClock| {
                let at = line.place(stamper.stamp(Some(stream), clock), clock);
                let rises = last.is_none_or(|last| at > last);
                last = Some(at);
                rises
            };
            for happens in happenings {
                match happens {
                    Happens::Frame(gap, late) => {
                        sent += MS(gap);
                        // It arrives late, but not before the one in front of it.
                        let due = sent + MS(late);
                        clock.advance(due.saturating_sub(clock.now()));
                        prop_assert!(take(&mut line, &mut stamper, ahead + sent, &clock));
                    }
                    Happens::Reconnect(start) => {
                        (ahead, stamper) = (MS(start), Stamper::default());
                        sent = clock.now();
                    }
                    Happens::Step(by) => {
                        back += (-by).max(0);
                        prop_assume!(back < 590_000);
                        step(&clock, by);
                    }
                }
            }
            for _ in 0..700 {
                clock.advance(MS(2_000));
                prop_assert!(take(&mut line, &mut stamper, ahead + clock.now(), &clock));
            }
            clock.advance(MS(40));
            let at = line.place(clock.wall(), &clock);
            let off = at.duration_since(clock.wall()).unwrap_or_else(|e| e.duration());
            prop_assert!(off <= MS(20), "{:?}", off);
        }
    }
}
