//! One JPEG image out of a camera's buffer.
//!
//! What cameras deliver is seldom a clean file: the buffer may be longer than the image (`bytesused`
//! then is the buffer's size), the Huffman tables may be left out as Motion JPEG allows, and a lost USB
//! packet cuts the image short or leaves a hole in it. A damaged picture is an error here and never half
//! a picture: a grey lower half would be judged as if it had been seen.

use image::RgbImage;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::FrameError;

/// Larger sides are refused before anything is allocated for them.
pub const MAX_SIDE: u32 = 65_535;
/// Most pixels of a picture, for the same reason: 384 MiB of RGB.
pub const MAX_PIXELS: u64 = 128 << 20;

/// Decodes the image at the start of `buffer`, whatever follows it.
///
/// # Errors
/// The image is cut or damaged, or larger than [`MAX_SIDE`] or [`MAX_PIXELS`].
pub fn decode(buffer: &[u8]) -> Result<RgbImage, FrameError> {
    let fail = |e: &dyn std::fmt::Display| FrameError::Jpeg(e.to_string());
    let image = complete(extract(buffer)?)?;
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(MAX_SIDE as usize)
        .set_max_height(MAX_SIDE as usize)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(image), options);
    decoder.decode_headers().map_err(|e| fail(&e))?;
    let (width, height) = decoder.dimensions().ok_or_else(|| fail(&"has no size"))?;
    if width as u64 * height as u64 > MAX_PIXELS {
        let most = MAX_PIXELS / 1_000_000;
        return Err(fail(&format_args!(
            "{width}x{height} is larger than what is decoded here ({most} million pixels)"
        )));
    }
    let pixels = decoder.decode().map_err(|e| fail(&e))?;
    // Sides are at most MAX_SIDE, so they fit.
    RgbImage::from_raw(width as u32, height as u32, pixels)
        .ok_or_else(|| fail(&"came out with the wrong size"))
}

/// Zero bytes behind the coefficients of an image. A decoder that still wants coefficients eats them up
/// in a few blocks and then runs into the end, which is an error; at an end-of-image marker it would fill
/// up with grey instead and say nothing.
const RUNWAY: usize = 64;

/// The image with the standard Huffman tables where it has none, and so that missing coefficients are
/// noticed.
fn complete(image: &[u8]) -> Result<Vec<u8>, FrameError> {
    let (mut tables, mut sequential, mut scan, mut scans) = (false, false, None, 0);
    let end = walk(image, |marker, at, _| {
        match marker {
            0xC4 => tables = true,
            0xC0 | 0xC1 => sequential = true,
            0xDA => {
                scans += 1;
                scan = scan.or(Some(at));
            }
            _ => {}
        }
        true
    })?;
    let scan = scan.ok_or_else(|| FrameError::Jpeg("has no picture in it".into()))?;
    let mut out = Vec::with_capacity(image.len() + STANDARD_TABLES.len() + RUNWAY);
    out.extend_from_slice(&image[..scan]);
    if !tables {
        out.extend_from_slice(&STANDARD_TABLES);
    }
    out.extend_from_slice(&image[scan..end]);
    if sequential && scans == 1 {
        out.truncate(out.len() - 2);
        out.resize(out.len() + RUNWAY, 0);
    }
    Ok(out)
}

/// Width and height in pixels that the image at the start of `buffer` states.
///
/// # Errors
/// [`FrameError::Jpeg`] when the buffer ends before its frame header.
pub fn size(buffer: &[u8]) -> Result<(u32, u32), FrameError> {
    let mut size = None;
    walk(buffer, |marker, _, body| {
        // SOF0..SOF15 without DHT, JPG and DAC: precision, height, width.
        if matches!(marker, 0xC0..=0xCF if !matches!(marker, 0xC4 | 0xC8 | 0xCC))
            && let &[_, h1, h0, w1, w0, ..] = body
        {
            size = Some((u16::from_be_bytes([w1, w0]).into(), u16::from_be_bytes([h1, h0]).into()));
        }
        size.is_none()
    })?;
    size.ok_or_else(|| FrameError::Jpeg("has no frame header".into()))
}

/// Luma's quantisation table (number 0) of the image at the start of `buffer`, in zigzag order as it is
/// stored: what tells at which quality it was compressed. `None` when the image states none.
///
/// # Errors
/// [`FrameError::Jpeg`] when the buffer ends before its frame header.
pub fn luma_table(buffer: &[u8]) -> Result<Option<[u16; 64]>, FrameError> {
    let mut table = None;
    walk(buffer, |marker, _, mut body| {
        // A DQT segment may hold several tables: precision and number in one byte, then 64 values.
        while marker == 0xDB
            && let Some((&kind, values)) = body.split_first()
        {
            let bytes = if kind >> 4 == 0 { 64 } else { 128 };
            let Some((values, rest)) = values.split_at_checked(bytes) else { break };
            if kind & 0x0F == 0 {
                let value = |at: usize| match bytes {
                    64 => u16::from(values[at]),
                    _ => u16::from_be_bytes([values[2 * at], values[2 * at + 1]]),
                };
                table = Some(std::array::from_fn(value));
            }
            body = rest;
        }
        // At the first scan all that it needs has been stated.
        marker != 0xDA && table.is_none()
    })?;
    Ok(table)
}

