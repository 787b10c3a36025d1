//! Certificates and keys out of PEM files, for whoever encrypts a connection.

use std::path::Path;

use rustls::pki_types::CertificateDer;
#[cfg(any(feature = "mqtt", feature = "web"))]
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{self, PemObject};

/// The certificates of a file, in its order.
///
/// # Errors
/// A sentence without any part of the file: it cannot be read, is no PEM, or holds none.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(path).map_err(|e| reason(&e))?;
    let all = all.collect::<Result<Vec<_>, _>>().map_err(|e| reason(&e))?;
    if all.is_empty() {
        return Err("it holds no certificate in PEM form".to_owned());
    }
    Ok(all)
}

/// The private key of a file.
///
/// # Errors
/// As for [`certificates`]; also when the key is encrypted.
#[cfg(any(feature = "mqtt", feature = "web"))]
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        pem::Error::NoItemsFound => "it holds no private key in PEM form that is not encrypted".to_owned(),
        other => reason(&other),
    })
}

/// Only the OS's message for a file that cannot be opened; a parser's message may contain parts of
/// a key.
fn reason(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(e) => e.to_string(),
        _ => "it is not a PEM file".to_owned(),
    }
}
