//! Addresses of contribution formats: the feeds that newsrooms receive from outside, and capture
//! cards.

use percent_encoding::percent_decode_str;
use url::Url;

use super::stream::StreamUrl;
use spotd_core::shown::redact;

/// A feed that GStreamer opens with an element made for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contribution {
    /// `rtmp://host/app/stream`, `rtmps://...`: pulled from a server.
    Rtmp(StreamUrl),
    /// `rist://:5004?buffer=1000`: waits for a sender (simple profile, MPEG-TS in RTP).
    Rist {
        /// Address to listen at, or a multicast group.
        address: String,
        /// Even; the next one is RTCP's.
        port: u16,
        /// Milliseconds that packets are held back, to wait for retransmissions.
        buffer: Option<u32>,
    },
    /// `whep://host/path`, `wheps://...`: WebRTC from a server, negotiated over HTTP or HTTPS.
    Whep(StreamUrl),
    /// `ndi://MACHINE (SOURCE)`: the name as NDI tools show it.
    Ndi(String),
    /// `decklink://0?mode=1080i50&connection=sdi`: a card of Blackmagic Design.
    Decklink {
        /// Which of the machine's inputs, from 0.
        device: u32,
        /// As `gst-inspect-1.0 decklinkvideosrc` lists them; detected by the card where it is
        /// missing.
        mode: Option<String>,
        /// Likewise: `sdi`, `hdmi`, ...
        connection: Option<String>,
    },
}

impl Contribution {
    /// Schemes of these addresses.
    pub(crate) const SCHEMES: [&'static str; 7] =
        ["rtmp", "rtmps", "rist", "whep", "wheps", "ndi", "decklink"];

    /// Parses the address `text` if `scheme`, in lower case, is one of these; `text` begins with
    /// it, in any case.
    pub(super) fn parse(scheme: &str, text: &str) -> Option<Result<Self, String>> {
        let rest = text.get(scheme.len() + "://".len()..).unwrap_or_default();
        Some(match scheme {
            "rtmp" | "rtmps" => StreamUrl::parse(&format!("{scheme}://{rest}")).and_then(rtmp),
            "rist" => rist(rest),
            "whep" => StreamUrl::parse(&format!("http://{rest}")).map(Self::Whep),
            "wheps" => StreamUrl::parse(&format!("https://{rest}")).map(Self::Whep),
            "ndi" => ndi(rest),
            "decklink" => decklink(rest),
            _ => return None,
        })
    }

    /// A library's message about it, with its secrets removed.
    pub fn hide(&self, text: &str) -> String {
        match self {
            Self::Rtmp(url) | Self::Whep(url) => url.hide(text),
            _ => redact(text),
        }
    }

    /// A hint at what may be wrong when it cannot be opened, beginning with `; `; or empty.
    pub fn doubt(&self) -> String {
        match self {
            Self::Rtmp(url) | Self::Whep(url) => url.doubt(),
            _ => String::new(),
        }
    }

    /// The scheme, in lower case.
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::Rtmp(url) if url.scheme() == "rtmps" => "rtmps",
            Self::Rtmp(_) => "rtmp",
            Self::Rist { .. } => "rist",
            Self::Whep(url) if url.scheme() == "https" => "wheps",
            Self::Whep(_) => "whep",
            Self::Ndi(_) => "ndi",
            Self::Decklink { .. } => "decklink",
        }
    }
}

impl std::fmt::Display for Contribution {
    /// For people; user names and passwords are left out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://", self.scheme())?;
        match self {
            Self::Rtmp(url) | Self::Whep(url) => {
                f.write_str(url.to_string().split_once("://").map_or("", |(_, rest)| rest))
            }
            Self::Rist { address, port, buffer } => {
                if address.contains(':') {
                    write!(f, "[{address}]:{port}")
                } else {
                    write!(f, "{address}:{port}")
                }?;
                buffer.map_or(Ok(()), |buffer| write!(f, "?buffer={buffer}"))
            }
            Self::Ndi(name) => f.write_str(&redact(name)),
            Self::Decklink { device, mode, connection } => {
                write!(f, "{device}")?;
                let options = [("mode", mode), ("connection", connection)];
                let given = options.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
                for (n, (key, value)) in given.enumerate() {
                    write!(f, "{}{key}={}", if n == 0 { '?' } else { '&' }, redact(value))?;
                }
                Ok(())
            }
        }
    }
}

fn address(scheme: &str, rest: &str) -> Result<Url, String> {
    Url::parse(&format!("{scheme}://{rest}")).map_err(|e| format!("is not a valid address: {e}"))
}

fn rtmp(url: StreamUrl) -> Result<Contribution, String> {
    let named =
        url.expose().path_segments().is_some_and(|parts| parts.filter(|part| !part.is_empty()).count() >= 2);
    if url.expose().has_host() && named {
        Ok(Contribution::Rtmp(url))
    } else {
        Err("names no stream: rtmp://HOST/APPLICATION/STREAM, such as rtmp://server/live/camera".into())
    }
}

