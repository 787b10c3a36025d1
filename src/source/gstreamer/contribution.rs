//! Contribution formats: each with its own element, where the plug-in that provides it is
//! installed.

use ::gstreamer as gst;
use gst::prelude::*;

use super::super::SourceError;
use super::element::make;
use crate::source::Contribution;

/// Debian's packages, and what Debian does not have.
const GOOD: &str = "the package gstreamer1.0-plugins-good";
const BAD: &str = "the package gstreamer1.0-plugins-bad";
const WHEP: &str = "the plug-in rswebrtc of gst-plugins-rs (https://gstreamer.freedesktop.org, \
                    not packaged by Debian 12; older releases have whepsrc in webrtchttp, which will do), or pull RTSP from \
                    the same server";
const NDI: &str = "the plug-in ndi of gst-plugins-rs (https://gstreamer.freedesktop.org, not packaged by Debian 12) \
                   and NDI's own runtime library";

/// What a feed's elements deliver.
pub(super) enum Feed {
    /// An encoded stream for `decodebin`.
    Encoded(gst::Element),
    /// A stream that the second element demuxes. A decoder bin doing it would wait until it knows
    /// every stream inside: 6 s for RTMP without sound.
    Demuxed(gst::Element, gst::Element),
    /// Raw video, on the element's source pad.
    Raw(gst::Element),
    /// Raw video on a pad that appears on the second element, which consumes the first one's
    /// output.
    Split(gst::Element, gst::Element),
}

/// The elements that open the feed.
///
/// # Errors
/// [`SourceError::Configuration`] names a missing plug-in, or a value that an element refuses.
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
            // The newer element consists of several parts, one of which speaks WHEP; the older one
            // is deprecated.
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

/// Sets a property that has named values; a wrong name is an error here, not just a GLib warning.
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

/// Whether a pad's caps are those of sound, which is not used here.
pub(super) fn is_sound(caps: &gst::CapsRef) -> bool {
    caps.structure(0).is_some_and(|s| {
        s.name().starts_with("audio/") || s.get::<&str>("media").is_ok_and(|media| media == "audio")
    })
}
