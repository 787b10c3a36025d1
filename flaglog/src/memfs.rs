//! A file system in memory for tests: it can fail at any operation, be full, and lose power, after which
//! only what was synced is there (and, as on a real disk, any prefix of what was not).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::fs::{Fs, Identity, Lock, LogFile};

#[derive(Debug, Clone, Default)]
struct Node {
    content: Vec<u8>,
    /// What is there after a power cut.
    durable: Vec<u8>,
}

type Id = usize;

#[derive(Debug, Default)]
struct State {
    nodes: Vec<Node>,
    names: BTreeMap<PathBuf, Id>,
    durable_names: BTreeMap<PathBuf, Id>,
    dirs: BTreeSet<PathBuf>,
    durable_dirs: BTreeSet<PathBuf>,
    /// Folders renamed since their folder was synced.
    moved: Vec<(PathBuf, PathBuf)>,
    locked: bool,
    /// Changing operations so far.
    operations: u64,
    /// These fail, by number.
    fail_at: Option<(std::ops::Range<u64>, io::ErrorKind)>,
    /// Bytes that all files together may hold.
    capacity: Option<usize>,
}

/// The file system; clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemFs(Arc<Mutex<State>>);

impl MemFs {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("memfs lock")
    }

    /// Lets the changing operations with these numbers fail, counted from now.
    pub fn fail(&self, numbers: std::ops::Range<u64>, kind: io::ErrorKind) {
        let mut state = self.state();
        let base = state.operations;
        state.fail_at = Some((base + numbers.start..base.saturating_add(numbers.end), kind));
    }

    /// All works again.
    pub fn heal(&self) {
        let mut state = self.state();
        state.fail_at = None;
        state.capacity = None;
    }

    /// From now on only `more` bytes fit.
    pub fn leave_room(&self, more: usize) {
        let mut state = self.state();
        state.capacity = Some(state.used() + more);
    }

    /// Cuts the power: names and contents go back to what was synced, except that of each file the first
    /// `kept` of what was appended since may be there as well, for some of the pages as zeros.
    pub fn cut_power(&self, kept: usize, zeros: bool) {
        let mut state = self.state();
        state.names = state.durable_names.clone();
        state.dirs = state.durable_dirs.clone();
        state.moved.clear();
        for node in &mut state.nodes {
            let durable = node.durable.len();
            if node.content.starts_with(&node.durable) {
                let end = durable.saturating_add(kept).min(node.content.len());
                let tail = node.content[durable..end].to_vec();
                node.durable.extend(tail.iter().map(|&b| if zeros { 0 } else { b }));
            }
            node.content = node.durable.clone();
        }
        state.locked = false;
        state.fail_at = None;
    }

    /// Ends the process: files are as they were written, the lock is free.
    pub fn kill(&self) {
        let mut state = self.state();
        state.locked = false;
        state.fail_at = None;
    }

    /// Changes a file behind the log's back.
    pub fn edit(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let id = state.names[path];
        change(&mut state.nodes[id].content);
        state.nodes[id].durable = state.nodes[id].content.clone();
    }

    /// Makes a file with contents, behind the log's back.
    pub fn put(&self, path: &Path, content: &[u8]) {
        let mut state = self.state();
        let node = Node { content: content.to_vec(), durable: content.to_vec() };
        state.nodes.push(node);
        let id = state.nodes.len() - 1;
        state.names.insert(path.to_owned(), id);
        state.durable_names.insert(path.to_owned(), id);
    }

    /// All files there are.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }
}

/// The names of a tree in which `from` is called `to`.
fn renamed(path: &Path, from: &Path, to: &Path) -> PathBuf {
    path.strip_prefix(from)
        .map_or_else(|_| path.to_owned(), |rest| to.components().chain(rest.components()).collect())
}

impl State {
    fn used(&self) -> usize {
        self.names.values().map(|&id| self.nodes[id].content.len()).sum()
    }

    /// Counts an operation and lets it fail if it is to.
    fn step(&mut self) -> io::Result<()> {
        let would = self.would();
        self.operations += 1;
        would
    }

