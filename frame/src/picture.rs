//! A file of one picture or several, decoded: the one reader of every command and of `run`, so that all see the
//! same pixels and refuse the same files.
//!
//! A cut or damaged picture is an error and never half a picture. Pixels that nobody sees, because they are
//! fully transparent, are painted over: what an editor has left behind there says nothing about the picture.

use std::fs::File;
use std::io::{Cursor, Read as _};
use std::path::Path;
use std::time::Duration;

use image::codecs::{gif::GifDecoder, png::PngDecoder, webp::WebPDecoder};
use image::{AnimationDecoder, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};
use thiserror::Error;

use super::jpeg;
pub use super::jpeg::{MAX_PIXELS, MAX_SIDE};
use spotd_core::shown::Shown as _;

/// Most bytes of a file that is taken for a picture.
pub const MAX_BYTES: u64 = 1 << 30;
/// So many first bytes of a file tell what it is.
pub const HEAD: usize = 32;

/// Most bytes of decoded pixels, before they become RGB: 16 bits in each of four channels.
const MAX_DECODED: u64 = MAX_PIXELS * 8;
/// What is painted over fully transparent pixels: what most viewers show there.
const NOTHING: [u8; 3] = [255; 3];

/// Why a picture cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct PictureError(String);

/// What a file of pictures is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One picture.
    Still,
    /// Pictures in time, of which there may be only one.
    Animation,
    /// Pictures beside each other, as the pages of a TIFF file.
    Pages,
}

/// One decoded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shot {
    /// Its pixels.
    pub image: RgbImage,
    /// How many of them are fully transparent, and painted over.
    pub hidden: u64,
    /// When it is shown, from the animation's start.
    pub at: Duration,
}

impl Shot {
    /// Share of pixels that are fully transparent, 0..=1.
    pub fn transparent(&self) -> f64 {
        self.hidden as f64 / (f64::from(self.image.width()) * f64::from(self.image.height())).max(1.0)
    }
}

type Boxed<'a> = Box<dyn Iterator<Item = Result<Shot, PictureError>> + 'a>;

/// The pictures of a file, one after the other; ends with the first error.
pub struct Shots<'a> {
    /// What the file is.
    pub kind: Kind,
    inner: Boxed<'a>,
    broken: bool,
}

impl Iterator for Shots<'_> {
    type Item = Result<Shot, PictureError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.broken {
            return None;
        }
        let next = self.inner.next();
        self.broken = next.as_ref().is_some_and(Result::is_err);
        next
    }
}

/// Whether a file that begins so ([`HEAD`] bytes are enough) holds a picture that can be decoded here.
pub fn is_picture(head: &[u8]) -> bool {
    format(head).is_some()
}

fn format(head: &[u8]) -> Option<ImageFormat> {
    image::guess_format(head).ok().filter(ImageFormat::reading_enabled)
}

/// Whether it is not one JPEG image but a video of them, one behind the other and all of one size. A second
/// image alone is none: cameras store a preview or a gain map there, and say so in a segment of its own.
pub fn is_motion_jpeg(bytes: &[u8]) -> bool {
    let Ok(first) = jpeg::extract(bytes) else { return false };
    let (rest, same) = (&bytes[first.len()..], jpeg::size(first).ok());
    rest.starts_with(&[0xFF, 0xD8, 0xFF])
        && same.is_some()
        && jpeg::size(rest).ok() == same
        && !jpeg::has_more(first)
}

/// A file's bytes, of which there are `MAX_BYTES` at most.
///
/// # Errors
/// It cannot be read, or is larger.
pub fn read(path: &Path) -> Result<Vec<u8>, PictureError> {
    let file = File::open(path).map_err(fail)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(PictureError(format!("has more than {} MiB, as no picture has", MAX_BYTES >> 20)));
    }
    Ok(bytes)
}

/// Endings of files that are taken for pictures without a look inside, in lower case.
pub const ENDINGS: [&str; 11] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp", "bmp", "tif", "tiff", "gif"];

