//! Which authorities an encrypted connection trusts, and which certificate it presents.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use crate::publish::mqtt::{MqttConfig, MqttError};
use crate::tls;

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
    let key = tls::private_key(&ours.key_file).map_err(|reason| MqttError::File {
        key: "client_key_file",
        path: ours.key_file.clone(),
        reason,
    })?;
    builder.with_client_auth_cert(chain, key).map_err(|e| bad_file("client_key_file", &ours.key_file, &e))
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, MqttError> {
    tls::certificates(path).map_err(|reason| MqttError::File { key, path: path.to_owned(), reason })
}

fn bad_file(key: &'static str, path: &Path, error: &rustls::Error) -> MqttError {
    MqttError::File { key, path: path.to_owned(), reason: error.to_string() }
}