/// Whether the image at the start of `buffer` says that others follow it that belong to it (CIPA DC-007): a
/// preview, a second view, a gain map.
pub fn has_more(buffer: &[u8]) -> bool {
    let mut more = false;
    let _ = walk(buffer, |marker, _, body| {
        more |= marker == 0xE2 && body.starts_with(b"MPF\0");
        !more && marker != 0xDA
    });
    more
}

/// The image alone: from its first marker to its end-of-image marker.
///
/// # Errors
/// [`FrameError::Jpeg`] when there is no image at the start, or when it is cut before its end.
pub fn extract(buffer: &[u8]) -> Result<&[u8], FrameError> {
    let end = walk(buffer, |_, _, _| true)?;
    Ok(&buffer[..end])
}

/// Walks over the segments, calls `segment` with each marker, where it begins and its body until it
/// answers false, and returns where it stopped: just behind the end-of-image marker, or behind the last
/// segment.
fn walk<'a>(
    buffer: &'a [u8],
    mut segment: impl FnMut(u8, usize, &'a [u8]) -> bool,
) -> Result<usize, FrameError> {
    let cut = |at: usize| FrameError::Jpeg(format!("is cut after {at} of its bytes"));
    if !buffer.starts_with(&[0xFF, 0xD8]) {
        return Err(FrameError::Jpeg("does not begin as a JPEG image".into()));
    }
    let mut at = 2;
    loop {
        // A marker: any number of 0xFF, then its code. Strays in front of it are passed over.
        let code = match buffer.get(at..at + 2) {
            Some(&[0xFF, 0xFF]) | Some(&[0xFF, 0x00]) => {
                at += 1;
                continue;
            }
            Some(&[0xFF, code]) => code,
            Some(_) => {
                at += 1;
                continue;
            }
            None => return Err(cut(buffer.len())),
        };
        at += 2;
        match code {
            0xD9 => return Ok(at),
            // Markers without a body; a second start is the next picture: this one lost its end.
            0xD8 => return Err(cut(at - 2)),
            0x01 | 0xD0..=0xD7 => continue,
            _ => {}
        }
        let length = match buffer.get(at..at + 2) {
            Some(&[hi, lo]) => usize::from(u16::from_be_bytes([hi, lo])),
            _ => return Err(cut(buffer.len())),
        };
        let body = match buffer.get(at + 2..at + length) {
            Some(body) => body,
            None if length < 2 => return Err(FrameError::Jpeg(format!("has a segment of {length} bytes"))),
            None => return Err(cut(buffer.len())),
        };
        let begin = at - 2;
        at += length;
        if !segment(code, begin, body) {
            return Ok(at);
        }
        // Behind a start of scan come its coefficients; the search for the next marker passes over
        // them, because 0xFF in them is followed by 0x00 or by a restart marker.
    }
}

/// The segment of standard Huffman tables (ITU-T T.81, annex K.3.3), which Motion JPEG may leave out.
#[rustfmt::skip]
const STANDARD_TABLES: [u8; 420] = [
    0xFF, 0xC4, 0x01, 0xA2, 0x00, 0x00, 0x01, 0x05, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A,
    0x0B, 0x10, 0x00, 0x02, 0x01, 0x03, 0x03, 0x02, 0x04, 0x03, 0x05, 0x05, 0x04, 0x04, 0x00, 0x00,
    0x01, 0x7D, 0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51,
    0x61, 0x07, 0x22, 0x71, 0x14, 0x32, 0x81, 0x91, 0xA1, 0x08, 0x23, 0x42, 0xB1, 0xC1, 0x15, 0x52,
    0xD1, 0xF0, 0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0A, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x25, 0x26,
    0x27, 0x28, 0x29, 0x2A, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3A, 0x43, 0x44, 0x45, 0x46, 0x47,
    0x48, 0x49, 0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5A, 0x63, 0x64, 0x65, 0x66, 0x67,
    0x68, 0x69, 0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A, 0x83, 0x84, 0x85, 0x86, 0x87,
    0x88, 0x89, 0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0xA2, 0xA3, 0xA4, 0xA5,
    0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3,
    0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA,
    0xE1, 0xE2, 0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF1, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6,
    0xF7, 0xF8, 0xF9, 0xFA, 0x01, 0x00, 0x03, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A,
    0x0B, 0x11, 0x00, 0x02, 0x01, 0x02, 0x04, 0x04, 0x03, 0x04, 0x07, 0x05, 0x04, 0x04, 0x00, 0x01,
    0x02, 0x77, 0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07,
    0x61, 0x71, 0x13, 0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xA1, 0xB1, 0xC1, 0x09, 0x23, 0x33,
    0x52, 0xF0, 0x15, 0x62, 0x72, 0xD1, 0x0A, 0x16, 0x24, 0x34, 0xE1, 0x25, 0xF1, 0x17, 0x18, 0x19,
    0x1A, 0x26, 0x27, 0x28, 0x29, 0x2A, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3A, 0x43, 0x44, 0x45, 0x46,
    0x47, 0x48, 0x49, 0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5A, 0x63, 0x64, 0x65, 0x66,
    0x67, 0x68, 0x69, 0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A, 0x82, 0x83, 0x84, 0x85,
    0x86, 0x87, 0x88, 0x89, 0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0xA2, 0xA3,
    0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA,
    0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8,
    0xD9, 0xDA, 0xE2, 0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6,
    0xF7, 0xF8, 0xF9, 0xFA,
];

