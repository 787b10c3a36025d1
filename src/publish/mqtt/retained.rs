//! A durable list of what the broker retains for us, so that a source that no longer exists, or a
//! feature that was turned off, is removed there too, even if the daemon was not running meanwhile.
//!
//! A topic is in the file before anything is published on it, and leaves it after the broker has
//! acknowledged its removal: the file may list too much, but never too little.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::flaglog::Tail;

/// Longest file that is read, in bytes; one of our topics takes about 80.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Its name, in the log's folder.
const FILE: &str = "mqtt-retained.json";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    topics: BTreeSet<String>,
}

/// The list.
pub(super) struct Retained {
    /// The list lies in its folder.
    log: Tail,
    /// What the broker may retain for us.
    known: BTreeSet<String>,
    /// What it should retain.
    wanted: BTreeSet<String>,
}

impl Retained {
    /// The list in a log's folder; `wanted` is everything that will be published from now on.
    pub fn load(log: &Tail, wanted: BTreeSet<String>) -> Self {
        let mut memory = Self { log: log.clone(), known: BTreeSet::new(), wanted };
        memory.read();
        memory
    }

    /// Merges the folder's list into what is known, and writes that back.
    fn read(&mut self) {
        let path = self.path();
        let found = match self.log.read(FILE, MAX_BYTES) {
            Ok(bytes) => parse(&bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            Err(e) => Err(e.to_string()),
        };
        let there = found.unwrap_or_else(|e| {
            log::warn!(
                "{}: {e}; what earlier runs left retained at the broker is not removed",
                path.display()
            );
            BTreeSet::new()
        });
        self.known.extend(there.iter().chain(&self.wanted).cloned());
        if self.known != there {
            self.save();
        }
    }

    /// Moves on with a log whose folder was taken away.
    pub fn follow(&mut self) {
        while let Some(next) = self.log.successor() {
            self.log = next;
            self.read();
        }
    }

    fn path(&self) -> PathBuf {
        self.log.dir().join(FILE)
    }

    /// What the broker retains but should not.
    pub fn stale(&self) -> Vec<String> {
        self.known.difference(&self.wanted).cloned().collect()
    }

    /// The broker has removed a topic.
    pub fn removed(&mut self, topic: &str) {
        if !self.wanted.contains(topic) && self.known.remove(topic) {
            self.save();
        }
    }

    fn save(&self) {
        let text = serde_json::to_string(&Stored { version: VERSION, topics: self.known.clone() });
        let path = self.path();
        let saved = self.log.write(FILE, text.expect("plain members").as_bytes());
        if let Err(e) = saved {
            log::warn!("{}: {e}; retained messages of removed sources may remain", path.display());
        }
    }
}

fn parse(bytes: &[u8]) -> Result<BTreeSet<String>, String> {
    let stored: Stored =
        serde_json::from_slice(bytes).map_err(|e| format!("it is not a list of topics: {e}"))?;
    if stored.version != VERSION {
        return Err(format!("it has version {}, this program knows {VERSION}", stored.version));
    }
    // The file may have been edited; nothing but valid topics reaches the broker.
    let is_topic = |t: &String| !t.is_empty() && t.len() <= 65_535 && !t.contains(['+', '#', '\0']);
    Ok(stored.topics.into_iter().filter(is_topic).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::flaglog::{FlagLog, LogConfig};

    fn set(topics: &[&str]) -> BTreeSet<String> {
        topics.iter().map(|t| (*t).to_owned()).collect()
    }

    fn log(dir: &std::path::Path) -> FlagLog {
        let update_every = std::time::Duration::from_secs(30);
        let config = LogConfig { dir: dir.to_owned(), jpeg_quality: 95, update_every };
        FlagLog::open(&config, "box", SystemClock::shared()).expect("a log")
    }

    #[test]
    fn what_is_no_longer_wanted_is_remembered_until_it_is_removed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let log = log(dir.path());
        let open = |wanted: &[&str]| Retained::load(&log.tail(), set(wanted));
        assert!(open(&["a", "b"]).stale().is_empty());
        // Stands for a run that ended before it could remove anything.
        assert_eq!(open(&["b", "c"]).stale(), ["a"]);
        let mut memory = open(&["c"]);
        assert_eq!(memory.stale(), ["a", "b"]);
        memory.removed("a");
        memory.removed("c");
        assert_eq!(open(&["c"]).stale(), ["b"]);
    }

    #[test]
    fn a_damaged_memory_is_replaced() {
        let dir = tempfile::tempdir().expect("tempdir");
        let log = log(dir.path());
        let path = dir.path().join("mqtt-retained.json");
        for bad in ["", "[]", "{\"version\":2,\"topics\":[]}"] {
            assert!(parse(bad.as_bytes()).is_err());
            std::fs::write(&path, bad).expect("write");
            assert!(Retained::load(&log.tail(), set(&["a"])).stale().is_empty());
            assert_eq!(parse(&std::fs::read(&path).expect("read")), Ok(set(&["a"])));
        }
    }

    #[test]
    fn the_memory_goes_along_when_the_folder_is_taken_away() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("flags");
        let mut log = log(&path);
        let mut memory = Retained::load(&log.tail(), set(&["a"]));
        std::fs::rename(&path, dir.path().join("elsewhere")).expect("renamed");
        // An earlier log in this place knows of another topic.
        std::fs::create_dir(&path).expect("made");
        std::fs::write(path.join("mqtt-retained.json"), "{\"version\":1,\"topics\":[\"b\"]}")
            .expect("written");
        log.settle().expect("a new log");
        memory.follow();
        assert_eq!(memory.stale(), ["b"]);
        let there = std::fs::read(path.join("mqtt-retained.json")).expect("read");
        assert_eq!(parse(&there), Ok(set(&["a", "b"])));
    }
}
