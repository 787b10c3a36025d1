//! A folder by its descriptor: what is written goes into that very folder also after it was renamed, removed or
//! mounted over. Whether its path still leads to it is for others to ask ([`Fs::identity`]).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{self, Access, AtFlags, Dir, Mode, OFlags};

use super::fs::{DIR_MODE, FILE_MODE, Fs, Identity, Lock, LogFile, locked};

/// A folder that is held open, as a file system of its own. Paths are given as for [`super::fs::OsFs`]: they begin
/// with the one that it was opened by.
#[derive(Debug)]
pub(super) struct HeldDir {
    root: PathBuf,
    fd: OwnedFd,
}

impl HeldDir {
    /// Opens a folder.
    ///
    /// # Errors
    /// As the operating system says; `NotFound` when there is none.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let fd = fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { root: dir.to_owned(), fd })
    }

    /// A path from the folder on.
    fn within<'a>(&self, path: &'a Path) -> io::Result<&'a Path> {
        let rest = path.strip_prefix(&self.root).map_err(|_| {
            let what = format!("{} is not in {}", path.display(), self.root.display());
            io::Error::new(io::ErrorKind::InvalidInput, what)
        })?;
        Ok(if rest.as_os_str().is_empty() { Path::new(".") } else { rest })
    }

    fn at(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let mode = Mode::from_raw_mode(FILE_MODE);
        Ok(fs::openat(&self.fd, self.within(path)?, flags | OFlags::CLOEXEC, mode)?)
    }

    fn folder(&self, dir: &Path) -> io::Result<OwnedFd> {
        self.at(dir, OFlags::RDONLY | OFlags::DIRECTORY)
    }
}

impl Fs for HeldDir {
    fn hold(&self, dir: &Path) -> io::Result<Arc<dyn Fs>> {
        Ok(Arc::new(Self { root: dir.to_owned(), fd: self.folder(dir)? }))
    }

    fn identity(&self, path: &Path) -> io::Result<Identity> {
        let of = fs::statat(&self.fd, self.within(path)?, AtFlags::empty())?;
        Ok(Identity { device: of.st_dev, inode: of.st_ino })
    }

    fn create_dirs(&self, dir: &Path) -> io::Result<()> {
        let mut so_far = PathBuf::new();
        for part in self.within(dir)?.components() {
            if part == Component::CurDir {
                continue;
            }
            so_far.push(part);
            match fs::mkdirat(&self.fd, &so_far, Mode::from_raw_mode(DIR_MODE)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::new(self.folder(dir)?)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !matches!(name.as_str(), "." | "..") {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        let of = fs::statat(&self.fd, self.within(path)?, AtFlags::empty())?;
        Ok(u64::try_from(of.st_size).unwrap_or(0))
    }

    fn read(&self, path: &Path, offset: u64, max: usize) -> io::Result<Vec<u8>> {
        let mut file = File::from(self.at(path, OFlags::RDONLY)?);
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(max as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(File::from(self.at(path, OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(fs::renameat(&self.fd, self.within(from)?, &self.fd, self.within(to)?)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Ok(fs::unlinkat(&self.fd, self.within(path)?, AtFlags::empty())?)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        Ok(fs::unlinkat(&self.fd, self.within(dir)?, AtFlags::REMOVEDIR)?)
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        let stat = fs::fstatvfs(self.folder(dir)?)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn may_write(&self, path: &Path) -> io::Result<()> {
        Ok(fs::accessat(&self.fd, self.within(path)?, Access::WRITE_OK, AtFlags::EACCESS)?)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        Ok(fs::fsync(self.folder(dir)?)?)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        locked(File::from(self.at(path, OFlags::WRONLY | OFlags::CREATE)?))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::OsFs;
    use crate::fs::{read_whole, write_whole};

    #[test]
    fn all_goes_into_the_folder_that_is_held_whatever_becomes_of_its_name() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (path, moved) = (dir.path().join("log"), dir.path().join("moved"));
        OsFs.create_dirs(&path).expect("made");
        let held = OsFs.hold(&path).expect("held");
        assert_eq!(held.identity(&path).expect("there"), OsFs.identity(&path).expect("there"));
        std::fs::rename(&path, &moved).expect("renamed");
        OsFs.create_dirs(&path).expect("another in its place");
        assert_ne!(held.identity(&path).expect("there"), OsFs.identity(&path).expect("there"));

        let inner = path.join("evidence/of");
        held.create_dirs(&inner).expect("create_dirs");
        held.create_dirs(&inner).expect("they are there already");
        write_whole(&*held, &inner.join("file"), b"text").expect("write_whole");
        held.rename(&inner.join("file"), &inner.join("other")).expect("renamed");
        assert_eq!(held.list(&inner).expect("list"), ["other"]);
        assert_eq!(held.len(&inner.join("other")).expect("len"), 4);
        assert_eq!(read_whole(&*held, &inner.join("other"), 4).expect("read"), b"text");
        assert_eq!(held.read(&inner.join("other"), 2, 9).expect("read"), b"xt");
        let mode = |p: PathBuf| std::fs::metadata(p).expect("metadata").permissions().mode() & 0o777;
        assert_eq!(mode(moved.join("evidence/of/other")) & !FILE_MODE, 0);
        assert_eq!(mode(moved.join("evidence")) & !DIR_MODE, 0);
        assert!(held.free(&path).expect("free") > 0);
        assert_eq!(OsFs.list(&path).expect("list"), Vec::<String>::new(), "nothing went to the name");

        let lock = held.lock(&path.join("lock")).expect("locked");
        assert_eq!(lock.identity().expect("open"), OsFs.identity(&moved.join("lock")).expect("there"));
        let again = held.lock(&path.join("lock")).map(drop).expect_err("it is held");
        assert_eq!(again.kind(), io::ErrorKind::WouldBlock);

        held.remove(&inner.join("other")).expect("removed");
        held.remove_dir(&inner).expect("removed");
        assert_eq!(held.list(&inner).map_err(|e| e.kind()), Err(io::ErrorKind::NotFound));
        let outside = held.list(dir.path()).expect_err("not in it");
        assert_eq!(outside.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_folder_that_is_removed_takes_nothing_more() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("log");
        OsFs.create_dirs(&path).expect("made");
        let held = OsFs.hold(&path).expect("held");
        std::fs::remove_dir(&path).expect("removed");
        for error in [
            held.create_dirs(&path.join("evidence")).expect_err("gone"),
            held.append(&path.join("file")).map(drop).expect_err("gone"),
        ] {
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        }
        // Which of the two a file system says of it differs.
        assert_eq!(held.list(&path).unwrap_or_default(), Vec::<String>::new());
    }
}
