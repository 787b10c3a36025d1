//! The page over TLS. Certificates are renewed while the daemon runs, so the files are looked at again.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use super::WebError;
use crate::clock::{Moment, SharedClock};
use crate::shown::Shown as _;
use crate::tls::{certificates, private_key};
use crate::web::settings::TlsFiles;

/// The files are looked at when somebody connects, at most so often.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What encrypts connections with the certificate of `files`.
///
/// # Errors
/// [`WebError::Certificate`] names the file and what is wrong with it.
pub(super) fn acceptor(files: TlsFiles, clock: SharedClock) -> Result<TlsAcceptor, WebError> {
    let identity = Identity::new(files, clock)?;
    let mut config = ServerConfig::builder_with_provider(identity.provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| WebError::System(std::io::Error::other(error)))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(identity));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Certificate and key as they were last read.
#[derive(Debug)]
struct Kept {
    key: Arc<CertifiedKey>,
    changed: [Option<SystemTime>; 2],
    looked: Moment,
}

struct Identity {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    kept: Mutex<Kept>,
    clock: SharedClock,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl Identity {
    fn new(files: TlsFiles, clock: SharedClock) -> Result<Self, WebError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = Arc::new(load(&files, &provider)?);
        let kept = Mutex::new(Kept { key, changed: changed(&files), looked: clock.now() });
        Ok(Self { files, provider, kept, clock })
    }

    fn current(&self) -> Arc<CertifiedKey> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        if now.saturating_sub(kept.looked) >= LOOK_EVERY {
            kept.looked = now;
            let changed = changed(&self.files);
            if changed != kept.changed {
                match load(&self.files, &self.provider) {
                    Ok(key) => {
                        kept.key = Arc::new(key);
                        kept.changed = changed;
                        log::info!("web: {} was renewed", self.files.certificate.shown());
                    }
                    // Half of a renewal may be there; the next look finds the other half.
                    Err(error) => log::warn!("{error}; the page keeps the certificate that it has"),
                }
            }
        }
        kept.key.clone()
    }
}

fn changed(files: &TlsFiles) -> [Option<SystemTime>; 2] {
    [&files.certificate, &files.key].map(|path| std::fs::metadata(path).ok()?.modified().ok())
}

fn load(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, WebError> {
    let wrong = |key, path: &PathBuf, reason| WebError::Certificate { key, path: path.clone(), reason };
    let of_chain = |reason| wrong("certificate_file", &files.certificate, reason);
    let of_key = |reason| wrong("key_file", &files.key, reason);
    let chain = certificates(&files.certificate).map_err(of_chain)?;
    let key = private_key(&files.key).map_err(of_key)?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            of_key(format!("it is not the key of {}", files.certificate.shown()))
        }
        other => of_key(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;
    use crate::clock::ManualClock;

    /// A certificate of its own and its key, put into the files' place.
    fn issue(dir: &Path) -> TlsFiles {
        let made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=box -days 2 \
                    -keyout new.key -out new.pem";
        let done = Command::new("openssl").current_dir(dir).args(made.split_whitespace()).output();
        assert!(done.expect("openssl starts; `make test` installs it").status.success());
        for kind in ["key", "pem"] {
            std::fs::rename(dir.join(format!("new.{kind}")), dir.join(format!("page.{kind}")))
                .expect("moved");
        }
        TlsFiles { certificate: dir.join("page.pem"), key: dir.join("page.key") }
    }

    #[test]
    fn a_renewed_certificate_is_taken_and_half_a_renewal_is_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(ManualClock::new(SystemTime::UNIX_EPOCH));
        let identity = Identity::new(issue(dir.path()), clock.clone()).expect("usable");
        let served = || identity.current().cert[0].clone();
        let first = served();
        let old = std::fs::read(dir.path().join("page.key")).expect("the key");
        issue(dir.path());
        assert_eq!(served(), first, "it is looked at once a minute");
        let key = std::fs::read(dir.path().join("page.key")).expect("the key");
        std::fs::write(dir.path().join("page.key"), old).expect("written");
        clock.advance(LOOK_EVERY);
        assert_eq!(served(), first, "the key of another certificate");
        std::fs::write(dir.path().join("page.key"), key).expect("written");
        clock.advance(LOOK_EVERY);
        assert_ne!(served(), first);
    }
}
