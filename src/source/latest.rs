//! The latest-frame channel: it has room for one frame, the newest wins, and overwritten frames are
//! counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::FrameSink;
use crate::clock::{Moment, SharedClock};
use crate::control::{CloserLook, Control};
use crate::frame::{Captured, Frame};
use crate::health::Board;

/// The writing end, given to a source.
pub struct LatestSink {
    id: Arc<str>,
    board: Board,
    control: Option<Arc<Control>>,
    clock: SharedClock,
    pace: Mutex<Pace>,
    seq: AtomicU64,
    tx: Sender<Frame>,
    rx: Receiver<Frame>,
    on_frame: Box<dyn Fn() + Send + Sync>,
}

impl LatestSink {
    /// A sink for the source `id` that wants at most `fps` frames a second, and its receiver.
    /// `on_frame` is called after each frame and must not block.
    pub fn new(
        id: Arc<str>,
        fps: f64,
        board: Board,
        clock: SharedClock,
        on_frame: impl Fn() + Send + Sync + 'static,
    ) -> (Self, Receiver<Frame>) {
        let (tx, rx) = bounded(1);
        let pace = Mutex::new(Pace { period: Duration::from_secs_f64(1.0 / fps), next: None });
        let sink = Self {
            id,
            board,
            control: None,
            clock,
            pace,
            seq: AtomicU64::new(0),
            tx,
            rx: rx.clone(),
            on_frame: Box::new(on_frame),
        };
        (sink, rx)
    }

    /// Lets publishers request pictures of the source, even while it is paused.
    #[must_use]
    pub(crate) fn with_control(self, control: Option<Arc<Control>>) -> Self {
        Self { control, ..self }
    }
}

impl FrameSink for LatestSink {
    fn source(&self) -> Arc<str> {
        self.id.clone()
    }

    fn wants_frame(&self) -> bool {
        let shows = || self.control.as_ref().is_some_and(|c| c.wants_snapshot());
        if self.board.is_paused(&self.id) && !shows() {
            self.board.drop_frame(&self.id, "paused");
            return false;
        }
        let wanted = self.pace.lock().expect("pace lock").due(self.clock.now());
        if !wanted {
            self.board.drop_frame(&self.id, "rate");
        }
        wanted
    }

    fn offer(&self, captured: Captured) {
        let (at, size) = (captured.at, (captured.width, captured.height));
        let seq = self.seq.fetch_add(1, Ordering::Relaxed);
        let mut overwritten = 0;
        let mut next = captured.into_frame(self.id.clone(), seq, self.clock.now());
        // Only this sink sends, so after removing one frame the next try finds room, even if the
        // reader was faster.
        while let Err(TrySendError::Full(back)) = self.tx.try_send(next) {
            next = back;
            overwritten += u64::from(self.rx.try_recv().is_ok());
        }
        self.board.update(&self.id, |s| {
            s.frames += 1;
            s.last_frame = Some(at);
            s.size = Some(size);
            if overwritten > 0 {
                *s.dropped.entry("overwritten").or_default() += overwritten;
            }
        });
        (self.on_frame)();
    }

    fn lost(&self, reason: &'static str) {
        self.board.drop_frame(&self.id, reason);
    }

    fn closer_look(&self) -> Option<Arc<CloserLook>> {
        self.control.as_ref().map(|control| control.closer_look().clone())
    }
}

/// Decides which frames are due at a wanted rate.
struct Pace {
    period: Duration,
    next: Option<Moment>,
}

impl Pace {
    /// Whether a frame at `now` is due. The schedule advances from due time to due time, so that a
    /// 25 fps stream thinned to 10 yields 10 and not 8; after a pause it starts again.
    fn due(&mut self, now: Moment) -> bool {
        match self.next {
            Some(next) if now < next => false,
            Some(next) if now < next + self.period => {
                self.next = Some(next + self.period);
                true
            }
            _ => {
                self.next = Some(now + self.period);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use image::RgbImage;

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn the_newest_frame_wins_and_the_old_one_is_counted() {
        let id: Arc<str> = "cam".into();
        let board = Board::new([id.clone()]);
        let clock = Arc::new(ManualClock::new(SystemTime::UNIX_EPOCH));
        let (sink, rx) = LatestSink::new(id.clone(), 10.0, board.clone(), clock, || {});
        for _ in 0..3 {
            sink.offer(Captured::rgb(SystemTime::UNIX_EPOCH, RgbImage::new(2, 2)));
        }
        assert_eq!(rx.try_recv().expect("a frame").seq, 2);
        assert!(rx.try_recv().is_err());
        let status = &board.snapshot()[0].1;
        assert_eq!((status.frames, status.dropped["overwritten"]), (3, 2));
    }

    #[test]
    fn a_faster_stream_is_thinned_to_the_wanted_rate() {
        let id: Arc<str> = "cam".into();
        let board = Board::new([id.clone()]);
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
        let (sink, _rx) = LatestSink::new(id, 10.0, board.clone(), Arc::new(clock.clone()), || {});
        let mut wanted = 0;
        for _ in 0..250 {
            wanted += u32::from(sink.wants_frame());
            clock.advance(Duration::from_millis(40));
        }
        assert_eq!(wanted, 100);
        assert_eq!(board.snapshot()[0].1.dropped["rate"], 150);
    }
}
