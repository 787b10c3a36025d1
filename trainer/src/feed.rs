//! Several threads make batches while one more makes the pairs, so that training waits for neither.

use crate::pairs::{BATCHES_A_REFILL, Batch, Pairs, Pool};
use anyhow::Result;
use spotd::forensics::rng::Rng;
use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::SyncSender,
    },
    time::{Duration, Instant},
};

/// How batches are made.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Threads that degrade and cut, at least one.
    pub workers: usize,
    /// Pairs in a batch.
    pub batch: usize,
    /// Side of a crop.
    pub side: u32,
}

/// Throughput of the cutting threads.
#[derive(Debug, Default)]
pub struct Speed {
    crops: AtomicU64,
    nanoseconds: AtomicU64,
    workers: AtomicU64,
}

impl Speed {
    /// Crops per second that all of them could make together without waiting; 0 before the first.
    pub fn crops_a_second(&self) -> f64 {
        let seconds = self.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9;
        let crops = (self.crops.load(Ordering::Relaxed) * self.workers.load(Ordering::Relaxed)) as f64;
        if seconds > 0.0 { crops / seconds } else { 0.0 }
    }

    /// Threads that cut.
    pub fn workers(&self) -> u64 {
        self.workers.load(Ordering::Relaxed)
    }

    fn add(&self, crops: usize, spent: Duration) {
        self.crops.fetch_add(crops as u64, Ordering::Relaxed);
        self.nanoseconds.fetch_add(spent.as_nanos() as u64, Ordering::Relaxed);
    }
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    pool: Pool,
    /// Batches begun.
    drawn: u64,
    ended: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `ready`; `None` when everything is over.
    fn when(&self, ready: impl Fn(&State) -> bool) -> Option<MutexGuard<'_, State>> {
        let mut state = self.lock();
        while !state.ended && !ready(&state) {
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        (!state.ended).then_some(state)
    }
}

/// Ends all threads when one of them ends, for whatever reason.
struct EndsAll<'a>(&'a Shared);

impl Drop for EndsAll<'_> {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.wake.notify_all();
    }
}

/// Makes batches until nobody takes them, or until something fails, which is sent. Pairs are made
/// on the calling thread, at the rate of the batches ([`BATCHES_A_REFILL`]) or as fast as it can;
/// batches only wait for the first few. Returns its arguments.
pub fn feed<'a>(
    pairs: Pairs<'a>,
    how: How,
    rng: &Rng,
    batches: SyncSender<Result<Batch>>,
    speed: &Speed,
) -> Pairs<'a> {
    let Pairs { mut source, cutter, pool, .. } = pairs;
    let shared = Shared { state: Mutex::new(State { pool, drawn: 0, ended: false }), wake: Condvar::new() };
    speed.workers.store(how.workers as u64, Ordering::Relaxed);
    std::thread::scope(|scope| {
        for worker in 0..how.workers {
            let (shared, cutter, batches) = (&shared, cutter.clone(), batches.clone());
            let mut rng = rng.fork(worker as u64 + 1);
            scope.spawn(move || {
                let _ends_all = EndsAll(shared);
                while let Some(mut state) = shared.when(|state| state.pool.is_filled(how.batch)) {
                    state.drawn += 1;
                    let picks = state.pool.draw(how.batch, &mut rng);
                    drop(state);
                    shared.wake.notify_all();
                    let begun = Instant::now();
                    let batch = cutter.batch(&picks, how.side, &mut rng);
                    speed.add(2 * picks.len(), begun.elapsed());
                    let failed = batch.is_err();
                    if batches.send(batch).is_err() || failed {
                        return;
                    }
                }
            });
        }
        let _ends_all = EndsAll(&shared);
        let mut rng = rng.fork(0);
        let mut refills = 0;
        let due = |state: &State, refills: u64| {
            !state.pool.is_filled(how.batch) || state.drawn >= BATCHES_A_REFILL * (refills + 1)
        };
        while let Some(state) = shared.when(|state| due(state, refills)) {
            refills += u64::from(state.pool.is_filled(how.batch));
            drop(state);
            match source.some() {
                Ok(fresh) => shared.lock().pool.add(fresh, &mut rng),
                Err(error) => {
                    let _ = batches.send(Err(error));
                    break;
                }
            }
            shared.wake.notify_all();
        }
    });
    let pool = shared.state.into_inner().unwrap_or_else(PoisonError::into_inner).pool;
    Pairs::again(source, cutter, pool, rng.fork(99))
}
