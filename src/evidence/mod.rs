//! Frames and tiles as the files that the flag log keeps of them.
//!
//! A frame becomes a JPEG with source, software and time of capture in its EXIF data, a tile a PNG, so that the pixels that
//! were judged can be judged again.

mod exif;

use std::time::SystemTime;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, RgbImage};
use thiserror::Error;

use crate::flaglog::record::{SOFTWARE, timestamp};
use crate::flaglog::{Evidence, MapPicture};
use crate::frame::{Frame, Rect};
use crate::judgement::{HeatMap, ScoredTile};

/// Tiles kept of a record at most: the ones with the highest scores.
pub const MAX_TILES: usize = 4;

/// Why a picture could not be encoded.
#[derive(Debug, Error)]
pub enum EncodeError {
    /// The encoder refused it.
    #[error("the {what} cannot be encoded: {reason}")]
    Encode {
        /// `frame`, `tile` or `map`.
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

/// Makes files of evidence, all for one node and in one quality.
#[derive(Debug, Clone)]
pub struct Encoder {
    node: String,
    quality: u8,
}

impl Encoder {
    /// `node`: named in each frame, with its source; `quality`: of the JPEG files, 1..=100.
    pub fn new(node: &str, quality: u8) -> Self {
        Self { node: node.to_owned(), quality }
    }

    /// A frame and its best tiles, at most [`MAX_TILES`]; tiles without a score are left out.
    ///
    /// # Errors
    /// [`EncodeError`]: all of the pictures can be encoded, or none is to be kept.
    pub fn evidence(
        &self,
        source: &str,
        captured: SystemTime,
        frame: &RgbImage,
        tiles: &[ScoredTile],
    ) -> Result<Evidence, EncodeError> {
        let jpeg = self.frame(source, captured, frame)?;
        let mut best: Vec<&ScoredTile> = tiles.iter().filter(|tile| tile.score.is_finite()).collect();
        best.sort_by(|a, b| b.score.total_cmp(&a.score));
        let tiles = best
            .iter()
            .take(MAX_TILES)
            .map(|&&tile| Ok((tile, tile_png(frame, tile.rect)?)))
            .collect::<Result<_, EncodeError>>()?;
        Ok(Evidence { frame: jpeg, before: None, tiles, map: None })
    }

    /// A source's map as it is kept, one pixel a cell: see [`crate::flaglog::record::MapFile`].
    ///
    /// # Errors
    /// [`EncodeError::Encode`]: it has no cells.
    pub fn map(&self, map: &HeatMap) -> Result<MapPicture, EncodeError> {
        let pixel = |value: &Option<f32>| match value {
            // Grey, and how opaque it is.
            Some(score) => [(score.clamp(0.0, 1.0) * 255.0).round() as u8, 255],
            None => [0, 0],
        };
        let pixels: Vec<u8> = map.values.iter().flat_map(pixel).collect();
        let mut png = Vec::new();
        PngEncoder::new(&mut png)
            .write_image(&pixels, map.columns, map.rows, ExtendedColorType::La8)
            .map_err(|e| EncodeError::Encode { what: "map", reason: e.to_string() })?;
        Ok(MapPicture { side: map.side, since: map.since, png })
    }

    /// One frame as a JPEG file.
    ///
    /// # Errors
    /// [`EncodeError::Encode`]: a side has more than 65,535 pixels.
    pub fn frame(
        &self,
        source: &str,
        captured: SystemTime,
        frame: &RgbImage,
    ) -> Result<Vec<u8>, EncodeError> {
        let failed = |reason: String| EncodeError::Encode { what: "frame", reason };
        let (width, height) = frame.dimensions();
        let side = |px: u32| u16::try_from(px).map_err(|_| failed(format!("{width}x{height} is too large")));
        let (width, height) = (side(width)?, side(height)?);
        let description = format!("{}/{source}", self.node);
        let mut out = Vec::new();
        let mut encoder = jpeg_encoder::Encoder::new(&mut out, self.quality);
        encoder
            .add_exif_metadata(&exif::build(&description, SOFTWARE, timestamp(captured)))
            .and_then(|()| encoder.encode(frame.as_raw(), width, height, jpeg_encoder::ColorType::Rgb))
            .map_err(|e| failed(e.to_string()))?;
        Ok(out)
    }

    /// A frame as it would be kept as evidence, for those who ask for one.
    ///
    /// # Errors
    /// A text: the frame has no picture in it, or it cannot be encoded.
    pub fn snapshot(&self, frame: &Frame) -> Result<Vec<u8>, String> {
        let image = frame.to_rgb().map_err(|e| e.to_string())?;
        self.frame(&frame.source, frame.at, &image).map_err(|e| e.to_string())
    }
}

fn tile_png(frame: &RgbImage, rect: Rect) -> Result<Vec<u8>, EncodeError> {
    let (width, height) = frame.dimensions();
    let inside =
        |start: u32, len: u32, limit| len > 0 && start.checked_add(len).is_some_and(|end| end <= limit);
    if !inside(rect.x, rect.width, width) || !inside(rect.y, rect.height, height) {
        return Err(EncodeError::Outside { rect, width, height });
    }
    let tile = image::imageops::crop_imm(frame, rect.x, rect.y, rect.width, rect.height).to_image();
    let mut out = Vec::new();
    PngEncoder::new(&mut out)
        .write_image(&tile, rect.width, rect.height, ExtendedColorType::Rgb8)
        .map_err(|e| EncodeError::Encode { what: "tile", reason: e.to_string() })?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn evidence_is_the_frame_and_the_best_tiles_losslessly_with_time_and_source_inside() {
        let frame =
            RgbImage::from_fn(96, 64, |x, y| image::Rgb([(x * 2) as u8, (y * 3) as u8, (x ^ y) as u8]));
        let rect = |x| Rect { x, y: 8, width: 32, height: 32 };
        let tiles: Vec<ScoredTile> =
            (0..6).map(|i| ScoredTile { rect: rect(i * 8), score: f64::from(i) / 10.0 }).collect();
        let captured = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_500_000_123);
        let made = Encoder::new("box", 95).evidence("door/1", captured, &frame, &tiles).expect("encoded");

        let decoded = image::load_from_memory(&made.frame).expect("decode").to_rgb8();
        assert_eq!(decoded.dimensions(), frame.dimensions());
        let error: f64 =
            decoded.as_raw().iter().zip(frame.as_raw()).map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
        assert!(error / (decoded.as_raw().len() as f64) < 3.0, "mean error {error}");
        for text in ["box/door/1", "2026:11:24", "+00:00\0", "123\0", "spotd "] {
            let found = made.frame.windows(text.len()).any(|w| w == text.as_bytes());
            assert!(found, "{text:?} is not in the JPEG");
        }
        assert_eq!(made.tiles.iter().map(|(t, _)| t.score).collect::<Vec<_>>(), [0.5, 0.4, 0.3, 0.2]);
        for (tile, png) in &made.tiles {
            let Rect { x, y, width, height } = tile.rect;
            let png = image::load_from_memory(png).expect("decode").to_rgb8();
            assert_eq!(png, image::imageops::crop_imm(&frame, x, y, width, height).to_image());
        }
    }

    #[test]
    fn a_map_is_a_small_picture_in_which_the_unknown_is_transparent() {
        let map = HeatMap {
            since: SystemTime::UNIX_EPOCH,
            at: SystemTime::UNIX_EPOCH,
            width: 90,
            height: 64,
            columns: 3,
            rows: 2,
            side: 32,
            values: vec![Some(0.0), Some(0.5), Some(1.0), None, Some(2.0), None],
            judged: vec![1, 1, 1, 0, 1, 0],
        };
        let encoder = Encoder::new("box", 95);
        let made = encoder.map(&map).expect("encoded");
        assert_eq!(made.side, 32);
        let picture = image::load_from_memory(&made.png).expect("a PNG").to_luma_alpha8();
        assert_eq!(picture.dimensions(), (3, 2));
        assert_eq!(picture.as_raw(), &[0, 255, 128, 255, 255, 255, 0, 0, 255, 255, 0, 0]);
        encoder.map(&HeatMap { columns: 0, rows: 0, values: Vec::new(), ..map }).expect_err("no cells");
    }

    #[test]
    fn a_tile_outside_the_frame_and_a_frame_too_large_for_jpeg_are_errors() {
        let encoder = Encoder::new("box", 95);
        let frame = RgbImage::new(64, 64);
        let tile = ScoredTile { rect: Rect { x: 40, y: 0, width: 32, height: 32 }, score: 0.9 };
        let error = encoder.evidence("cam", SystemTime::UNIX_EPOCH, &frame, &[tile]).expect_err("outside");
        assert!(error.to_string().contains("not inside the frame of 64x64"), "{error}");
        let wide = RgbImage::new(70_000, 1);
        let error = encoder.frame("cam", SystemTime::UNIX_EPOCH, &wide).expect_err("too wide");
        assert_eq!(error.to_string(), "the frame cannot be encoded: 70000x1 is too large");
    }
}
