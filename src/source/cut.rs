//! Truncated files of containers that state no duration, or whose reader makes one up from what is
//! there: recognised by ending in the middle of a packet, page or chunk.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

use super::Truncated;
use crate::source::SourceUri;

/// Sizes of a transport stream's packet: plain, with a leading timestamp (AVCHD, Blu-ray), with a
/// trailing checksum; and the position of the sync byte in it.
const PACKETS: [(u64, u64); 3] = [(188, 0), (192, 4), (204, 0)];
const SYNC: u8 = 0x47;
/// The largest Ogg page, in bytes.
const OGG_PAGE: u64 = 27 + 255 + 255 * 255;

/// What is missing at the end of the file, of which frames came up to `end`.
pub(super) fn truncated(uri: &SourceUri, end: Option<Duration>) -> Option<Truncated> {
    let SourceUri::File(path) = uri else { return None };
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let mut file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    is_cut(&mut file, size).then(|| Truncated { seconds: end.unwrap_or_default().as_secs_f64(), of: None })
}

fn is_cut(file: &mut (impl Read + Seek), size: u64) -> bool {
    riff_is_cut(file, size).unwrap_or(false)
        || transport_is_cut(file, size).unwrap_or(false)
        || ogg_is_cut(file, size).unwrap_or(false)
}

/// Ogg: pages that state their sizes, of which the last begins within the last 64 KiB.
fn ogg_is_cut(file: &mut (impl Read + Seek), size: u64) -> Option<bool> {
    const HEAD: usize = 27;
    let mut bytes = Vec::new();
    file.rewind().ok()?;
    file.take(4).read_to_end(&mut bytes).ok()?;
    if bytes != b"OggS" {
        return None;
    }
    bytes.clear();
    file.seek(SeekFrom::Start(size.saturating_sub(OGG_PAGE))).ok()?;
    file.take(OGG_PAGE).read_to_end(&mut bytes).ok()?;
    // The capture pattern can also occur inside a page, but there no valid version follows.
    let last = (0..bytes.len()).rev().find(|&at| bytes[at..].starts_with(b"OggS\0"))?;
    let page = &bytes[last..];
    let Some(&segments) = page.get(HEAD - 1) else { return Some(true) };
    let Some(sizes) = page.get(HEAD..HEAD + usize::from(segments)) else { return Some(true) };
    let body: usize = sizes.iter().map(|&n| usize::from(n)).sum();
    Some(page.len() < HEAD + sizes.len() + body)
}

/// AVI: chunks that state their sizes, one after the other.
fn riff_is_cut(file: &mut (impl Read + Seek), size: u64) -> Option<bool> {
    let mut at = 0;
    let mut chunks = 0;
    while at + 12 <= size {
        let mut head = [0; 12];
        file.seek(SeekFrom::Start(at)).ok()?;
        file.read_exact(&mut head).ok()?;
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        // A writer that is still recording leaves the length open.
        if !head.starts_with(b"RIFF") || !head[8..].starts_with(b"AVI") || matches!(length, 0 | u32::MAX) {
            break;
        }
        at += 8 + u64::from(length) + u64::from(length & 1);
        chunks += 1;
    }
    // The last chunk's padding may be left out.
    Some(chunks > 0 && at > size + 1)
}

/// A transport stream: packets of one size.
fn transport_is_cut(file: &mut (impl Read + Seek), size: u64) -> Option<bool> {
    let mut byte = |at: u64| {
        let mut byte = [0];
        file.seek(SeekFrom::Start(at)).ok()?;
        file.read_exact(&mut byte).ok()?;
        Some(byte[0])
    };
    for (packet, sync) in PACKETS {
        if (0..4).all(|n| byte(n * packet + sync) == Some(SYNC)) {
            return Some(!size.is_multiple_of(packet));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn cut(bytes: &[u8]) -> bool {
        is_cut(&mut Cursor::new(bytes), bytes.len() as u64)
    }

    #[test]
    fn a_transport_stream_ends_with_a_packet() {
        for (size, sync) in PACKETS.map(|(size, sync)| (size as usize, sync as usize)) {
            let packet: Vec<u8> = (0..size).map(|n| if n == sync { SYNC } else { 1 }).collect();
            let whole = packet.repeat(9);
            assert!(!cut(&whole), "{size}");
            assert!(cut(&whole[..whole.len() - 1]) && cut(&whole[..5 * size + 1]), "{size}");
        }
        assert!(!cut(&[SYNC; 3]) && !cut(b""));
    }

    #[test]
    fn avi_and_ogg_files_are_as_long_as_their_pieces() {
        let chunk = |kind: &[u8; 4], body: usize| {
            [&b"RIFF"[..], &(body as u32 + 4).to_le_bytes(), kind, &vec![7; body]].concat()
        };
        let whole = [chunk(b"AVI ", 100), chunk(b"AVIX", 50)].concat();
        assert!(!cut(&whole) && !cut(&whole[..112]));
        assert!(cut(&whole[..80]) && cut(&whole[..150]));
        let page = |body: usize| {
            let sizes = [vec![255; body / 255], vec![(body % 255) as u8]].concat();
            let count = [sizes.len() as u8];
            [&b"OggS"[..], &[0; 22], &count, &sizes, &vec![3; body]].concat()
        };
        let ogg = [page(300), page(1000), page(10)].concat();
        assert!(!cut(&ogg) && !cut(&ogg[..page(300).len()]));
        assert!(cut(&ogg[..ogg.len() - 1]) && cut(&ogg[..500]) && cut(&ogg[..page(300).len() + 20]));
        // Other RIFF files, and an AVI that was never finalised.
        assert!(!cut(&chunk(b"WAVE", 100)[..50]));
        assert!(!cut(&[&b"RIFF"[..], &[0; 4], b"AVI ", &[7; 50]].concat()));
    }
}
