//! One inference worker per core. One of them chooses the tiles of a frame, and then they are spread over all; the worker
//! that finishes the last tile hands the frame on. No worker waits for another on this path.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded, select_biased};

use super::Detector;
use super::coherence::{Grids, Readings};
use super::scoring::{FrameScore, ScoringError};
use super::tiles::{Limited, Selection};
use crate::clock::Moment;
use crate::frame::{Deinterlacer, Frame, FrameError};
use crate::schedule::SourceIndex;

/// What is kept of a feed from one of its frames to the next. Only one of its frames is in work at a time if each is to
/// follow the one before.
#[derive(Debug, Default)]
pub struct Feed {
    fields: Deinterlacer,
    /// Frames judged so far, which moves the grid of tiles and selects the next scaled one.
    turn: usize,
}

/// A frame as it came, whose tiles are still to be chosen.
pub struct Arrival {
    /// The source that it comes from.
    pub source: SourceIndex,
    /// The frame, compressed or not.
    pub frame: Frame,
    /// Of which it is the next one.
    pub feed: Arc<Mutex<Feed>>,
    /// Whether its block sums are also taken region by region, for a map.
    pub mapped: bool,
}

/// What became of a frame.
pub enum Done {
    /// All of it is judged.
    Judged(Arc<Work>),
    /// There was nothing to judge.
    Refused(Refused),
}

/// A frame that is not judged.
#[derive(Debug)]
pub struct Refused {
    /// The source that it comes from.
    pub source: SourceIndex,
    /// That source's id.
    pub id: Arc<str>,
    /// Why.
    pub why: Refusal,
}

/// Why a frame is not judged.
#[derive(Debug)]
pub enum Refusal {
    /// Its pixels are damaged.
    Damaged(FrameError),
    /// It has no proper tile; it is this wide and high.
    Limited(Limited, (u32, u32)),
    /// The choice of its tiles panicked.
    Panicked,
}

/// A frame being judged.
pub struct Work {
    /// The source that it comes from.
    pub source: SourceIndex,
    /// The frame, decoded, and of an interlaced one a field.
    pub frame: Frame,
    /// The tiles to judge.
    pub selection: Selection,
    /// One logit per tile, as the bits of an f32; NaN where inference failed.
    logits: Vec<AtomicU32>,
    grids: Grids,
    /// The frame's block sums, once that job is done; `None` if they failed or are not wanted.
    readings: OnceLock<Option<Readings>>,
    left: AtomicUsize,
}

impl Arrival {
    /// Decodes the frame and chooses its tiles.
    fn choose(self, detector: &Detector) -> Result<Work, Refusal> {
        let Self { source, frame, feed, mapped } = self;
        let frame = frame.decoded().map_err(Refusal::Damaged)?;
        let mut feed = feed.lock().unwrap_or_else(PoisonError::into_inner);
        let frame = feed.fields.take(frame);
        let selection = detector.select(&frame, feed.turn).map_err(Refusal::Damaged)?;
        if let Some(limited) = selection.limited {
            return Err(Refusal::Limited(limited, (frame.width, frame.height)));
        }
        let grids = if mapped { Grids::OneMoreAndRegions(feed.turn) } else { Grids::OneMore(feed.turn) };
        feed.turn += 1;
        Ok(Work::new(source, frame, selection, grids))
    }
}

