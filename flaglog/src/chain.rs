//! How records are bound to each other.
//!
//! # Constraints
//!
//! - A changed, removed, inserted or reordered record must show, and so must changed evidence.
//! - Checking must need no knowledge of the schema, so that an old tool can check a newer log and a person
//!   can check a line with `sed` and `sha256sum`.
//! - No canonical form of JSON: what is hashed are the very bytes that lie on the disk.
//!
//! # On-disk format
//!
//! A record is one line: a JSON object, UTF-8, no raw line feed inside, at most [`MAX_LINE`] bytes
//! including its line feed. Its last two members are `prev` and `hash`, and it ends in exactly
//!
//! ```text
//! ,"prev":"<64 lower-case hex digits>","hash":"<64 lower-case hex digits>"}
//! ```
//!
//! `hash` is the SHA-256 of all bytes of the line before `,"hash":"`. These hold `prev`, which is the
//! `hash` of the record before, or 64 zeros in a log's first record. Evidence is bound in because the
//! record names it with its SHA-256.
//!
//! # Recovery
//!
//! A line that ends in a line feed, whose hash fits, whose `prev` is the hash before and whose `seq`
//! follows is sound. What is done about the others is the business of [`super::writer`] (at open) and of
//! [`super::reader`] (which names them and goes on behind them).
//!
//! The chain alone shows edits by anyone who cannot rewrite everything from there to the end. Against
//! somebody who can, compare the newest hash with one that left the box: every MQTT event carries it.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// Longest line in bytes, line feed included.
pub const MAX_LINE: usize = 256 * 1024;

const PREV_KEY: &str = ",\"prev\":\"";
const HASH_KEY: &str = ",\"hash\":\"";
const END: &str = "\"}";
/// Bytes of `,"hash":"<64>"}`.
const HASH_MEMBER: usize = HASH_KEY.len() + 64 + END.len();
/// Bytes of `,"prev":"<64>"`.
const PREV_MEMBER: usize = PREV_KEY.len() + 64 + 1;

/// A SHA-256, written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Stands before the first record.
    pub const ZERO: Self = Self([0; 32]);

    /// The hash of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Whether this is [`Hash::ZERO`].
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// The first byte, as good as random.
    pub fn first_byte(&self) -> u8 {
        self.0[0]
    }

    /// Reads 64 lower-case hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        Self::parse_bytes(text.as_bytes())
    }

    fn parse_bytes(text: &[u8]) -> Option<Self> {
        let text: &[u8; 64] = text.try_into().ok()?;
        let digit = |c: u8| match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("not 64 lower-case hex digits"))
    }
}

/// What a line says of its place in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Hash of the record before.
    pub prev: Hash,
    /// Hash that the line carries.
    pub hash: Hash,
    /// Whether that is the hash of its bytes.
    pub fits: bool,
}

/// Closes a JSON object that ends in its `prev` member: returns its hash, and the line with line feed.
///
/// # Panics
/// When `object` does not end so, which would be an error in this program.
pub fn seal(object: &str) -> (Hash, String) {
    let body = object.strip_suffix('}').expect("a JSON object ends in a brace");
    assert!(prev_of(body.as_bytes()).is_some(), "`prev` must be the last member before `hash`");
    let hash = Hash::of(body.as_bytes());
    (hash, format!("{body}{HASH_KEY}{hash}{END}\n"))
}

/// Reads the chain's members of a line without its line feed; `None` when it does not end in them.
pub fn link(line: &[u8]) -> Option<Link> {
    let (body, member) = line.split_at_checked(line.len().checked_sub(HASH_MEMBER)?)?;
    let digits = member.strip_prefix(HASH_KEY.as_bytes())?.strip_suffix(END.as_bytes())?;
    let hash = Hash::parse_bytes(digits)?;
    Some(Link { prev: prev_of(body)?, hash, fits: Hash::of(body) == hash })
}

fn prev_of(body: &[u8]) -> Option<Hash> {
    let member = &body[body.len().checked_sub(PREV_MEMBER)?..];
    Hash::parse_bytes(member.strip_prefix(PREV_KEY.as_bytes())?.strip_suffix(b"\"")?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealed(text: &str) -> String {
        let object = format!("{{\"a\":{},\"prev\":\"{}\"}}", serde_json::json!(text), Hash::of(b"before"));
        seal(&object).1
    }

    #[test]
    fn the_hash_is_what_sha256sum_says_of_the_line_without_it() {
        // printf '{"a":1,"prev":"000..0"' | sha256sum
        let object = format!("{{\"a\":1,\"prev\":\"{}\"}}", Hash::ZERO);
        let (hash, line) = seal(&object);
        assert_eq!(hash.to_string(), "f21d1189a5c8dd8d802546fd447330e4b053af3f65f8e5565782be4548b34878");
        assert!(line.ends_with(&format!(",\"hash\":\"{hash}\"}}\n")));
    }

    proptest! {
        #[test]
        fn a_sealed_line_fits_and_any_changed_byte_shows(text in ".{0,40}", at: prop::sample::Index, flip in 1..=255u8) {
            let line = sealed(&text);
            let mut bytes = line.trim_end_matches('\n').as_bytes().to_vec();
            let whole = link(&bytes).expect("link");
            prop_assert!(whole.fits);
            prop_assert_eq!(whole.prev, Hash::of(b"before"));
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(link(&bytes).is_none_or(|l| !l.fits));
        }

        #[test]
        fn hashes_are_read_as_they_are_written(bytes: [u8; 32]) {
            let hash = Hash(bytes);
            prop_assert_eq!(Hash::parse(&hash.to_string()), Some(hash));
            prop_assert_eq!(Hash::parse(&hash.to_string().to_uppercase()).is_some(), !hash.to_string().contains(|c: char| c.is_ascii_lowercase()));
        }
    }

    #[test]
    fn lines_that_are_too_short_or_cut_have_no_link() {
        let line = sealed("x");
        let line = line.trim_end_matches('\n').as_bytes();
        for end in 0..line.len() {
            assert!(link(&line[..end]).is_none(), "prefix of {end} bytes");
        }
    }
}
