//! Addresses of streams, and common mistakes in the logins that they hold.

use std::fmt;

use url::Url;

use spotd_core::shown::{Shown as _, redact};

/// Characters that end host and port unless they are escaped.
const ENDS: [char; 3] = ['/', '?', '#'];

/// The address of a stream. Formatting it leaves out user name, password, and the values of keys
/// that name a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamUrl {
    url: Url,
    /// For people.
    shown: String,
    /// How to escape what may be a login, where the address can also be meant as it is read.
    doubt: Option<String>,
}

impl StreamUrl {
    /// The schemes of streams; case does not matter.
    pub(crate) const SCHEMES: [&str; 9] =
        ["rtsp", "rtsps", "rtspt", "rtspu", "srt", "http", "https", "udp", "rtp"];

    /// Parses an address with one of `SCHEMES`, or `rtmp` or `rtmps`.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what would be right, without any part of a login.
    pub fn parse(text: &str) -> Result<Self, String> {
        let cut = cut_login(text);
        let hint = || cut.as_ref().map_or_else(String::new, |cut| format!("; {}", cut.hint));
        let url = parse(text).map_err(|e| format!("is not a valid address: {e}{}", hint()))?;
        if has_login(url.scheme())
            && [url.username(), url.password().unwrap_or_default()].into_iter().any(has_raw_percent)
        {
            return Err("has a % in its user or password that begins no escape; write it as %25".into());
        }
        if url.host_str().is_none_or(str::is_empty) && cut.is_none() {
            let scheme = url.scheme();
            return Err(match scheme {
                "srt" | "udp" | "rtp" => {
                    format!(
                        "names neither host nor port; write {scheme}://HOST:PORT, or {scheme}://:PORT to listen"
                    )
                }
                _ => format!("names no host; write {scheme}://HOST/PATH"),
            });
        }
        match cut {
            Some(cut) if cut.certain => Err(format!("has no host behind its login; {}", cut.hint)),
            // As written: a colon without a port, which reveals a login, is missing in `url`.
            Some(cut) => Ok(Self { url, shown: text.shown(), doubt: Some(cut.hint) }),
            None => Ok(Self { shown: url.as_str().shown(), url, doubt: None }),
        }
    }

    /// In lower case.
    pub fn scheme(&self) -> &str {
        self.url.scheme()
    }

    /// The whole address with its login; never for a message.
    pub fn expose(&self) -> &Url {
        &self.url
    }

    /// As GStreamer reads it, with its login; never for a message.
    pub fn expose_for_gstreamer(&self) -> String {
        let mut text = self.url.to_string();
        // `Url` drops the colon in front of an empty password, and GStreamer accepts no login
        // without one.
        if self.scheme().starts_with("rtsp")
            && !self.url.username().is_empty()
            && self.url.password().is_none()
            && let Some(at) = text.find('@')
        {
            text.insert(at, ':');
        }
        text
    }

    /// A library's message about it, with its secrets removed.
    pub fn hide(&self, text: &str) -> String {
        let mut hidden = text.to_owned();
        if self.doubt.is_some() {
            // What was parsed as host and path may be a login.
            let behind = self.url.as_str().split_once("://").map_or("", |(_, behind)| behind);
            let login = behind.rsplit_once('@').map_or("", |(login, _)| login);
            for part in [login, self.url.host_str().unwrap_or_default()] {
                if !part.is_empty() {
                    hidden = hidden.replace(part, "***");
                }
            }
        }
        redact(&hidden)
    }

    /// A hint at what may be wrong when it cannot be opened, beginning with `; `; or empty.
    pub fn doubt(&self) -> String {
        self.doubt.as_ref().map_or_else(String::new, |hint| format!("; {hint}"))
    }
}

impl fmt::Display for StreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for StreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamUrl({self})")
    }
}

/// Parses an address; one that listens on every interface names no host:
/// `srt://:9000?mode=listener`.
fn parse(text: &str) -> Result<Url, url::ParseError> {
    match Url::parse(text) {
        Err(url::ParseError::EmptyHost) if !has_login(scheme(text)) => {
            Url::parse(&text.replacen("://", "://0.0.0.0", 1))
        }
        other => other,
    }
}

