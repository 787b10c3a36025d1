//! Signatures under the chain, so that a log cannot be rewritten as a whole by somebody who has the disk
//! but not the key.
//!
//! A signature stands in a note of its own in the chain and is about the record before it, and so about
//! all records before that. What is signed is the text of [`message`], which any Ed25519 tool can check.
//! Keys are PEM files as `openssl` makes them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey};
use ed25519_dalek::{Signature as Ed25519, Signer as _, SigningKey, VerifyingKey};
use thiserror::Error;

use super::chain::Hash;
use super::record::Signature;
use spotd_core::shown::Shown as _;

/// Longest key file that is read, in bytes; they have about 120.
const MAX_BYTES: u64 = 16 * 1024;

/// Why a key file cannot be used.
#[derive(Debug, Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error("{}: {error}", path.shown())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// It is no such key.
    #[error("{}: it is no {what} ({reason}); {way_out}", path.shown())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// What is wrong, without anything of the content.
        reason: String,
        /// How to make one.
        way_out: &'static str,
    },
}

/// A private key that signs.
#[derive(Clone)]
pub struct Signer(Arc<SigningKey>);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", self.public_key())
    }
}

impl Signer {
    /// Reads a private key: PKCS#8 in PEM.
    ///
    /// # Errors
    /// [`KeyError`], which names the file and the way to make one.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let key = SigningKey::from_pkcs8_pem(&text(path)?).map_err(|e| KeyError::NoKey {
            path: path.to_owned(),
            what: "Ed25519 private key in PEM",
            reason: e.to_string(),
            way_out: "make one with: openssl genpkey -algorithm ed25519 -out KEY.pem",
        })?;
        Ok(Self(Arc::new(key)))
    }

    /// A signer of a key that is at hand.
    pub fn from_bytes(secret: &[u8; 32]) -> Self {
        Self(Arc::new(SigningKey::from_bytes(secret)))
    }

    /// The key that others check with.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs the chain up to a record.
    pub(super) fn sign(&self, seq: u64, hash: Hash) -> Signature {
        let signature = self.0.sign(message(seq, hash).as_bytes());
        Signature { key: self.public_key().to_string(), value: hex(&signature.to_bytes()) }
    }
}

/// A key to check signatures with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(self.0.as_bytes()))
    }
}

impl PublicKey {
    /// Reads a public key: PEM, or 64 hex digits as notes and `spotd verify` show them.
    ///
    /// # Errors
    /// [`KeyError`], which names the file and the way to make one.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = text(path)?;
        if let Some(key) = Self::parse(text.trim()) {
            return Ok(key);
        }
        VerifyingKey::from_public_key_pem(&text).map(Self).map_err(|e| KeyError::NoKey {
            path: path.to_owned(),
            what: "Ed25519 public key in PEM or as 64 hex digits",
            reason: e.to_string(),
            way_out: "derive it with: openssl pkey -in KEY.pem -pubout -out PUBLIC.pem",
        })
    }

    /// Reads 64 hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        VerifyingKey::from_bytes(&unhex(text)?).ok().map(Self)
    }

    /// Whether a signature under a record is this key's.
    pub fn holds(&self, seq: u64, hash: Hash, signature: &Signature) -> bool {
        unhex(&signature.value).is_some_and(|bytes| {
            self.0.verify_strict(message(seq, hash).as_bytes(), &Ed25519::from_bytes(&bytes)).is_ok()
        })
    }
}

/// The text that is signed: which record, and its hash. It ends in a line feed.
pub fn message(seq: u64, hash: Hash) -> String {
    format!("spotd flag log: record {seq} has hash {hash}\n")
}

fn text(path: &Path) -> Result<String, KeyError> {
    let failed = |error| KeyError::Unreadable { path: path.to_owned(), error };
    if std::fs::metadata(path).map_err(failed)?.len() > MAX_BYTES {
        return Err(failed(std::io::ErrorKind::FileTooLarge.into()));
    }
    std::fs::read_to_string(path).map_err(failed)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut out = [0; N];
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_record_and_key_and_no_other() {
        let signer = Signer::from_bytes(&[7; 32]);
        let hash = Hash::of(b"head");
        let signature = signer.sign(42, hash);
        let key = PublicKey::parse(&signature.key).expect("hex digits");
        assert_eq!(key, signer.public_key());
        assert!(key.holds(42, hash, &signature));
        assert!(!key.holds(43, hash, &signature));
        assert!(!key.holds(42, Hash::of(b"other"), &signature));
        assert!(!Signer::from_bytes(&[8; 32]).public_key().holds(42, hash, &signature));
        let cut = Signature { value: signature.value[1..].to_owned(), ..signature };
        assert!(!key.holds(42, hash, &cut));
    }

    #[test]
    fn keys_of_openssl_are_read_and_others_named() {
        // The key pair of RFC 8410, section 10.
        let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
        let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("key.pem");
        let write = |text: &str| std::fs::write(&path, text).expect("write");
        write(private);
        let signer = Signer::read(&path).expect("a private key");
        write(public);
        assert_eq!(PublicKey::read(&path).expect("a public key"), signer.public_key());
        let error = Signer::read(&path).expect_err("not private").to_string();
        assert!(error.contains("key.pem") && error.contains("openssl genpkey"), "{error}");
        write(&format!("{}\n", signer.public_key()));
        assert_eq!(PublicKey::read(&path).expect("hex digits"), signer.public_key());
        write("no key");
        assert!(PublicKey::read(&path).expect_err("no key").to_string().contains("-pubout"));
    }
}
