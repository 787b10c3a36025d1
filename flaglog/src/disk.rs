//! The machine's own file system.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{self, Access, AtFlags};

use super::fs::{DIR_MODE, FILE_MODE, Fs, Identity, Lock, LogFile, locked};
use super::held::HeldDir;

/// The machine's own file system, by paths.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsFs;

impl Fs for OsFs {
    fn hold(&self, dir: &Path) -> io::Result<Arc<dyn Fs>> {
        Ok(Arc::new(HeldDir::open(dir)?))
    }

    fn identity(&self, path: &Path) -> io::Result<Identity> {
        let of = std::fs::metadata(path)?;
        Ok(Identity { device: of.dev(), inode: of.ino() })
    }

    fn create_dirs(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        std::fs::read_dir(dir)?.map(|e| Ok(e?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(std::fs::metadata(path)?.len())
    }

    fn read(&self, path: &Path, offset: u64, max: usize) -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(max as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let file = OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)?;
        Ok(Box::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        std::fs::remove_dir(dir)
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        let stat = fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn may_write(&self, path: &Path) -> io::Result<()> {
        Ok(fs::accessat(fs::CWD, path, Access::WRITE_OK, AtFlags::EACCESS)?)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(path)?;
        locked(file)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::fs::{read_whole, write_whole};

    #[test]
    fn files_and_folders_are_closed_to_others() {
        let dir = tempfile::tempdir().expect("tempdir");
        let inner = dir.path().join("a/b");
        OsFs.create_dirs(&inner).expect("create_dirs");
        let path = inner.join("file");
        write_whole(&OsFs, &path, b"text").expect("write_whole");
        let mode = |p: &Path| std::fs::metadata(p).expect("metadata").permissions().mode() & 0o777;
        // The umask may take more away, never give more.
        assert_eq!(mode(&path) & !FILE_MODE, 0);
        assert_eq!(mode(&inner) & !DIR_MODE, 0);
        assert_eq!(read_whole(&OsFs, &path, 4).expect("read_whole"), b"text");
        assert_eq!(read_whole(&OsFs, &path, 3).map_err(|e| e.kind()), Err(io::ErrorKind::FileTooLarge));
        assert_eq!(OsFs.list(&inner).expect("list"), ["file"]);
    }

    #[test]
    fn a_lock_is_held_by_one() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("lock");
        let held = OsFs.lock(&path).expect("first lock");
        assert_eq!(OsFs.lock(&path).map(drop).map_err(|e| e.kind()), Err(io::ErrorKind::WouldBlock));
        drop(held);
        OsFs.lock(&path).expect("lock after release");
    }
}
