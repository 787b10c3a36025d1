//! From a camera's pixel layout to RGB, for a rectangle alone.
//!
//! Chroma is replicated (nearest), never interpolated: interpolation would smooth the very traces that
//! the detector looks for, and the encoder's own subsampling is the last that touched them.

use super::{Colour, Frame, FrameError, Matrix, PixelFormat, Plane, Rect, jpeg};

/// Cuts `rect`, which is not empty and lies inside the frame, into `out`, which has three bytes for each of its pixels.
pub(super) fn crop_into(frame: &Frame, rect: Rect, out: &mut [u8]) -> Result<(), FrameError> {
    if frame.format == PixelFormat::Mjpg {
        let image = jpeg::decode(frame.bytes())?;
        let (width, height) = image.dimensions();
        if u64::from(rect.x) + u64::from(rect.width) > u64::from(width)
            || u64::from(rect.y) + u64::from(rect.height) > u64::from(height)
        {
            return Err(FrameError::Outside { rect, width, height });
        }
        let cut = image::imageops::crop_imm(&image, rect.x, rect.y, rect.width, rect.height).to_image();
        out.copy_from_slice(cut.as_raw());
        return Ok(());
    }
    check(frame)?;

    let yuv = Yuv::new(frame.colour);
    let row_of = |plane: Plane, y: usize| &frame.bytes()[plane.offset + y * plane.stride..];
    let [p0, p1, p2] = frame.planes;
    let x0 = rect.x as usize;
    for (y, out) in out.chunks_exact_mut(rect.width as usize * 3).enumerate() {
        let y = rect.y as usize + y;
        let first = row_of(p0, y);
        match frame.format {
            PixelFormat::Yuyv => yuv.row(out, x0, Packed { row: first, luma: 0, chroma: 1 }),
            PixelFormat::Uyvy => yuv.row(out, x0, Packed { row: first, luma: 1, chroma: 0 }),
            PixelFormat::Nv12 => yuv.row(out, x0, SemiPlanar { luma: first, chroma: row_of(p1, y / 2) }),
            PixelFormat::I420 => {
                yuv.row(out, x0, Planar { luma: first, u: row_of(p1, y / 2), v: row_of(p2, y / 2) });
            }
            PixelFormat::Grey => {
                for (rgb, &luma) in out.chunks_exact_mut(3).zip(&first[x0..]) {
                    rgb.fill(yuv.grey(luma));
                }
            }
            PixelFormat::Rgb24 => out.copy_from_slice(&first[x0 * 3..x0 * 3 + out.len()]),
            PixelFormat::Bgr24 => {
                for (rgb, bgr) in out.chunks_exact_mut(3).zip(first[x0 * 3..].chunks_exact(3)) {
                    rgb.copy_from_slice(&[bgr[2], bgr[1], bgr[0]]);
                }
            }
            PixelFormat::Mjpg => unreachable!("decoded above"),
        }
    }
    Ok(())
}

/// Two neighbours that share their chroma, the first in an even column: luma of both, U, V.
type Pair = ([u8; 2], u8, u8);

/// A row of pixels with chroma for every two.
trait Row {
    /// The pairs from the one in column `x` on, which is even, as far as the row has both pixels of them.
    fn pairs(&self, x: usize) -> impl Iterator<Item = Pair>;

    /// The pixel in column `x`: luma, U, V.
    fn pixel(&self, x: usize) -> (u8, u8, u8);
}

/// Y0 U Y1 V or U Y0 V Y1: where the first luma and U lie in four bytes; the second luma and V are two on.
struct Packed<'a> {
    row: &'a [u8],
    luma: usize,
    chroma: usize,
}

impl Row for Packed<'_> {
    fn pairs(&self, x: usize) -> impl Iterator<Item = Pair> {
        let (luma, chroma) = (self.luma, self.chroma);
        let (pairs, _) = self.row[x * 2..].as_chunks::<4>();
        pairs.iter().map(move |p| ([p[luma], p[luma + 2]], p[chroma], p[chroma + 2]))
    }

    fn pixel(&self, x: usize) -> (u8, u8, u8) {
        let pair = &self.row[x / 2 * 4..x / 2 * 4 + 4];
        (pair[self.luma + (x & 1) * 2], pair[self.chroma], pair[self.chroma + 2])
    }
}

