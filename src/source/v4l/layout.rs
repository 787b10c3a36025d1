//! Which format to request from a camera, and what its bytes mean.

use super::answer::PixFormat;
use crate::frame::{Colour, FieldOrder, Interlacing, Matrix, PixelFormat, Plane};

/// Fourccs that a frame can hold, best first: more chroma and no compression first, luma only last.
pub(super) const KNOWN: [[u8; 4]; 10] =
    [*b"YUYV", *b"UYVY", *b"RGB3", *b"BGR3", *b"NV12", *b"YU12", *b"YV12", *b"MJPG", *b"JPEG", *b"GREY"];

/// Up to this size, larger pictures are preferred.
const MOST: (u32, u32) = (1920, 1080);
/// From this area on, being uncompressed counts more than being larger.
const ENOUGH: u64 = 1280 * 720;
/// A size that is slower than this is only chosen when there is no other.
const LEAST_RATE: f64 = 5.0;

/// A format and size that a camera offers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Offer {
    pub fourcc: [u8; 4],
    pub width: u32,
    pub height: u32,
    /// Frames per second at most, where the driver states it.
    pub rate: Option<f64>,
}

/// The best of `offers` for `format` and `size`, if those are asked for.
pub(super) fn choose(offers: &[Offer], format: Option<[u8; 4]>, size: Option<(u32, u32)>) -> Option<Offer> {
    let rank = |o: &Offer| KNOWN.iter().position(|k| *k == o.fourcc);
    let asked = |o: &&Offer| {
        format.is_none_or(|f| f == o.fourcc)
            && size.is_none_or(|s| s == (o.width, o.height))
            && rank(o).is_some()
            && (size.is_some() || o.width <= MOST.0 && o.height <= MOST.1)
    };
    let key = |o: &Offer| {
        let area = u64::from(o.width) * u64::from(o.height);
        let fast = o.rate.is_none_or(|r| r >= LEAST_RATE);
        let raw = !is_jpeg(o.fourcc) && o.fourcc != *b"GREY";
        (fast, area.min(ENOUGH), raw, area, std::cmp::Reverse(rank(o)))
    };
    offers.iter().filter(asked).max_by_key(|o| key(o)).copied()
}

pub(super) fn is_jpeg(fourcc: [u8; 4]) -> bool {
    matches!(&fourcc, b"MJPG" | b"JPEG")
}

/// How to read the bytes of a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub format: PixelFormat,
    pub planes: [Plane; 3],
    pub colour: Colour,
    pub interlacing: Interlacing,
    /// Lines of the picture: those of one field, where fields are stored one after the other.
    pub lines: u32,
    /// Bytes that a whole picture has at least; 0 where that is not known in advance.
    pub bytes: usize,
}

/// The layout of what the driver says it delivers; `None` for a fourcc that a frame cannot hold.
pub(super) fn layout(pix: &PixFormat) -> Option<Layout> {
    let (width, height) = (pix.width as usize, pix.height as usize);
    let (interlacing, lines) = fields(pix);
    let (format, tight) = match &pix.fourcc {
        b"YUYV" => (PixelFormat::Yuyv, width.div_ceil(2) * 4),
        b"UYVY" => (PixelFormat::Uyvy, width.div_ceil(2) * 4),
        b"NV12" => (PixelFormat::Nv12, width.next_multiple_of(2)),
        b"YU12" | b"YV12" => (PixelFormat::I420, width.next_multiple_of(2)),
        b"GREY" => (PixelFormat::Grey, width),
        b"RGB3" => (PixelFormat::Rgb24, width * 3),
        b"BGR3" => (PixelFormat::Bgr24, width * 3),
        b"MJPG" | b"JPEG" => {
            let colour = Colour { matrix: Matrix::Bt601, full_range: true };
            return Some(Layout {
                format: PixelFormat::Mjpg,
                planes: [Plane::default(); 3],
                colour,
                interlacing,
                lines,
                bytes: 0,
            });
        }
        _ => return None,
    };
    // Some drivers leave the stride at 0.
    let stride = if pix.stride == 0 { tight } else { pix.stride as usize };
    let rows = height.div_ceil(2);
    let luma = Plane { offset: 0, stride };
    let mut planes = [luma, Plane::default(), Plane::default()];
    let mut bytes = stride * height;
    match format {
        PixelFormat::Nv12 => {
            planes[1] = Plane { offset: bytes, stride };
            bytes += stride * rows;
        }
        PixelFormat::I420 => {
            let half = stride / 2;
            planes[1] = Plane { offset: bytes, stride: half };
            planes[2] = Plane { offset: bytes + half * rows, stride: half };
            bytes += 2 * half * rows;
            if pix.fourcc == *b"YV12" {
                planes.swap(1, 2);
            }
        }
        _ => {}
    }
    Some(Layout { format, planes, colour: colour(pix, format), interlacing, lines, bytes })
}

