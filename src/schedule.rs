//! Scheduling: many sources share the workers, each in its turn.
//!
//! A source with a waiting frame is in the queue, once, and has at most one frame being judged, so
//! that its frames are judged in order and a busy source cannot starve another: all are slowed
//! alike.

use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

use crossbeam_channel::{Receiver, Sender, bounded};

/// Index of a source, in the order of the configuration.
pub type SourceIndex = usize;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// No frame is waiting or being judged.
    Idle,
    /// In the queue.
    Queued,
    /// A frame is being judged.
    Busy,
    /// A frame is being judged and a newer one waits.
    BusyAndWaiting,
}

/// Sources at most at a time.
pub const ROOM: usize = 1024;

/// The queue of sources.
pub struct Turns {
    slots: RwLock<Vec<Mutex<Slot>>>,
    tx: Sender<SourceIndex>,
    rx: Receiver<SourceIndex>,
}

impl Turns {
    /// A queue for `sources` sources, all idle.
    pub fn new(sources: usize) -> Self {
        // Those that have just been removed may still be in it.
        let (tx, rx) = bounded(2 * ROOM.max(sources));
        let slots = (0..sources).map(|_| Mutex::new(Slot::Idle)).collect();
        Self { slots: RwLock::new(slots), tx, rx }
    }

    /// One more source, idle. A source that is no longer watched keeps its index, which nobody gets again.
    pub fn add(&self) -> SourceIndex {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        slots.push(Mutex::new(Slot::Idle));
        slots.len() - 1
    }

    fn slots(&self) -> RwLockReadGuard<'_, Vec<Mutex<Slot>>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports that a frame of `source` is waiting. Never blocks.
    pub fn frame_waits(&self, source: SourceIndex) {
        let slots = self.slots();
        let mut slot = slots[source].lock().expect("slot lock");
        match *slot {
            Slot::Idle => {
                *slot = Slot::Queued;
                self.enqueue(source);
            }
            Slot::Busy => *slot = Slot::BusyAndWaiting,
            Slot::Queued | Slot::BusyAndWaiting => {}
        }
    }

    /// The queue's receiver; call [`Turns::begin`] for each source received.
    pub fn queue(&self) -> &Receiver<SourceIndex> {
        &self.rx
    }

    /// Reports that a source's turn has begun, after it was received from the queue.
    pub fn begin(&self, source: SourceIndex) {
        *self.slots()[source].lock().expect("slot lock") = Slot::Busy;
    }

    /// Reports that the turn of `source` is over; it goes to the end of the queue if a frame is
    /// waiting.
    pub fn done(&self, source: SourceIndex) {
        let slots = self.slots();
        let mut slot = slots[source].lock().expect("slot lock");
        match *slot {
            Slot::BusyAndWaiting => {
                *slot = Slot::Queued;
                self.enqueue(source);
            }
            Slot::Busy => *slot = Slot::Idle,
            Slot::Idle | Slot::Queued => {}
        }
    }

    /// Whether no frame of `source` is waiting or being judged.
    pub(crate) fn is_idle(&self, source: SourceIndex) -> bool {
        *self.slots()[source].lock().expect("slot lock") == Slot::Idle
    }

    fn enqueue(&self, source: SourceIndex) {
        // Each source is in the queue at most once, and the queue has room for all of them.
        self.tx.try_send(source).expect("a place for every source");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_busy_source_waits_behind_the_others() {
        let turns = Turns::new(3);
        for source in [0, 1, 2] {
            turns.frame_waits(source);
        }
        let first = turns.queue().recv().expect("queued");
        turns.begin(first);
        turns.frame_waits(first);
        turns.done(first);
        let order: Vec<_> = turns.queue().try_iter().collect();
        assert_eq!((first, order), (0, vec![1, 2, 0]));
    }

    proptest! {
        /// However fast some sources deliver, no source ever gets more than one turn ahead of
        /// another that always has a frame waiting.
        #[test]
        fn nobody_is_starved(sources in 2usize..8, floods in prop::collection::vec(0usize..8, 0..400)) {
            let turns = Turns::new(sources);
            let mut served = vec![0u32; sources];
            let mut flood = floods.into_iter();
            for _ in 0..200 {
                for s in 0..sources {
                    turns.frame_waits(s);
                }
                let s = turns.queue().try_recv().expect("never empty");
                turns.begin(s);
                for extra in flood.by_ref().take(2) {
                    turns.frame_waits(extra % sources);
                }
                served[s] += 1;
                turns.done(s);
            }
            let (min, max) = (served.iter().min().unwrap(), served.iter().max().unwrap());
            prop_assert!(max - min <= 1, "{served:?}");
        }
    }
}
