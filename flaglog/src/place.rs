//! The log's folder, held open and locked, and whether its path still leads there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::LogError;
use super::evidence::FOLDER;
use super::fs::{Fs, Identity, Lock};
use super::index::Index;
use super::record::Record;
use super::recover::{Found, recover};
use super::segment::Segment;

/// A log's folder, held open and locked.
pub(super) struct Place {
    /// The path to it.
    pub dir: PathBuf,
    /// The folder itself, whatever its path leads to now.
    pub fs: Arc<dyn Fs>,
    /// Where paths are looked up.
    outside: Arc<dyn Fs>,
    pub lock: Box<dyn Lock>,
    /// The folder of evidence, once there is one.
    pub evidence: Option<Identity>,
}

/// What is no longer as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Displaced {
    /// The path does not lead to the folder.
    Folder(&'static str),
    /// The lock's file is another one.
    Lock,
    /// The newest segment is another file.
    Segment(&'static str),
    /// The folder of evidence is another one.
    Evidence,
}

/// A folder that was opened for writing, with what lies in it.
pub(super) struct Opened {
    pub place: Place,
    pub found: Found,
    pub index: Index,
}

impl Opened {
    /// Makes the folder if there is none, takes its lock, recovers from a crash and reads all of it.
    pub fn open(outside: &Arc<dyn Fs>, dir: &Path) -> Result<Self, LogError> {
        let failed = |error: io::Error| LogError::Dir { dir: dir.to_owned(), error };
        outside.create_dirs(dir).map_err(failed)?;
        if let Some(parent) = dir.parent() {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            // The folder above may be closed to us; whoever made this one there has then made it durable.
            let _ = outside.sync_dir(parent);
        }
        let fs = outside.hold(dir).map_err(failed)?;
        let lock = take_lock(&*fs, dir)?;
        let found = recover(&fs, dir)?;
        let index = Index::build(&fs, dir).map_err(failed)?;
        let evidence = fs.identity(&dir.join(FOLDER)).ok();
        let place = Place { dir: dir.to_owned(), fs, outside: outside.clone(), lock, evidence };
        Ok(Self { place, found, index })
    }
}

pub(super) fn take_lock(fs: &dyn Fs, dir: &Path) -> Result<Box<dyn Lock>, LogError> {
    fs.lock(&dir.join("lock")).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => LogError::Locked { dir: dir.to_owned() },
        _ => LogError::Dir { dir: dir.to_owned(), error },
    })
}

/// Which file or folder a path leads to, if to any.
fn leads_to(fs: &dyn Fs, path: &Path) -> io::Result<Option<Identity>> {
    match fs.identity(path) {
        Ok(identity) => Ok(Some(identity)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}

impl Place {
    /// What is no longer as it was, the gravest first; `segment` is the one that is written to.
    ///
    /// # Errors
    /// As the operating system says: whether all is in its place cannot be told.
    pub fn look(&self, segment: Option<&Segment>) -> io::Result<Option<Displaced>> {
        match leads_to(&*self.outside, &self.dir)? {
            None => return Ok(Some(Displaced::Folder("was renamed or removed"))),
            Some(now) if now != self.fs.identity(&self.dir)? => {
                return Ok(Some(Displaced::Folder("was replaced, or something was mounted over it")));
            }
            Some(_) => {}
        }
        if leads_to(&*self.fs, &self.dir.join("lock"))? != Some(self.lock.identity()?) {
            return Ok(Some(Displaced::Lock));
        }
        if let Some(how) = segment.map(|s| self.segment_is_other(s)).transpose()?.flatten() {
            return Ok(Some(Displaced::Segment(how)));
        }
        let evidence =
            self.evidence.is_some() && leads_to(&*self.fs, &self.dir.join(FOLDER))? != self.evidence;
        Ok(evidence.then_some(Displaced::Evidence))
    }

    fn segment_is_other(&self, segment: &Segment) -> io::Result<Option<&'static str>> {
        let Some(there) = leads_to(&*self.fs, &segment.path)? else {
            // One that has no record yet is made with its first.
            return Ok((segment.len > 0).then_some("was renamed or removed"));
        };
        if let Some(file) = &segment.file
            && file.identity()? != there
        {
            return Ok(Some("was replaced by another file"));
        }
        let len = self.fs.len(&segment.path)?;
        // Where a write has failed, what lies behind the durable length is unknown and will be cut.
        let written = segment.file.is_some();
        Ok(match len {
            _ if len < segment.len => Some("was cut by somebody"),
            _ if len > segment.len && written => Some("was written to by somebody else"),
            _ => None,
        })
    }

    /// Whether the next record can be written, as far as a look and a touch can tell: the folder, the segment and the
    /// folder of evidence allow it, and the disk takes a change.
    ///
    /// # Errors
    /// As the operating system says: they do not.
    pub fn takes_writes(&self, segment: Option<&Segment>) -> io::Result<()> {
        self.fs.may_write(&self.dir)?;
        let evidence = self.dir.join(FOLDER);
        for path in segment.map(|s| &s.path).into_iter().chain([&evidence]) {
            match self.fs.may_write(path) {
                // It is made with what is written first.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                done => done?,
            }
        }
        self.lock.touch()
    }

    /// Whether the pictures of a record that is about to be acknowledged are where it says.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn has_evidence(&mut self, record: &Record) -> io::Result<bool> {
        let Some(files) = &record.evidence else { return Ok(true) };
        self.evidence = self.evidence.or(leads_to(&*self.fs, &self.dir.join(FOLDER))?);
        for file in files.files() {
            match self.fs.len(&self.dir.join(&file.file)) {
                Ok(bytes) if bytes == file.bytes => {}
                Ok(_) => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }
}

/// What a new log has yet to say of the one before.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// The note, until it is written.
    pub note: Option<String>,
    /// Last records of events that go on, the oldest last.
    pub events: Vec<Record>,
}