/// Whether the name ends like a picture's.
pub fn is_named(path: &Path) -> bool {
    let ending = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

/// Whether the file at `path` is a picture, by its name or else by its content: what has lost its ending is one
/// too.
pub fn holds(path: &Path) -> bool {
    is_named(path) || begins(path).is_some()
}

/// Names of files for a message, without their folders: a few, and how many more there are.
pub fn some_names(files: &[impl AsRef<Path>]) -> String {
    const SHOWN: usize = 5;
    let name = |path: &Path| path.file_name().unwrap_or_default().shown();
    let mut names = files.iter().take(SHOWN).map(|p| name(p.as_ref())).collect::<Vec<_>>().join(", ");
    if files.len() > SHOWN {
        names += &format!(" and {} more", files.len() - SHOWN);
    }
    names
}

/// Whether the regular file at `path` begins as a picture that can be decoded here: `Some(true)` for JPEG, which
/// can go on as a video, `Some(false)` for the others.
pub fn begins(path: &Path) -> Option<bool> {
    // Opening a pipe could wait for ever, and what is read of it is gone.
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let mut head = Vec::new();
    File::open(path).ok()?.take(HEAD as u64).read_to_end(&mut head).ok()?;
    format(&head).map(|format| format == ImageFormat::Jpeg)
}

/// The pictures in `bytes`, told by their content.
///
/// # Errors
/// [`PictureError`] when it is no picture, larger than `MAX_SIDE` or [`MAX_PIXELS`], or has a damaged header.
pub fn shots(bytes: &[u8]) -> Result<Shots<'_>, PictureError> {
    fn of(kind: Kind, inner: Boxed<'_>) -> Shots<'_> {
        Shots { kind, inner, broken: false }
    }
    let format = format(bytes).ok_or_else(|| PictureError(unknown(bytes)))?;
    let reader = Cursor::new(bytes);
    Ok(match format {
        ImageFormat::Gif => of(Kind::Animation, animation(GifDecoder::new(reader).map_err(fail)?)?),
        ImageFormat::WebP => {
            let decoder = WebPDecoder::new(reader).map_err(fail)?;
            if decoder.has_animation() {
                // What is cut between two frames looks whole to the decoder.
                let cut = webp_is_cut(bytes).then(|| Err(PictureError("is cut between two frames".into())));
                of(Kind::Animation, Box::new(animation(decoder)?.chain(cut)))
            } else {
                of(Kind::Still, Box::new(std::iter::once_with(move || whole(bytes, format))))
            }
        }
        ImageFormat::Png => {
            let decoder = PngDecoder::with_limits(reader, limits()).map_err(fail)?;
            check(&decoder)?;
            if decoder.is_apng().map_err(fail)? {
                of(Kind::Animation, frames(decoder.apng().map_err(fail)?))
            } else {
                of(Kind::Still, Box::new(std::iter::once_with(move || whole(bytes, format))))
            }
        }
        ImageFormat::Tiff => {
            let (pages, cut) = pages(bytes);
            let cut = cut.then(|| Err(PictureError("is cut, or its list of pages is damaged".into())));
            if pages.len() > 1 || pages.first().is_some_and(|page| !page.first) {
                let mut own = bytes.to_vec();
                let kind = if pages.len() > 1 { Kind::Pages } else { Kind::Still };
                let each = move |page: Page| {
                    page.to_front(&mut own);
                    whole(&own, format)
                };
                of(kind, Box::new(pages.into_iter().map(each).chain(cut)))
            } else {
                let one = std::iter::once_with(move || whole(bytes, format));
                of(Kind::Still, Box::new(one.chain(cut)))
            }
        }
        ImageFormat::Jpeg if is_motion_jpeg(bytes) => of(Kind::Animation, jpegs(bytes)),
        ImageFormat::Jpeg => of(
            Kind::Still,
            Box::new(std::iter::once_with(move || {
                let image = jpeg::decode(bytes).map_err(|error| PictureError(error.to_string()))?;
                Ok(Shot { image, hidden: 0, at: Duration::ZERO })
            })),
        ),
        _ => of(Kind::Still, Box::new(std::iter::once_with(move || whole(bytes, format)))),
    })
}

/// The first picture in `bytes`.
///
/// # Errors
/// As of [`shots`], and for a picture that is cut or damaged.
pub fn first(bytes: &[u8]) -> Result<Shot, PictureError> {
    shots(bytes)?.next().unwrap_or_else(|| Err(PictureError("holds no picture".into())))
}

fn unknown(bytes: &[u8]) -> String {
    if bytes.is_empty() { "is empty".into() } else { "its content is that of no picture".into() }
}

fn fail(error: impl std::fmt::Display) -> PictureError {
    PictureError(error.to_string())
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED);
    limits
}

/// Refuses a picture for which too much would be allocated.
fn check(decoder: &impl ImageDecoder) -> Result<(), PictureError> {
    let (width, height) = decoder.dimensions();
    let fits = width.max(height) <= MAX_SIDE && u64::from(width) * u64::from(height) <= MAX_PIXELS;
    if fits && decoder.total_bytes() <= MAX_DECODED {
        return Ok(());
    }
    Err(PictureError(format!(
        "{width}x{height} is larger than what is decoded here ({} million pixels)",
        MAX_PIXELS / 1_000_000
    )))
}

fn whole(bytes: &[u8], format: ImageFormat) -> Result<Shot, PictureError> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits());
    let decoder = reader.into_decoder().map_err(fail)?;
    check(&decoder)?;
    let image = DynamicImage::from_decoder(decoder).map_err(fail)?;
    let (image, hidden) = visible(image);
    Ok(Shot { image, hidden, at: Duration::ZERO })
}

fn animation<'a>(mut decoder: impl AnimationDecoder<'a> + ImageDecoder) -> Result<Boxed<'a>, PictureError> {
    check(&decoder)?;
    decoder.set_limits(limits()).map_err(fail)?;
    Ok(frames(decoder))
}

