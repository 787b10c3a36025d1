//! Contribution formats: each by its own element, where the plug-in that has it is installed.

use ::gstreamer as gst;
use gst::prelude::*;

use super::super::SourceError;
use super::element::make;
use crate::source::Contribution;

/// Packages of Debian, and what is not in Debian.
const GOOD: &str = "the package gstreamer1.0-plugins-good";
const BAD: &str = "the package gstreamer1.0-plugins-bad";
const WHEP: &str = "the plug-in rswebrtc of gst-plugins-rs (https://gstreamer.freedesktop.org, \
                    not packaged by Debian 12; older releases have whepsrc in webrtchttp, which will do), or pull RTSP from \
                    the same server";
const NDI: &str = "the plug-in ndi of gst-plugins-rs (https://gstreamer.freedesktop.org, not packaged by Debian 12) \
                   and NDI's own runtime library";

/// What a feed's elements give.
pub(super) enum Feed {
    /// Something encoded, which `decodebin` takes.
    Encoded(gst::Element),
    /// What the second element takes apart. A decoder bin that does it waits until it knows all that is in there: for RTMP
    /// without sound 6 s.
    Demuxed(gst::Element, gst::Element),
    /// Pictures, on the element's pad for them.
    Raw(gst::Element),
    /// Pictures on a pad that appears, of the second element, which takes what the first gives.
    Split(gst::Element, gst::Element),
}

/// The elements that open the feed.
///
/// # Errors
/// [`SourceError::Configuration`] names a plug-in that is not there, and what an element does not take.
pub(super) fn open(feed: &Contribution) -> Result<Feed, SourceError> {
    Ok(match feed {
        Contribution::Rtmp(url) => {
            let source = make("rtmp2src", BAD)?;
            source.set_property("location", url.expose().as_str());
            Feed::Demuxed(source, make("flvdemux", GOOD)?)
        }
        Contribution::Rist { address, port, buffer } => {
            let source = make("ristsrc", BAD)?;
            source.set_property("address", address);
            source.set_property("port", u32::from(*port));
            if let Some(milliseconds) = buffer {
                source.set_property("receiver-buffer", *milliseconds);
            }
            Feed::Encoded(source)
        }
        Contribution::Whep(endpoint) => {
            // The newer element is several parts, of which one speaks WHEP; the older one is deprecated.
            let source = make("whepclientsrc", WHEP).or_else(|e| make("whepsrc", WHEP).map_err(|_| e))?;
            let part = match source.find_property("signaller") {
                Some(_) => source.property::<Option<gst::glib::Object>>("signaller"),
                None => Some(source.clone().upcast()),
            };
            let part =
                part.filter(|part| part.find_property("whep-endpoint").is_some()).ok_or_else(|| {
                    SourceError::Configuration(format!(
                        "{feed}: the element `{}` of this machine takes no endpoint; install {WHEP}",
                        source.name()
                    ))
                })?;
            part.set_property("whep-endpoint", endpoint.expose().as_str());
            Feed::Encoded(source)
        }
        Contribution::Ndi(name) => {
            let (source, split) = (make("ndisrc", NDI)?, make("ndisrcdemux", NDI)?);
            source.set_property("ndi-name", name);
            Feed::Split(source, split)
        }
        Contribution::Decklink { device, mode, connection } => {
            let source = make("decklinkvideosrc", BAD)?;
            let number = i32::try_from(*device).map_err(|_| {
                SourceError::Configuration(format!("{feed}: there is no input with the number {device}"))
            })?;
            source.set_property("device-number", number);
            for (key, value) in [("mode", mode), ("connection", connection)] {
                if let Some(value) = value {
                    set_by_name(&source, feed, key, value)?;
                }
            }
            Feed::Raw(source)
        }
    })
}

/// Sets a property that has named values; a wrong name is an error, not a complaint of GLib's.
fn set_by_name(
    source: &gst::Element,
    feed: &Contribution,
    key: &str,
    value: &str,
) -> Result<(), SourceError> {
    let kind = source.find_property(key).map(|p| p.value_type());
    let class = kind.and_then(gst::glib::EnumClass::with_type);
    match class.as_ref().and_then(|class| class.to_value_by_nick(value)) {
        Some(found) => {
            source.set_property_from_value(key, &found);
            Ok(())
        }
        None => {
            let known: Vec<&str> =
                class.iter().flat_map(|class| class.values()).map(gst::glib::EnumValue::nick).collect();
            Err(SourceError::Configuration(format!(
                "{feed}: {key}={value} is unknown; known are {}",
                known.join(", ")
            )))
        }
    }
}

/// Whether a pad's caps are of sound, which nobody wants here.
pub(super) fn is_sound(caps: &gst::CapsRef) -> bool {
    caps.structure(0).is_some_and(|s| {
        s.name().starts_with("audio/") || s.get::<&str>("media").is_ok_and(|media| media == "audio")
    })
}