#[cfg(test)]
mod tests {
    use image::{ImageEncoder, Rgb};
    use proptest::prelude::*;

    use super::*;

    /// A picture with detail, as a JPEG file.
    fn picture(width: u16, height: u16) -> (RgbImage, Vec<u8>) {
        let image = RgbImage::from_fn(width.into(), height.into(), |x, y| {
            Rgb([(x * 7 % 256) as u8, (y * 5 % 256) as u8, ((x + y) * 3 % 256) as u8])
        });
        let mut out = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut out, 95)
            .write_image(image.as_raw(), width.into(), height.into(), image::ExtendedColorType::Rgb8)
            .expect("encodes");
        (image, out)
    }

    /// The file without its Huffman tables.
    fn without_tables(file: &[u8]) -> Vec<u8> {
        let mut out = file[..2].to_vec();
        let mut at = 2;
        while file[at + 1] != 0xDA {
            let length = usize::from(u16::from_be_bytes([file[at + 2], file[at + 3]])) + 2;
            if file[at + 1] != 0xC4 {
                out.extend_from_slice(&file[at..at + length]);
            }
            at += length;
        }
        out.extend_from_slice(&file[at..]);
        assert!(out.len() + 400 < file.len(), "the encoder wrote tables to leave out");
        out
    }

    #[test]
    fn a_padded_buffer_is_cut_at_the_end_of_the_image() {
        let (_, file) = picture(64, 48);
        let want = decode(&file).expect("decodes");
        let mut buffer = file.clone();
        buffer.extend_from_slice(&[0xFF; 500]);
        buffer.extend_from_slice(&file);
        assert_eq!(extract(&buffer).expect("found"), &file[..]);
        assert_eq!(decode(&buffer).expect("decodes"), want);
        assert_eq!(size(&buffer).expect("found"), (64, 48));
    }

    #[test]
    fn missing_tables_are_the_standard_ones() {
        let (_, file) = picture(64, 48);
        let bare = without_tables(&file);
        assert_eq!(decode(&bare).expect("decodes"), decode(&file).expect("decodes"));
    }

    #[test]
    fn an_image_cut_anywhere_is_an_error() {
        let (_, file) = picture(64, 48);
        for len in 0..file.len() {
            assert!(decode(&file[..len]).is_err(), "{len} of {} bytes", file.len());
        }
    }

    #[test]
    fn an_image_with_a_hole_is_an_error_although_it_has_an_end() {
        let (_, file) = picture(320, 240);
        // Half of the coefficients are lost, as with a dropped packet.
        let scan = file.windows(2).position(|w| w == [0xFF, 0xDA]).expect("scan") + 14;
        let mut holed = file[..scan + (file.len() - scan) / 2].to_vec();
        holed.extend_from_slice(&[0xFF, 0xD9]);
        assert!(matches!(decode(&holed), Err(FrameError::Jpeg(_))));
    }

    #[test]
    fn a_giant_is_refused_before_memory_is_taken() {
        let (_, mut file) = picture(64, 48);
        let sof = file.windows(2).position(|w| w == [0xFF, 0xC0]).expect("frame header");
        file[sof + 5..sof + 9].copy_from_slice(&[0x3F, 0xFF, 0x3F, 0xFF]);
        let error = decode(&file).expect_err("too large").to_string();
        assert!(error.contains("16383x16383"), "{error}");
    }

    #[test]
    fn grey_images_decode_too() {
        let mut out = Vec::new();
        let grey: Vec<u8> = (0..32 * 16).map(|i| (i / 2) as u8).collect();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut out, 100)
            .write_image(&grey, 32, 16, image::ExtendedColorType::L8)
            .expect("encodes");
        let image = decode(&out).expect("decodes");
        assert!(image.pixels().all(|p| p[0] == p[1] && p[1] == p[2]));
        assert_eq!(image.dimensions(), (32, 16));
    }

    proptest! {
        #[test]
        fn damaged_bytes_never_panic(changes in prop::collection::vec((0usize..4000, any::<u8>()), 1..20)) {
            let (_, mut file) = picture(48, 32);
            for (at, byte) in changes {
                let at = at % file.len();
                file[at] = byte;
            }
            let _ = size(&file);
            if let Ok(image) = decode(&file) {
                prop_assert!(image.width() > 0);
            }
        }

        #[test]
        fn anything_at_all_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut buffer = vec![0xFF, 0xD8];
            buffer.extend(bytes);
            let _ = (size(&buffer), decode(&buffer), extract(&buffer));
        }
    }
}
