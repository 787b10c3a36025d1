//! Where an export goes: a new folder, or one ZIP file.
//!
//! A ZIP file is stored without compression, because the pictures are compressed already and any program
//! can take it apart then. It gets its name only when all of it is on the disk.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::error::ExportError;
use crate::fs::{FILE_MODE, Fs, TMP, write_whole};

/// Takes an export's files.
pub(super) enum Target {
    Folder { fs: Arc<dyn Fs>, dir: PathBuf },
    Zip(Box<Zip>),
}

/// A ZIP file that is being written.
pub(super) struct Zip {
    /// Its name in the end.
    path: PathBuf,
    /// Its name until then.
    tmp: PathBuf,
    /// Taken out when it is finished.
    writer: Option<ZipWriter<File>>,
    /// The folder in it that holds everything.
    root: String,
    options: SimpleFileOptions,
}

/// Whether a path names a ZIP file by its ending.
pub(super) fn is_zip(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("zip"))
}

impl Target {
    /// A new folder, or a ZIP file with all of it in the folder `root`, if the path ends in `.zip`.
    pub fn create(fs: &Arc<dyn Fs>, to: &Path, root: &str, now: Timestamp) -> Result<Self, ExportError> {
        let failed = |error| ExportError::Io { path: to.to_owned(), error };
        if !is_zip(to) {
            if fs.list(to).is_ok_and(|names| !names.is_empty()) {
                return Err(ExportError::NotEmpty { to: to.to_owned() });
            }
            fs.create_dirs(to).map_err(failed)?;
            return Ok(Self::Folder { fs: fs.clone(), dir: to.to_owned() });
        }
        if to.symlink_metadata().is_ok() {
            return Err(ExportError::Exists { to: to.to_owned() });
        }
        if let Some(parent) = to.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs.create_dirs(parent).map_err(failed)?;
        }
        let mut tmp = OsString::from(to);
        tmp.push(TMP);
        let tmp = PathBuf::from(tmp);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&tmp);
        let file = file.map_err(|error| ExportError::Io { path: tmp.clone(), error })?;
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(dos_time(now))
            .unix_permissions(FILE_MODE);
        let (path, writer) = (to.to_owned(), Some(ZipWriter::new(file)));
        Ok(Self::Zip(Box::new(Zip { path, tmp, writer, root: root.to_owned(), options })))
    }

    /// Adds a file; `name` is relative, with `/` between folder and file.
    pub fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), ExportError> {
        match self {
            Self::Folder { fs, dir } => {
                let path = dir.join(name);
                let parent = path.parent().expect("it lies in a folder");
                fs.create_dirs(parent)
                    .and_then(|()| write_whole(&**fs, &path, bytes))
                    .map_err(|error| ExportError::Io { path, error })
            }
            Self::Zip(zip) => zip.put(name, bytes).map_err(|error| zip.failed(error)),
        }
    }

    /// All is there.
    pub fn finish(self) -> Result<(), ExportError> {
        match self {
            Self::Folder { .. } => Ok(()),
            Self::Zip(mut zip) => zip.finish().map_err(|error| zip.failed(error)),
        }
    }
}

impl Zip {
    fn put(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let writer = self.writer.as_mut().expect("it is not finished");
        writer.start_file(format!("{}/{name}", self.root), self.options)?;
        writer.write_all(bytes)
    }

    fn finish(&mut self) -> io::Result<()> {
        let writer = self.writer.take().expect("it is finished once");
        writer.finish()?.sync_all()?;
        // A link refuses to replace what came to lie there meanwhile, as a rename would not.
        std::fs::hard_link(&self.tmp, &self.path).or_else(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => Err(e),
            // File systems without links, such as those of memory sticks.
            _ => std::fs::rename(&self.tmp, &self.path),
        })?;
        let parent = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()
    }

    fn failed(&self, error: io::Error) -> ExportError {
        ExportError::Io { path: self.path.clone(), error }
    }
}

impl Drop for Zip {
    fn drop(&mut self) {
        // Dropped half done, the writer finishes what it has: only then can it go.
        drop(self.writer.take());
        let _ = std::fs::remove_file(&self.tmp);
    }
}

/// A time as ZIP files keep it: two seconds exact, from 1980 on, here in UTC.
fn dos_time(at: Timestamp) -> DateTime {
    let at = at.to_zoned(TimeZone::UTC);
    let part = |n: i8| u8::try_from(n).unwrap_or(0);
    let year = u16::try_from(at.year()).unwrap_or(0);
    let (month, day) = (part(at.month()), part(at.day()));
    DateTime::from_date_and_time(year, month, day, part(at.hour()), part(at.minute()), part(at.second()))
        .unwrap_or_default()
}
