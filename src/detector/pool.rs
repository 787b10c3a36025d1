//! One inference worker per core. A frame's tiles are spread over all of them; the worker that
//! finishes the last tile hands the frame on. There is no lock on this path.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Detector;
use super::coherence::{Grids, Readings};
use super::scoring::{FrameScore, ScoringError};
use super::tiles::Selection;
use crate::frame::Frame;
use crate::schedule::SourceIndex;

/// A frame being judged.
pub struct Work {
    /// The source that it comes from.
    pub source: SourceIndex,
    /// The frame, decoded.
    pub frame: Frame,
    /// The tiles to judge.
    pub selection: Selection,
    /// One logit per tile, as the bits of an f32; NaN where inference failed.
    logits: Vec<AtomicU32>,
    grids: Grids,
    /// The frame's block sums, once the job after the last tile is done; `None` if they failed or
    /// are not wanted.
    readings: OnceLock<Option<Readings>>,
    left: AtomicUsize,
}

impl Work {
    /// Work on the selected tiles of a frame, and on `grids` of the whole frame.
    pub fn new(source: SourceIndex, frame: Frame, selection: Selection, grids: Grids) -> Self {
        let tiles = selection.tiles.len();
        let nan = f32::NAN.to_bits();
        Self {
            source,
            frame,
            selection,
            logits: (0..tiles).map(|_| AtomicU32::new(nan)).collect(),
            grids,
            readings: OnceLock::new(),
            left: AtomicUsize::new(tiles + 1),
        }
    }

    /// The frame's score once everything is done; `None` if inference failed on a tile or on the
    /// sums.
    pub fn score(&self, detector: &Detector) -> Option<FrameScore> {
        let logits: Vec<f32> =
            self.logits.iter().map(|l| f32::from_bits(l.load(Ordering::Acquire))).collect();
        let readings = self.readings.get()?.clone();
        if !logits.iter().all(|l| l.is_finite()) || (readings.is_none() && detector.is_coherent()) {
            return None;
        }
        detector
            .combine(&self.selection, &logits, readings)
            .inspect_err(|error| log::warn!("{}: {error}", self.frame.source))
            .ok()
    }
}

impl Work {
    /// One job: a tile's logit, or, after the last tile, the frame's block sums.
    fn run(&self, detector: &Detector, job: usize) -> Result<(), ScoringError> {
        match self.selection.tiles.get(job) {
            Some(tile) => self.logits[job].store(detector.tile(tile)?.to_bits(), Ordering::Release),
            None => {
                let _ = self.readings.set(detector.read(&self.frame, self.grids)?);
            }
        }
        Ok(())
    }
}

/// What a worker does of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    /// A tile's logit.
    Tile,
    /// The whole frame's block sums.
    Sums,
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
    /// The OS cannot start a thread.
    pub fn start(detector: &Detector, workers: usize) -> std::io::Result<(Self, Receiver<Arc<Work>>)> {
        Self::start_watched(detector, workers, |_| |_, run: &mut dyn FnMut()| run())
    }

    /// As [`Pool::start`]; `watch` makes, for each worker by its name, what runs its jobs, and may measure them.
    ///
    /// # Errors
    /// The OS cannot start a thread.
    pub(crate) fn start_watched<W>(
        detector: &Detector,
        workers: usize,
        watch: impl Fn(&str) -> W,
    ) -> std::io::Result<(Self, Receiver<Arc<Work>>)>
    where
        W: Fn(Job, &mut dyn FnMut()) + Send + 'static,
    {
        // Room for one waiting tile per worker: no worker runs dry, and no frame gets far ahead.
        let (jobs, queue) = bounded::<(Arc<Work>, usize)>(workers);
        let (done_tx, done_rx) = bounded(workers * 2);
        let threads = (0..workers)
            .map(|i| {
                let (detector, queue, done) = (detector.clone(), queue.clone(), done_tx.clone());
                let name = format!("infer-{i}");
                let watched = watch(&name);
                std::thread::Builder::new().name(name).spawn(move || work(&detector, &watched, &queue, &done))
            })
            .collect::<std::io::Result<Vec<_>>>()?;
        Ok((Self { jobs, threads }, done_rx))
    }

    /// Spreads a frame's tiles over the workers; waits while all are busy. Returns false when the
    /// workers are gone.
    pub fn submit(&self, work: Work) -> bool {
        let work = Arc::new(work);
        // The block sums are the last job, after the tiles.
        (0..=work.selection.tiles.len()).all(|job| self.jobs.send((work.clone(), job)).is_ok())
    }

    /// Lets the workers finish what they have and waits for them.
    pub fn join(self) {
        drop(self.jobs);
        for thread in self.threads {
            if thread.join().is_err() {
                log::error!("an inference worker has panicked");
            }
        }
    }
}

fn work(
    detector: &Detector,
    watched: &impl Fn(Job, &mut dyn FnMut()),
    queue: &Receiver<(Arc<Work>, usize)>,
    done: &Sender<Arc<Work>>,
) {
    for (work, job) in queue {
        // tract is not our code: a panic in it costs this frame its score, but not the daemon a
        // worker.
        let run = || std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work.run(detector, job)));
        let kind = if job < work.selection.tiles.len() { Job::Tile } else { Job::Sums };
        let mut answer = Ok(Ok(()));
        watched(kind, &mut || answer = run());
        match answer {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::warn!("{}: {error}", work.frame.source),
            Err(_) => log::error!("{}: inference panicked on a frame", work.frame.source),
        }
        if work.left.fetch_sub(1, Ordering::AcqRel) == 1 && done.send(work).is_err() {
            return;
        }
    }
}
