//! How far a stream is behind where it comes to the decoder, so that what waits there stays bounded.
//!
//! GStreamer's jitter buffer keeps whatever the decoder has not taken yet, and has no bound. Where decoding takes longer than
//! the stream lasts, it would grow for as long as the daemon runs, and what is judged would be minutes old.

use std::time::Duration;

use ::gstreamer as gst;
use gst::prelude::*;

use crate::clock::Moment;

/// A stream that is behind by more than this is not decoded,
const MOST: Duration = Duration::from_secs(2);
/// until a key frame is behind by less than this.
const AGAIN: Duration = Duration::from_millis(500);
/// A thousandth of what a stream seems to fall behind is its sender's clock.
const DRIFT: i128 = 1000;

/// Watches one stream.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Nanoseconds by which the fastest frame was later than its time says, and when that was last looked at.
    fastest: Option<(i128, Moment)>,
    /// Since when all is skipped.
    since: Option<Moment>,
}

impl Backlog {
    /// Whether a frame on its way to a decoder is skipped.
    pub fn skips(&mut self, pad: &gst::Pad, frame: &gst::BufferRef, key: bool) -> bool {
        match times(pad, frame) {
            Some((now, due)) => self.skips_at(now, due, key),
            // Without a clock, as before it plays, or without times nothing is known.
            None => {
                self.since = self.since.filter(|_| !key);
                self.since.is_some()
            }
        }
    }

    fn skips_at(&mut self, now: Moment, due: Moment, key: bool) -> bool {
        let nanos = |time: Duration| i128::try_from(time.as_nanos()).unwrap_or(i128::MAX);
        let late = nanos(now) - nanos(due);
        let (fastest, before) = self.fastest.unwrap_or((late, now));
        let fastest = late.min(fastest + nanos(now.saturating_sub(before)) / DRIFT);
        self.fastest = Some((fastest, now));
        let behind = late - fastest;
        let Some(since) = self.since else {
            self.since = (behind > nanos(MOST)).then_some(now);
            return self.since.is_some();
        };
        // What waited has passed by at once, since nothing was decoded. What is late even so has another clock now.
        let leapt = now.saturating_sub(since) > MOST;
        if key && (leapt || behind <= nanos(AGAIN)) {
            self.since = None;
            if leapt {
                self.fastest = Some((late, now));
            }
        }
        self.since.is_some()
    }
}

/// The time by the pipeline's clock, and when the frame is due by it.
fn times(pad: &gst::Pad, frame: &gst::BufferRef) -> Option<(Moment, Moment)> {
    let now = pad.parent_element()?.current_running_time()?;
    let event = pad.sticky_event::<gst::event::Segment>(0)?;
    let segment = event.segment().downcast_ref::<gst::ClockTime>()?;
    let due = segment.to_running_time(frame.pts().or(frame.dts())?)?;
    Some((now.into(), due.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// A stream of 25 frames a second and a key frame a second; `costs` says how long the decoder takes for a frame.
    /// Returns, per frame, whether it was skipped and how late it came to the decoder.
    fn play(
        backlog: &mut Backlog,
        frames: std::ops::Range<u64>,
        costs: impl Fn(u64) -> u64,
    ) -> Vec<(bool, u64)> {
        let mut free = 0;
        let mut seen = Vec::new();
        for n in frames {
            // The jitter buffer hands it over 200 ms after its time.
            let due = 40 * n;
            let now = (due + 200).max(free);
            let skipped = backlog.skips_at(MS(now), MS(due), n % 25 == 0);
            free = now + if skipped { 0 } else { costs(n) };
            seen.push((skipped, now - due));
        }
        seen
    }

    #[test]
    fn a_decoder_that_keeps_up_gets_all() {
        let seen = play(&mut Backlog::default(), 0..5000, |n| if n % 25 == 0 { 300 } else { 20 });
        assert!(seen.iter().all(|(skipped, _)| !skipped));
    }

    #[test]
    fn one_that_does_not_is_never_much_behind() {
        let seen = play(&mut Backlog::default(), 0..5000, |_| 60);
        assert!(seen.iter().all(|(_, late)| *late < 2300), "{:?}", seen.iter().map(|s| s.1).max());
        let skipped = seen.iter().filter(|(skipped, _)| *skipped).count();
        // A third is too much for it.
        assert!((1000..3500).contains(&skipped), "{skipped}");
        // What follows a skipped frame refers to it.
        for pair in seen.windows(2).enumerate() {
            let (n, [(before, _), (skipped, _)]) = (pair.0 + 1, pair.1) else { unreachable!() };
            assert!(!before || *skipped || n % 25 == 0, "frame {n}");
        }
    }

    #[test]
    fn once_it_has_time_again_it_gets_all_again() {
        let mut backlog = Backlog::default();
        let seen = play(&mut backlog, 0..1000, |n| if n < 500 { 80 } else { 10 });
        assert!(seen[..500].iter().any(|(skipped, _)| *skipped));
        assert!(seen[600..].iter().all(|(skipped, late)| !skipped && *late == 200));
    }

    #[test]
    fn a_senders_clock_that_leaps_back_is_followed() {
        let mut backlog = Backlog::default();
        let skipped = (0..2000u64).map(|n| {
            let due = 10_000 + 40 * n - if n < 1000 { 0 } else { 5000 };
            backlog.skips_at(MS(10_200 + 40 * n), MS(due), n % 25 == 0)
        });
        let skipped: Vec<bool> = skipped.collect();
        assert!(skipped[..1000].iter().chain(&skipped[1075..]).all(|skipped| !skipped));
        assert!(skipped[1000..1050].iter().all(|skipped| *skipped));
    }

    #[test]
    fn a_senders_clock_that_is_slower_is_not_taken_for_a_slow_decoder() {
        // 300 parts in a million, for three days.
        let mut backlog = Backlog::default();
        for n in 0..259_200u64 {
            let now = MS(1000 * n) + Duration::from_micros(300 * n);
            assert!(!backlog.skips_at(now, MS(1000 * n), n % 2 == 0), "second {n}");
        }
    }
}
