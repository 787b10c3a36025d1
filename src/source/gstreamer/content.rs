//! What a file is, by its first bytes and not by its name.

use ::gstreamer as gst;

use super::init;

/// How many leading bytes are examined: raw H.264 without a container is recognised late.
pub const HEAD: usize = 128 << 10;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Video, alone or with sound.
    Video,
    /// A picture of a kind that [`crate::frame::picture`] does not decode, but a plug-in may.
    Picture,
    /// Sound only.
    Sound,
    /// None of these, or nothing that GStreamer knows.
    Other,
}

/// Media types that hold video although their name does not say so. Playlists do not count: what
/// they name lies elsewhere.
const VIDEO: [&str; 5] = [
    "application/mxf",
    "application/ogg",
    "application/vnd.rn-realmedia",
    "application/x-3gp",
    "multipart/x-mixed-replace",
];

/// What a file is that begins with `head` ([`HEAD`] bytes are enough).
pub fn content(head: &[u8]) -> Content {
    if init().is_err() {
        return Content::Other;
    }
    let (probability, caps) = gst::SliceTypeFind::type_find(head);
    let Some(caps) = caps.filter(|_| probability > gst::TypeFindProbability::Minimum) else {
        return Content::Other;
    };
    let Some(kind) = caps.structure(0) else { return Content::Other };
    match kind.name().split_once('/').unwrap_or_default() {
        // Pictures in a video's container.
        ("video", _) if kind.get::<&str>("variant").is_ok_and(|v| v == "heif") => Content::Picture,
        ("video", _) => Content::Video,
        ("image", _) => Content::Picture,
        ("audio", _) => Content::Sound,
        _ if VIDEO.contains(&kind.name().as_str()) => Content::Video,
        _ => Content::Other,
    }
}
