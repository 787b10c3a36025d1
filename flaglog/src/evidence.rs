//! Pictures that back a record: the flagged frame and the tiles that speak loudest.
//!
//! They lie in a folder of their event, named by the hash of their content, and are durable (file, then
//! every new folder name above it) before the record that names them is written.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use spotd_core::judgement::ScoredTile;
use thiserror::Error;
use ulid::Ulid;

use super::chain::Hash;
use super::fs::{Fs, TMP, is_full, read_whole, write_file};
use super::record::{EvidenceFile, EvidenceFiles, MapFile, TileFile, timestamp};

/// Folder of all evidence, within the log's folder.
pub const FOLDER: &str = super::segment::EVIDENCE;

/// A folder of evidence that is being removed is called so, with its event behind it.
pub const REMOVING: &str = "removing-";

/// The event whose folder of evidence has this name.
pub fn event_of(folder: &str) -> Option<Ulid> {
    Ulid::from_string(folder).ok().filter(|id| id.to_string() == folder)
}

/// Whether a file in such a folder is one of ours: `<sha256>.jpg` or `.png`, perhaps unfinished.
pub fn is_ours(name: &str) -> bool {
    let whole = name.strip_suffix(TMP).unwrap_or(name);
    whole
        .split_once('.')
        .is_some_and(|(stem, extension)| Hash::parse(stem).is_some() && matches!(extension, "jpg" | "png"))
}

/// Pictures for a record, encoded: the log keeps their bytes and never looks into them.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// The whole frame, a JPEG file.
    pub frame: Vec<u8>,
    /// Of an alert, the last frame before what it is about, a JPEG file.
    pub before: Option<Vec<u8>>,
    /// Tiles of the frame, a PNG file each, with their scores; in this order they stand in the record.
    pub tiles: Vec<(ScoredTile, Vec<u8>)>,
    /// The map of the minutes before.
    pub map: Option<MapPicture>,
}

/// A map for a record, encoded: see [`MapFile`].
#[derive(Debug, Clone)]
pub struct MapPicture {
    /// Side of a cell in pixels of the frame.
    pub side: u32,
    /// When the first frame that counts was captured.
    pub since: SystemTime,
    /// A PNG file.
    pub png: Vec<u8>,
}

impl Evidence {
    /// Bytes of all pictures.
    pub fn bytes(&self) -> u64 {
        let tiles: usize = self.tiles.iter().map(|(_, png)| png.len()).sum();
        let map = self.map.as_ref().map_or(0, |map| map.png.len());
        (self.frame.len() + self.before.as_ref().map_or(0, Vec::len) + tiles + map) as u64
    }
}

/// Evidence could not be written.
#[derive(Debug, Error)]
#[error("{path}: {error}")]
pub struct EvidenceError {
    /// The file or folder, from the log's folder.
    pub path: String,
    /// What the operating system said.
    pub error: io::Error,
}

/// Pictures that are durable, waiting for their record.
#[derive(Debug)]
pub(super) struct Stored {
    /// What the record names.
    pub files: EvidenceFiles,
    /// Bytes of those that were not there before.
    pub bytes: u64,
    /// Those that were not there before, from the log's folder.
    written: Vec<String>,
}

impl Stored {
    /// Removes the pictures again, because their record could not be written. One that an earlier record
    /// names as well stays.
    pub fn discard(&self, fs: &dyn Fs, dir: &Path) {
        for name in &self.written {
            let _ = fs.remove(&dir.join(name));
        }
    }
}

impl EvidenceError {
    /// Whether the disk has no room.
    pub(super) fn is_full(&self) -> bool {
        is_full(&self.error)
    }
}

/// Writes all pictures of a record into the folder of its event. After an error nothing that this call
/// has written is left, as far as it can be removed.
pub(super) fn store(
    fs: &dyn Fs,
    dir: &Path,
    event: Ulid,
    pictures: &Evidence,
) -> Result<Stored, EvidenceError> {
    let folder = format!("{FOLDER}/{event}");
    let mut batch = Batch { fs, dir, folder, written: Vec::new(), bytes: 0 };
    match batch.store_all(pictures) {
        Ok(files) => Ok(Stored { files, bytes: batch.bytes, written: batch.written }),
        Err(e) => {
            for name in &batch.written {
                let _ = fs.remove(&dir.join(name));
            }
            Err(e)
        }
    }
}

struct Batch<'a> {
    fs: &'a dyn Fs,
    dir: &'a Path,
    folder: String,
    written: Vec<String>,
    bytes: u64,
}

impl Batch<'_> {
    fn store_all(&mut self, pictures: &Evidence) -> Result<EvidenceFiles, EvidenceError> {
        self.fs.create_dirs(&self.dir.join(&self.folder)).map_err(failed(&self.folder))?;
        let frame = self.put(&pictures.frame, "jpg")?;
        let before = pictures.before.as_ref().map(|jpeg| self.put(jpeg, "jpg")).transpose()?;
        let tiles = pictures
            .tiles
            .iter()
            .map(|(tile, png)| Ok(TileFile { tile: *tile, png: self.put(png, "png")? }))
            .collect::<Result<_, EvidenceError>>()?;
        let map = pictures.map.as_ref().map(|map| {
            let png = self.put(&map.png, "png")?;
            Ok(MapFile { side: map.side, since: timestamp(map.since), png })
        });
        let map = map.transpose()?;
        // Names are durable from the inside out: the files in the folder, the folder, the one above.
        for folder in [&self.folder, FOLDER, "."] {
            self.fs.sync_dir(&self.dir.join(folder)).map_err(failed(folder))?;
        }
        Ok(EvidenceFiles { frame, before, tiles, map })
    }

    fn put(&mut self, content: &[u8], extension: &str) -> Result<EvidenceFile, EvidenceError> {
        let sha256 = Hash::of(content);
        let name = format!("{}/{sha256}.{extension}", self.folder);
        let path = self.dir.join(&name);
        let file = EvidenceFile { file: name.clone(), sha256, bytes: content.len() as u64 };
        // A still picture gives the same tile again and again; it is on the disk already.
        if read_whole(self.fs, &path, content.len()).is_ok_and(|there| there == content) {
            return Ok(file);
        }
        write_file(self.fs, &path, content).map_err(failed(&name))?;
        self.written.push(name);
        self.bytes += file.bytes;
        Ok(file)
    }
}

fn failed(path: &str) -> impl FnOnce(io::Error) -> EvidenceError {
    let path = path.to_owned();
    move |error| EvidenceError { path, error }
}
