//! Devices that GStreamer's `v4l2src` captures from: those with several buffers per picture, or
//! with a signal's timings.

use super::super::{Ended, FrameSink, Patience, SourceError};
use crate::clock::{SharedClock, Stop};
use crate::shown::Shown as _;
use crate::source::V4lUri;

/// Runs the device through GStreamer until it ends; `why` goes to the log.
#[cfg(feature = "gstreamer")]
pub(super) fn run_once(
    uri: &V4lUri,
    why: &str,
    patience: Patience,
    clock: &SharedClock,
    sink: &dyn FrameSink,
    stop: &Stop,
) -> Result<Ended, SourceError> {
    use super::super::{Source, gstreamer::GstSource};
    use crate::source::SourceUri;

    let text = pipeline(uri)?;
    log::info!("{}: {why}; opened through GStreamer: {text}", uri.device.shown());
    GstSource::new(&SourceUri::Pipeline(text.into()), None, patience, clock.clone())?.run_once(sink, stop)
}

/// Reports what is missing.
#[cfg(not(feature = "gstreamer"))]
pub(super) fn run_once(
    uri: &V4lUri,
    why: &str,
    _: Patience,
    _: &SharedClock,
    _: &dyn FrameSink,
    _: &Stop,
) -> Result<Ended, SourceError> {
    let pipeline = pipeline(uri)?;
    Err(SourceError::Configuration(format!(
        "{}: {why}, which needs GStreamer (`{pipeline}`), and this build was made without it; build with --features gstreamer",
        uri.device.shown()
    )))
}

/// The pipeline that opens the device as requested.
fn pipeline(uri: &V4lUri) -> Result<String, SourceError> {
    let device = uri.device.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
    let mut caps = match uri.format {
        None if uri.size.is_none() && uri.fps.is_none() => String::new(),
        None => " ! video/x-raw".to_owned(),
        Some(fourcc) => match gstreamer_name(fourcc) {
            Some("image/jpeg") => " ! image/jpeg".to_owned(),
            Some(name) => format!(" ! video/x-raw,format={name}"),
            None => {
                return Err(SourceError::Configuration(format!(
                    "{}: format={} is not known to GStreamer's v4l2src; leave it out",
                    uri.device.shown(),
                    super::name(fourcc)
                )));
            }
        },
    };
    if let Some((width, height)) = uri.size {
        caps += &format!(",width={width},height={height}");
    }
    if let Some(fps) = uri.fps {
        caps += &format!(",framerate={fps}/1");
    }
    Ok(format!("v4l2src device=\"{device}\"{caps} ! appsink"))
}

/// Whether frames of this format can be read through GStreamer.
pub(super) fn takes(fourcc: [u8; 4]) -> bool {
    cfg!(feature = "gstreamer") && gstreamer_name(fourcc).is_some()
}

/// What GStreamer calls a format of V4L2.
fn gstreamer_name(fourcc: [u8; 4]) -> Option<&'static str> {
    Some(match &fourcc {
        b"YUYV" => "YUY2",
        b"UYVY" => "UYVY",
        b"RGB3" => "RGB",
        b"BGR3" => "BGR",
        b"NV12" | b"NM12" => "NV12",
        b"YU12" | b"YM12" => "I420",
        b"YV12" | b"YM21" => "YV12",
        b"NV16" | b"NM16" => "NV16",
        b"GREY" => "GRAY8",
        b"MJPG" | b"JPEG" => "image/jpeg",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_of_the_camera_is_asked_of_gstreamer() {
        let of = |format: Option<&[u8; 4]>, size, fps| {
            let device = "/dev/v4l/by-id/a \"b".into();
            pipeline(&V4lUri { device, format: format.copied(), size, fps })
        };
        let source = "v4l2src device=\"/dev/v4l/by-id/a \\\"b\"";
        assert_eq!(of(None, None, None), Ok(format!("{source} ! appsink")));
        assert_eq!(
            of(Some(b"YUYV"), Some((1280, 720)), Some(30)),
            Ok(format!("{source} ! video/x-raw,format=YUY2,width=1280,height=720,framerate=30/1 ! appsink"))
        );
        assert_eq!(of(Some(b"MJPG"), None, None), Ok(format!("{source} ! image/jpeg ! appsink")));
        assert_eq!(
            of(None, Some((640, 480)), None),
            Ok(format!("{source} ! video/x-raw,width=640,height=480 ! appsink"))
        );
        assert!(
            matches!(of(Some(b"XYZW"), None, None), Err(SourceError::Configuration(why)) if why.contains("XYZW"))
        );
    }
}
