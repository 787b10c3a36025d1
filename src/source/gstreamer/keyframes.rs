//! Decodes only key frames where they are enough.
//!
//! A key frame can be decoded on its own, and decoding the frames in between is most of the work. Where one frame a second
//! is wanted and a camera sends a key frame every second, it is wasted; and neighbours tell little new. So the others are
//! dropped before the decoder once key frames have come often enough for a while, and are decoded again, from a key frame
//! on, while somebody wants a closer look. Of what is decoded otherwise, frames that no other refers to ([`disposable`]) are
//! left out where the others come often enough, and of a stream that the decoder does not keep up with ([`backlog`]) all that
//! waits.
//!
//! [`disposable`]: super::disposable
//! [`backlog`]: super::backlog

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::gstreamer as gst;
use gst::prelude::*;

use super::backlog::Backlog;
use super::disposable::Spares;
use crate::control::CloserLook;

/// How many successive intervals between key frames have to be short enough, at first and after one
/// that was too long.
const TRUST: (u32, u32) = (3, 10);
/// Key frames without any output after which a decoder gets all frames again.
const PATIENCE: u32 = 6;

/// Shared by all decoders of a pipeline: what to thin, and how many frames were skipped.
#[derive(Debug, Clone)]
pub(super) struct Thinning {
    /// Key frames are enough if they come this often.
    period: Duration,
    closer: Option<Arc<CloserLook>>,
    /// Frames that no other refers to are spared where others come twice as often as this.
    spared: Option<Duration>,
    /// What the decoder does not keep up with is skipped.
    keeps_up: bool,
    what: Arc<str>,
    skipped: Arc<AtomicU64>,
    behind: Arc<AtomicU64>,
}

impl Thinning {
    /// Only key frames, where they come at least once every `period`.
    pub fn new(period: Duration, what: &str) -> Self {
        let (skipped, behind) = Default::default();
        Self { period, closer: None, spared: None, keeps_up: false, what: what.into(), skipped, behind }
    }

    /// Also the others, while a closer look is wanted.
    #[must_use]
    pub fn unless(self, closer: Option<Arc<CloserLook>>) -> Self {
        Self { closer, ..self }
    }

    /// Without frames that no other refers to, where a frame is wanted every `wanted` and others come often enough.
    #[must_use]
    pub fn sparing(self, wanted: Duration) -> Self {
        Self { spared: Some(wanted), ..self }
    }

    /// Without what waits for a decoder that does not keep up.
    #[must_use]
    pub fn keeping_up(self) -> Self {
        Self { keeps_up: true, ..self }
    }

    /// Frames that were not decoded since the last call, because the others are enough.
    pub fn skipped(&self) -> u64 {
        self.skipped.swap(0, Ordering::Relaxed)
    }

    /// Frames that were not decoded since the last call, because the decoder does not keep up.
    pub fn behind(&self) -> u64 {
        self.behind.swap(0, Ordering::Relaxed)
    }

    /// Installs a gate in front of a video decoder.
    pub(crate) fn guard(&self, decoder: &gst::Element) {
        let (Some(sink), Some(src)) = (decoder.static_pad("sink"), decoder.static_pad("src")) else { return };
        let pictures = Arc::new(AtomicU32::new(0));
        let counted = pictures.clone();
        src.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            gst::PadProbeReturn::Ok
        });
        let state = Mutex::new((Gate::new(self.period), Spares::default(), Backlog::default()));
        let thinning = self.clone();
        sink.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let Some(buffer) = info.buffer() else { return gst::PadProbeReturn::Ok };
            let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
            let time = buffer.pts().or(buffer.dts()).map(Duration::from);
            let mut state = state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let (gate, spares, backlog) = &mut *state;
            let before = gate.drops();
            let closer = thinning.closer.as_ref().is_some_and(|closer| closer.is_wanted());
            let pass = gate.pass(key, time, pictures.load(Ordering::Relaxed), closer);
            if gate.drops() != before {
                let now = if gate.drops() { "only key frames are" } else { "every frame is" };
                log::debug!("{}: {now} decoded", thinning.what);
            }
            let behind = thinning.keeps_up && backlog.skips(pad, buffer, key);
            if behind && key {
                gate.not_decoded();
            }
            let spared =
                pass && !behind && thinning.spared.is_some_and(|wanted| spares.spares(pad, buffer, wanted));
            if pass && !behind && !spared {
                return gst::PadProbeReturn::Ok;
            }
            let counter = if pass && behind { &thinning.behind } else { &thinning.skipped };
            counter.fetch_add(1, Ordering::Relaxed);
            // `Drop` would do, but the bindings free the buffer themselves, which GStreamer then
            // warns about.
            info.flow_res = Ok(gst::FlowSuccess::Ok);
            gst::PadProbeReturn::Handled
        });
    }
}

