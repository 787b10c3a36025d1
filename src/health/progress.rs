//! Whether every stage gets on with its work, for the service manager's watchdog.
//!
//! A stage that waits for work is well however long it waits, as is a source whose camera is away. One that has been at
//! the same piece of work for too long has hung, and one that has panicked will never finish it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{Moment, SharedClock};

/// The stages of a daemon. Clones share them.
#[derive(Clone, Default)]
pub struct Progress(Arc<Mutex<Vec<Arc<State>>>>);

struct State {
    name: String,
    /// Since when it is at its piece of work, in nanoseconds; [`WAITS`] while it has none. Later than now for one that
    /// may be silent for some time.
    since: AtomicU64,
    gone: AtomicBool,
}

const WAITS: u64 = u64::MAX;

impl Progress {
    /// A new stage, which waits; it is one of them until this is dropped.
    pub fn stage(&self, name: impl Into<String>, clock: &SharedClock) -> Beat {
        let (since, gone) = (AtomicU64::new(WAITS), AtomicBool::new(false));
        let state = Arc::new(State { name: name.into(), since, gone });
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|s| !s.gone.load(Ordering::Relaxed));
        all.push(state.clone());
        Beat { state, clock: clock.clone() }
    }

    /// The stages that have been at the same piece of work for longer than `limit`, and for how long.
    pub fn hung(&self, now: Moment, limit: Duration) -> Vec<(String, Duration)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let late = |s: &&Arc<State>| !s.gone.load(Ordering::Relaxed);
        all.iter()
            .filter(late)
            .map(|s| (s, s.since.load(Ordering::Relaxed)))
            .filter(|(_, since)| *since != WAITS)
            .map(|(s, since)| (s.name.clone(), now.saturating_sub(Duration::from_nanos(since))))
            .filter(|(_, at_it)| *at_it > limit)
            .collect()
    }
}

/// By which a stage shows that it gets on.
pub struct Beat {
    state: Arc<State>,
    clock: SharedClock,
}

impl Beat {
    /// A piece of work begins, and lasts until what is returned is dropped.
    pub fn busy(&self) -> Busy<'_> {
        self.within(Duration::ZERO);
        Busy(self)
    }

    /// It works on, and may be silent for this long.
    pub fn within(&self, silence: Duration) {
        let by = (self.clock.now() + silence).as_nanos();
        self.state.since.store(u64::try_from(by).unwrap_or(WAITS), Ordering::Relaxed);
    }

    /// It waits.
    pub fn rest(&self) {
        self.state.since.store(WAITS, Ordering::Relaxed);
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.within(Duration::ZERO);
        } else {
            self.state.gone.store(true, Ordering::Relaxed);
        }
    }
}

/// A piece of work.
#[must_use = "the work is done when it is dropped"]
pub struct Busy<'a>(&'a Beat);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        // What panics is never done.
        if !std::thread::panicking() {
            self.0.rest();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::clock::ManualClock;

    const LIMIT: Duration = Duration::from_secs(30);

    #[test]
    fn who_waits_is_well_and_who_stays_at_one_thing_has_hung() {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
        let shared: SharedClock = Arc::new(clock.clone());
        let progress = Progress::default();
        let hung = || {
            let all = progress.hung(shared.now(), LIMIT);
            all.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        let (a, b) = (progress.stage("a", &shared), progress.stage("b", &shared));
        clock.advance(LIMIT * 9);
        assert!(hung().is_empty());
        let work = a.busy();
        b.within(LIMIT * 2);
        clock.advance(LIMIT);
        assert!(hung().is_empty());
        clock.advance(Duration::from_secs(1));
        assert_eq!(hung(), ["a"]);
        drop(work);
        assert!(hung().is_empty());
        clock.advance(LIMIT * 2);
        assert_eq!(hung(), ["b"], "silent for longer than it may be");
        drop(b);
        assert!(hung().is_empty(), "it is no longer one of them");
    }

    #[test]
    fn who_panics_has_hung() {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
        let shared: SharedClock = Arc::new(clock.clone());
        let progress = Progress::default();
        let beat = progress.stage("a", &shared);
        let thread = std::thread::spawn(move || {
            let _work = beat.busy();
            panic!("on purpose");
        });
        thread.join().expect_err("it panics");
        clock.advance(LIMIT * 2);
        assert_eq!(progress.hung(shared.now(), LIMIT), [("a".to_owned(), LIMIT * 2)]);
    }
}
