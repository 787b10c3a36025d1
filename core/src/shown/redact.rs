//! Secrets in texts: logins of addresses, and values of keys that name a secret.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Schemes after which an address follows also where its slashes are damaged, and what is before them is none of it.
const SCHEMES: [&str; 12] =
    ["rtsp", "rtsps", "rtspt", "rtspu", "srt", "http", "https", "udp", "rtp", "rtmp", "rtmps", "rist"];

/// Replaces `user:password@` in every address within a text, and values of keys that name a secret, so
/// that texts from users and libraries can be logged.
pub fn redact(text: &str) -> String {
    let mut shown = redact_keys(&redact_logins(text), value_end);
    // A hidden value can have held the `/` that kept a login from being known for one. Each round hides more, so
    // there is a last one.
    loop {
        let again = redact_keys(&redact_logins(&shown), value_end);
        if again == shown {
            return shown;
        }
        shown = again;
    }
}

/// As [`redact`], of a text that is one address (or pipeline text, or path) from its beginning to its end: whatever
/// stands in front of its last `@` may be of a login, also blanks.
pub(super) fn redact_whole(text: &str) -> String {
    // Of a pipeline, addresses are parts.
    let starts = |begin: &str| text.get(..begin.len()).is_some_and(|b| b.eq_ignore_ascii_case(begin));
    if text.contains(" ! ") || starts("pipeline:") || starts("gst:") {
        return redact(text);
    }
    let start = start_of(text);
    let (head, tail) = text.split_at(start.unwrap_or(0));
    let end = match start {
        Some(_) => login_end(tail),
        // Without a scheme it may be a path with an `@` in it.
        None => tail.rfind('@').filter(|&at| tail[..at].contains(':')),
    };
    let hidden = end.map_or_else(|| text.to_owned(), |at| format!("{head}***{}", &tail[at..]));
    redact(&redact_keys(&hidden, parameter_end))
}

/// Where an address goes on behind its scheme and slashes.
fn start_of(text: &str) -> Option<usize> {
    // What has a colon before is a login without a scheme, and its password has these signs in it.
    if let Some(at) = text.find("://").filter(|&at| !text[..at].contains([':', '@'])) {
        return Some(at + 3);
    }
    let (scheme, rest) = text.split_once(':')?;
    let known = SCHEMES.iter().any(|s| s.eq_ignore_ascii_case(scheme));
    known.then(|| text.len() - rest.trim_start_matches('/').len())
}

fn redact_logins(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        // Quotes may be part of a password, unless they are around the address.
        let scheme =
            head[..at].trim_end_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
        let quote = scheme.chars().next_back().filter(|c| matches!(c, '"' | '\''));
        rest = match login(tail, quote) {
            Some(end) => {
                out.push_str("***");
                &tail[end..]
            }
            None => tail,
        };
    }
    out.push_str(rest);
    out
}

/// Where the `@` stands that ends the login of an address within a text; `tail` is what follows its scheme.
fn login(tail: &str, quote: Option<char>) -> Option<usize> {
    if let Some(end) = quote.and_then(|quote| tail.find(quote)) {
        return login_end(&tail[..end]);
    }
    let word = &tail[..tail.find(char::is_whitespace).unwrap_or(tail.len())];
    if let Some(at) = login_end(word) {
        return Some(at);
    }
    // A blank in a password: what follows the colon is no port.
    let authority = authority(word);
    let (_, port) =
        authority.split_once(':').filter(|_| !authority.starts_with('[') && !authority.contains('@'))?;
    if port.is_empty() || port.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let line = tail.lines().next().unwrap_or_default();
    let line = &line[..line.find("://").unwrap_or(line.len())];
    line.rfind('@')
}

/// Where the `@` stands that ends the login of an address that goes on to the end of the text. Characters that would
/// have to be written as escapes (`/` as %2F) may stand in it.
fn login_end(rest: &str) -> Option<usize> {
    let authority = authority(rest);
    let plain = authority.rfind('@');
    let last = rest.rfind('@')?;
    // `http://host/@name` has no login, and `http://192.0.2.1:80/@name` neither.
    let login = rest[..last].contains(':') && !(plain.is_none() && is_certain_host(authority));
    // `udp://@239.1.2.3` has none.
    if login { Some(last) } else { plain }.filter(|&at| at > 0)
}

fn authority(rest: &str) -> &str {
    &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())]
}