fn scheme(text: &str) -> &str {
    text.split_once(':').map_or("", |(scheme, _)| scheme)
}

/// Whether addresses of this scheme can have a login in front of the host.
fn has_login(scheme: &str) -> bool {
    ["rtsp", "rtmp", "http"]
        .iter()
        .any(|s| scheme.get(..4).is_some_and(|begin| begin.eq_ignore_ascii_case(s)))
}

/// A login that was cut by a character in it.
struct Cut {
    hint: String,
    /// Whether it cannot have been meant as it is read.
    certain: bool,
}

/// Finds an `@` behind what is read as host and port, as in `rtsp://me:pass#word@cam/1`.
fn cut_login(text: &str) -> Option<Cut> {
    let (_, rest) = text.split_once("://").filter(|(scheme, _)| has_login(scheme))?;
    let (authority, behind) = rest.split_at(rest.find(ENDS)?);
    let login = &rest[..rest.rfind('@')?];
    if login.len() < authority.len() || !login.contains(':') {
        return None;
    }
    let escapes: Vec<String> = ENDS
        .into_iter()
        .chain(['%'])
        .filter(|c| if *c == '%' { has_raw_percent(login) } else { login.contains(*c) })
        .map(|c| format!("{c} as %{:02X}", u32::from(c)))
        .collect();
    // An `@` may stand in a path, or in a value of a query.
    let certain = match behind.chars().next() {
        Some('#') => true,
        Some('?') => !behind[1..].split('&').all(|pair| pair.contains('=')),
        _ => false,
    };
    let hint = format!("in a user name or password write {}", escapes.join(", "));
    Some(Cut { hint, certain })
}

/// Whether there is a `%` that does not begin an escape.
fn has_raw_percent(text: &str) -> bool {
    text.match_indices('%').any(|(at, _)| {
        !text.as_bytes().get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_cut_a_login_are_named_and_how_to_write_them() {
        for (text, word) in [
            ("rtsp://admin:p#ss@127.0.0.1/x", "# as %23"),
            ("RTSP://admin:1#2@cam/x", "# as %23"),
            ("rtsp://admin:p?ss@cam/x", "? as %3F"),
            ("http://admin:1?2@cam/x", "? as %3F"),
            ("rtsp://admin:p/s#s%@cam/x", "/ as %2F, # as %23, % as %25"),
            ("rtsp://admin:100%@cam/x", "%25"),
            ("rtsp://ad%min:p@cam/x", "%25"),
        ] {
            let why = StreamUrl::parse(text).expect_err(text);
            assert!(why.contains(word) && !why.contains("admin"), "{text}: {why}");
        }
        // It could be an address with port 12.
        let doubtful = StreamUrl::parse("rtsp://admin:12/34@cam/x").expect("parses");
        assert_eq!(doubtful.doubt(), "; in a user name or password write / as %2F");
        assert_eq!(doubtful.to_string(), "rtsp://***@cam/x");
        assert_eq!(doubtful.hide("cannot resolve admin"), "cannot resolve ***");
    }

    #[test]
    fn what_can_be_meant_is_taken() {
        for text in [
            "http://cam.lan:8080?to=a@b",
            "https://host.lan/@name",
            "http://cam.lan:8080/live@main",
            "srt://host:9000?streamid=publish:me@x",
            "rtsp://u:p%23s@cam/1",
            "rtsp://u:p@s s:s@cam/1",
        ] {
            StreamUrl::parse(text).unwrap_or_else(|why| panic!("{text} {why}"));
        }
        let url = StreamUrl::parse("RTSP://u:p@s s:s@cam/1").expect("parses");
        assert_eq!(url.expose_for_gstreamer(), "rtsp://u:p%40s%20s%3As@cam/1");
    }

    #[test]
    fn an_empty_password_is_one() {
        for (text, given) in [
            ("rtsp://admin:@cam/1", "rtsp://admin:@cam/1"),
            ("rtsp://admin@cam/1@2", "rtsp://admin:@cam/1@2"),
            ("rtsp://cam/1@2", "rtsp://cam/1@2"),
            ("rtsp://admin:pw@cam/1", "rtsp://admin:pw@cam/1"),
        ] {
            assert_eq!(StreamUrl::parse(text).expect("parses").expose_for_gstreamer(), given);
        }
    }
}
