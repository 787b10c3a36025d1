//! A GStreamer element, or what to install to get it.

use ::gstreamer as gst;

use crate::source::SourceError;

/// Makes an element; `way_out` is what to install where it is missing.
pub(super) fn make(name: &str, way_out: &str) -> Result<gst::Element, SourceError> {
    gst::ElementFactory::make(name).build().map_err(|_| {
        SourceError::Configuration(format!("GStreamer has no element `{name}` here; install {way_out}"))
    })
}
