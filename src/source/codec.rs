//! Video codecs that pictures are passed through, to see what is left of a generator's traces.

use std::fmt;

/// A video codec that cameras use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VideoCodec {
    /// AVC, by x264.
    H264,
    /// HEVC, by x265.
    H265,
}

impl VideoCodec {
    /// Both.
    pub const ALL: [VideoCodec; 2] = [VideoCodec::H264, VideoCodec::H265];

    /// The coarsest constant rate factor; 0 is the finest.
    pub const COARSEST: u8 = 51;
}

impl fmt::Display for VideoCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            VideoCodec::H264 => "H.264",
            VideoCodec::H265 => "H.265",
        })
    }
}
