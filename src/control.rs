//! Requests while the daemon runs: to a source for a snapshot, and to the log's writer to append what an operator says.
//! Publishers and the page make them and the pipeline fulfils them; neither knows the other. Whether a source is paused is
//! kept on the board only.

mod reviews;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::flaglog::{NewReview, Review, ReviewError, Tail};
use reviews::Way;
pub use reviews::{Busy, ReviewRequest};

/// A picture that was requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The source's id.
    pub source: Arc<str>,
    /// The frame, encoded.
    pub jpeg: Vec<u8>,
}

/// The requests to all sources. Clones share them.
#[derive(Clone)]
pub struct Controls {
    sources: Arc<RwLock<BTreeMap<Arc<str>, Arc<Control>>>>,
    subscribers: Subscribers,
    reviews: Way,
}

/// Those who receive requested pictures.
type Subscribers = Arc<Mutex<Vec<Sender<Snapshot>>>>;

/// The requests to one source.
pub struct Control {
    id: Arc<str>,
    snapshot: AtomicBool,
    closer: Arc<CloserLook>,
    subscribers: Subscribers,
}

impl Controls {
    /// No requests yet, for these sources.
    pub fn new(ids: impl IntoIterator<Item = Arc<str>>) -> Self {
        let controls =
            Self { sources: Arc::default(), subscribers: Subscribers::default(), reviews: Way::default() };
        for id in ids {
            controls.add(id);
        }
        controls
    }

    /// The requests to one source, if there is one of that name.
    pub fn source(&self, id: &str) -> Option<Arc<Control>> {
        self.sources.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// All sources, by name.
    pub fn ids(&self) -> Vec<Arc<str>> {
        self.sources.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Takes requests to one more source.
    pub(crate) fn add(&self, id: Arc<str>) -> Arc<Control> {
        let control = Arc::new(Control {
            id: id.clone(),
            snapshot: AtomicBool::new(false),
            closer: Arc::default(),
            subscribers: self.subscribers.clone(),
        });
        self.sources.write().unwrap_or_else(PoisonError::into_inner).insert(id, control.clone());
        control
    }

    /// Takes no more requests to a source.
    pub(crate) fn remove(&self, id: &str) {
        self.sources.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// A new subscriber's channel: from now on it receives every picture that was requested, by
    /// anyone.
    pub fn snapshots(&self) -> Receiver<Snapshot> {
        // One per source: a single unfetched picture is enough.
        let (tx, rx) = bounded(self.ids().len().max(1));
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner).push(tx);
        rx
    }
}

impl Controls {
    /// Asks for a review to be appended to the log that its event was read in; never waits. `answer` is called by the
    /// thread that writes, once the review is durable or refused, and must not wait either.
    ///
    /// # Errors
    /// [`Busy`]: it was not taken.
    pub fn review(
        &self,
        new: NewReview,
        of: Tail,
        answer: impl FnOnce(Result<Review, ReviewError>) + Send + 'static,
    ) -> Result<(), Busy> {
        self.reviews.send(new, of, answer)
    }

    /// The reviews that were asked for: for the one who writes the log.
    pub fn reviews(&self) -> Receiver<ReviewRequest> {
        self.reviews.from.clone()
    }
}

impl Control {
    /// Requests a picture of the next frame; requesting it again before that changes nothing.
    pub fn ask_snapshot(&self) {
        self.snapshot.store(true, Ordering::Relaxed);
    }

    /// The wish to see the frames between key frames too.
    pub fn closer_look(&self) -> &Arc<CloserLook> {
        &self.closer
    }

    /// Whether a picture is requested.
    pub(crate) fn wants_snapshot(&self) -> bool {
        self.snapshot.load(Ordering::Relaxed)
    }

    /// Hands the picture to all subscribers; `None` when it could not be made. False when a
    /// subscriber has not fetched earlier ones yet, so that it misses this one.
    pub fn give_snapshot(&self, jpeg: Option<Vec<u8>>) -> bool {
        self.snapshot.store(false, Ordering::Relaxed);
        let Some(jpeg) = jpeg else { return true };
        let snapshot = Snapshot { source: self.id.clone(), jpeg };
        let mut all_took_it = true;
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner).retain(|to| {
            match to.try_send(snapshot.clone()) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    all_took_it = false;
                    true
                }
                Err(TrySendError::Disconnected(_)) => false,
            }
        });
        all_took_it
    }
}

/// A wish for the frames between key frames of one source, until so many more are judged.
#[derive(Debug, Default)]
pub struct CloserLook(AtomicUsize);

impl CloserLook {
    /// Wishes for them until `frames` more are judged, counted from now.
    pub fn ask(&self, frames: usize) {
        self.0.store(frames, Ordering::Relaxed);
    }

    /// One more was judged.
    pub fn judged(&self) {
        // Only the thread of verdicts changes it.
        self.0.store(self.0.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
    }

    /// Whether they are wished for.
    pub fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closer_look_lasts_for_as_many_frames_as_were_asked_for() {
        let look = CloserLook::default();
        assert!(!look.is_wanted());
        look.ask(2);
        look.judged();
        assert!(look.is_wanted());
        look.ask(2);
        look.judged();
        look.judged();
        assert!(!look.is_wanted());
        look.judged();
        assert!(!look.is_wanted());
    }

    #[test]
    fn each_subscriber_gets_each_picture_and_a_slow_one_keeps_none_from_the_others() {
        let controls = Controls::new(["cam".into()]);
        let cam = controls.source("cam").expect("there");
        assert!(cam.give_snapshot(Some(vec![0])), "nobody wants any");
        let (quick, slow) = (controls.snapshots(), controls.snapshots());
        cam.ask_snapshot();
        assert!(cam.wants_snapshot());
        assert!(cam.give_snapshot(Some(vec![1])));
        assert!(!cam.wants_snapshot());
        let got = |from: &Receiver<Snapshot>| from.try_iter().map(|s| s.jpeg).collect::<Vec<_>>();
        assert_eq!(got(&quick), [[1]]);
        assert!(!cam.give_snapshot(Some(vec![2])), "lost for the slow one");
        assert_eq!((got(&quick), got(&slow)), (vec![vec![2]], vec![vec![1]]));
        drop(slow);
        assert!(cam.give_snapshot(Some(vec![3])) && cam.give_snapshot(None));
        assert_eq!(got(&quick), [[3]]);
    }
}