/// Whether this is a host and nobody's name, with or without a port.
fn is_certain_host(authority: &str) -> bool {
    let digits = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(host, port)| {
            host.parse::<Ipv6Addr>().is_ok()
                && (port.is_empty() || port.strip_prefix(':').is_some_and(digits))
        });
    }
    let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
    digits(port) && (host == "localhost" || host.parse::<Ipv4Addr>().is_ok())
}

/// Keys whose values are secrets in stream addresses and GStreamer elements.
const SECRET_KEYS: [&str; 15] = [
    "passphrase",
    "password",
    "passwd",
    "pass",
    "pwd",
    "user-pw",
    "proxy-pw",
    "user-id",
    "proxy-id",
    "user",
    "username",
    "streamid",
    "token",
    "secret",
    "key",
];

/// Hides the values of such keys; `end` says where a value ends in what follows its sign.
fn redact_keys(text: &str, end: fn(&str) -> usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('=') {
        let (head, value) = rest.split_at(at + 1);
        out.push_str(head);
        // GStreamer allows blanks on both sides of the sign.
        let name = head[..at].trim_end();
        let start = name.rfind(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')));
        let name = &name[start.map_or(0, |s| s + name[s..].chars().next().map_or(0, char::len_utf8))..];
        rest = value;
        if SECRET_KEYS.iter().any(|key| key.eq_ignore_ascii_case(name)) {
            out.push_str("***");
            rest = &value[end(value)..];
        }
    }
    out.push_str(rest);
    out
}

/// Where a value ends, quoted or not; a backslash takes the sign behind it along.
fn value_end(text: &str) -> usize {
    let begin = text.len() - text.trim_start().len();
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in text[begin..].char_indices() {
        match quote {
            _ if escaped => escaped = false,
            _ if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if at == 0 && matches!(c, '"' | '\'') => quote = Some(c),
            None if c.is_whitespace() || c == '&' => return begin + at,
            None => {}
        }
    }
    text.len()
}

/// Where a value ends in an address that ends with the text: at the `&` of the next `key=`.
fn parameter_end(text: &str) -> usize {
    let mut from = 0;
    while let Some(at) = text[from..].find('&') {
        let next = from + at + 1;
        let key = &text[next..text[next..].find('&').map_or(text.len(), |end| next + end)];
        if key.contains('=') {
            return next - 1;
        }
        from = next;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_login_stays() {
        for text in [
            "udp://239.1.2.3:5000",
            "udp://@239.1.2.3:5000",
            "rtsp://[::1]:554/a@b",
            "http://192.0.2.7:8080/live@main?mode=caller",
            "https://host.lan/@name",
            "clips/a@2x.png",
            "/media/12:30.mp4",
        ] {
            assert_eq!(redact(text), text);
            assert_eq!(redact_whole(text), text);
        }
    }

    #[test]
    fn a_login_may_hold_anything_in_front_of_the_last_at() {
        for login in [
            "a:p#s", "a:1#2", "a:1/2", "a:1?2", "u?r:p", "a:p@s/s", "a: p s", "a:x://y", "#:%", ":p/q",
            "a/b:",
        ] {
            for (scheme, shown) in
                [("rtsp://", "rtsp://"), ("RTSP://", "RTSP://"), ("rtsp:/", "rtsp:/"), ("", "")]
            {
                let text = format!("{scheme}{login}@cam.lan/1");
                assert_eq!(redact_whole(&text), format!("{shown}***@cam.lan/1"), "{text}");
            }
        }
        assert_eq!(redact("rtsp://user{pass=a/b&c@cam.lan"), "rtsp://***@cam.lan");
        assert_eq!(
            redact("cannot open rtsp://u:p s@cam/1: refused"),
            "cannot open rtsp://***@cam/1: refused"
        );
        assert_eq!(
            redact("\"rtsp://u:p#1@cam/1\" and 'http://cam.lan:80/x' at a@b"),
            "\"rtsp://***@cam/1\" and 'http://cam.lan:80/x' at a@b"
        );
    }

    #[test]
    fn values_of_secret_keys_end_with_the_next_key() {
        let shown = redact_whole("srt://host:9000?passphrase=a b&c#d&mode=caller");
        assert_eq!(shown, "srt://host:9000?passphrase=***&mode=caller");
        assert_eq!(redact_whole("cam.lan/video?user=me&pwd=a b"), "cam.lan/video?user=***&pwd=***");
    }
}