    /// Whether the next operation fails.
    fn would(&self) -> io::Result<()> {
        match &self.fail_at {
            Some((range, kind)) if range.contains(&self.operations) => Err(io::Error::new(*kind, "injected")),
            _ => Ok(()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<Id> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Fs for MemFs {
    fn hold(&self, dir: &Path) -> io::Result<Arc<dyn Fs>> {
        self.identity(dir)?;
        Ok(Arc::new(self.clone()))
    }

    fn identity(&self, path: &Path) -> io::Result<Identity> {
        let state = self.state();
        if let Some(&id) = state.names.get(path) {
            return Ok(file(id));
        }
        if state.locked && path.ends_with("lock") {
            return Ok(LOCK);
        }
        // Folders are never replaced here: what a path leads to is what it is called.
        let there = state.dirs.contains(path);
        if there { Ok(Identity { device: 1, inode: 0 }) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn create_dirs(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        for dir in dir.ancestors() {
            state.dirs.insert(dir.to_owned());
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let inside = state.names.keys().chain(&state.dirs).filter(|p| p.parent() == Some(dir));
        let names: Vec<String> =
            inside.map(|p| p.file_name().expect("a name").to_string_lossy().into_owned()).collect();
        if names.is_empty() && !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(names)
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        let state = self.state();
        Ok(state.nodes[state.find(path)?].content.len() as u64)
    }

    fn read(&self, path: &Path, offset: u64, max: usize) -> io::Result<Vec<u8>> {
        let state = self.state();
        let content = &state.nodes[state.find(path)?].content;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        Ok(content[start..start.saturating_add(max).min(content.len())].to_vec())
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let mut state = self.state();
        state.step()?;
        let id = match state.find(path) {
            Ok(id) => id,
            Err(_) => {
                state.nodes.push(Node::default());
                let id = state.nodes.len() - 1;
                state.names.insert(path.to_owned(), id);
                id
            }
        };
        Ok(Box::new(MemFile { fs: self.clone(), id }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        if state.dirs.contains(from) {
            assert_eq!(from.parent(), to.parent(), "folders are only renamed where they are");
            if state.names.keys().chain(&state.dirs).any(|p| p.parent() == Some(to)) {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            let names = std::mem::take(&mut state.names);
            state.names = names.into_iter().map(|(p, id)| (renamed(&p, from, to), id)).collect();
            let dirs = std::mem::take(&mut state.dirs);
            state.dirs = dirs.iter().map(|p| renamed(p, from, to)).collect();
            state.moved.push((from.to_owned(), to.to_owned()));
            return Ok(());
        }
        let id = state.find(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), id);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.find(path)?;
        state.names.remove(path);
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        if state.names.keys().chain(&state.dirs).any(|p| p.parent() == Some(dir)) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        if state.dirs.remove(dir) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn free(&self, _: &Path) -> io::Result<u64> {
        let state = self.state();
        Ok(state.capacity.map_or(u64::MAX, |c| c.saturating_sub(state.used()) as u64))
    }

    fn may_write(&self, path: &Path) -> io::Result<()> {
        self.state().would()?;
        self.identity(path).map(drop)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        // As a path with `.` at its end names the folder before it.
        let dir: PathBuf = dir.components().collect();
        let (here, elsewhere) =
            std::mem::take(&mut state.moved).into_iter().partition(|(from, _)| from.parent() == Some(&dir));
        state.moved = elsewhere;
        for (from, to) in here {
            let names = std::mem::take(&mut state.durable_names);
            state.durable_names = names.into_iter().map(|(p, id)| (renamed(&p, &from, &to), id)).collect();
            let dirs = std::mem::take(&mut state.durable_dirs);
            state.durable_dirs = dirs.iter().map(|p| renamed(p, &from, &to)).collect();
        }
        let dirs: Vec<PathBuf> = state.dirs.iter().filter(|p| p.parent() == Some(&dir)).cloned().collect();
        let gone: Vec<PathBuf> = state
            .durable_dirs
            .iter()
            .filter(|p| p.parent() == Some(&dir) && !dirs.contains(p))
            .cloned()
            .collect();
        // A folder that is gone for good has nothing in it that could come back.
        state.durable_names.retain(|p, _| !gone.iter().any(|d| p.starts_with(d)));
        state.durable_dirs.retain(|p| p.parent() != Some(&dir));
        state.durable_dirs.extend(dirs);
        let here: Vec<(PathBuf, Id)> = state
            .names
            .iter()
            .filter(|(p, _)| p.parent() == Some(&dir))
            .map(|(p, id)| (p.clone(), *id))
            .collect();
        state.durable_names.retain(|p, _| p.parent() != Some(&dir));
        state.durable_names.extend(here);
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<Box<dyn Lock>> {
        let mut state = self.state();
        if std::mem::replace(&mut state.locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(MemLock(self.clone())))
    }
}

/// What the lock is, which is no file here.
const LOCK: Identity = Identity { device: 2, inode: 0 };

fn file(id: Id) -> Identity {
    Identity { device: 0, inode: id as u64 }
}

struct MemLock(MemFs);

impl Lock for MemLock {
    fn identity(&self) -> io::Result<Identity> {
        Ok(LOCK)
    }

    fn touch(&self) -> io::Result<()> {
        self.0.state().would()
    }
}

impl Drop for MemLock {
    fn drop(&mut self) {
        self.0.state().locked = false;
    }
}

struct MemFile {
    fs: MemFs,
    id: Id,
}

impl LogFile for MemFile {
    fn identity(&self) -> io::Result<Identity> {
        Ok(file(self.id))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.fs.state().nodes[self.id].content.len() as u64)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.fs.state();
        // A write that fails has written a part.
        let done = state.step();
        let room = state.capacity.map_or(usize::MAX, |c| c.saturating_sub(state.used()));
        let fits = if done.is_err() { bytes.len() / 2 } else { bytes.len() }.min(room);
        state.nodes[self.id].content.extend_from_slice(&bytes[..fits]);
        done?;
        if fits < bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.fs.state();
        state.step()?;
        let node = &mut state.nodes[self.id];
        node.durable = node.content.clone();
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.fs.state();
        state.step()?;
        let len = usize::try_from(len).expect("small");
        state.nodes[self.id].content.resize(len, 0);
        Ok(())
    }
}
