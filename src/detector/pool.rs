//! One inference worker a core. A frame's tiles are spread over all of them; the worker that finishes
//! the last tile hands the frame on. No lock lies on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Model;
use super::judge::{FrameScore, combine};
use super::tiles::Selection;
use crate::frame::Frame;
use crate::schedule::SourceIndex;

/// A frame in work.
pub struct Work {
    /// Whose frame it is.
    pub source: SourceIndex,
    /// The frame, decoded.
    pub frame: Frame,
    /// The tiles to judge.
    pub selection: Selection,
    /// One logit a tile, as the bits of an f32; NaN where inference failed.
    logits: Vec<AtomicU32>,
    left: AtomicUsize,
}

impl Work {
    /// Work on the chosen tiles of a frame.
    pub fn new(source: SourceIndex, frame: Frame, selection: Selection) -> Self {
        let tiles = selection.tiles.len();
        let nan = f32::NAN.to_bits();
        Self {
            source,
            frame,
            selection,
            logits: (0..tiles).map(|_| AtomicU32::new(nan)).collect(),
            left: AtomicUsize::new(tiles),
        }
    }

    /// The frame's score once all tiles are done; `None` when inference failed on one of them.
    pub fn score(&self, model: &Model) -> Option<FrameScore> {
        let logits: Vec<f32> =
            self.logits.iter().map(|l| f32::from_bits(l.load(Ordering::Acquire))).collect();
        logits.iter().all(|l| l.is_finite()).then(|| combine(model, &self.selection, &logits))
    }
}

/// The workers. They end when the pool's sender is dropped and the queue is empty.
pub struct Pool {
    jobs: Sender<(Arc<Work>, usize)>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts `workers` threads; finished frames arrive on the returned channel.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(model: &Model, workers: usize) -> std::io::Result<(Self, Receiver<Arc<Work>>)> {
        // Room for one waiting tile a worker: none runs dry, and no frame gets far ahead of the work.
        let (jobs, queue) = bounded::<(Arc<Work>, usize)>(workers);
        let (done_tx, done_rx) = bounded(workers * 2);
        let threads = (0..workers)
            .map(|i| {
                let (model, queue, done) = (model.clone(), queue.clone(), done_tx.clone());
                std::thread::Builder::new()
                    .name(format!("infer-{i}"))
                    .spawn(move || work(&model, &queue, &done))
            })
            .collect::<std::io::Result<Vec<_>>>()?;
        Ok((Self { jobs, threads }, done_rx))
    }

    /// Spreads a frame's tiles over the workers; waits while all are busy. Returns false when the
    /// workers are gone.
    pub fn submit(&self, work: Work) -> bool {
        let work = Arc::new(work);
        (0..work.selection.tiles.len()).all(|tile| self.jobs.send((work.clone(), tile)).is_ok())
    }

    /// Lets the workers finish what they have and waits for them.
    pub fn join(self) {
        drop(self.jobs);
        for thread in self.threads {
            if thread.join().is_err() {
                log::error!("an inference worker had panicked");
            }
        }
    }
}

fn work(model: &Model, queue: &Receiver<(Arc<Work>, usize)>, done: &Sender<Arc<Work>>) {
    for (work, tile) in queue {
        // tract is outside of our hands: a panic in it costs this frame its score, not the daemon its
        // worker.
        let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            model.logit(&work.selection.tiles[tile].pixels)
        }));
        match answer {
            Ok(Ok(logit)) => work.logits[tile].store(logit.to_bits(), Ordering::Release),
            Ok(Err(error)) => log::warn!("{}: {error}", work.frame.source),
            Err(_) => log::error!("{}: inference panicked on a tile", work.frame.source),
        }
        if work.left.fetch_sub(1, Ordering::AcqRel) == 1 && done.send(work).is_err() {
            return;
        }
    }
}
