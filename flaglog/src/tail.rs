//! The end of a log that a writer in this process keeps growing: readers are woken, and see a record only
//! once it is durable.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender, bounded};
use ulid::Ulid;

use super::cursor::{CursorFile, Mark};
use super::export::{Bundle, ExportError};
use super::fs::{Fs, read_whole, write_whole};
use super::reader::{Item, ReadError, Reader};
use super::record::EvidenceFile;

/// A handle to follow a [`super::FlagLog`] with. Clones are the same handle.
#[derive(Debug, Clone)]
pub struct Tail {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    durable: u64,
    wakers: Vec<Sender<()>>,
    /// The log that has taken this one's place.
    next: Option<Tail>,
}

impl Tail {
    pub(super) fn new(fs: Arc<dyn Fs>, dir: &Path, durable: u64) -> Self {
        let shared = Arc::new(Mutex::new(Shared { durable, ..Shared::default() }));
        Self { fs, dir: dir.to_owned(), shared }
    }

    /// Whether both follow the same log, not one that has taken the other's place.
    pub fn is_same(&self, other: &Tail) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// The log's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The cursor of the reader `name` (letters, digits and `-`); touches nothing yet.
    ///
    /// # Panics
    /// When `name` has other characters.
    pub fn cursor(&self, name: &str) -> CursorFile {
        CursorFile::new(self.fs.clone(), &self.dir, name)
    }

    /// A file of evidence that a record names, as long as the record says at most.
    ///
    /// # Errors
    /// A text that says why it cannot be read: it was removed, it is longer, the record names no file of the log.
    pub fn evidence(&self, file: &EvidenceFile) -> Result<Vec<u8>, String> {
        let path = file.path_in(&self.dir).ok_or("the record names a file that is none of the log's")?;
        let most = usize::try_from(file.bytes).unwrap_or(usize::MAX);
        read_whole(&*self.fs, &path, most).map_err(|e| e.to_string())
    }

    /// An event with its evidence, to be sent away as a ZIP file; `before` is the record before its first one, if that is
    /// known. Its pictures are checked now.
    ///
    /// # Errors
    /// [`ExportError`]: there is no such event, or it does not hold.
    pub fn bundle(&self, event: Ulid, before: Option<Mark>) -> Result<Bundle, ExportError> {
        Bundle::find(self.fs.clone(), self.dir.clone(), event, before, self.durable())
    }

    /// Reads a file that a publisher keeps in the log's folder, of `most` bytes.
    ///
    /// # Errors
    /// As the operating system says; also when it is longer.
    pub fn read(&self, name: &str, most: usize) -> io::Result<Vec<u8>> {
        read_whole(&*self.fs, &self.dir.join(name), most)
    }

    /// Replaces such a file durably.
    ///
    /// # Errors
    /// As the operating system says; the old one is still there then.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        write_whole(&*self.fs, &self.dir.join(name), bytes)
    }

    /// `seq` of the last record that is durable; 0 when there is none.
    pub fn durable(&self) -> u64 {
        self.lock().durable
    }

    /// The log that has taken this one's place, because its folder was renamed, removed or mounted over: what is
    /// appended from then on is there. This one can be read to its end first, as far as it still exists.
    pub fn successor(&self) -> Option<Tail> {
        self.lock().next.clone()
    }

    /// A channel that gets a message after one or more records have become durable, also in a log that takes this
    /// one's place.
    pub fn wake(&self) -> Receiver<()> {
        if let Some(next) = self.successor() {
            return next.wake();
        }
        let (tx, rx) = bounded(1);
        self.lock().wakers.push(tx);
        rx
    }

    /// A reader from the start.
    pub fn from_start(&self) -> TailReader {
        TailReader { tail: self.clone(), reader: Reader::from_start(self.fs.clone(), &self.dir) }
    }

    /// A reader from behind a record.
    ///
    /// # Errors
    /// As [`Reader::after`].
    pub fn after(&self, mark: Mark) -> Result<TailReader, String> {
        Ok(TailReader { tail: self.clone(), reader: Reader::after(self.fs.clone(), &self.dir, mark)? })
    }

    /// Says that everything up to `seq` is durable.
    pub(super) fn advance(&self, seq: u64) {
        let mut shared = self.lock();
        shared.durable = seq;
        shared.wake();
    }

    /// Says that the log goes on elsewhere, where everything up to `durable` is durable. Returns that one.
    pub(super) fn succeed(&self, fs: Arc<dyn Fs>, durable: u64) -> Tail {
        let next = Tail::new(fs, &self.dir, durable);
        let mut shared = self.lock();
        shared.wake();
        next.lock().wakers = std::mem::take(&mut shared.wakers);
        shared.next = Some(next.clone());
        next
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Shared {
    fn wake(&mut self) {
        // A full channel is a reader that has not looked yet; a closed one is gone.
        self.wakers
            .retain(|w| !matches!(w.try_send(()), Err(crossbeam_channel::TrySendError::Disconnected(()))));
    }
}

/// Reads a growing log up to what is durable.
#[derive(Debug)]
pub struct TailReader {
    tail: Tail,
    reader: Reader,
}

impl TailReader {
    /// The next durable record, or `None` when there is none now.
    ///
    /// # Errors
    /// As [`Reader::next`].
    pub fn next_durable(&mut self) -> Result<Option<Item>, ReadError> {
        let before = self.reader.bookmark();
        let durable = self.tail.durable();
        match self.reader.next() {
            // Written, but a crash or a failed fsync may still take it back and put another in its place.
            Ok(Some(item)) if item.entry.seq() > durable => {
                self.reader.rewind(before);
                Ok(None)
            }
            other => other,
        }
    }
}
