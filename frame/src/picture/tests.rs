//! Files as encoders write them, and animations and pages put together here, because no encoder of ours writes
//! them.

use image::{ImageBuffer, ImageFormat, Luma, Rgb, Rgba, RgbaImage};
use proptest::prelude::*;

use super::*;

const SIDE: (u32, u32) = (24, 16);

/// A picture with detail, different for each number.
fn picture(number: u8) -> RgbImage {
    RgbImage::from_fn(SIDE.0, SIDE.1, |x, y| Rgb([(x * 9) as u8, (y * 11) as u8, number.wrapping_mul(40)]))
}

fn encoded(image: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    image.write_to(&mut out, format).expect("encodes");
    out.into_inner()
}

fn images(bytes: &[u8]) -> Vec<RgbImage> {
    shots(bytes).expect("a picture").map(|shot| shot.expect("decodes").image).collect()
}

fn gif(frames: u8) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut out);
    for number in 0..frames {
        let delay = image::Delay::from_numer_denom_ms(500, 1);
        let pixels = DynamicImage::from(picture(number)).into_rgba8();
        encoder.encode_frame(image::Frame::from_parts(pixels, 0, 0, delay)).expect("encodes");
    }
    drop(encoder);
    out
}

/// A PNG whose first frame is its default image.
fn apng(frames: u8) -> Vec<u8> {
    let chunk = |kind: &[u8; 4], body: &[u8]| {
        let mut crc = !0u32;
        for byte in kind.iter().chain(body) {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
            }
        }
        [&(body.len() as u32).to_be_bytes(), &kind[..], body, &(!crc).to_be_bytes()].concat()
    };
    let parts = |file: &[u8]| {
        let (mut at, mut found) = (8, Vec::new());
        while at < file.len() {
            let length = u32::from_be_bytes(file[at..at + 4].try_into().expect("four")) as usize;
            found.push((file[at + 4..at + 8].to_vec(), file[at + 8..at + 8 + length].to_vec()));
            at += 12 + length;
        }
        found
    };
    let mut out = encoded(&picture(0), ImageFormat::Png)[..8].to_vec();
    let mut sequence = 0u32;
    for number in 0..frames {
        for (kind, body) in parts(&encoded(&picture(number), ImageFormat::Png)) {
            match &kind[..] {
                b"IHDR" if number == 0 => {
                    out.extend(chunk(b"IHDR", &body));
                    out.extend(chunk(b"acTL", &[&u32::from(frames).to_be_bytes()[..], &[0; 4]].concat()));
                }
                b"IDAT" => {
                    let numbers = [sequence, SIDE.0, SIDE.1, 0, 0].map(u32::to_be_bytes).concat();
                    out.extend(chunk(b"fcTL", &[&numbers[..], &[0, 1, 0, 2, 0, 0]].concat()));
                    sequence += 1;
                    if number == 0 {
                        out.extend(chunk(b"IDAT", &body));
                    } else {
                        out.extend(chunk(b"fdAT", &[&sequence.to_be_bytes()[..], &body].concat()));
                        sequence += 1;
                    }
                }
                _ => {}
            }
        }
    }
    out.extend(chunk(b"IEND", &[]));
    out
}

/// A WebP animation of lossless frames.
fn webp(frames: u8) -> Vec<u8> {
    let chunk = |kind: &[u8; 4], body: &[u8]| {
        let mut out = [&kind[..], &(body.len() as u32).to_le_bytes(), body].concat();
        out.resize(out.len().next_multiple_of(2), 0);
        out
    };
    let three = |n: u32| n.to_le_bytes()[..3].to_vec();
    let size = [three(SIDE.0 - 1), three(SIDE.1 - 1)].concat();
    let mut body = b"WEBP".to_vec();
    body.extend(chunk(b"VP8X", &[&[0x02, 0, 0, 0][..], &size].concat()));
    body.extend(chunk(b"ANIM", &[0; 6]));
    for number in 0..frames {
        let still = encoded(&picture(number), ImageFormat::WebP);
        let frame = [&three(0)[..], &three(0), &size, &three(500), &[0x02], &still[12..]].concat();
        body.extend(chunk(b"ANMF", &frame));
    }
    chunk(b"RIFF", &body)
}