/// Whether a RIFF file states more bytes than it has; the last one may be padding.
fn webp_is_cut(bytes: &[u8]) -> bool {
    let stated = bytes.get(4..8).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    u64::from(stated) + 8 > bytes.len() as u64 + 1
}

/// Images one behind the other. They state no times: 25 a second is what is usual.
fn jpegs(bytes: &[u8]) -> Boxed<'_> {
    let (mut rest, mut at) = (bytes, Duration::ZERO);
    Box::new(std::iter::from_fn(move || {
        if !rest.starts_with(&[0xFF, 0xD8]) {
            return None;
        }
        let image = jpeg::extract(rest).and_then(|one| {
            rest = &rest[one.len()..];
            jpeg::decode(one)
        });
        let shot = image.map(|image| Shot { image, hidden: 0, at }).map_err(fail);
        at += Duration::from_millis(40);
        Some(shot)
    }))
}

fn frames<'a>(decoder: impl AnimationDecoder<'a>) -> Boxed<'a> {
    let mut at = Duration::ZERO;
    Box::new(decoder.into_frames().map(move |frame| {
        let frame = frame.map_err(fail)?;
        let shown = Duration::from(frame.delay());
        let (image, hidden) = visible(DynamicImage::ImageRgba8(frame.into_buffer()));
        let shot = Shot { image, hidden, at };
        at = at.saturating_add(shown);
        Ok(shot)
    }))
}

/// The picture in RGB, what is fully transparent painted over, and how many pixels that were.
fn visible(image: DynamicImage) -> (RgbImage, u64) {
    if !image.color().has_alpha() {
        return (image.into_rgb8(), 0);
    }
    let image = image.into_rgba8();
    let (width, height) = image.dimensions();
    let (pixels, hidden) = drop_alpha(image.as_raw());
    (RgbImage::from_raw(width, height, pixels).expect("three bytes a pixel"), hidden)
}

/// Three bytes a pixel of four: what is fully transparent is painted over, and counted.
pub fn drop_alpha(rgba: &[u8]) -> (Vec<u8>, u64) {
    let mut out = Vec::with_capacity(rgba.len() / 4 * 3);
    let mut hidden = 0;
    for px in rgba.chunks_exact(4) {
        if px[3] == 0 {
            hidden += 1;
            out.extend_from_slice(&NOTHING);
        } else {
            out.extend_from_slice(&px[..3]);
        }
    }
    (out, hidden)
}

/// Where a page of a TIFF file is described.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Page {
    at: u64,
    first: bool,
    big: bool,
    little: bool,
}

impl Page {
    /// Makes this page the file's first.
    fn to_front(self, file: &mut [u8]) {
        let bytes = if self.little { self.at.to_le_bytes() } else { self.at.to_be_bytes() };
        match (self.big, self.little) {
            (true, _) => file[8..16].copy_from_slice(&bytes),
            (false, true) => file[4..8].copy_from_slice(&bytes[..4]),
            (false, false) => file[4..8].copy_from_slice(&bytes[4..]),
        }
    }
}

/// The pages of a TIFF file, previews and masks left out, and whether their list breaks off. The decoder itself reads
/// only the first page.
fn pages(file: &[u8]) -> (Vec<Page>, bool) {
    let mut found = Vec::new();
    let whole = find_pages(file, &mut found).is_some();
    (found, !whole)
}

fn find_pages(file: &[u8], found: &mut Vec<Page>) -> Option<()> {
    let little = match file.get(..2)? {
        b"II" => true,
        b"MM" => false,
        _ => return None,
    };
    let number = |at: u64, bytes: usize| -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let part = file.get(at..at.checked_add(bytes)?)?;
        let push = |n: u64, byte: &u8| n << 8 | u64::from(*byte);
        Some(if little { part.iter().rev().fold(0, push) } else { part.iter().fold(0, push) })
    };
    let big = number(2, 2)? == 43;
    // Bytes of a count of entries, of an entry, of an offset; and where an entry's value lies in it.
    let (count_bytes, entry, offset_bytes, value) = if big { (8, 20, 8, 12) } else { (2, 12, 4, 8) };
    let mut at = number(if big { 8 } else { 4 }, offset_bytes)?;
    let mut seen = std::collections::HashSet::new();
    while at != 0 {
        // A list that leads back into itself has no end.
        if !seen.insert(at) {
            return None;
        }
        let count = number(at, count_bytes)?;
        let first = at.checked_add(count_bytes as u64)?;
        let after = first.checked_add(count.checked_mul(entry)?)?;
        // NewSubfileType: bit 0 is a smaller version of another page, bit 2 a mask.
        let mut subfile = 0;
        // Entries are sorted by tag, and this is the lowest one.
        if count > 0 && number(first, 2)? == 254 {
            subfile = number(first + value, 4)?;
        }
        if subfile & 0b101 == 0 {
            found.push(Page { at, first: seen.len() == 1, big, little });
        }
        at = number(after, offset_bytes)?;
    }
    Some(())
}

#[cfg(test)]
mod tests;
