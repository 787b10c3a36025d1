//! What a file is, by its first bytes and not by its name.

use ::gstreamer as gst;

use super::init;

/// So many first bytes are looked at: raw H.264 without a container tells itself late.
pub const HEAD: usize = 128 << 10;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Video, alone or with sound.
    Video,
    /// A picture of a kind that [`crate::frame::picture`] does not decode; a plug-in may.
    Picture,
    /// Sound alone.
    Sound,
    /// None of these, or nothing that GStreamer knows.
    Other,
}

/// Types that hold video and do not say so in their name. Playlists are none: what they name lies elsewhere.
const VIDEO: [&str; 5] = [
    "application/mxf",
    "application/ogg",
    "application/vnd.rn-realmedia",
    "application/x-3gp",
    "multipart/x-mixed-replace",
];

/// What a file is that begins so ([`HEAD`] bytes are enough).
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
        // Pictures in the container of a video.
        ("video", _) if kind.get::<&str>("variant").is_ok_and(|v| v == "heif") => Content::Picture,
        ("video", _) => Content::Video,
        ("image", _) => Content::Picture,
        ("audio", _) => Content::Sound,
        _ if VIDEO.contains(&kind.name().as_str()) => Content::Video,
        _ => Content::Other,
    }
}
