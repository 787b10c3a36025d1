//! Texts for people: without the secrets that they may hold, and without what a terminal would take for a command.

mod chain;
mod redact;

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

pub use chain::chain;
pub use redact::redact;

/// A text of the user's that may hold a secret: an address, a pipeline text, or the name of a file.
///
/// Whatever formats it gets it without logins and values of keys that name a secret, and escaped as by [`Shown`]. What
/// opens or parses it takes it whole by [`Self::expose`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sensitive(OsString);

impl Sensitive {
    /// The text as it was given, for the one place that parses or opens it; never for a message.
    pub fn expose(&self) -> &OsStr {
        &self.0
    }

    /// As [`Self::expose`], as text; what is none in it is replaced.
    pub fn expose_text(&self) -> Cow<'_, str> {
        self.0.to_string_lossy()
    }
}

impl From<OsString> for Sensitive {
    fn from(text: OsString) -> Self {
        Self(text)
    }
}

impl From<PathBuf> for Sensitive {
    fn from(path: PathBuf) -> Self {
        Self(path.into_os_string())
    }
}

impl From<String> for Sensitive {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for Sensitive {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl<'de> serde::Deserialize<'de> for Sensitive {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

impl fmt::Display for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.shown())
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// A text that never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Names of files, and other texts of the user's, for people.
pub trait Shown {
    /// The name of a file that is there: exactly, but for control characters and bytes that are no text, which are
    /// escaped (`\n`, `\xe9`). Of any other text also logins and values of keys that name a secret are left out: it may be
    /// an address that was damaged or came to the wrong place.
    fn shown(&self) -> String;
}

impl Shown for OsStr {
    fn shown(&self) -> String {
        let whole = name(self);
        let hidden = redact::redact_whole(&whole);
        // Whether a file is there is asked only where something would be hidden.
        if hidden == whole || Path::new(self).symlink_metadata().is_ok() { whole } else { hidden }
    }
}

impl Shown for Path {
    fn shown(&self) -> String {
        self.as_os_str().shown()
    }
}

impl Shown for str {
    fn shown(&self) -> String {
        OsStr::new(self).shown()
    }
}

/// What names a file, or an address, to programs: its text exactly where it is a file's name, and its bytes where that
/// is no text (the text is then as [`Shown`] has it). Of addresses, logins and values of keys that name a secret are left
/// out.
pub fn exact(text: &OsStr) -> (String, Option<Vec<u8>>) {
    let whole = name(text);
    let shown = text.shown();
    match text.to_str() {
        _ if shown != whole => (shown, None),
        Some(exact) => (exact.to_owned(), None),
        None => (shown, Some(text.as_bytes().to_vec())),
    }
}

/// A path as `serde` is to write it, which refuses names that are no text: as of [`exact`].
///
/// # Errors
/// As the serializer says.
pub fn serialize_path<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&exact(path.as_os_str()).0)
}

/// The name of a file with everything escaped that is no text or controls a terminal. Nothing is hidden: it is for what
/// is known to be a file.
pub fn name(name: &OsStr) -> String {
    let mut out = String::with_capacity(name.len());
    for chunk in name.as_bytes().utf8_chunks() {
        out.push_str(&plain(chunk.valid()));
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// A text from a disk or a network on one line, without what a terminal would take for a command.
pub fn plain(text: &str) -> String {
    escape(text, acts)
}

/// As [`plain`], for a text that may have several lines.
pub fn plain_lines(text: &str) -> String {
    escape(text, |c| c != '\n' && acts(c))
}

fn escape(text: &str, which: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if which(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// Control characters, and marks that turn the direction of writing or end a line.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_with_what_is_no_text_escaped() {
        let of = |bytes: &[u8]| Path::new(OsStr::from_bytes(bytes)).shown();
        assert_eq!(of(b"caf\xe9.png"), "caf\\xe9.png");
        assert_eq!(of("caf\u{e9} \u{1f600}.png".as_bytes()), "caf\u{e9} \u{1f600}.png");
        assert_eq!(of(b"a\x1b[2Jb\nc.png"), "a\\u{1b}[2Jb\\nc.png");
        assert_eq!(of("a\u{202e}gnp.exe".as_bytes()), "a\\u{202e}gnp.exe");
        assert_eq!(plain_lines("a\nb\x07"), "a\nb\\u{7}");
    }

    #[test]
    fn a_file_that_is_there_is_named_exactly_and_what_is_not_may_be_an_address() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("clip?key=1:2@3.mp4");
        assert!(file.shown().ends_with("***@3.mp4"), "{}", file.shown());
        std::fs::write(&file, b"x").expect("written");
        assert_eq!(file.shown(), file.display().to_string());
        assert_eq!(Sensitive::from(file.clone()).to_string(), file.display().to_string());
    }

    #[test]
    fn programs_get_names_as_they_are_and_addresses_without_logins() {
        let odd = OsStr::from_bytes(b"a\n\xe9.png");
        assert_eq!(exact(odd), ("a\\n\\xe9.png".into(), Some(b"a\n\xe9.png".to_vec())));
        assert_eq!(exact(OsStr::new("a\nb")), ("a\nb".into(), None));
        assert_eq!(exact(OsStr::new("rtsp://u:p@cam/1")), ("rtsp://***@cam/1".into(), None));
    }

    #[test]
    fn nothing_formats_it_whole() {
        let text = Sensitive::from("rtsp://admin:p#s s@cam.lan/1");
        assert_eq!(format!("{text} {text:?}"), "rtsp://***@cam.lan/1 \"rtsp://***@cam.lan/1\"");
        assert_eq!(text.expose_text(), "rtsp://admin:p#s s@cam.lan/1");
    }
}
