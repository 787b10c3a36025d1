//! When a frame was captured, by the wall clock, from the timestamps that its stream carries.
//!
//! A frame arrives late by what network, jitter buffer and decoder took, which varies from frame to
//! frame; the stream's own timestamps do not vary. So the stream's clock is aligned with ours at
//! the frame that came through fastest so far, and every frame's time is derived from there.

use std::time::{Duration, SystemTime};

use crate::clock::{Clock, Moment};

/// Stream timestamps that differ from the arrivals by more than this are no longer trusted.
const LEAP: Duration = Duration::from_secs(5);

/// Maps one run's stream timestamps to the wall clock.
#[derive(Debug, Default)]
pub struct Stamper {
    /// Our monotonic time minus the stream's, in nanoseconds, at the fastest frame so far.
    offset: Option<i128>,
}

impl Stamper {
    /// When a frame with the timestamp `stream` that arrives now was captured. Never in the future;
    /// frames of one run keep their order as long as the wall clock does not step.
    pub fn stamp(&mut self, stream: Option<Duration>, clock: &dyn Clock) -> SystemTime {
        let (now, wall) = (clock.now(), clock.wall());
        wall.checked_sub(self.age(stream, now)).unwrap_or(wall)
    }

    /// How long ago the frame was captured.
    fn age(&mut self, stream: Option<Duration>, now: Moment) -> Duration {
        let Some(stream) = stream else { return Duration::ZERO };
        let signed = |d: Duration| i128::try_from(d.as_nanos()).unwrap_or(i128::MAX);
        let measured = signed(now) - signed(stream);
        let late = self.offset.map_or(0, |offset| measured - offset);
        if late <= 0 || late > signed(LEAP) {
            // Faster than any before, or the stream's clock has leapt: align again.
            self.offset = Some(measured);
            return Duration::ZERO;
        }
        Duration::from_nanos(u64::try_from(late).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn jitter_is_taken_out() {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
        let mut stamper = Stamper::default();
        let mut last = 0;
        // Frames of 40 ms steps that arrive up to 30 ms late.
        for (n, late) in [0u64, 30, 5, 22, 0, 17].into_iter().enumerate() {
            let due = 40 * n as u64 + late;
            clock.advance(MS(due - last));
            last = due;
            let captured = stamper.stamp(Some(MS(1_000_000 + 40 * n as u64)), &clock);
            assert_eq!(captured, SystemTime::UNIX_EPOCH + MS(40 * n as u64));
        }
    }

    #[test]
    fn a_faster_frame_moves_the_anchor_and_nothing_lies_in_the_future() {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
        let mut stamper = Stamper::default();
        stamper.stamp(Some(MS(0)), &clock);
        clock.advance(MS(20));
        assert_eq!(stamper.stamp(Some(MS(40)), &clock), clock.wall());
        clock.advance(MS(60));
        assert_eq!(stamper.stamp(Some(MS(80)), &clock), clock.wall() - MS(20));
    }

    #[test]
    fn a_leap_of_the_stream_or_no_time_at_all_is_the_arrival() {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH + MS(1_000_000));
        let mut stamper = Stamper::default();
        stamper.stamp(Some(MS(90_000)), &clock);
        clock.advance(MS(40));
        assert_eq!(stamper.stamp(Some(MS(0)), &clock), clock.wall());
        clock.advance(MS(50));
        assert_eq!(stamper.stamp(Some(MS(40)), &clock), clock.wall() - MS(10));
        assert_eq!(stamper.stamp(None, &clock), clock.wall());
    }

    #[test]
    fn a_step_of_the_wall_clock_is_followed() {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH + MS(5_000));
        let mut stamper = Stamper::default();
        stamper.stamp(Some(MS(0)), &clock);
        clock.advance(MS(50));
        clock.set_wall(SystemTime::UNIX_EPOCH + MS(2_000));
        assert_eq!(stamper.stamp(Some(MS(40)), &clock), SystemTime::UNIX_EPOCH + MS(1_990));
    }
}
