//! Which authorities an encrypted connection trusts, and which certificate it presents.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::publish::mqtt::{MqttConfig, MqttError};

pub(super) fn client_config(config: &MqttConfig) -> Result<ClientConfig, MqttError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &config.ca_file {
        for certificate in certificates("ca_file", path)? {
            roots.add(certificate).map_err(|e| bad_file("ca_file", path, &e))?;
        }
    } else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let reason = found.errors.first().map_or("none found".to_owned(), ToString::to_string);
            return Err(MqttError::NoAuthorities { reason });
        }
    }
    let failed = |reason: String| MqttError::Tls { broker: config.broker(), reason };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| failed(e.to_string()))?
        .with_root_certificates(roots);
    let Some(ours) = &config.client_cert else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates("client_cert_file", &ours.cert_file)?;
    let key = PrivateKeyDer::from_pem_file(&ours.key_file).map_err(|e| {
        let reason = match e {
            pem::Error::NoItemsFound => {
                "it holds no private key in PEM form that is not encrypted".to_owned()
            }
            other => pem_error(&other),
        };
        MqttError::File { key: "client_key_file", path: ours.key_file.clone(), reason }
    })?;
    builder.with_client_auth_cert(chain, key).map_err(|e| bad_file("client_key_file", &ours.key_file, &e))
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, MqttError> {
    let bad = |reason: String| MqttError::File { key, path: path.to_owned(), reason };
    let all: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|e| bad(pem_error(&e)))?.collect();
    let all = all.map_err(|e| bad(pem_error(&e)))?;
    if all.is_empty() {
        return Err(bad("it holds no certificate in PEM form".to_owned()));
    }
    Ok(all)
}

fn bad_file(key: &'static str, path: &Path, error: &rustls::Error) -> MqttError {
    MqttError::File { key, path: path.to_owned(), reason: error.to_string() }
}

/// Only the OS's message for a file that cannot be opened; a parser's message may contain parts of
/// a key.
fn pem_error(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(e) => e.to_string(),
        _ => "it is not a PEM file".to_owned(),
    }
}
