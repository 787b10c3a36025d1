//! The bodies of the fuzz targets (`fuzz/`, `make fuzz`) on a bounded number of inputs: bytes and
//! texts of any kind, and real ones with a few changes.

#[path = "../fuzz/bodies.rs"]
mod bodies;

use std::sync::LazyLock;

use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder};
use proptest::prelude::*;

/// Files as cameras make them: colour and grey, of odd sizes, with what follows them in a buffer.
static IMAGES: LazyLock<[Vec<u8>; 4]> = LazyLock::new(|| {
    let encode = |width: u32, height: u32, colour: ExtendedColorType, quality| {
        let bytes = width as usize * height as usize * usize::from(colour.channel_count());
        let pixels: Vec<u8> = (0..bytes).map(|n| (n * n / 7 % 251) as u8).collect();
        let mut file = Vec::new();
        JpegEncoder::new_with_quality(&mut file, quality)
            .write_image(&pixels, width, height, colour)
            .expect("encodes");
        file
    };
    let two =
        [encode(16, 8, ExtendedColorType::Rgb8, 50), encode(8, 16, ExtendedColorType::Rgb8, 50)].concat();
    let mut padded = encode(33, 17, ExtendedColorType::Rgb8, 80);
    padded.extend([0; 64]);
    [encode(48, 32, ExtendedColorType::Rgb8, 95), encode(31, 9, ExtendedColorType::L8, 90), two, padded]
});

const TEXTS: [&str; 9] = [
    "rtsp://user:pass@cam.lan:554/live?channel=1&subtype=0",
    "rtspu://[fe80::1]:8554/a@b",
    "srt://:9000?mode=listener&passphrase=0123456789",
    "udp://@239.1.2.3:5000",
    "v4l2:///dev/video0?format=MJPG&size=1280x720&fps=30",
    "file:///clips/a%20b.mkv",
    "demo://7",
    "rtspsrc location=rtsp://cam/1 user-id=\"a b\" user-pw='c \\' d' ! rtph264depay ! decodebin ! appsink",
    "souphttpsrc location=\"http://u:p@cam/video?token=abc\" ! multipartdemux ! appsink caps=image/jpeg",
];

#[derive(Debug, Clone)]
enum Change {
    Set(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Repeat(usize, usize),
    Cut(usize),
}

fn changes(most: usize) -> impl Strategy<Value = Vec<Change>> {
    // Markers and signs with a meaning are what anything can hang on.
    let byte = prop_oneof![
        any::<u8>(),
        prop::sample::select(b"\xFF\xD8\xD9\xDA\xC0\xC2\xC4\x00 =@:/?#&!\"'\\".to_vec())
    ];
    let at = 0usize..4000;
    let one = prop_oneof![
        4 => (at.clone(), byte.clone()).prop_map(|(at, byte)| Change::Set(at, byte)),
        2 => (at.clone(), prop::collection::vec(byte, 1..8)).prop_map(|(at, new)| Change::Insert(at, new)),
        1 => (at.clone(), 1usize..60).prop_map(|(at, count)| Change::Remove(at, count)),
        1 => (at.clone(), 1usize..60).prop_map(|(at, count)| Change::Repeat(at, count)),
        1 => at.prop_map(Change::Cut),
    ];
    prop::collection::vec(one, 1..most)
}

fn changed(mut bytes: Vec<u8>, changes: Vec<Change>) -> Vec<u8> {
    for change in changes {
        let place = |at: usize| at % (bytes.len() + 1);
        match change {
            Change::Set(at, byte) => {
                let at = place(at);
                if let Some(old) = bytes.get_mut(at) {
                    *old = byte;
                }
            }
            Change::Insert(at, new) => {
                let at = place(at);
                bytes.splice(at..at, new);
            }
            Change::Remove(at, count) => {
                let at = place(at);
                bytes.drain(at..(at + count).min(bytes.len()));
            }
            Change::Repeat(at, count) => {
                let at = place(at);
                let again = bytes[at..(at + count).min(bytes.len())].to_vec();
                bytes.splice(at..at, again);
            }
            Change::Cut(at) => bytes.truncate(place(at)),
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn any_bytes_as_a_camera_buffer(bytes in prop::collection::vec(any::<u8>(), 0..600), marked: bool) {
        bodies::mjpg(&if marked { [&[0xFF, 0xD8], &bytes[..]].concat() } else { bytes });
    }

    #[test]
    fn changed_images_as_a_camera_buffer(which in 0usize..4, changes in changes(12)) {
        bodies::mjpg(&changed(IMAGES[which].clone(), changes));
    }

    #[test]
    fn any_bytes_as_a_picture(bytes in prop::collection::vec(any::<u8>(), 0..300), which in 0usize..7) {
        let magic: [&[u8]; 7] = [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"RIFF\xff\0\0\0WEBPVP8X", b"BM", b"II*\0", b"MM\0*"];
        bodies::picture(&[magic[which], &bytes].concat());
    }

    #[test]
    fn changed_images_as_a_picture(which in 0usize..4, changes in changes(12)) {
        bodies::picture(&changed(IMAGES[which].clone(), changes));
    }

    #[test]
    fn any_text_as_an_address(text in "\\PC{0,80}") {
        bodies::source_text(&text);
        bodies::password(&text);
    }

    #[test]
    fn changed_addresses(which in 0usize..9, changes in changes(8)) {
        let bytes = changed(TEXTS[which].into(), changes);
        let text = String::from_utf8_lossy(&bytes);
        bodies::source_text(&text);
        bodies::password(&text);
    }
}