/// An uncompressed TIFF with pages of these kinds (its tag NewSubfileType), in either order of bytes.
fn tiff(kinds: &[u32], little: bool) -> Vec<u8> {
    let two = |n: u16| if little { n.to_le_bytes() } else { n.to_be_bytes() };
    let four = |n: u32| if little { n.to_le_bytes() } else { n.to_be_bytes() };
    let mut out = [if little { &b"II"[..] } else { b"MM" }, &two(42), &four(0)].concat();
    let mut link = 4;
    for (number, &kind) in kinds.iter().enumerate() {
        let pixels = out.len() as u32;
        out.extend(picture(number as u8).as_raw());
        let bits = out.len() as u32;
        out.extend([two(8), two(8), two(8)].concat());
        let directory = four(out.len() as u32);
        out[link..link + 4].copy_from_slice(&directory);
        let entries: [(u16, u16, u32, u32); 10] = [
            (254, 4, 1, kind),
            (256, 4, 1, SIDE.0),
            (257, 4, 1, SIDE.1),
            (258, 3, 3, bits),
            (259, 3, 1, 1),
            (262, 3, 1, 2),
            (273, 4, 1, pixels),
            (277, 3, 1, 3),
            (278, 4, 1, SIDE.1),
            (279, 4, 1, SIDE.0 * SIDE.1 * 3),
        ];
        out.extend(two(10));
        for (tag, of, count, value) in entries {
            out.extend([two(tag), two(of)].concat());
            out.extend(four(count));
            // A single number of two bytes lies in the first two of the four.
            if of == 3 && count == 1 {
                out.extend([two(value as u16), [0; 2]].concat());
            } else {
                out.extend(four(value));
            }
        }
        link = out.len();
        out.extend([0; 4]);
    }
    out
}

#[test]
fn one_picture_is_one_in_every_format() {
    let image = picture(1);
    for format in
        [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP, ImageFormat::Jpeg]
    {
        let file = encoded(&image, format);
        assert!(is_picture(&file[..HEAD]), "{format:?}");
        let found = images(&file);
        assert_eq!(found.len(), 1, "{format:?}");
        assert!(format == ImageFormat::Jpeg || found[0] == image, "{format:?}");
    }
    let wide: ImageBuffer<Luma<u16>, _> = ImageBuffer::from_fn(8, 8, |x, y| Luma([(x * 8 + y) as u16 * 257]));
    let mut out = Cursor::new(Vec::new());
    DynamicImage::ImageLuma16(wide).write_to(&mut out, ImageFormat::Png).expect("encodes");
    assert_eq!(first(&out.into_inner()).expect("decodes").image.get_pixel(1, 2).0, [10; 3]);
}

#[test]
fn every_frame_and_every_page_is_there() {
    let want: Vec<RgbImage> = (0..3).map(picture).collect();
    for (name, file) in [("APNG", apng(3)), ("WebP", webp(3))] {
        assert_eq!(shots(&file).expect("reads").kind, Kind::Animation, "{name}");
        assert!(images(&file) == want, "{name}");
        let at: Vec<_> = shots(&file).expect("reads").map(|s| s.expect("decodes").at.as_millis()).collect();
        assert_eq!(at, [0, 500, 1000], "{name}");
    }
    // A palette is not exact.
    assert_eq!((images(&gif(3)).len(), shots(&gif(3)).expect("reads").kind), (3, Kind::Animation));
    for little in [true, false] {
        let file = tiff(&[0, 0, 0], little);
        assert_eq!(shots(&file).expect("reads").kind, Kind::Pages);
        assert!(images(&file) == want, "pages");
        // A preview (1) in front, and a mask (4) behind: the picture between them is one.
        let file = tiff(&[1, 0, 4], little);
        assert_eq!(shots(&file).expect("reads").kind, Kind::Still);
        assert!(images(&file) == [picture(1)], "a picture with a preview");
    }
}

#[test]
fn a_list_of_pages_that_leads_back_into_itself_has_an_end() {
    let mut file = tiff(&[0, 0], true);
    let first: [u8; 4] = file[4..8].try_into().expect("four");
    let end = file.len() - 4;
    file[end..].copy_from_slice(&first);
    let found: Vec<_> = shots(&file).expect("reads").collect();
    assert!(found.len() == 3 && found[1].is_ok() && found[2].is_err(), "{found:?}");
}

