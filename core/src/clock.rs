//! Time comes in by a trait, so that every timeout, backoff and hysteresis is tested without waiting.
//!
//! Nothing outside this file may call `Instant::now`, `SystemTime::now` or `thread::sleep`.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender, bounded, never, select};

/// A monotonic reading: time since an arbitrary start that is the same for all clones of a clock.
pub type Moment = Duration;

/// Where the daemon gets its time from.
pub trait Clock: Send + Sync + 'static {
    /// Monotonic time; never goes back, does not follow steps of the wall clock.
    fn now(&self) -> Moment;

    /// Wall clock (UTC), which may step at any moment.
    fn wall(&self) -> SystemTime;

    /// A channel on which one message arrives after `delay`.
    fn after(&self, delay: Duration) -> Receiver<Instant>;
}

/// A clock that can be handed to every thread.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's own clocks.
#[derive(Debug, Clone)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic zero is now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// The same, ready to be shared between threads.
    pub fn shared() -> SharedClock {
        Arc::new(Self::new())
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        self.start.elapsed()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn after(&self, delay: Duration) -> Receiver<Instant> {
        crossbeam_channel::after(delay)
    }
}

/// A clock that stands still until a test moves it.
#[derive(Clone)]
pub struct ManualClock {
    state: Arc<Mutex<ManualState>>,
}

struct ManualState {
    now: Moment,
    wall: SystemTime,
    timers: Vec<(Moment, Sender<Instant>)>,
}

impl ManualClock {
    /// A clock at monotonic zero and the given wall time.
    pub fn new(wall: SystemTime) -> Self {
        Self { state: Arc::new(Mutex::new(ManualState { now: Duration::ZERO, wall, timers: Vec::new() })) }
    }

    /// Moves both clocks forward and fires the timers that fall due.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state.lock().expect("clock lock");
        state.now += by;
        state.wall += by;
        let now = state.now;
        state.timers.retain(|(due, tx)| {
            let fire = *due <= now;
            if fire {
                let _ = tx.try_send(Instant::now());
            }
            !fire
        });
    }

    /// Steps the wall clock alone, as NTP or an operator would.
    pub fn set_wall(&self, wall: SystemTime) {
        self.state.lock().expect("clock lock").wall = wall;
    }

    /// How many timers are waiting: lets a test know that a thread has reached its wait.
    pub fn waiting(&self) -> usize {
        self.state.lock().expect("clock lock").timers.len()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        self.state.lock().expect("clock lock").now
    }

    fn wall(&self) -> SystemTime {
        self.state.lock().expect("clock lock").wall
    }

    fn after(&self, delay: Duration) -> Receiver<Instant> {
        let mut state = self.state.lock().expect("clock lock");
        let (tx, rx) = bounded(1);
        if delay.is_zero() {
            let _ = tx.try_send(Instant::now());
        } else {
            let due = state.now + delay;
            state.timers.push((due, tx));
        }
        rx
    }
}

/// Tells every thread that the daemon is ending.
///
/// Clones share one signal. A thread either polls [`Stop::is_set`] or selects on [`Stop::channel`],
/// which disconnects when the signal is given.
#[derive(Clone)]
pub struct Stop {
    rx: Receiver<()>,
}

/// The other end of [`Stop`]: dropping it (or calling [`StopHandle::stop`]) gives the signal.
pub struct StopHandle {
    tx: Mutex<Option<Sender<()>>>,
}

/// Makes a stop signal and its handle.
pub fn stop_signal() -> (StopHandle, Stop) {
    let (tx, rx) = bounded(0);
    (StopHandle { tx: Mutex::new(Some(tx)) }, Stop { rx })
}

impl StopHandle {
    /// Gives the signal; calling it again does nothing.
    pub fn stop(&self) {
        self.tx.lock().expect("stop lock").take();
    }
}

impl Stop {
    /// A signal that is never given, for tools that run to their end.
    pub fn never() -> Self {
        Self { rx: never() }
    }

    /// Whether the signal was given.
    pub fn is_set(&self) -> bool {
        matches!(self.rx.try_recv(), Err(crossbeam_channel::TryRecvError::Disconnected))
    }

    /// A channel that never carries a message and disconnects at the signal.
    pub fn channel(&self) -> &Receiver<()> {
        &self.rx
    }

    /// Waits for `delay`, or less when the signal is given. Returns false when it was given.
    pub fn wait(&self, clock: &dyn Clock, delay: Duration) -> bool {
        let timer = clock.after(delay);
        select! {
            recv(self.rx) -> _ => false,
            recv(timer) -> _ => !self.is_set(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_ends_a_wait_at_once() {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
        let (handle, stop) = stop_signal();
        let waiter = std::thread::spawn({
            let (clock, stop) = (clock.clone(), stop.clone());
            move || stop.wait(&clock, Duration::from_secs(3600))
        });
        while clock.waiting() == 0 {
            std::thread::yield_now();
        }
        handle.stop();
        assert!(!waiter.join().expect("join"));
        assert!(stop.is_set());
    }

    #[test]
    fn manual_timers_fire_when_due_and_not_before() {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
        let timer = clock.after(Duration::from_secs(10));
        clock.advance(Duration::from_secs(9));
        assert!(timer.try_recv().is_err());
        clock.advance(Duration::from_secs(1));
        assert!(timer.try_recv().is_ok());
        assert_eq!(clock.wall(), SystemTime::UNIX_EPOCH + Duration::from_secs(10));
    }
}
