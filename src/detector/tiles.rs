//! Tile selection: tiles at native resolution that cover the frame; flat and black ones carry no
//! information and are skipped, and of the rest those with the most detail are taken.

use image::{RgbImage, imageops};

use crate::frame::{Frame, FrameError, Rect};

/// Standard deviation of luma (levels of 0..255) below which a tile is flat: burnt-out sky, a wall,
/// a black or colour-bar feed. Sensor noise alone is about 1.
const FLAT_BELOW: f64 = 2.0;

/// Why a frame cannot be judged properly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limited {
    /// Smaller than a tile in width or height.
    TooSmall,
    /// Every tile is flat or black.
    Flat,
}

impl Limited {
    /// The name of the reason in counters and `scan`.
    pub fn as_str(self) -> &'static str {
        match self {
            Limited::TooSmall => "too-small",
            Limited::Flat => "flat",
        }
    }
}

/// The tiles selected in a frame; [`cut`] gives the pixels of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Where the tiles to judge are; never empty. With `limited` set it is one substitute that allows a score but no
    /// verdict: the frame extended to a tile by mirroring, or the least flat tile.
    pub tiles: Vec<Rect>,
    /// Tiles skipped as flat.
    pub flat: usize,
    /// Set when there was no proper tile.
    pub limited: Option<Limited>,
}

/// Selects at most `max` tiles of `side` pixels in a decoded frame, the `turn`th of its feed, whose grid is moved
/// accordingly; see [`moved`]. A picture by itself has the turn 0. Only luma is looked at, and nothing is converted.
///
/// # Errors
/// [`FrameError`] when the frame's data are damaged.
pub fn select(frame: &Frame, side: u32, max: usize, turn: usize) -> Result<Selection, FrameError> {
    if frame.width < side || frame.height < side {
        return Ok(Selection { tiles: vec![frame.area()], flat: 0, limited: Some(Limited::TooSmall) });
    }
    let mut lively: Vec<(f64, Rect)> = Vec::new();
    let mut dullest_best: Option<(f64, Rect)> = None;
    let mut flat = 0;
    for rect in moved(frame.width, frame.height, side, turn) {
        let detail = frame.luma_deviation(rect)?;
        if detail >= FLAT_BELOW {
            lively.push((detail, rect));
            // Where two are alike, the later one is kept.
            if lively.len() > max {
                drop_dullest(&mut lively);
            }
        } else {
            flat += 1;
            if dullest_best.is_none_or(|(d, _)| detail > d) {
                dullest_best = Some((detail, rect));
            }
        }
    }
    if lively.is_empty() {
        let tiles = dullest_best.map(|(_, rect)| rect).into_iter().collect();
        return Ok(Selection { tiles, flat, limited: Some(Limited::Flat) });
    }
    Ok(Selection { tiles: lively.into_iter().map(|(_, rect)| rect).collect(), flat, limited: None })
}

fn drop_dullest(tiles: &mut Vec<(f64, Rect)>) {
    let dullest = tiles.iter().enumerate().min_by(|(_, a), (_, b)| a.0.total_cmp(&b.0)).map(|(i, _)| i);
    if let Some(i) = dullest {
        tiles.remove(i);
    }
}

/// Cuts a selected tile and writes its pixels, `side` times `side` of red, green and blue, to `out`.
///
/// # Errors
/// [`FrameError`] when the frame's data are damaged.
pub fn cut_into(frame: &Frame, tile: Rect, side: u32, out: &mut [u8]) -> Result<(), FrameError> {
    if (tile.width, tile.height) == (side, side) {
        return frame.crop_into(tile, out);
    }
    out.copy_from_slice(&mirror_out(&frame.crop(tile)?, side));
    Ok(())
}

/// The pixels of a selected tile, `side` wide and high.
///
/// # Errors
/// [`FrameError`] when the frame's data are damaged.
pub fn cut(frame: &Frame, tile: Rect, side: u32) -> Result<RgbImage, FrameError> {
    let mut pixels = RgbImage::new(side, side);
    cut_into(frame, tile, side, &mut pixels)?;
    Ok(pixels)
}