/// Decides for each encoded frame whether it is decoded.
#[derive(Debug)]
struct Gate {
    period: Duration,
    /// Frames other than key frames are dropped.
    closed: bool,
    /// They are not, for the time being.
    closer: bool,
    last_key: Option<Duration>,
    /// Short enough intervals in a row, and how many are required.
    short: u32,
    needed: u32,
    /// Key frames since it was closed, and pictures that the decoder had delivered by then.
    keys: u32,
    pictures: u32,
    /// The decoder cannot work from key frames alone.
    broken: bool,
}

impl Gate {
    fn new(period: Duration) -> Self {
        // Timestamps are rounded to the container's resolution.
        let period = period + period / 100;
        let needed = TRUST.0;
        Self {
            period,
            closed: false,
            closer: false,
            last_key: None,
            short: 0,
            needed,
            keys: 0,
            pictures: 0,
            broken: false,
        }
    }

    /// Whether it drops all but key frames.
    fn drops(&self) -> bool {
        self.closed && !self.closer
    }

    /// Nothing comes of the last key frame, which is not the decoder's fault.
    fn not_decoded(&mut self) {
        self.keys = self.keys.saturating_sub(1);
    }

    /// Whether to decode the frame; `pictures` is how many the decoder has delivered so far, `closer` whether a closer
    /// look is wanted.
    fn pass(&mut self, key: bool, time: Option<Duration>, pictures: u32, closer: bool) -> bool {
        if !key {
            // A closer look may end anywhere, and begins with a key frame: what follows it builds on what was decoded.
            self.closer = self.closer && closer;
            return !self.drops();
        }
        self.closer = closer;
        let since = time.zip(self.last_key).and_then(|(time, last)| time.checked_sub(last));
        let in_time = since.is_some_and(|since| since <= self.period);
        self.last_key = time;
        if self.closed {
            self.keys += 1;
            if self.keys >= PATIENCE && pictures == self.pictures {
                self.broken = true;
            }
            if self.broken || !in_time {
                (self.closed, self.short, self.needed) = (false, 0, TRUST.1);
            }
        } else {
            self.short = if in_time { self.short.saturating_add(1) } else { 0 };
            if self.short >= self.needed && !self.broken {
                (self.closed, self.keys, self.pictures) = (true, 0, pictures);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// Feeds a stream of `every` milliseconds a frame and a key frame each `group`; returns which
    /// passed.
    fn feed(gate: &mut Gate, at: &mut u64, every: u64, group: u64, frames: u64, decodes: bool) -> Vec<bool> {
        let mut pictures = 1000;
        (0..frames)
            .map(|n| {
                let pass = gate.pass(n % group == 0, Some(MS(*at)), pictures, false);
                *at += every;
                pictures += u32::from(decodes);
                pass
            })
            .collect()
    }

    #[test]
    fn with_key_frames_as_often_as_wanted_the_rest_is_dropped() {
        let (mut gate, mut at) = (Gate::new(MS(1000)), 0);
        let passed = feed(&mut gate, &mut at, 40, 25, 250, true);
        // The fourth key frame closes it.
        for (n, passed) in passed.into_iter().enumerate() {
            assert_eq!(passed, n <= 75 || n % 25 == 0, "frame {n}");
        }
    }

    #[test]
    fn with_rarer_key_frames_everything_is_decoded() {
        let (mut gate, mut at) = (Gate::new(MS(500)), 0);
        assert!(feed(&mut gate, &mut at, 40, 25, 500, true).into_iter().all(|passed| passed));
        // Nor does one short interval among long ones count.
        let mut gate = Gate::new(MS(500));
        for n in 0..50u64 {
            assert!(gate.pass(true, Some(MS(n * 1000)), 0, false));
            assert!(gate.pass(true, Some(MS(n * 1000 + 400)), 0, false));
            assert!(gate.pass(false, Some(MS(n * 1000 + 440)), 0, false));
        }
    }

    #[test]
    fn a_camera_that_stretches_its_groups_is_decoded_again_from_its_next_key_frame() {
        let (mut gate, mut at) = (Gate::new(MS(1000)), 0);
        feed(&mut gate, &mut at, 40, 25, 250, true);
        let passed = feed(&mut gate, &mut at, 40, 50, 200, true);
        // The first key frame is in time, the second is not; a decoder can begin at a key frame
        // only.
        for (n, passed) in passed.into_iter().enumerate() {
            assert_eq!(passed, n == 0 || n >= 50, "frame {n}");
        }
        // It has to prove itself for longer now.
        let passed = feed(&mut gate, &mut at, 40, 25, 500, true);
        assert!(passed[..25 * 9].iter().all(|&p| p));
        assert!(!passed[499]);
    }

    #[test]
    fn a_closer_look_begins_with_a_key_frame_and_ends_at_once() {
        let (mut gate, mut at) = (Gate::new(MS(1000)), 0);
        feed(&mut gate, &mut at, 40, 25, 250, true);
        let mut looked = |from: u64, wanted: std::ops::Range<u64>, frames: u64| {
            let passed = (0..frames).map(|n| {
                let time = Some(MS(at + n * 40));
                gate.pass((from + n).is_multiple_of(25), time, 9000 + n as u32, wanted.contains(&n))
            });
            let passed: Vec<bool> = passed.collect();
            at += frames * 40;
            passed
        };
        // Wanted in the middle of a group, until the middle of the next but one.
        let passed = looked(0, 10..60, 100);
        for (n, passed) in passed.into_iter().enumerate() {
            assert_eq!(passed, n % 25 == 0 || (25..60).contains(&n), "frame {n}");
        }
        // Wanted again in the group in which it ended: what was dropped is missing until the next key frame.
        let passed = looked(0, 0..5, 10).into_iter().chain(looked(10, 0..90, 90)).enumerate();
        for (n, passed) in passed {
            assert_eq!(passed, !(5..25).contains(&n), "frame {n}");
        }
        // It does not change what is known of the camera.
        assert!(looked(0, 0..0, 100).into_iter().enumerate().all(|(n, passed)| passed == (n % 25 == 0)));
    }

    #[test]
    fn a_decoder_that_cannot_live_on_key_frames_gets_all() {
        let (mut gate, mut at) = (Gate::new(MS(1000)), 0);
        let passed = feed(&mut gate, &mut at, 40, 25, 25 * 40, false);
        assert!(passed[76..76 + 24].iter().all(|&p| !p));
        assert!(passed[25 * 10..].iter().all(|&p| p));
    }

    #[test]
    fn frames_without_times_or_with_times_that_leap_are_decoded() {
        let mut gate = Gate::new(MS(1000));
        assert!((0..500).all(|n| gate.pass(n % 25 == 0, None, n, false)));
        let mut gate = Gate::new(MS(1000));
        assert!((0..500u32).all(|n| gate.pass(n % 25 == 0, Some(MS(u64::from(500 - n) * 40)), n, false)));
    }
}
