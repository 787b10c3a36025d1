//! What operators say of events, on its way from whoever asks them to the log's one writer.

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::flaglog::{NewReview, Review, ReviewError, Tail};

/// Reviews that wait for the log at most: each costs the frames' way one write.
const WAITING: usize = 8;

/// A review that is to be appended.
pub struct ReviewRequest {
    /// What is said, of which event.
    pub new: NewReview,
    /// The log that the event was read in.
    pub of: Tail,
    answer: Box<dyn FnOnce(Result<Review, ReviewError>) + Send>,
}

impl ReviewRequest {
    /// Hands the request on with what has become of it.
    pub fn answer(self, done: Result<Review, ReviewError>) {
        (self.answer)(done);
    }
}

/// The way there. Clones share it.
#[derive(Clone)]
pub(super) struct Way {
    to: Sender<ReviewRequest>,
    pub from: Receiver<ReviewRequest>,
}

impl Default for Way {
    fn default() -> Self {
        let (to, from) = bounded(WAITING);
        Self { to, from }
    }
}

/// So many reviews wait already that this one was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

impl Way {
    pub fn send(
        &self,
        new: NewReview,
        of: Tail,
        answer: impl FnOnce(Result<Review, ReviewError>) + Send + 'static,
    ) -> Result<(), Busy> {
        let request = ReviewRequest { new, of, answer: Box::new(answer) };
        self.to.try_send(request).map_err(|_| Busy)
    }
}
