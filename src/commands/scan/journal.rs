//! What a scan with `--report` has found so far, on disk: one JSON object per line and input. Memory holds only where
//! each line is, so that ten thousand pictures need no more than ten; and a scan that was interrupted goes on from here.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use spotd::shown::Shown as _;
use spotd::verdict::Verdict;

/// What identifies an input and the settings that it was judged with; if any of it changes, it is judged again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Key {
    /// Its exact name.
    pub path: String,
    /// Length in bytes and last change in nanoseconds since 1970, of a file.
    pub file: Option<(u64, u64)>,
    /// Model and settings.
    pub settings: String,
}

impl Key {
    pub fn new(path: String, file: Option<&Path>, settings: &str) -> Self {
        let meta = file.and_then(|f| f.metadata().ok());
        let file = meta.map(|meta| {
            let changed = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
            let nanoseconds = changed.map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX));
            (meta.len(), nanoseconds)
        });
        Self { path, file, settings: settings.to_owned() }
    }
}

/// What was found of an input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub key: Key,
    pub score: Option<f64>,
    pub verdict: Option<Verdict>,
    pub failed: bool,
    pub truncated: bool,
    /// Its line of `--json`, and of the table.
    pub json: String,
    pub table: String,
    /// Its part of the report.
    pub html: String,
}

/// Where an entry is, and what its place in the report depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    offset: u64,
    bytes: usize,
    pub score: Option<f64>,
    pub verdict: Option<Verdict>,
    pub failed: bool,
}

/// The file.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    end: u64,
    /// All entries of this scan, in its order.
    pub places: Vec<Place>,
    known: BTreeMap<Key, Place>,
}

impl Journal {
    /// Begins one beside the report, or goes on with the one that is there.
    ///
    /// # Errors
    /// One is there and `resume` is not wanted; it cannot be read or written.
    pub fn open(report: &Path, resume: bool) -> anyhow::Result<Self> {
        let mut path = report.as_os_str().to_owned();
        path.push(".journal");
        let path = PathBuf::from(path);
        let shown = path.shown();
        anyhow::ensure!(
            resume || !path.exists(),
            "{shown} is what an interrupted scan has found so far; go on with --resume, or remove it"
        );
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(&path);
        let file =
            file.with_context(|| format!("{shown} cannot be written; check its folder and permissions"))?;
        let mut journal = Self { path, file, end: 0, places: Vec::new(), known: BTreeMap::new() };
        journal.read().with_context(|| format!("{shown} cannot be read"))?;
        Ok(journal)
    }

    /// Takes what an earlier scan has left; a line that it could not finish is cut off.
    fn read(&mut self) -> std::io::Result<()> {
        let mut reader = BufReader::new(self.file.try_clone()?);
        reader.seek(SeekFrom::Start(0))?;
        let mut line = Vec::new();
        loop {
            line.clear();
            let bytes = reader.read_until(b'\n', &mut line)?;
            let Ok(entry) = serde_json::from_slice::<Entry>(&line) else { break };
            if line.last() != Some(&b'\n') {
                break;
            }
            let place = Place::new(self.end, bytes, &entry);
            self.end += bytes as u64;
            self.known.insert(entry.key, place);
        }
        self.file.set_len(self.end)
    }

    /// How many inputs an earlier scan has left.
    pub fn left(&self) -> usize {
        self.known.len()
    }

    /// Whether an earlier scan has judged it; what could not be judged then is tried again.
    pub fn has(&self, key: &Key) -> bool {
        self.known.get(key).is_some_and(|place| !place.failed)
    }

    /// What is known of an input.
    ///
    /// # Errors
    /// It cannot be read any more.
    pub fn known(&mut self, key: &Key) -> std::io::Result<Option<Entry>> {
        self.known.get(key).copied().map(|place| self.entry(place)).transpose()
    }

    /// Keeps what was found of the next input.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&mut self, entry: &Entry) -> anyhow::Result<()> {
        let place = match self.known.get(&entry.key) {
            Some(place) if !place.failed => *place,
            _ => {
                let mut line = serde_json::to_vec(entry).context("an entry serialises")?;
                line.push(b'\n');
                self.file
                    .write_all(&line)
                    .with_context(|| format!("{} cannot be written; is the disk full?", self.path.shown()))?;
                let place = Place::new(self.end, line.len(), entry);
                self.end += line.len() as u64;
                place
            }
        };
        self.places.push(place);
        Ok(())
    }

    /// An entry, as it was added.
    ///
    /// # Errors
    /// The file was changed meanwhile.
    pub fn entry(&mut self, place: Place) -> std::io::Result<Entry> {
        let mut line = vec![0; place.bytes];
        self.file.seek(SeekFrom::Start(place.offset))?;
        self.file.read_exact(&mut line)?;
        Ok(serde_json::from_slice(&line)?)
    }

    /// Removes it: the report has everything.
    pub fn remove(self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            log::warn!("{} is no longer needed, and cannot be removed: {error}", self.path.shown());
        }
    }
}

impl Place {
    fn new(offset: u64, bytes: usize, entry: &Entry) -> Self {
        let Entry { score, verdict, failed, .. } = *entry;
        Self { offset, bytes, score, verdict, failed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, score: f64) -> Entry {
        Entry {
            key: Key { path: path.into(), file: None, settings: "model".into() },
            score: Some(score),
            verdict: Some(Verdict::Clear),
            failed: false,
            truncated: false,
            json: "{}".into(),
            table: path.into(),
            html: "<p>ü</p>".into(),
        }
    }

    #[test]
    fn what_was_found_before_an_interruption_is_there_and_half_a_line_is_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let report = dir.path().join("report.html");
        let mut journal = Journal::open(&report, false).expect("begun");
        journal.add(&entry("a", 0.25)).expect("written");
        journal.add(&entry("b", 0.75)).expect("written");
        assert!(Journal::open(&report, false).is_err(), "one is there");
        drop(journal);
        let file = dir.path().join("report.html.journal");
        let whole = std::fs::read(&file).expect("read");
        std::fs::write(&file, &whole[..whole.len() - 5]).expect("cut");

        let mut journal = Journal::open(&report, true).expect("goes on");
        assert_eq!(journal.left(), 1);
        let known = journal.known(&entry("a", 0.0).key).expect("read");
        assert_eq!(known, Some(entry("a", 0.25)));
        assert_eq!(journal.known(&entry("b", 0.0).key).expect("read"), None);
        let mut other = entry("a", 0.25);
        other.key.settings = "another model".into();
        assert_eq!(journal.known(&other.key).expect("read"), None);
        journal.add(&entry("a", 0.25)).expect("known");
        journal.add(&entry("b", 0.75)).expect("written");
        let places = journal.places.clone();
        let all: Vec<_> = places.iter().map(|&p| journal.entry(p).expect("read")).collect();
        assert_eq!(all, [entry("a", 0.25), entry("b", 0.75)]);
        journal.remove();
        assert!(!file.exists());
    }
}
