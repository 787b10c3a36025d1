//! What may be asked of a source while the daemon runs: not to be judged for a while, and to show a
//! picture. Whoever asks (MQTT) and whoever does it (the pipeline) know only this.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

/// A picture that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Whose.
    pub source: Arc<str>,
    /// The frame, encoded.
    pub jpeg: Vec<u8>,
}

/// The wishes for all sources. Clones share them.
#[derive(Clone)]
pub struct Controls {
    sources: Arc<BTreeMap<Arc<str>, Arc<Control>>>,
    snapshots: Receiver<Snapshot>,
}

/// The wishes for one source.
pub struct Control {
    id: Arc<str>,
    paused: AtomicBool,
    snapshot: AtomicBool,
    taken: Sender<Snapshot>,
}

impl Controls {
    /// No wishes, for these sources.
    pub fn new(ids: impl IntoIterator<Item = Arc<str>>) -> Self {
        let ids: Vec<Arc<str>> = ids.into_iter().collect();
        // One a source: a picture that nobody has taken yet is enough.
        let (taken, snapshots) = bounded(ids.len().max(1));
        let control = |id: Arc<str>| {
            let (paused, snapshot) = (AtomicBool::new(false), AtomicBool::new(false));
            (id.clone(), Arc::new(Control { id, paused, snapshot, taken: taken.clone() }))
        };
        Self { sources: Arc::new(ids.into_iter().map(control).collect()), snapshots }
    }

    /// The wishes for one source, if there is one of that name.
    pub fn source(&self, id: &str) -> Option<&Arc<Control>> {
        self.sources.get(id)
    }

    /// All sources, by name.
    pub fn ids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.sources.keys()
    }

    /// Pictures that were asked for, as they are taken.
    pub fn snapshots(&self) -> &Receiver<Snapshot> {
        &self.snapshots
    }
}

impl Control {
    /// Whether its frames are not to be judged.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Asks for its frames not to be judged, or to be judged again.
    pub fn pause(&self, pause: bool) {
        self.paused.store(pause, Ordering::Relaxed);
    }

    /// Asks for a picture of the next frame; asking again before it is there changes nothing.
    pub fn ask_snapshot(&self) {
        self.snapshot.store(true, Ordering::Relaxed);
    }

    /// Whether a picture is asked for.
    pub fn wants_snapshot(&self) -> bool {
        self.snapshot.load(Ordering::Relaxed)
    }

    /// Hands over what was asked for; `None` when it could not be made. False when the last one still waits
    /// to be fetched.
    pub fn give_snapshot(&self, jpeg: Option<Vec<u8>>) -> bool {
        self.snapshot.store(false, Ordering::Relaxed);
        let Some(jpeg) = jpeg else { return true };
        !matches!(self.taken.try_send(Snapshot { source: self.id.clone(), jpeg }), Err(TrySendError::Full(_)))
    }
}
