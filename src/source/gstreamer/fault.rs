//! GStreamer's errors in our own words: whether a retry can help, what is wrong, and the way out.

use ::gstreamer as gst;
use gst::glib;

use super::super::SourceError;
use crate::shown::redact;
use crate::source::{Contribution, SourceUri};

/// What a pipeline reported.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub error: glib::Error,
    pub debug: Option<String>,
    /// The kind of element that reports it, as `avdec_h264`.
    pub from: Option<String>,
}

impl Report {
    /// Whether elements do not agree on a format, or cannot decode what they get.
    pub fn disagrees(&self) -> bool {
        self.is_unfit() || self.error.matches(gst::StreamError::Decode)
    }

    fn is_unfit(&self) -> bool {
        self.debug.as_deref().is_some_and(|d| d.contains("not-negotiated"))
            || self.error.matches(gst::CoreError::Negotiation)
            || self.error.matches(gst::StreamError::Format)
    }
}

/// A decoder or similar element that is not installed, or not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
    /// `MPEG-4 AAC decoder`.
    pub name: String,
    /// What it would decode: `audio/mpeg`.
    pub media: Option<String>,
}

/// Context that is known when a pipeline fails.
#[derive(Debug, Clone, Default)]
pub(super) struct Circumstances {
    /// What the pipeline reported as missing.
    pub missing: Vec<Missing>,
    /// What a web server calls the content.
    pub content: Option<String>,
}

impl Circumstances {
    /// Adds what a failure's debug text lists: not all of it arrives as a message.
    fn with_listed(&self, debug: Option<&str>) -> Self {
        let mut all = self.clone();
        for listed in debug.iter().flat_map(|debug| debug.lines()).filter_map(listed) {
            if !all.missing.iter().any(|m| m.media == listed.media) {
                all.missing.push(listed);
            }
        }
        all
    }

    /// Whether a web page came instead of a stream.
    fn is_web_page(&self) -> bool {
        let is_page = |text: &str| text.starts_with("text/html") || text.starts_with("application/xhtml");
        self.content.as_deref().is_some_and(is_page)
            || self.missing.iter().filter_map(|m| m.media.as_deref()).any(is_page)
    }

    /// The sound formats, if there is nothing but sound.
    fn sound_alone(&self) -> Option<String> {
        let is_sound = |m: &Missing| m.media.as_deref().is_some_and(|media| media.starts_with("audio/"));
        let names: Vec<&str> =
            self.missing.iter().map(|m| m.name.strip_suffix(" decoder").unwrap_or(&m.name)).collect();
        (!names.is_empty() && self.missing.iter().all(is_sound)).then(|| names.join(", "))
    }

    /// What is missing for the video, or else for anything.
    fn lacking(&self) -> Option<&str> {
        let is_picture = |m: &&Missing| m.media.as_deref().is_some_and(|media| !media.starts_with("audio/"));
        self.missing.iter().find(is_picture).or(self.missing.first()).map(|m| m.name.as_str())
    }
}

