//! Where an export goes: a new folder, one ZIP file, or one that is sent away while it is made.
//!
//! A ZIP file is stored without compression, because the pictures are compressed already and any program
//! can take it apart then. It gets its name only when all of it is on the disk.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::error::ExportError;
use crate::fs::{FILE_MODE, Fs, TMP, write_whole};

/// Takes an export's files.
pub(super) enum Target<'a> {
    Folder { fs: Arc<dyn Fs>, dir: PathBuf },
    Zip(Box<ZipFile>),
    Stream(Box<Zip<StreamWriter<Once<'a>>>>),
}

/// A ZIP file that is being written to the disk.
pub(super) struct ZipFile {
    /// Its name in the end.
    path: PathBuf,
    /// Its name until then.
    tmp: PathBuf,
    /// Taken out when it is finished.
    zip: Option<Zip<File>>,
}

/// A ZIP file on its way to wherever it goes.
pub(super) struct Zip<W: Write + Seek> {
    writer: ZipWriter<W>,
    /// The folder in it that holds everything.
    root: String,
    options: SimpleFileOptions,
}

/// What has failed once takes everything and gives nothing on: a ZIP file that is dropped half done is finished by its
/// writer, which would complain on standard error that nobody is there any more.
pub(super) struct Once<'a> {
    to: &'a mut dyn Write,
    failed: bool,
}

impl Write for Once<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed {
            return Ok(bytes.len());
        }
        let done = self.to.write(bytes);
        self.failed = done.is_err();
        done
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.failed { Ok(()) } else { self.to.flush() }
    }
}

/// Bytes of lines that are put together before they are written.
const CHUNK: usize = 64 * 1024;

/// Whether a path names a ZIP file by its ending.
pub(super) fn is_zip(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("zip"))
}

impl<'a> Target<'a> {
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
        let zip = Some(Zip::new(ZipWriter::new(file), root, now));
        Ok(Self::Zip(Box::new(ZipFile { path: to.to_owned(), tmp, zip })))
    }

    /// A ZIP file that is written from its beginning to its end, for what cannot go back.
    pub fn stream(to: &'a mut dyn Write, root: &str, now: Timestamp) -> Self {
        let to = Once { to, failed: false };
        Self::Stream(Box::new(Zip::new(ZipWriter::new_stream(to), root, now)))
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
            Self::Zip(file) => file.zip().put(name, bytes).map_err(|error| file.failed(error)),
            Self::Stream(zip) => zip.put(name, bytes).map_err(|error| zip.failed(error)),
        }
    }

    /// Adds a file of lines, which are not all held at once. `next` gives the next one without its line feed, or `None`
    /// at the end.
    pub fn put_lines(
        &mut self,
        name: &str,
        mut next: impl FnMut() -> Result<Option<String>, ExportError>,
    ) -> Result<(), ExportError> {
        let mut file = match self {
            Self::Folder { fs, dir } => {
                let path = dir.join(name);
                let file = fs.append(&path).map_err(|error| ExportError::Io { path: path.clone(), error })?;
                Some((path, file))
            }
            Self::Zip(file) => file.zip().begin(name).map(|()| None).map_err(|error| file.failed(error))?,
            Self::Stream(zip) => zip.begin(name).map(|()| None).map_err(|error| zip.failed(error))?,
        };
        let mut chunk = Vec::with_capacity(CHUNK);
        loop {
            let line = next()?;
            if let Some(line) = &line {
                chunk.extend_from_slice(line.as_bytes());
                chunk.push(b'\n');
            }
            if chunk.len() >= CHUNK || line.is_none() {
                match (&mut *self, &mut file) {
                    (Self::Zip(file), _) => {
                        file.zip().writer.write_all(&chunk).map_err(|error| file.failed(error))?;
                    }
                    (Self::Stream(zip), _) => {
                        zip.writer.write_all(&chunk).map_err(|error| zip.failed(error))?;
                    }
                    (Self::Folder { .. }, Some((path, file))) => {
                        file.write(&chunk).map_err(|error| ExportError::Io { path: path.clone(), error })?;
                    }
                    (Self::Folder { .. }, None) => unreachable!("a folder has a file"),
                }
                chunk.clear();
            }
            if line.is_none() {
                break;
            }
        }
        if let (Self::Folder { fs, dir }, Some((path, mut file))) = (self, file) {
            let synced = file.sync().and_then(|()| fs.sync_dir(dir));
            synced.map_err(|error| ExportError::Io { path, error })?;
        }
        Ok(())
    }

    /// All is there.
    pub fn finish(self) -> Result<(), ExportError> {
        match self {
            Self::Folder { .. } => Ok(()),
            Self::Zip(mut file) => file.finish().map_err(|error| file.failed(error)),
            Self::Stream(zip) => {
                let path = PathBuf::from(&zip.root);
                let failed = |error: io::Error| ExportError::Io { path, error };
                match zip.writer.finish() {
                    Ok(mut out) => out.flush().map_err(failed),
                    Err(error) => Err(failed(error.into())),
                }
            }
        }
    }
}

impl<W: Write + Seek> Zip<W> {
    fn new(writer: ZipWriter<W>, root: &str, now: Timestamp) -> Self {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(dos_time(now))
            .unix_permissions(FILE_MODE);
        Self { writer, root: root.to_owned(), options }
    }

    fn begin(&mut self, name: &str) -> io::Result<()> {
        Ok(self.writer.start_file(format!("{}/{name}", self.root), self.options)?)
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.begin(name)?;
        self.writer.write_all(bytes)
    }

    fn failed(&self, error: io::Error) -> ExportError {
        ExportError::Io { path: PathBuf::from(&self.root), error }
    }
}

impl ZipFile {
    fn zip(&mut self) -> &mut Zip<File> {
        self.zip.as_mut().expect("it is not finished")
    }

    fn finish(&mut self) -> io::Result<()> {
        let zip = self.zip.take().expect("it is finished once");
        zip.writer.finish()?.sync_all()?;
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

impl Drop for ZipFile {
    fn drop(&mut self) {
        // Dropped half done, the writer finishes what it has: only then can it go.
        drop(self.zip.take());
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