/// Squares of `side` that cover `width` x `height`, spread evenly, row by row; neighbours overlap
/// where the size is not a multiple of `side`. Both must be at least `side`.
pub fn grid(width: u32, height: u32, side: u32) -> Vec<Rect> {
    let starts = |length: u32| {
        let n = length.div_ceil(side);
        let slack = u64::from(length - side);
        (0..n).map(move |i| {
            u32::try_from(slack * u64::from(i) / u64::from((n - 1).max(1))).expect("within the frame")
        })
    };
    starts(height)
        .flat_map(|y| starts(width).map(move |x| Rect { x, y, width: side, height: side }))
        .collect()
}

/// The fractional parts of `1 / g` and `1 / g^2` in 2^32nds, with `g` the root of `g^3 = g + 1`: the multiples of the two
/// fill a square more evenly than any grid of as many points (Roberts, "The unreasonable effectiveness of quasirandom
/// sequences", 2018).
const STEPS: [u32; 2] = [3_242_174_889, 2_447_445_414];

/// The [`grid`] of a feed's `turn`th frame, moved by up to half a tile in either direction, so that over the frames each
/// place is covered by tiles that lie differently around it. It stays inside the frame: what would leave it lies at the
/// edge, and the pixels from which it has moved away have their tile in other turns. It follows from `turn` alone, and is
/// not moved at all in turn 0.
pub fn moved(width: u32, height: u32, side: u32, turn: usize) -> Vec<Rect> {
    let by = |length: u32, step: u32| {
        let between = (length.div_ceil(side).max(2) - 1).max(1);
        let distance = i64::from((length - side) / between);
        // As a signed number the fraction lies between -1/2 and 1/2.
        let fraction = i64::from((turn as u32).wrapping_mul(step) as i32);
        fraction * distance / (1 << 32)
    };
    let to = |from: u32, by: i64, length: u32| {
        u32::try_from((i64::from(from) + by).clamp(0, i64::from(length - side))).expect("within the frame")
    };
    let (across, down) = (by(width, STEPS[0]), by(height, STEPS[1]));
    let mut rects = grid(width, height, side);
    for rect in &mut rects {
        (rect.x, rect.y) = (to(rect.x, across, width), to(rect.y, down, height));
    }
    rects
}

