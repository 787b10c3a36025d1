//! systemd's journal, in its own protocol, so that a line's level, source and event are fields to filter by.
//!
//! The crates for this bring fields by features of `log` or `libc` that the whole tree, tract with it, would be built anew
//! with; and ours come from the thread ([`spotd::about`]), not from each line.

use std::io::Write as _;
use std::os::unix::net::UnixDatagram;

use log::Level;
use spotd::about::About;

/// Where it listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// Bytes of a text at most: a datagram has to hold it.
const LONGEST: usize = 48 << 10;

/// The journal.
pub(super) struct Journal(UnixDatagram);

impl Journal {
    /// The one that standard error is connected to, which systemd says in `JOURNAL_STREAM`; `None` where it is another
    /// file (also one that a shell has put in between), or where the journal is out of reach.
    pub(super) fn of_stderr() -> Option<Self> {
        let stream = std::env::var("JOURNAL_STREAM").ok()?;
        let stderr = rustix::fs::fstat(std::io::stderr()).ok()?;
        if stream != format!("{}:{}", stderr.st_dev, stderr.st_ino) {
            return None;
        }
        let socket = UnixDatagram::unbound().ok()?;
        socket.connect(SOCKET).ok()?;
        Some(Self(socket))
    }

    /// Writes one entry.
    ///
    /// # Errors
    /// The journal does not take it.
    pub(super) fn write(&self, level: Level, target: &str, text: &str, about: &About) -> std::io::Result<()> {
        self.0.send(&entry(level, target, text, about)).map(|_| ())
    }
}

/// An entry as the journal reads it: see "Native Journal Protocol" of systemd.
fn entry(level: Level, target: &str, text: &str, about: &About) -> Vec<u8> {
    let cut = text.floor_char_boundary(LONGEST);
    // As of syslog(3).
    let priority = match level {
        Level::Error => "3",
        Level::Warn => "4",
        Level::Info => "6",
        Level::Debug | Level::Trace => "7",
    };
    let mut entry = Vec::with_capacity(cut + 128);
    let mut field = |name: &str, value: &str| {
        // With its length in front a value may hold line feeds.
        entry.extend_from_slice(name.as_bytes());
        entry.push(b'\n');
        let _ = entry.write_all(&(value.len() as u64).to_le_bytes());
        entry.extend_from_slice(value.as_bytes());
        entry.push(b'\n');
    };
    field("MESSAGE", &text[..cut]);
    field("PRIORITY", priority);
    field("SYSLOG_IDENTIFIER", "spotd");
    field("TARGET", target);
    if let Some(source) = &about.source {
        field("SPOTD_SOURCE", source);
    }
    if let Some(event) = &about.event {
        field("SPOTD_EVENT", event);
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_has_its_length_in_front() {
        let about = About { source: Some("door".into()), event: None };
        let entry = entry(Level::Warn, "spotd", "a\nb", &about);
        let expected: Vec<u8> = [
            ("MESSAGE", "a\nb"),
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "spotd"),
            ("TARGET", "spotd"),
            ("SPOTD_SOURCE", "door"),
        ]
        .into_iter()
        .flat_map(|(name, value)| {
            let length = u8::try_from(value.len()).expect("short");
            [name.as_bytes(), b"\n", &[length, 0, 0, 0, 0, 0, 0, 0], value.as_bytes(), b"\n"].concat()
        })
        .collect();
        assert_eq!(entry, expected);
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters() {
        let entry = entry(Level::Info, "spotd", &"ü".repeat(LONGEST), &About::default());
        assert!(entry.len() < LONGEST + 200 && String::from_utf8_lossy(&entry[16..]).contains("üü\n"));
    }
}