#[test]
fn jpegs_behind_each_other_are_a_video_unless_the_first_says_otherwise() {
    let one = encoded(&picture(1), ImageFormat::Jpeg);
    let other = encoded(&picture(2), ImageFormat::Jpeg);
    assert!(!is_motion_jpeg(&one));
    assert!(is_motion_jpeg(&[&one[..], &other].concat()));
    // A trailer of a phone's, and a smaller picture.
    assert!(!is_motion_jpeg(&[&one[..], b"....ftypmp42"].concat()));
    let small = encoded(&RgbImage::new(8, 8), ImageFormat::Jpeg);
    assert!(!is_motion_jpeg(&[&one[..], &small].concat()));
    let marked = [&one[..2], &[0xFF, 0xE2, 0, 6], b"MPF\0", &one[2..], &other].concat();
    assert!(!is_motion_jpeg(&marked));
    assert_eq!(images(&marked).len(), 1);
}

#[test]
fn what_nobody_sees_does_not_count() {
    let image = RgbaImage::from_fn(8, 4, |x, _| Rgba([10, 20, 30, if x < 2 { 0 } else { 1 }]));
    let mut out = Cursor::new(Vec::new());
    image.write_to(&mut out, ImageFormat::Png).expect("encodes");
    let shot = first(&out.into_inner()).expect("decodes");
    assert_eq!((shot.hidden, shot.transparent()), (8, 0.25));
    assert_eq!((shot.image.get_pixel(1, 1).0, shot.image.get_pixel(2, 1).0), (NOTHING, [10, 20, 30]));
}

#[test]
fn what_is_cut_is_an_error_wherever() {
    let files = [
        ("PNG", encoded(&picture(1), ImageFormat::Png)),
        ("JPEG", encoded(&picture(1), ImageFormat::Jpeg)),
        ("BMP", encoded(&picture(1), ImageFormat::Bmp)),
        ("WebP", encoded(&picture(1), ImageFormat::WebP)),
        ("TIFF", encoded(&picture(1), ImageFormat::Tiff)),
        ("GIF", gif(3)),
        ("APNG", apng(3)),
        ("animated WebP", webp(3)),
        ("pages", tiff(&[0, 0, 0], true)),
    ];
    for (name, file) in files {
        for share in [1, 3, 5, 7, 9] {
            let cut = &file[..file.len() * share / 10];
            let whole = shots(cut).and_then(|shots| shots.collect::<Result<Vec<_>, _>>());
            assert!(whole.is_err(), "{name} after {share} tenths");
        }
    }
    for bytes in [&b""[..], b"this is no picture"] {
        assert!(!shots(bytes).map(|_| ()).expect_err("no picture").to_string().is_empty());
    }
}

#[test]
fn a_giant_is_refused_before_memory_is_taken() {
    let mut png = encoded(&picture(1), ImageFormat::Png);
    png[16..24].copy_from_slice(&[0, 0, 0xFF, 0xFF, 0, 0, 0xFF, 0xFF]);
    let mut gif = gif(1);
    gif[6..10].copy_from_slice(&[0xFF; 4]);
    let mut bmp = encoded(&picture(1), ImageFormat::Bmp);
    bmp[18..26].copy_from_slice(&[0xFF, 0xFF, 0, 0, 0xFF, 0xFF, 0, 0]);
    for file in [png, gif, bmp] {
        assert!(first(&file).is_err());
    }
    // More than cameras have today.
    const { assert!(MAX_PIXELS > 123_000_000) };
}

proptest! {
    #[test]
    fn damaged_bytes_never_panic(
        which in 0usize..6, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut file = match which {
            0 => gif(2),
            1 => apng(2),
            2 => webp(2),
            3 => tiff(&[0, 1], true),
            4 => tiff(&[0, 0], false),
            _ => encoded(&picture(1), ImageFormat::Bmp),
        };
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if let Ok(shots) = shots(&file) {
            // Each frame of a large canvas takes its time.
            for shot in shots.take(3).flatten() {
                prop_assert!(shot.image.width() > 0);
                if shot.image.len() > 1 << 22 {
                    break;
                }
            }
        }
        let _ = is_motion_jpeg(&file);
    }
}
