//! GStreamer's errors in our words: can trying again help, what is it about, and what is the way out.

use ::gstreamer as gst;
use gst::glib;

use super::super::SourceError;
use crate::config::SourceUri;
use crate::shown::redact;

/// What a pipeline reported.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub error: glib::Error,
    pub debug: Option<String>,
}

/// An error in a user's pipeline text.
pub(super) fn text_error(text: &str, error: &glib::Error) -> SourceError {
    let way_out = if error.matches(gst::ParseError::NoSuchElement) {
        "; check its spelling, or install the package that has it (gst-inspect-1.0 lists what is there)"
    } else if error.matches(gst::ParseError::NoSuchProperty) {
        "; gst-inspect-1.0 ELEMENT lists the properties"
    } else {
        "; try it with gst-launch-1.0"
    };
    SourceError::Configuration(redact(&format!(
        "the pipeline `{text}` cannot be built: {}{way_out}",
        error.message()
    )))
}

/// Turns a report of the running pipeline of `uri` into ours. `missing` is what decoder the pipeline said
/// it lacks.
pub(super) fn classify(uri: &SourceUri, report: &Report, missing: Option<&str>) -> SourceError {
    let Report { error, debug } = report;
    let lacks_plugin = error.matches(gst::CoreError::MissingPlugin)
        || error.matches(gst::StreamError::CodecNotFound)
        || error.matches(gst::CoreError::StateChange) && missing.is_some();
    let refused = error.matches(gst::ResourceError::NotAuthorized);
    let odd = error.matches(gst::StreamError::TypeNotFound)
        || error.matches(gst::StreamError::WrongType)
        || error.matches(gst::StreamError::Demux) && matches!(uri, SourceUri::File(_));
    let unfit = debug.as_deref().is_some_and(|d| d.contains("not-negotiated"))
        || error.matches(gst::CoreError::Negotiation)
        || error.matches(gst::StreamError::Format);

    let message = error.message();
    let (lasting, way_out) = if lacks_plugin {
        let what = missing.unwrap_or("what the stream needs");
        (
            true,
            format!(
                " ({what}); install gstreamer1.0-libav, gstreamer1.0-plugins-good and gstreamer1.0-plugins-bad"
            ),
        )
    } else if refused {
        (true, "; check user name and password in its address".to_owned())
    } else if odd {
        let lasting = matches!(uri, SourceUri::File(_));
        (lasting, "; it does not look like video that GStreamer can read".to_owned())
    } else if unfit {
        let lasting = matches!(uri, SourceUri::Pipeline(_));
        (lasting, "; its elements do not agree on a format: put `videoconvert` before the appsink".to_owned())
    } else if error.matches(gst::ResourceError::NotFound) {
        let way_out = match uri {
            SourceUri::File(_) => "; check the path",
            _ => "; check path and port in its address, and that the sender runs",
        };
        (matches!(uri, SourceUri::File(_)), way_out.to_owned())
    } else {
        (false, String::new())
    };
    let said = uri.hide(&format!("{message}{}{way_out}", detail(message, debug.as_deref())));
    let text = format!("{uri}: {said}{}", uri.doubt());
    if lasting { SourceError::Configuration(text) } else { SourceError::Retry(text) }
}

/// The last line of GStreamer's debug text, which often says more than the message.
fn detail(message: &str, debug: Option<&str>) -> String {
    let last = debug.and_then(|d| d.lines().rev().find(|l| !l.trim().is_empty())).unwrap_or_default().trim();
    // The first line only says where in GStreamer's source the error arose.
    if last.is_empty() || debug.is_some_and(|d| d.lines().count() < 2) || message.contains(last) {
        String::new()
    } else {
        format!(" ({last})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classified(uri: &str, error: glib::Error, debug: &str) -> SourceError {
        gst::init().expect("GStreamer");
        let uri = SourceUri::parse(uri).expect("parses");
        classify(&uri, &Report { error, debug: Some(debug.into()) }, None)
    }

    #[test]
    fn what_can_go_away_is_tried_again_and_the_rest_is_for_people() {
        use SourceError::{Configuration, Retry};
        let rtsp = "rtsp://user:secret@cam.lan:8554/live";
        let file = "/media/clip.mp4";
        let text = "v4l2src ! appsink";
        let negotiation = "x.c(1): f ():\nstreaming stopped, reason not-negotiated (-4)";
        let cases: [(&str, glib::Error, &str, bool); 8] = [
            (rtsp, glib::Error::new(gst::ResourceError::NotFound, "Not found"), "", false),
            (rtsp, glib::Error::new(gst::ResourceError::OpenRead, "Could not open"), "x:\nrefused", false),
            (rtsp, glib::Error::new(gst::ResourceError::NotAuthorized, "Unauthorized"), "", true),
            (rtsp, glib::Error::new(gst::CoreError::MissingPlugin, "missing a plug-in"), "", true),
            (rtsp, glib::Error::new(gst::StreamError::Failed, "data flow"), negotiation, false),
            (text, glib::Error::new(gst::StreamError::Failed, "data flow"), negotiation, true),
            (file, glib::Error::new(gst::StreamError::TypeNotFound, "no type"), "", true),
            (file, glib::Error::new(gst::ResourceError::NotFound, "no file"), "", true),
        ];
        for (uri, error, debug, lasting) in cases {
            let shown = format!("{uri} {error:?}");
            let (Retry(why) | Configuration(why)) = &classified(uri, error.clone(), debug);
            assert!(!why.contains("secret"), "{why}");
            assert!(why.contains(uri.rsplit('@').next().expect("text")), "{why}");
            assert_eq!(matches!(classified(uri, error, debug), Configuration(_)), lasting, "{shown}");
        }
    }

    #[test]
    fn the_telling_line_of_the_debug_text_is_shown() {
        let error = glib::Error::new(gst::ResourceError::OpenReadWrite, "Could not open resource.");
        let debug =
            "gstrtspsrc.c(8136): gst_rtspsrc_retrieve_sdp (): /GstPipeline:p:\nFailed to connect. (Refused)";
        let SourceError::Retry(why) = classified("rtsp://cam/1", error, debug) else { panic!() };
        assert!(why.contains("(Failed to connect. (Refused))"), "{why}");
    }
}