/// `Missing decoder: MPEG-1 Layer 3 (MP3) (audio/mpeg, mpegversion=(int)1)`
fn listed(line: &str) -> Option<Missing> {
    let rest = line.strip_prefix("Missing decoder: ")?;
    let (name, caps) =
        rest.match_indices(" (").map(|(at, _)| (&rest[..at], &rest[at + 2..])).find(|(_, caps)| {
            let media = caps.split([',', ')', ' ']).next().unwrap_or_default();
            media.split_once('/').is_some_and(|(kind, _)| kind.chars().all(|c| c.is_ascii_alphabetic()))
        })?;
    let media = caps.split([',', ')', ' ']).next()?;
    Some(Missing { name: name.to_owned(), media: Some(media.to_owned()) })
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

/// Turns a report of the running pipeline of `uri` into ours.
pub(super) fn classify(uri: &SourceUri, report: &Report, known: &Circumstances) -> SourceError {
    let Report { error, debug, .. } = report;
    let known = &known.with_listed(debug.as_deref());
    let lacks_plugin = error.matches(gst::CoreError::MissingPlugin)
        || error.matches(gst::StreamError::CodecNotFound)
        || error.matches(gst::CoreError::StateChange) && !known.missing.is_empty();
    let refused = error.matches(gst::ResourceError::NotAuthorized);
    let odd = error.matches(gst::StreamError::TypeNotFound)
        || error.matches(gst::StreamError::WrongType)
        || error.matches(gst::StreamError::Demux) && matches!(uri, SourceUri::File(_));
    let unfit = report.is_unfit();

    let message = error.message();
    if (lacks_plugin || odd) && known.is_web_page() {
        return SourceError::Configuration(redact(&format!(
            "{uri} is a web page, not a stream: does the camera ask for a login? Give its user name and password, and the \
             address of the stream itself (its manual has it)"
        )));
    }
    if lacks_plugin && let Some(sound) = known.sound_alone() {
        let text = redact(&format!("{uri} has no video, only sound ({sound})"));
        // A live feed may get its video later.
        return match uri {
            SourceUri::File(_) => SourceError::Configuration(text),
            _ => SourceError::Retry(text),
        };
    }
    let says = |word: &str| message.contains(word) || debug.as_deref().is_some_and(|d| d.contains(word));
    let tls = says("TLS");
    let (lasting, way_out) = if lacks_plugin {
        let what = known.lacking().unwrap_or("what the stream needs");
        (
            true,
            format!(
                " ({what}); install gstreamer1.0-libav, gstreamer1.0-plugins-good and gstreamer1.0-plugins-bad"
            ),
        )
    } else if says("TLS certificate") {
        let mend = "; this machine does not trust its certificate: put that, or its authority's, into \
                    /usr/local/share/ca-certificates and run update-ca-certificates";
        (true, mend.to_owned())
    } else if tls {
        (false, "; TLS needs the package glib-networking".to_owned())
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
    } else if let SourceUri::Contribution(Contribution::Decklink { .. }) = uri {
        (false, "; is the card there, and Blackmagic's driver (Desktop Video) installed?".to_owned())
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
    // The first line only says where in GStreamer's code the error arose.
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
        classify(&uri, &Report { error, debug: Some(debug.into()), from: None }, &Circumstances::default())
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
    fn what_is_missing_is_read_from_the_debug_text_too() {
        for (line, name, media) in [
            (
                "Missing decoder: MPEG-1 Layer 3 (MP3) (audio/mpeg, mpegversion=(int)1)",
                "MPEG-1 Layer 3 (MP3)",
                "audio/mpeg",
            ),
            (
                "Missing decoder: Raw 16-bit PCM audio (audio/x-raw, format=(string)S16LE)",
                "Raw 16-bit PCM audio",
                "audio/x-raw",
            ),
            ("Missing decoder: text/html (text/html)", "text/html", "text/html"),
        ] {
            assert_eq!(listed(line), Some(Missing { name: name.into(), media: Some(media.into()) }));
        }
        assert_eq!(listed("no suitable plugins found:"), None);
        let error = || glib::Error::new(gst::CoreError::MissingPlugin, "missing a plug-in");
        let why =
            |uri: &str, lines: &str| classified(uri, error(), &format!("x.c(1): f ():\n{lines}")).to_string();
        let sound = "Missing decoder: MPEG-4 AAC (audio/mpeg, mpegversion=(int)4)";
        assert!(why("/a.m4a", sound).contains("has no video, only sound (MPEG-4 AAC)"));
        let both = why("/a.mp4", &format!("{sound}\nMissing decoder: H.266 (video/x-h266, width=(int)9)"));
        assert!(both.contains("(H.266)") && both.contains("install"), "{both}");
        let page = why("http://cam/", "Missing decoder: text/html (text/html)");
        assert!(page.contains("web page") && page.contains("login"), "{page}");
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