impl Work {
    fn new(source: SourceIndex, frame: Frame, selection: Selection, grids: Grids) -> Self {
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

    /// One job: a tile's logit, or, for the number after the last tile's, the frame's block sums.
    fn run(&self, detector: &Detector, job: usize) -> Result<(), ScoringError> {
        match self.selection.tiles.get(job) {
            Some(&tile) => {
                let logit = detector.tile(&self.frame, tile)?;
                self.logits[job].store(logit.to_bits(), Ordering::Release);
            }
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
    /// Decoding, if it is compressed, and the choice of tiles, of a frame that arrived then.
    Choice(Moment),
    /// A tile's logit.
    Tile,
    /// The whole frame's block sums.
    Sums,
}

/// The workers. They end when the pool's sender is dropped and all that they have is done.
pub struct Pool {
    arrivals: Sender<Arrival>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts `workers` threads; what became of each frame arrives on the returned channel.
    ///
    /// # Errors
    /// The OS cannot start a thread.
    pub fn start(detector: &Detector, workers: usize) -> std::io::Result<(Self, Receiver<Done>)> {
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
    ) -> std::io::Result<(Self, Receiver<Done>)>
    where
        W: Fn(Job, &mut dyn FnMut()) + Send + 'static,
    {
        // A frame is taken when a worker has nothing else to do, so that none waits here and gets old.
        let (arrivals, frames) = bounded::<Arrival>(0);
        // A worker takes a frame only when no job waits, so there are never more than those of a frame each: a send
        // never waits.
        let (jobs, queue) = bounded(workers * (detector.max_tiles().max(1) + 1));
        let (done_tx, done_rx) = bounded(workers * 2);
        let threads = (0..workers)
            .map(|i| {
                let name = format!("infer-{i}");
                let worker = Worker {
                    detector: detector.clone(),
                    watched: watch(&name),
                    frames: frames.clone(),
                    queue: queue.clone(),
                    jobs: jobs.clone(),
                    done: done_tx.clone(),
                };
                std::thread::Builder::new().name(name).spawn(move || worker.work())
            })
            .collect::<std::io::Result<Vec<_>>>()?;
        Ok((Self { arrivals, threads }, done_rx))
    }

    /// Gives a frame to the next worker that has nothing else to do; waits while all are busy. Returns false when the
    /// workers are gone.
    pub fn submit(&self, arrival: Arrival) -> bool {
        self.arrivals.send(arrival).is_ok()
    }

    /// Lets the workers finish what they have and waits for them.
    pub fn join(self) {
        drop(self.arrivals);
        for thread in self.threads {
            if thread.join().is_err() {
                log::error!("an inference worker has panicked");
            }
        }
    }
}

/// A frame, and the number of one of its jobs.
type Piece = (Arc<Work>, usize);

struct Worker<W> {
    detector: Detector,
    watched: W,
    frames: Receiver<Arrival>,
    queue: Receiver<Piece>,
    jobs: Sender<Piece>,
    done: Sender<Done>,
}

/// Nobody takes what is done any more.
struct Gone;

impl<W: Fn(Job, &mut dyn FnMut())> Worker<W> {
    fn work(self) {
        // Frames that were begun come first.
        loop {
            let end = select_biased! {
                recv(self.queue) -> piece => piece.map_or(Ok(()), |piece| self.run(piece)),
                recv(self.frames) -> arrival => match arrival {
                    Ok(arrival) => self.choose(arrival),
                    Err(_) => break,
                },
            };
            if end.is_err() {
                return;
            }
        }
        // What another worker still chooses, that one finishes.
        while let Ok(piece) = self.queue.try_recv() {
            if self.run(piece).is_err() {
                return;
            }
        }
    }

    /// Chooses a frame's tiles and lets all workers have their share of them.
    fn choose(&self, arrival: Arrival) -> Result<(), Gone> {
        let (source, id) = (arrival.source, arrival.frame.source.clone());
        let kind = Job::Choice(arrival.frame.arrived);
        let mut arrival = Some(arrival);
        // Neither decoders nor tract are our code: a panic costs this frame its score, but not the daemon a worker.
        let chosen = self.watch(kind, || {
            let arrival = arrival.take().expect("chosen once");
            arrival.choose(&self.detector)
        });
        let why = match chosen {
            Some(Ok(work)) => {
                let work = Arc::new(work);
                let tiles = work.selection.tiles.len();
                // The block sums take longest, so they begin first.
                for job in std::iter::once(tiles).chain(0..tiles) {
                    self.jobs.send((work.clone(), job)).expect("this worker receives them, too");
                }
                return Ok(());
            }
            Some(Err(why)) => why,
            None => {
                log::error!("{id}: the choice of tiles panicked on a frame");
                Refusal::Panicked
            }
        };
        self.done.send(Done::Refused(Refused { source, id, why })).map_err(|_| Gone)
    }

    fn run(&self, (work, job): Piece) -> Result<(), Gone> {
        let kind = if job < work.selection.tiles.len() { Job::Tile } else { Job::Sums };
        match self.watch(kind, || work.run(&self.detector, job)) {
            Some(Ok(())) => {}
            Some(Err(error)) => log::warn!("{}: {error}", work.frame.source),
            None => log::error!("{}: inference panicked on a frame", work.frame.source),
        }
        if work.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            return self.done.send(Done::Judged(work)).map_err(|_| Gone);
        }
        Ok(())
    }

    /// Runs a job under watch; `None` if it panicked.
    fn watch<T>(&self, kind: Job, job: impl FnOnce() -> T) -> Option<T> {
        let (mut job, mut answer) = (Some(job), None);
        (self.watched)(kind, &mut || {
            let job = job.take().expect("run once");
            answer = catch_unwind(AssertUnwindSafe(job)).ok();
        });
        answer
    }
}