/// Luma, and U and V in turn.
struct SemiPlanar<'a> {
    luma: &'a [u8],
    chroma: &'a [u8],
}

impl Row for SemiPlanar<'_> {
    fn pairs(&self, x: usize) -> impl Iterator<Item = Pair> {
        let (luma, chroma) = (self.luma[x..].as_chunks::<2>().0, self.chroma[x..].as_chunks::<2>().0);
        luma.iter().zip(chroma).map(|(&luma, &[u, v])| (luma, u, v))
    }

    fn pixel(&self, x: usize) -> (u8, u8, u8) {
        (self.luma[x], self.chroma[x & !1], self.chroma[x | 1])
    }
}

/// Luma, U and V apart.
struct Planar<'a> {
    luma: &'a [u8],
    u: &'a [u8],
    v: &'a [u8],
}

impl Row for Planar<'_> {
    fn pairs(&self, x: usize) -> impl Iterator<Item = Pair> {
        let luma = self.luma[x..].as_chunks::<2>().0;
        luma.iter().zip(&self.u[x / 2..]).zip(&self.v[x / 2..]).map(|((&luma, &u), &v)| (luma, u, v))
    }

    fn pixel(&self, x: usize) -> (u8, u8, u8) {
        (self.luma[x], self.u[x / 2], self.v[x / 2])
    }
}

/// Refuses a frame whose bytes end before its last row does. Strides and offsets may be anything.
pub(super) fn check(frame: &Frame) -> Result<(), FrameError> {
    let needed = needed(frame).unwrap_or(usize::MAX);
    let have = frame.bytes().len();
    if have < needed {
        return Err(FrameError::Short {
            format: frame.format,
            width: frame.width,
            height: frame.height,
            needed,
            have,
        });
    }
    Ok(())
}

/// Bytes up to the end of the last row of every plane; `None` when that number does not exist.
fn needed(frame: &Frame) -> Option<usize> {
    let mut needed = 0;
    for (plane, (row_bytes, rows)) in
        frame.planes.iter().zip(plane_sizes(frame.format, frame.width, frame.height))
    {
        if rows > 0 {
            let end =
                plane.stride.checked_mul(rows - 1)?.checked_add(plane.offset)?.checked_add(row_bytes)?;
            needed = needed.max(end);
        }
    }
    Some(needed)
}

/// Bytes of a row (without padding) and number of rows of each plane; 0 rows where there is no plane.
pub(super) fn plane_sizes(format: PixelFormat, width: u32, height: u32) -> [(usize, usize); 3] {
    let (w, h) = (width as usize, height as usize);
    let (half_w, half_h) = (w.div_ceil(2), h.div_ceil(2));
    match format {
        PixelFormat::Yuyv | PixelFormat::Uyvy => [(half_w * 4, h), (0, 0), (0, 0)],
        PixelFormat::Nv12 => [(w, h), (half_w * 2, half_h), (0, 0)],
        PixelFormat::I420 => [(w, h), (half_w, half_h), (half_w, half_h)],
        PixelFormat::Grey => [(w, h), (0, 0), (0, 0)],
        PixelFormat::Rgb24 | PixelFormat::Bgr24 => [(w * 3, h), (0, 0), (0, 0)],
        PixelFormat::Mjpg => [(0, 0); 3],
    }
}

/// Y'CbCr to R'G'B' in fixed point of 16 bits, rounded to nearest.
pub(super) struct Yuv {
    black: i32,
    luma: i32,
    red_v: i32,
    green_u: i32,
    green_v: i32,
    blue_u: i32,
}