/// Extends an image past its right and lower edge by mirroring until it is `side` pixels wide and
/// high; a side longer than `side` is cropped to its centre.
fn mirror_out(image: &RgbImage, side: u32) -> RgbImage {
    let (w, h) = image.dimensions();
    let (cw, ch) = (w.min(side), h.min(side));
    let image = imageops::crop_imm(image, (w - cw) / 2, (h - ch) / 2, cw, ch).to_image();
    let fold = |i: u32, n: u32| {
        let i = i % (2 * n);
        if i < n { i } else { 2 * n - 1 - i }
    };
    RgbImage::from_fn(side, side, |x, y| *image.get_pixel(fold(x, cw), fold(y, ch)))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;

    use super::*;

    fn frame(image: RgbImage) -> Frame {
        Frame::from_rgb("t".into(), 0, SystemTime::UNIX_EPOCH, Duration::ZERO, image)
    }

    fn noise(w: u32, h: u32, from_x: u32) -> RgbImage {
        RgbImage::from_fn(w, h, |x, y| {
            let v = if x >= from_x { ((x * 7919 + y * 104_729) % 251) as u8 } else { 128 };
            image::Rgb([v, v, v])
        })
    }

    #[test]
    fn flat_tiles_are_skipped() {
        let s = select(&frame(noise(256, 64, 128)), 64, 100, 0).expect("selects");
        assert_eq!((s.tiles.len(), s.flat, s.limited), (2, 2, None));
        assert!(s.tiles.iter().all(|t| t.x >= 128));
    }

    #[test]
    fn a_frame_of_one_colour_says_so() {
        let s = select(&frame(RgbImage::new(200, 130)), 64, 100, 0).expect("selects");
        assert_eq!((s.tiles.len(), s.limited), (1, Some(Limited::Flat)));
    }

    #[test]
    fn the_liveliest_tiles_are_taken() {
        let mut image = noise(256, 64, 0);
        for px in image.pixels_mut() {
            px.0 = px.0.map(|v| v / 8);
        }
        for (x, _, px) in image.enumerate_pixels_mut() {
            if (64..128).contains(&x) {
                px.0 = px.0.map(|v| v * 8);
            }
        }
        let s = select(&frame(image), 64, 1, 0).expect("selects");
        assert_eq!((s.tiles.len(), s.tiles[0].x), (1, 64));
    }

    proptest! {
        #[test]
        fn the_grid_covers_every_pixel_and_stays_inside(w in 16u32..400, h in 16u32..400, side in 8u32..16) {
            let rects = grid(w, h, side);
            for r in &rects {
                prop_assert!(r.x + side <= w && r.y + side <= h);
            }
            for (x, y) in [(0, 0), (w - 1, 0), (0, h - 1), (w - 1, h - 1), (w / 2, h / 2), (w / 3, h - 1)] {
                let covers = |r: &Rect| (r.x..r.x + side).contains(&x) && (r.y..r.y + side).contains(&y);
                prop_assert!(rects.iter().any(covers));
            }
            prop_assert_eq!(rects.len() as u32, w.div_ceil(side) * h.div_ceil(side));
        }

        #[test]
        fn a_moved_grid_stays_inside_and_over_the_turns_covers_each_pixel_in_many_ways(
            w in 64u32..200, h in 64u32..200
        ) {
            let side = 64;
            prop_assert_eq!(moved(w, h, side, 0), grid(w, h, side));
            let (mut columns, mut covered) = (std::collections::BTreeSet::new(), vec![0u32; (w * h) as usize]);
            for turn in 1..=64 {
                let rects = moved(w, h, side, turn);
                prop_assert_eq!(&rects, &moved(w, h, side, turn), "the same turn, the same grid");
                prop_assert_eq!(rects.len(), grid(w, h, side).len());
                for r in rects {
                    prop_assert!(r.x + side <= w && r.y + side <= h);
                    columns.insert(r.x);
                    let rows = (r.y..r.y + side).step_by(7);
                    rows.for_each(|y| (r.x..r.x + side).for_each(|x| covered[(y * w + x) as usize] += 1));
                }
            }
            // Where there is room to move, tiles begin at far more places than the grid has columns.
            let room = (w - side) as usize;
            prop_assert!(columns.len() > room.min(24) / 2, "{} of {}", columns.len(), room);
            let edges = [(0, 0), (w - 1, 0), (w / 2, 0)];
            for (x, y) in edges {
                let rows = (y..h.min(y + 7)).map(|y| covered[(y * w + x) as usize]);
                prop_assert!(rows.max().expect("rows") > 8, "({}, {}) is hardly ever judged", x, y);
            }
        }

        #[test]
        fn a_small_frame_is_mirrored_out(w in 1u32..70, h in 1u32..70) {
            prop_assume!(w < 64 || h < 64);
            let frame = frame(noise(w, h, 0));
            let s = select(&frame, 64, 9, 0).expect("selects");
            prop_assert_eq!(s.limited, Some(Limited::TooSmall));
            let pixels = cut(&frame, s.tiles[0], 64).expect("cuts");
            prop_assert_eq!(pixels.dimensions(), (64, 64));
            // Its centre, where it is larger than a tile that way, and from there on mirrored.
            let whole = frame.to_rgb().expect("pixels");
            let (left, top) = ((w.max(64) - 64) / 2, (h.max(64) - 64) / 2);
            prop_assert_eq!(pixels.get_pixel(0, 0), whole.get_pixel(left, top));
            let (right, bottom) = (w.min(64) - 1, h.min(64) - 1);
            let beyond = pixels.get_pixel((right + 1).min(63), (bottom + 1).min(63));
            prop_assert_eq!(pixels.get_pixel(right, bottom), beyond);
        }
    }
}
