//! What the page reads: copies, made by a thread of its own. Nothing here waits for a browser, and nothing of the
//! frame's way waits for this.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use axum::body::Bytes;
use crossbeam_channel::{Receiver, select};
use tokio::sync::{Semaphore, watch};

use super::bundle::DOWNLOADS;
use super::events::Index;
use super::history::History;
use super::reviews::Pace;
use super::spectra::Spectra;
use crate::clock::{Moment, SharedClock, Stop};
use crate::control::{Controls, Snapshot};
use crate::flaglog::Tail;
use crate::flaglog::tail::TailReader;
use crate::health::Board;
use crate::health::metrics::Metrics;
use crate::identity::ModelIdentity;
use crate::verdict::Limits;

/// How often scores are sampled and browsers updated.
const TICK: Duration = Duration::from_secs(1);

/// What does not change while the daemon runs.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Name of the box.
    pub node: String,
    /// Which model judges.
    pub model: ModelIdentity,
    /// The two scores that separate the verdicts.
    pub limits: Limits,
}

/// A source's newest picture.
#[derive(Debug, Clone)]
pub(super) struct Picture {
    /// The frame as JPEG.
    pub jpeg: Bytes,
    /// When it came.
    pub at: Moment,
}

/// All that the page shows. Shared by the threads of the page.
pub(super) struct View {
    pub facts: Facts,
    pub board: Board,
    pub controls: Controls,
    pub clock: SharedClock,
    pub metrics: Metrics,
    /// What the sources' spectra are normally.
    pub spectra: Spectra,
    /// Room for those who download.
    pub downloads: Arc<Semaphore>,
    log: Mutex<Followed>,
    history: Mutex<History>,
    pictures: watch::Sender<BTreeMap<Arc<str>, Picture>>,
    ticks: watch::Sender<u64>,
    ready: Mutex<BTreeMap<Arc<str>, bool>>,
    pace: Mutex<Pace>,
}

/// The log, as far as it was followed.
struct Followed {
    tail: Tail,
    index: Index,
}

impl View {
    pub fn new(facts: Facts, log: &Tail, board: Board, controls: Controls, clock: SharedClock) -> Self {
        let metrics = Metrics { board: board.clone(), node: facts.node.clone() };
        Self {
            facts,
            metrics,
            spectra: Spectra::default(),
            downloads: Arc::new(Semaphore::new(DOWNLOADS)),
            board,
            controls,
            clock,
            log: Mutex::new(Followed { tail: log.clone(), index: Index::default() }),
            history: Mutex::default(),
            pictures: watch::Sender::default(),
            ticks: watch::Sender::default(),
            ready: Mutex::default(),
            pace: Mutex::default(),
        }
    }

    /// Keeps everything up to date until the stop signal.
    pub fn follow(&self, snapshots: &Receiver<Snapshot>, stop: &Stop) {
        let tail = self.with_log(|tail, _| tail.clone());
        let wake = tail.wake();
        let mut reader = tail.from_start();
        self.read(&mut reader);
        let mut tick = self.clock.after(Duration::ZERO);
        loop {
            select! {
                recv(wake) -> _ => self.read(&mut reader),
                recv(snapshots) -> taken => if let Ok(Snapshot { source, jpeg }) = taken {
                    let picture = Picture { jpeg: Bytes::from(jpeg), at: self.clock.now() };
                    self.pictures.send_modify(|all| drop(all.insert(source, picture)));
                },
                recv(tick) -> _ => {
                    self.tick();
                    // A log that has taken this one's place wakes too, but not while nothing is written.
                    self.read(&mut reader);
                    tick = self.clock.after(TICK);
                }
                recv(stop.channel()) -> _ => return,
            }
        }
    }

    fn tick(&self) {
        let now = self.clock.wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let all = self.board.snapshot();
        let mut ready = lock(&self.ready);
        for (id, status) in &all {
            *ready.entry(id.clone()).or_default() |= status.frames > 0;
        }
        drop(ready);
        lock(&self.history).take(now, &all);
        self.ticks.send_modify(|n| *n += 1);
    }

    /// Takes what has become durable since.
    fn read(&self, reader: &mut TailReader) {
        loop {
            match reader.next_durable() {
                Ok(Some(item)) => lock(&self.log).index.take(&item),
                // What is damaged is passed over; `spotd verify` says what it is.
                Err(e) if e.is_passed() => {}
                Ok(None) | Err(_) => {
                    let mut log = lock(&self.log);
                    let Some(next) = log.tail.successor() else { return };
                    // Another log stands in its place: what is listed can be read there alone.
                    *log = Followed { tail: next.clone(), index: Index::default() };
                    *reader = next.from_start();
                }
            }
        }
    }

    /// The log and the index of its events.
    pub(crate) fn with_log<T>(&self, ask: impl FnOnce(&Tail, &Index) -> T) -> T {
        let log = lock(&self.log);
        ask(&log.tail, &log.index)
    }

    /// Whether one more review may be taken now.
    pub fn may_review(&self) -> bool {
        lock(&self.pace).take(self.clock.now())
    }

    /// The scores of the last minutes.
    pub fn history(&self) -> MutexGuard<'_, History> {
        lock(&self.history)
    }

    /// Gets a message each second.
    pub fn ticks(&self) -> watch::Receiver<u64> {
        self.ticks.subscribe()
    }

    /// The newest picture of each source that was asked for.
    pub fn pictures(&self) -> watch::Receiver<BTreeMap<Arc<str>, Picture>> {
        self.pictures.subscribe()
    }

    /// Sources from which no frame has come since the start.
    pub(crate) fn never_live(&self) -> Vec<Arc<str>> {
        lock(&self.ready).iter().filter(|(_, live)| !**live).map(|(id, _)| id.clone()).collect()
    }
}

/// A panic of a reader leaves nothing half-written here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
