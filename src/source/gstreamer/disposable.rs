//! Frames that no other refers to, found in H.264 without decoding.
//!
//! A decoder can do without them: what broadcasters call B frames, mostly. Where a few frames a second are wanted of a
//! stream, they are skipped, and half of its frames or more are never decoded. Cameras send none.

use std::time::Duration;

use ::gstreamer as gst;
use gst::prelude::*;

/// Decides which frames of a stream are spared.
#[derive(Debug, Default)]
pub(super) struct Spares {
    /// Of which stream that is the framing; `None` for one whose frames are not looked into.
    caps: Option<gst::Caps>,
    framing: Option<Framing>,
    /// When the last frame that is not spared is to be decoded.
    last: Option<Duration>,
}

impl Spares {
    /// Whether a frame on its way to a decoder is spared: no other refers to it, and one is wanted only every `wanted`,
    /// which those that are decoded anyway give twice over.
    pub fn spares(&mut self, pad: &gst::Pad, frame: &gst::BufferRef, wanted: Duration) -> bool {
        // The order of decoding is the one in which frames come here.
        let time = frame.dts().or(frame.pts()).map(Duration::from);
        let enough = time.zip(self.last).is_some_and(|(time, last)| time.abs_diff(last) <= wanted / 2);
        let spared = enough && self.is_disposable(pad, frame);
        if !spared {
            self.last = time;
        }
        spared
    }

    fn is_disposable(&mut self, pad: &gst::Pad, frame: &gst::BufferRef) -> bool {
        let caps = pad.current_caps();
        if caps != self.caps {
            self.framing = caps.as_deref().and_then(Framing::of);
            self.caps = caps;
        }
        let Some(framing) = self.framing else { return false };
        frame.map_readable().is_ok_and(|bytes| framing.is_disposable(&bytes))
    }
}

/// How the units of a stream's frames are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// Each after a start code.
    StartCodes,
    /// Each after its length, in so many bytes.
    Lengths(usize),
}

impl Framing {
    /// Of an H.264 stream with these caps; `None` for any other stream.
    fn of(caps: &gst::CapsRef) -> Option<Self> {
        let stream = caps.structure(0).filter(|s| s.name() == "video/x-h264")?;
        match stream.get::<&str>("stream-format").ok()? {
            "byte-stream" => Some(Self::StartCodes),
            "avc" | "avc3" => {
                let record = stream.get::<gst::Buffer>("codec_data").ok()?;
                let record = record.map_readable().ok()?;
                // avcC: lengthSizeMinusOne in the two lowest bits of the fifth byte.
                Some(Self::Lengths(usize::from(record.get(4)? & 3) + 1))
            }
            _ => None,
        }
    }

    /// Whether a frame is one that no other refers to; by its first slice, as nal_ref_idc is the same in all.
    fn is_disposable(self, frame: &[u8]) -> bool {
        // Slices are of type 1 to 5.
        let is_slice = |header: &u8| (1..=5).contains(&(header & 0x1F));
        let slice = match self {
            Self::StartCodes => start_coded(frame).filter_map(<[u8]>::first).find(|header| is_slice(header)),
            Self::Lengths(size) => {
                prefixed(frame, size).filter_map(<[u8]>::first).find(|header| is_slice(header))
            }
        };
        slice.is_some_and(|header| header & 0x60 == 0)
    }
}

/// What follows each start code, up to the frame's end.
fn start_coded(frame: &[u8]) -> impl Iterator<Item = &[u8]> {
    frame.windows(3).enumerate().filter(|(_, code)| *code == [0, 0, 1]).map(|(at, _)| &frame[at + 3..])
}

/// Units after lengths of `size` bytes, as far as they are whole.
fn prefixed(mut frame: &[u8], size: usize) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = frame.split_at_checked(size)?;
        let length = length.iter().fold(0usize, |sum, &byte| sum << 8 | usize::from(byte));
        let (unit, rest) = rest.split_at_checked(length)?;
        frame = rest;
        Some(unit)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Access unit delimiter, a slice that is referred to, one that is not.
    const DELIMITER: &[u8] = &[0x09, 0xF0];
    const NEEDED: &[u8] = &[0x41, 1, 2, 3];
    const DISPOSABLE: &[u8] = &[0x01, 9, 8, 7, 6];

    fn framed(framing: Framing, units: &[&[u8]]) -> Vec<u8> {
        let unit = |unit: &&[u8]| match framing {
            Framing::StartCodes => [&[0, 0, 0, 1], *unit].concat(),
            Framing::Lengths(size) => [&unit.len().to_be_bytes()[8 - size..], *unit].concat(),
        };
        units.iter().flat_map(unit).collect()
    }

    #[test]
    fn a_frame_is_disposable_if_its_slices_are() {
        for framing in [Framing::StartCodes, Framing::Lengths(4), Framing::Lengths(2)] {
            let is = |units: &[&[u8]]| framing.is_disposable(&framed(framing, units));
            assert!(is(&[DELIMITER, DISPOSABLE]) && is(&[DISPOSABLE, DISPOSABLE]));
            assert!(!is(&[DELIMITER, NEEDED]) && !is(&[NEEDED, NEEDED]));
            assert!(!is(&[DELIMITER]) && !is(&[]), "without slices it is no frame");
        }
    }

    #[test]
    fn only_h264_is_looked_into() {
        gst::init().expect("GStreamer");
        let of = |text: &str| Framing::of(&text.parse::<gst::Caps>().expect("caps"));
        let h264 = "video/x-h264,stream-format=byte-stream,alignment=au";
        assert_eq!(of(h264), Some(Framing::StartCodes));
        let avc = "video/x-h264,stream-format=avc,codec_data=(buffer)0164001fffe1";
        assert_eq!(of(avc), Some(Framing::Lengths(4)));
        assert_eq!(of("video/x-h264,stream-format=avc"), None);
        assert_eq!(of("video/x-h265,stream-format=byte-stream"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..200), size in 1usize..=4) {
            Framing::StartCodes.is_disposable(&bytes);
            Framing::Lengths(size).is_disposable(&bytes);
        }
    }
}