/// The driver's field order, and the lines of the picture that is taken.
fn fields(pix: &PixFormat) -> (Interlacing, u32) {
    /// `V4L2_FIELD_*`. One field per buffer; then the height is that of a field.
    const ONE: [u32; 3] = [2, 3, 7];
    /// Interleaved; which field comes first depends on the television standard, or is stated.
    const INTERLACED: u32 = 4;
    const INTERLACED_TOP_FIRST: u32 = 8;
    const INTERLACED_BOTTOM_FIRST: u32 = 9;
    /// Both fields, one after the other: the first is taken.
    const TOP_THEN_BOTTOM: u32 = 5;
    const BOTTOM_THEN_TOP: u32 = 6;
    let lines = pix.height;
    match pix.field {
        field if ONE.contains(&field) => (Interlacing::Field(FieldOrder::Unknown), lines),
        INTERLACED => (Interlacing::Said(FieldOrder::Unknown), lines),
        INTERLACED_TOP_FIRST => (Interlacing::Said(FieldOrder::TopFirst), lines),
        INTERLACED_BOTTOM_FIRST => (Interlacing::Said(FieldOrder::BottomFirst), lines),
        TOP_THEN_BOTTOM => (Interlacing::Field(FieldOrder::TopFirst), lines / 2),
        BOTTOM_THEN_TOP => (Interlacing::Field(FieldOrder::BottomFirst), lines / 2),
        _ => (Interlacing::Unsaid, lines),
    }
}

