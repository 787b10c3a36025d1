//! Pictures that back a record: the flagged frame and the tiles that speak loudest.
//!
//! They lie in a folder of their event, named by the hash of their content, and are durable (file, then
//! every new folder name above it) before the record that names them is written.

use std::io;
use std::path::Path;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, RgbImage};
use jiff::Timestamp;
use thiserror::Error;
use ulid::Ulid;

use super::chain::Hash;
use super::exif;
use super::fs::{Fs, TMP, is_full, read_whole, write_file};
use super::record::{self, EvidenceFile, EvidenceFiles, SOFTWARE, TileFile};
use crate::frame::{Frame, Rect};
use crate::judgement::ScoredTile;

/// Folder of all evidence, within the log's folder.
pub const FOLDER: &str = super::segment::EVIDENCE;
/// Tiles kept of a record at most: the ones with the highest scores.
pub const MAX_TILES: usize = 4;

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

/// Pictures for a record.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The whole frame.
    pub frame: &'a RgbImage,
    /// Tiles in it with their scores, 0..1, in any order; the best [`MAX_TILES`] are kept.
    pub tiles: &'a [ScoredTile],
}

/// Why evidence could not be kept.
#[derive(Debug, Error)]
pub enum EvidenceError {
    /// A file could not be written.
    #[error("{path}: {error}")]
    Write {
        /// The file or folder, from the log's folder.
        path: String,
        /// What the operating system said.
        error: io::Error,
    },
    /// The picture cannot be encoded.
    #[error("the {what} cannot be encoded: {reason}")]
    Encode {
        /// `frame` or `tile`.
        what: &'static str,
        /// What the encoder said.
        reason: String,
    },
    /// A tile is empty or not inside the frame.
    #[error("tile {rect:?} is not inside the frame of {width}x{height}")]
    Outside {
        /// The tile.
        rect: Rect,
        /// Width of the frame in pixels.
        width: u32,
        /// Height of the frame in pixels.
        height: u32,
    },
}

/// What goes into the frame's metadata.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caption<'a> {
    pub node: &'a str,
    pub source: &'a str,
    pub captured: Timestamp,
}

/// Pictures as they will lie on the disk.
#[derive(Debug)]
pub(super) struct Encoded {
    frame: Vec<u8>,
    before: Option<Vec<u8>>,
    tiles: Vec<(ScoredTile, Vec<u8>)>,
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
        matches!(self, EvidenceError::Write { error, .. } if is_full(error))
    }
}

impl Encoded {
    /// Puts the frame before an alert beside the others.
    pub fn with_before(
        &mut self,
        picture: &RgbImage,
        caption: Caption<'_>,
        quality: u8,
    ) -> Result<(), EvidenceError> {
        self.before = Some(frame_jpeg(picture, caption, quality)?);
        Ok(())
    }

    /// Bytes of all pictures.
    pub fn len(&self) -> usize {
        self.frame.len()
            + self.before.as_ref().map_or(0, Vec::len)
            + self.tiles.iter().map(|(_, png)| png.len()).sum::<usize>()
    }
}

/// Encodes all pictures of a record: no half of a set is on the disk when a tile turns out to be
/// impossible.
pub(super) fn encode(
    evidence: &Evidence<'_>,
    caption: Caption<'_>,
    quality: u8,
) -> Result<Encoded, EvidenceError> {
    let frame = frame_jpeg(evidence.frame, caption, quality)?;
    let mut best: Vec<&ScoredTile> = evidence.tiles.iter().filter(|tile| tile.score.is_finite()).collect();
    best.sort_by(|a, b| b.score.total_cmp(&a.score));
    let tiles = best
        .iter()
        .take(MAX_TILES)
        .map(|&&tile| Ok((tile, tile_png(evidence.frame, tile.rect)?)))
        .collect::<Result<_, EvidenceError>>()?;
    Ok(Encoded { frame, before: None, tiles })
}

/// Writes all pictures of a record into the folder of its event. After an error nothing that this call
/// has written is left, as far as it can be removed.
pub(super) fn store(
    fs: &dyn Fs,
    dir: &Path,
    event: Ulid,
    encoded: &Encoded,
) -> Result<Stored, EvidenceError> {
    let folder = format!("{FOLDER}/{event}");
    let mut batch = Batch { fs, dir, folder, written: Vec::new(), bytes: 0 };
    match batch.store_all(encoded) {
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
    fn store_all(&mut self, encoded: &Encoded) -> Result<EvidenceFiles, EvidenceError> {
        self.fs.create_dirs(&self.dir.join(&self.folder)).map_err(failed(&self.folder))?;
        let frame = self.put(&encoded.frame, "jpg")?;
        let before = encoded.before.as_ref().map(|jpeg| self.put(jpeg, "jpg")).transpose()?;
        let tiles = encoded
            .tiles
            .iter()
            .map(|(tile, png)| Ok(TileFile { tile: *tile, png: self.put(png, "png")? }))
            .collect::<Result<_, EvidenceError>>()?;
        // Names are durable from the inside out: the files in the folder, the folder, the one above.
        for folder in [&self.folder, FOLDER, "."] {
            self.fs.sync_dir(&self.dir.join(folder)).map_err(failed(folder))?;
        }
        Ok(EvidenceFiles { frame, before, tiles })
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
    move |error| EvidenceError::Write { path, error }
}

/// A frame as it would be kept as evidence, for those who ask for one.
///
/// # Errors
/// A text: the frame has no picture in it, or it cannot be encoded.
pub fn picture(frame: &Frame, node: &str, quality: u8) -> Result<Vec<u8>, String> {
    let image = frame.to_rgb().map_err(|e| e.to_string())?;
    let caption = Caption { node, source: &frame.source, captured: record::timestamp(frame.at) };
    frame_jpeg(&image, caption, quality).map_err(|e| e.to_string())
}

fn frame_jpeg(frame: &RgbImage, caption: Caption<'_>, quality: u8) -> Result<Vec<u8>, EvidenceError> {
    let failed = |reason: String| EvidenceError::Encode { what: "frame", reason };
    let (width, height) = frame.dimensions();
    let side = |px: u32| u16::try_from(px).map_err(|_| failed(format!("{width}x{height} is too large")));
    let (width, height) = (side(width)?, side(height)?);
    let description = format!("{}/{}", caption.node, caption.source);
    let mut out = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut out, quality);
    encoder
        .add_exif_metadata(&exif::build(&description, SOFTWARE, caption.captured))
        .and_then(|()| encoder.encode(frame.as_raw(), width, height, jpeg_encoder::ColorType::Rgb))
        .map_err(|e| failed(e.to_string()))?;
    Ok(out)
}

fn tile_png(frame: &RgbImage, rect: Rect) -> Result<Vec<u8>, EvidenceError> {
    let (width, height) = frame.dimensions();
    let inside =
        |start: u32, len: u32, limit| len > 0 && start.checked_add(len).is_some_and(|end| end <= limit);
    if !inside(rect.x, rect.width, width) || !inside(rect.y, rect.height, height) {
        return Err(EvidenceError::Outside { rect, width, height });
    }
    let tile = image::imageops::crop_imm(frame, rect.x, rect.y, rect.width, rect.height).to_image();
    let mut out = Vec::new();
    PngEncoder::new(&mut out)
        .write_image(&tile, rect.width, rect.height, ExtendedColorType::Rgb8)
        .map_err(|e| EvidenceError::Encode { what: "tile", reason: e.to_string() })?;
    Ok(out)
}