impl Yuv {
    pub(super) fn new(colour: Colour) -> Self {
        // Weights of red and blue in luma, ITU-R BT.601 and BT.709.
        let (kr, kb) = match colour.matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        };
        let kg = 1.0 - kr - kb;
        let (black, luma, chroma) =
            if colour.full_range { (0, 1.0, 1.0) } else { (16, 255.0 / 219.0, 255.0 / 224.0) };
        let fixed = |x: f64| (x * 65536.0).round() as i32;
        Self {
            black,
            luma: fixed(luma),
            red_v: fixed(2.0 * (1.0 - kr) * chroma),
            green_u: fixed(-2.0 * (1.0 - kb) * kb / kg * chroma),
            green_v: fixed(-2.0 * (1.0 - kr) * kr / kg * chroma),
            blue_u: fixed(2.0 * (1.0 - kb) * chroma),
        }
    }

    /// Fills `out` with the row's pixels from column `x0` on.
    fn row(&self, out: &mut [u8], x0: usize, row: impl Row) {
        let width = out.len() / 3;
        let single = |rgb: &mut [u8], x: usize| {
            let (y, u, v) = row.pixel(x);
            self.put(rgb, y, &self.shift(u, v));
        };
        // Before the first whole pair, and after the last.
        let before = (x0 & 1).min(width);
        let (first, rest) = out.split_at_mut(before * 3);
        if before > 0 {
            single(first, x0);
        }
        let whole = (width - before) / 2;
        let (pairs, last) = rest.split_at_mut(whole * 6);
        for (rgb, ([left, right], u, v)) in
            pairs.as_chunks_mut::<6>().0.iter_mut().zip(row.pairs(x0 + before))
        {
            let shift = self.shift(u, v);
            let (to_left, to_right) = rgb.split_at_mut(3);
            self.put(to_left, left, &shift);
            self.put(to_right, right, &shift);
        }
        if !last.is_empty() {
            single(last, x0 + before + whole * 2);
        }
    }

    /// What chroma adds to red, green and blue.
    #[inline]
    fn shift(&self, u: u8, v: u8) -> [i32; 3] {
        let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
        [self.red_v * v, self.green_u * u + self.green_v * v, self.blue_u * u]
    }

    #[inline]
    fn put(&self, rgb: &mut [u8], y: u8, shift: &[i32; 3]) {
        let luma = (i32::from(y) - self.black) * self.luma + (1 << 15);
        let byte = |x: i32| (x >> 16).clamp(0, 255) as u8;
        for (to, shift) in rgb.iter_mut().zip(shift) {
            *to = byte(luma + shift);
        }
    }

    /// Red, green and blue of a pixel without colour.
    pub(super) fn grey(&self, y: u8) -> u8 {
        let mut rgb = [0];
        self.put(&mut rgb, y, &[0; 3]);
        rgb[0]
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;

    use super::*;
    use crate::{Captured, Interlacing};

    const RAW: [PixelFormat; 7] = [
        PixelFormat::Yuyv,
        PixelFormat::Uyvy,
        PixelFormat::Nv12,
        PixelFormat::I420,
        PixelFormat::Grey,
        PixelFormat::Rgb24,
        PixelFormat::Bgr24,
    ];

    fn frame(format: PixelFormat, width: u32, height: u32, planes: [Plane; 3], data: Vec<u8>) -> Frame {
        let captured = Captured {
            at: SystemTime::UNIX_EPOCH,
            format,
            width,
            height,
            planes,
            colour: Colour::default(),
            interlacing: Interlacing::Unsaid,
            data: Box::new(data),
        };
        captured.into_frame("cam".into(), 0, Duration::ZERO)
    }

    /// A frame of pseudo-random bytes, each plane with `pad` bytes after its rows and `gap` before it.
    fn noise(format: PixelFormat, width: u32, height: u32, pad: usize, gap: usize, seed: u32) -> Frame {
        let mut planes = [Plane::default(); 3];
        let mut end = 0;
        for (plane, (row, rows)) in planes.iter_mut().zip(plane_sizes(format, width, height)) {
            if rows > 0 {
                *plane = Plane { offset: end + gap, stride: row + pad };
                end = plane.offset + plane.stride * (rows - 1) + row;
            }
        }
        let mut state = seed | 1;
        let data = (0..end).map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 24) as u8
        });
        let data = data.collect();
        frame(format, width, height, planes, data)
    }

    fn rgb_of(colour: Colour, y: u8, u: u8, v: u8) -> [u8; 3] {
        let (yuv, mut rgb) = (Yuv::new(colour), [0; 3]);
        yuv.put(&mut rgb, y, &yuv.shift(u, v));
        rgb
    }

    #[test]
    fn known_colours_come_out_right() {
        // Limited range BT.601: white, black, and the red of colour bars (81, 90, 240).
        for ((y, u, v), want) in
            [((235, 128, 128), [255; 3]), ((16, 128, 128), [0; 3]), ((81, 90, 240), [254, 0, 0])]
        {
            assert_eq!(rgb_of(Colour::default(), y, u, v), want);
        }
        // BT.709 red is (63, 102, 240).
        assert_eq!(rgb_of(Colour { matrix: Matrix::Bt709, full_range: false }, 63, 102, 240), [255, 1, 0]);
        assert_eq!(rgb_of(Colour { matrix: Matrix::Bt601, full_range: true }, 200, 128, 128), [200; 3]);
    }

    proptest! {
        #[test]
        fn every_colour_is_the_nearest_to_what_the_standard_says(
            y: u8, u: u8, v: u8, bt709: bool, full_range: bool,
        ) {
            let (kr, kb) = if bt709 { (0.2126, 0.0722) } else { (0.299, 0.114) };
            let (y1, pb, pr) = if full_range {
                (f64::from(y) / 255.0, (f64::from(u) - 128.0) / 255.0, (f64::from(v) - 128.0) / 255.0)
            } else {
                ((f64::from(y) - 16.0) / 219.0, (f64::from(u) - 128.0) / 224.0, (f64::from(v) - 128.0) / 224.0)
            };
            let red = y1 + 2.0 * (1.0 - kr) * pr;
            let blue = y1 + 2.0 * (1.0 - kb) * pb;
            let green = (y1 - kr * red - kb * blue) / (1.0 - kr - kb);
            let matrix = if bt709 { Matrix::Bt709 } else { Matrix::Bt601 };
            let rgb = rgb_of(Colour { matrix, full_range }, y, u, v);
            for (got, exact) in rgb.into_iter().zip([red, green, blue]) {
                let exact = exact.clamp(0.0, 1.0) * 255.0;
                prop_assert!((f64::from(got) - exact).abs() <= 0.51, "{} is not {}", got, exact);
            }
        }

        #[test]
        fn luma_is_that_of_the_rgb_pixels(
            f in 0usize..RAW.len(), w in 1u32..40, h in 1u32..20, pad in 0usize..9, seed: u32, x in 0u32..40, y in 0u32..20,
        ) {
            let mut frame = noise(RAW[f], w, h, pad, 0, seed);
            // Colours that RGB holds unclipped: grey ones.
            if matches!(frame.format, PixelFormat::Yuyv | PixelFormat::Uyvy | PixelFormat::Nv12 | PixelFormat::I420) {
                let mut bytes = frame.bytes().to_vec();
                let packed = matches!(frame.format, PixelFormat::Yuyv | PixelFormat::Uyvy);
                let luma_first = frame.format != PixelFormat::Uyvy;
                let end = frame.planes[1].offset;
                for (i, b) in bytes.iter_mut().enumerate() {
                    let is_luma = if packed { (i - frame.planes[0].offset) % frame.planes[0].stride % 2 == usize::from(!luma_first) } else { i < end };
                    *b = if is_luma { 16 + *b % 220 } else { 128 };
                }
                frame.data = Box::new(bytes);
            } else if frame.format == PixelFormat::Grey {
                frame.colour.full_range = true;
            }
            let rect = Rect { x: x % w, y: y % h, width: w - x % w, height: h - y % h };
            let luma = frame.luma(rect).expect("inside");
            let rgb = frame.crop(rect).expect("inside");
            prop_assert_eq!(luma.len(), rgb.pixels().len());
            for (level, px) in luma.iter().zip(rgb.pixels()) {
                let want = 0.299 * f32::from(px[0]) + 0.587 * f32::from(px[1]) + 0.114 * f32::from(px[2]);
                prop_assert!((level - want).abs() <= 0.51, "{} is not {}", level, want);
            }
        }

        #[test]
        fn a_cut_is_the_same_as_cutting_the_whole(
            f in 0usize..RAW.len(), w in 1u32..40, h in 1u32..20, pad in 0usize..9, gap in 0usize..5, seed: u32,
            cut in (0u32..40, 0u32..20, 1u32..40, 1u32..20),
        ) {
            let frame = noise(RAW[f], w, h, pad, gap, seed);
            let (x, y) = (cut.0 % w, cut.1 % h);
            let rect = Rect { x, y, width: cut.2.min(w - x), height: cut.3.min(h - y) };
            let whole = frame.to_rgb().expect("whole");
            let piece = frame.crop(rect).expect("piece");
            let want = image::imageops::crop_imm(&whole, rect.x, rect.y, rect.width, rect.height).to_image();
            prop_assert_eq!(piece, want);
        }

        #[test]
        fn any_geometry_is_converted_or_refused(
            f in 0usize..RAW.len(), w in 1u32..64, h in 1u32..64, len in 0usize..5000,
            planes in prop::array::uniform3((prop_oneof![0usize..4000, Just(usize::MAX), Just(usize::MAX / 3)],
                                             prop_oneof![0usize..200, Just(usize::MAX), Just(usize::MAX / 7)])),
        ) {
            let planes = planes.map(|(offset, stride)| Plane { offset, stride });
            let frame = frame(RAW[f], w, h, planes, vec![7; len]);
            match frame.to_rgb() {
                Ok(image) => prop_assert_eq!(image.dimensions(), (w, h)),
                Err(FrameError::Short { needed, have, .. }) => prop_assert!(have == len && needed > len),
                Err(other) => prop_assert!(false, "{}", other),
            }
        }

        #[test]
        fn one_missing_byte_is_noticed(f in 0usize..RAW.len(), w in 1u32..20, h in 1u32..20, pad in 0usize..9) {
            let mut frame = noise(RAW[f], w, h, pad, 0, 1);
            let mut bytes = frame.bytes().to_vec();
            let full = bytes.len();
            bytes.pop();
            frame.data = Box::new(bytes);
            match frame.to_rgb() {
                Err(FrameError::Short { needed, have, .. }) => prop_assert_eq!((needed, have), (full, full - 1)),
                other => prop_assert!(false, "{:?}", other.map(|i| i.dimensions())),
            }
        }
    }

    /// An independent reference in two halves. GStreamer's unpacking says which bytes belong to a pixel; it
    /// is exact. The standard's formula, in floating point, says what colour they are: GStreamer's own
    /// matrices are rounded to 1/256 and off by up to 3 levels.
    mod reference {
        use gstreamer_video as gst_video;

        use super::*;

        fn gst_format(format: PixelFormat) -> gst_video::VideoFormat {
            match format {
                PixelFormat::Yuyv => gst_video::VideoFormat::Yuy2,
                PixelFormat::Uyvy => gst_video::VideoFormat::Uyvy,
                PixelFormat::Nv12 => gst_video::VideoFormat::Nv12,
                PixelFormat::I420 => gst_video::VideoFormat::I420,
                PixelFormat::Grey => gst_video::VideoFormat::Gray8,
                PixelFormat::Rgb24 => gst_video::VideoFormat::Rgb,
                PixelFormat::Bgr24 => gst_video::VideoFormat::Bgr,
                PixelFormat::Mjpg => unreachable!(),
            }
        }

        /// Three bytes a pixel, Y'CbCr or R'G'B' as the frame has them. By way of 16 bits a channel, which
        /// hold each byte twice: GStreamer's shortcuts for 8 bits write past the end of odd sizes.
        fn unpacked(frame: &Frame) -> Vec<[u8; 3]> {
            gstreamer::init().expect("GStreamer");
            let (width, height) = (frame.width, frame.height);
            let info = |format| gst_video::VideoInfo::builder(format, width, height);
            let rgb = matches!(frame.format, PixelFormat::Rgb24 | PixelFormat::Bgr24);
            let (input, output) = if rgb {
                (info(gst_format(frame.format)), info(gst_video::VideoFormat::Argb64))
            } else {
                (info(gst_format(frame.format)), info(gst_video::VideoFormat::Ayuv64))
            };
            // The same colours on both sides, so that nothing is computed.
            let colours = gst_video::VideoColorimetry::new(
                gst_video::VideoColorRange::Range16_235,
                gst_video::VideoColorMatrix::Bt601,
                gst_video::VideoTransferFunction::Bt709,
                gst_video::VideoColorPrimaries::Bt709,
            );
            let (input, output) = if rgb {
                (input, output)
            } else {
                (input.colorimetry(&colours), output.colorimetry(&colours))
            };
            let input = input.build().expect("input format");
            let output = output.build().expect("output format");

            let mut buffer = gstreamer::Buffer::with_size(input.size()).expect("buffer");
            {
                let buffer = buffer.get_mut().expect("sole owner");
                let mut map = buffer.map_writable().expect("map");
                for (i, (row, rows)) in plane_sizes(frame.format, width, height).into_iter().enumerate() {
                    for y in 0..rows {
                        let from = frame.planes[i].offset + y * frame.planes[i].stride;
                        let to = input.offset()[i] + y * input.stride()[i] as usize;
                        map[to..to + row].copy_from_slice(&frame.bytes()[from..from + row]);
                    }
                }
            }
            let from = gst_video::VideoFrame::from_buffer_readable(buffer, &input).expect("readable");
            let buffer = gstreamer::Buffer::with_size(output.size()).expect("buffer");
            let mut to = gst_video::VideoFrame::from_buffer_writable(buffer, &output).expect("writable");
            let mut config = gst_video::VideoConverterConfig::new();
            config.set_chroma_mode(gst_video::VideoChromaMode::None);
            config.set_dither_method(gst_video::VideoDitherMethod::None);
            gst_video::VideoConverter::new(&input, &output, Some(config))
                .expect("converter")
                .frame(&from, &mut to);
            let stride = output.stride()[0] as usize;
            let data = to.plane_data(0).expect("plane");
            data.chunks(stride)
                .take(height as usize)
                .flat_map(|row| row.chunks_exact(8).take(width as usize).map(|p| [p[2], p[4], p[6]]))
                .collect()
        }

        /// ITU-R BT.601 and BT.709: R'G'B' in 0..255, not rounded.
        fn standard([y, u, v]: [u8; 3], colour: Colour) -> [f64; 3] {
            let (kr, kb) = match colour.matrix {
                Matrix::Bt601 => (0.299, 0.114),
                Matrix::Bt709 => (0.2126, 0.0722),
            };
            let (black, luma, chroma) =
                if colour.full_range { (0.0, 255.0, 255.0) } else { (16.0, 219.0, 224.0) };
            let y = (f64::from(y) - black) / luma;
            let (pb, pr) = ((f64::from(u) - 128.0) / chroma, (f64::from(v) - 128.0) / chroma);
            let (red, blue) = (y + 2.0 * (1.0 - kr) * pr, y + 2.0 * (1.0 - kb) * pb);
            let green = (y - kr * red - kb * blue) / (1.0 - kr - kb);
            [red, green, blue].map(|c| c.clamp(0.0, 1.0) * 255.0)
        }

        proptest! {
            #[test]
            fn every_format_is_within_one_level(
                f in 0usize..RAW.len(), w in 1u32..50, h in 1u32..30, pad in 0usize..9, gap in 0usize..5,
                seed: u32, bt709: bool, full_range: bool,
            ) {
                let mut frame = noise(RAW[f], w, h, pad, gap, seed);
                frame.colour = Colour { matrix: if bt709 { Matrix::Bt709 } else { Matrix::Bt601 }, full_range };
                let (ours, theirs) = (frame.to_rgb().expect("ours"), unpacked(&frame));
                prop_assert_eq!(theirs.len(), (w * h) as usize);
                let rgb = matches!(frame.format, PixelFormat::Rgb24 | PixelFormat::Bgr24);
                for (at, (ours, theirs)) in ours.pixels().zip(theirs).enumerate() {
                    let want = if rgb { theirs.map(f64::from) } else { standard(theirs, frame.colour) };
                    let near = ours.0.iter().zip(want).all(|(&a, b)| (f64::from(a) - b).abs() <= 1.0);
                    let (x, y) = (at as u32 % w, at as u32 / w);
                    prop_assert!(near, "{:?} {}x{} at {},{}: {:?}, not {:?}", frame.format, w, h, x, y, ours.0, want);
                }
            }
        }
    }
}