fn rist(rest: &str) -> Result<Contribution, String> {
    let hint = "rist:// takes the address and an even port to listen at: rist://:5004?buffer=1000";
    let rest = if rest.starts_with(':') { format!("0.0.0.0{rest}") } else { rest.to_owned() };
    let url = address("rist", rest.trim_start_matches('@'))?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port().filter(|port| port % 2 == 0 && *port > 0);
    let (Some(port), false) = (port, host.is_empty()) else { return Err(hint.into()) };
    let mut buffer = None;
    for (key, value) in url.query_pairs() {
        match &*key {
            "buffer" => {
                let milliseconds = value.parse().ok().filter(|ms| (1..=60_000).contains(ms));
                buffer = Some(milliseconds.ok_or_else(|| {
                    format!("buffer={value} must be a whole number of milliseconds from 1 to 60000")
                })?);
            }
            other => return Err(format!("has an unknown option '{other}'; known is buffer")),
        }
    }
    Ok(Contribution::Rist { address: host, port, buffer })
}

fn ndi(rest: &str) -> Result<Contribution, String> {
    let name = percent_decode_str(rest).decode_utf8_lossy();
    let name = name.trim().trim_end_matches('/');
    if name.is_empty() {
        return Err("names no source: ndi://MACHINE (SOURCE), as NDI tools show it".into());
    }
    Ok(Contribution::Ndi(name.to_owned()))
}

fn decklink(rest: &str) -> Result<Contribution, String> {
    let (device, options) = rest.split_once('?').unwrap_or((rest, ""));
    let device = match device.trim_end_matches('/') {
        "" => 0,
        number => number.parse().map_err(|_| {
            format!(
                "decklink:// takes the number of an input, from 0, not '{number}': decklink://0?mode=1080i50"
            )
        })?,
    };
    let (mut mode, mut connection) = (None, None);
    for (key, value) in url::form_urlencoded::parse(options.as_bytes()) {
        match &*key {
            "mode" => mode = Some(value.into_owned()),
            "connection" => connection = Some(value.into_owned()),
            other => return Err(format!("has an unknown option '{other}'; known are mode and connection")),
        }
    }
    Ok(Contribution::Decklink { device, mode, connection })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SourceUri;

    fn parse(text: &str) -> Contribution {
        match SourceUri::parse(text) {
            Ok(SourceUri::Contribution(found)) => found,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn each_is_read_and_shown_as_it_was_written() {
        for text in [
            "rtmp://server:1936/live/camera",
            "rtmps://server/app/instance/stream",
            "rist://0.0.0.0:5004",
            "rist://239.1.2.3:5004?buffer=200",
            "whep://server:8889/camera/whep",
            "wheps://server/camera/whep",
            "ndi://STUDIO (Camera 1)",
            "decklink://0",
            "decklink://3?mode=1080i50&connection=sdi",
        ] {
            assert_eq!(SourceUri::parse(text).expect(text).to_string(), text);
        }
        let any = |address: &str| Contribution::Rist { address: address.into(), port: 5004, buffer: None };
        assert_eq!(parse("rist://:5004"), any("0.0.0.0"));
        assert_eq!(parse("rist://@239.1.2.3:5004"), any("239.1.2.3"));
        assert_eq!(parse("rist://[::1]:5004"), any("::1"));
        assert_eq!(parse("rist://[::1]:5004").to_string(), "rist://[::1]:5004");
        assert_eq!(parse("ndi://STUDIO%20(Camera%201)"), Contribution::Ndi("STUDIO (Camera 1)".into()));
        let Contribution::Whep(endpoint) = parse("wheps://server/camera/whep") else { panic!() };
        assert_eq!(endpoint.expose().as_str(), "https://server/camera/whep");
    }

    #[test]
    fn wrong_ones_say_what_would_be_right() {
        for (text, word) in [
            ("rtmp://server/live", "APPLICATION/STREAM"),
            ("rtmp:///live/camera", "rtmp://HOST/"),
            ("rist://:5005", "even port"),
            ("rist://host", "even port"),
            ("rist://:5004?buffer=long", "milliseconds"),
            ("rist://:5004?delay=5", "known is buffer"),
            ("whep://", "address"),
            ("ndi://", "NDI"),
            ("decklink://first", "number"),
            ("decklink://0?format=1080i50", "mode and connection"),
        ] {
            let error = SourceUri::parse(text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn passwords_do_not_show() {
        for text in ["rtmp://me:s3cret@server/live/camera", "wheps://server/whep?token=s3cret"] {
            let shown = SourceUri::parse(text).expect("parses").to_string();
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }
}