/// The kernel's rules for what a driver leaves at its default.
fn colour(pix: &PixFormat, format: PixelFormat) -> Colour {
    const JPEG: u32 = 7;
    const REC709: u32 = 3;
    const DCI_P3: u32 = 12;
    let matrix = match (pix.encoding, pix.colorspace) {
        (2 | 4, _) | (0, REC709 | DCI_P3) => Matrix::Bt709,
        _ => Matrix::Bt601,
    };
    let rgb = matches!(format, PixelFormat::Rgb24 | PixelFormat::Bgr24);
    let full_range = match pix.quantization {
        1 => true,
        2 => false,
        // Luma-only formats come from sensors, which use the full range.
        _ => rgb || pix.colorspace == JPEG || format == PixelFormat::Grey,
    };
    Colour { matrix, full_range }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(fourcc: &[u8; 4], width: u32, height: u32, rate: impl Into<Option<f64>>) -> Offer {
        Offer { fourcc: *fourcc, width, height, rate: rate.into() }
    }

    #[test]
    fn a_webcam_gives_the_largest_uncompressed_picture_that_is_not_too_slow() {
        let webcam = [
            offer(b"YUYV", 640, 480, 30.0),
            offer(b"YUYV", 1280, 720, 10.0),
            offer(b"YUYV", 1920, 1080, 3.0),
            offer(b"MJPG", 640, 480, 30.0),
            offer(b"MJPG", 1920, 1080, 30.0),
            offer(b"H264", 1920, 1080, 30.0),
            offer(b"YUYV", 3840, 2160, 30.0),
        ];
        assert_eq!(choose(&webcam, None, None), Some(webcam[1]));
        assert_eq!(choose(&webcam, Some(*b"MJPG"), None), Some(webcam[4]));
        assert_eq!(choose(&webcam, None, Some((1920, 1080))), Some(webcam[4]));
        assert_eq!(choose(&webcam, None, Some((3840, 2160))), Some(webcam[6]));
        assert_eq!(choose(&webcam, Some(*b"H264"), None), None);
        assert_eq!(choose(&webcam[..1], None, None), Some(webcam[0]));
        // Where raw is small, a large JPEG shows more.
        assert_eq!(choose(&[webcam[0], webcam[4]], None, None), Some(webcam[4]));
    }

    #[test]
    fn colour_comes_before_luma_alone_and_a_silent_driver_is_not_slow() {
        let offers = [offer(b"GREY", 640, 480, None), offer(b"NV12", 640, 480, None)];
        assert_eq!(choose(&offers, None, None), Some(offers[1]));
        assert_eq!(choose(&offers[..1], None, None), Some(offers[0]));
    }

    fn pix(fourcc: &[u8; 4], width: u32, height: u32, stride: u32) -> PixFormat {
        PixFormat { width, height, fourcc: *fourcc, stride, ..PixFormat::default() }
    }

    #[test]
    fn planes_follow_each_other_with_the_drivers_stride() {
        let at = |offset, stride| Plane { offset, stride };
        let nv12 = layout(&pix(b"NV12", 100, 51, 128)).expect("known");
        assert_eq!((nv12.planes[1], nv12.bytes), (at(128 * 51, 128), 128 * (51 + 26)));
        let i420 = layout(&pix(b"YU12", 100, 50, 0)).expect("known");
        assert_eq!(i420.planes, [at(0, 100), at(5000, 50), at(6250, 50)]);
        assert_eq!(i420.bytes, 7500);
        let yv12 = layout(&pix(b"YV12", 100, 50, 0)).expect("known");
        assert_eq!(yv12.planes, [at(0, 100), at(6250, 50), at(5000, 50)]);
        let yuyv = layout(&pix(b"YUYV", 3, 2, 0)).expect("known");
        assert_eq!((yuyv.planes[0].stride, yuyv.bytes), (8, 16));
        assert_eq!(layout(&pix(b"MJPG", 3, 2, 0)).expect("known").bytes, 0);
        assert_eq!(layout(&pix(b"H264", 3, 2, 0)), None);
        for fourcc in KNOWN {
            assert!(layout(&pix(&fourcc, 64, 48, 0)).is_some());
        }
    }

    #[test]
    fn fields_are_told_from_frames() {
        let of = |field| {
            let layout = layout(&PixFormat { field, ..pix(b"YUYV", 720, 480, 0) }).expect("known");
            assert_eq!(layout.bytes, 720 * 480 * 2, "the buffer is what it is");
            (layout.interlacing, layout.lines)
        };
        for progressive in [0, 1, 77] {
            assert_eq!(of(progressive), (Interlacing::Unsaid, 480));
        }
        assert_eq!(of(4), (Interlacing::Said(FieldOrder::Unknown), 480));
        assert_eq!(of(8), (Interlacing::Said(FieldOrder::TopFirst), 480));
        assert_eq!(of(9), (Interlacing::Said(FieldOrder::BottomFirst), 480));
        assert_eq!(of(7), (Interlacing::Field(FieldOrder::Unknown), 480));
        assert_eq!(of(5), (Interlacing::Field(FieldOrder::TopFirst), 240));
        assert_eq!(of(6), (Interlacing::Field(FieldOrder::BottomFirst), 240));
    }

    #[test]
    fn colours_are_as_the_kernel_means_them() {
        let of = |colorspace, encoding, quantization, fourcc: &[u8; 4]| {
            let pix = PixFormat { colorspace, encoding, quantization, ..pix(fourcc, 2, 2, 0) };
            let colour = layout(&pix).expect("known").colour;
            (colour.matrix, colour.full_range)
        };
        assert_eq!(of(8, 0, 0, b"YUYV"), (Matrix::Bt601, false));
        assert_eq!(of(3, 0, 0, b"YUYV"), (Matrix::Bt709, false));
        assert_eq!(of(8, 2, 1, b"NV12"), (Matrix::Bt709, true));
        assert_eq!(of(7, 0, 0, b"YUYV"), (Matrix::Bt601, true));
        assert_eq!(of(7, 0, 2, b"YUYV"), (Matrix::Bt601, false));
        assert!(of(8, 0, 0, b"RGB3").1 && of(0, 0, 0, b"GREY").1);
    }
}
