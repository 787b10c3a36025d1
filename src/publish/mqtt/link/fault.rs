//! The libraries' errors, put in words that say what to do.

use std::io;

use rustls::{AlertDescription, CertificateError};

use super::{CONNECT_SECONDS, KEEP_ALIVE};
use crate::publish::mqtt::{MqttConfig, MqttError};

pub(super) fn login(config: &MqttConfig) -> MqttError {
    let user = config.user.as_ref().map_or("anonymous".to_owned(), |u| format!("\"{u}\""));
    MqttError::Login { broker: config.broker(), user }
}

pub(super) fn refused(config: &MqttConfig, reason: impl Into<String>) -> MqttError {
    MqttError::Refused { broker: config.broker(), reason: reason.into() }
}

pub(super) fn version(config: &MqttConfig, other: &str) -> MqttError {
    refused(config, format!("it does not speak this version of MQTT; set [mqtt] version = \"{other}\""))
}

pub(super) fn lost(config: &MqttConfig, reason: impl Into<String>) -> MqttError {
    MqttError::Lost { broker: config.broker(), reason: reason.into() }
}

pub(super) fn closed(config: &MqttConfig) -> MqttError {
    MqttError::Closed { broker: config.broker() }
}

pub(super) fn taken_over(config: &MqttConfig, id: &str) -> MqttError {
    MqttError::TakenOver { broker: config.broker(), client_id: id.to_owned(), sure: true }
}

pub(super) fn no_connection(config: &MqttConfig) -> MqttError {
    MqttError::Silent { broker: config.broker(), what: format!("no connection within {CONNECT_SECONDS} s") }
}

pub(super) fn takes_nothing(config: &MqttConfig) -> MqttError {
    MqttError::Silent { broker: config.broker(), what: format!("it took nothing for {CONNECT_SECONDS} s") }
}

pub(super) fn no_ping(config: &MqttConfig) -> MqttError {
    let what = format!("no answer to a ping within {} s", KEEP_ALIVE.as_secs());
    MqttError::Silent { broker: config.broker(), what }
}

pub(super) fn io(config: &MqttConfig, error: &io::Error) -> MqttError {
    use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut};
    let (broker, reason) = (config.broker(), error.to_string());
    if let Some(e) = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        return MqttError::Tls { broker, reason: tls_reason(config, e) };
    }
    match error.kind() {
        ConnectionRefused | HostUnreachable | NetworkUnreachable | AddrNotAvailable | TimedOut => {
            MqttError::Unreachable { broker, reason }
        }
        // The standard library has no kind for this one.
        _ if reason.contains("lookup address") => MqttError::Dns { broker, reason },
        _ => MqttError::Lost { broker, reason },
    }
}

pub(super) fn tls(config: &MqttConfig, error: &rumqttc::TlsError) -> MqttError {
    match error {
        rumqttc::TlsError::Io(e) => match io(config, e) {
            // Closed in the middle of the handshake.
            MqttError::Lost { broker, reason } => {
                MqttError::Tls { broker, reason: format!("{reason}; does that port speak TLS?") }
            }
            other => other,
        },
        rumqttc::TlsError::TLS(e) => {
            MqttError::Tls { broker: config.broker(), reason: tls_reason(config, e) }
        }
        rumqttc::TlsError::DNSName(_) => MqttError::Tls {
            broker: config.broker(),
            reason: "no certificate can be made for this host; give the broker a name".to_owned(),
        },
        other => MqttError::Tls { broker: config.broker(), reason: other.to_string() },
    }
}

/// A host as a certificate has to name it.
fn alternative_name(host: &str) -> String {
    let kind = if host.parse::<std::net::IpAddr>().is_ok() { "IP" } else { "DNS" };
    format!("{kind}:{host}")
}

fn tls_reason(config: &MqttConfig, error: &rustls::Error) -> String {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet,
        NotValidYetContext, UnknownIssuer,
    };
    let shows = config.client_cert.is_some();
    let hint = match error {
        // A bad signature: by an authority of the same name, with another key.
        rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature) => {
            "its certificate was not issued by an authority that is trusted here; set [mqtt] ca_file to the authority's certificate".to_owned()
        }
        rustls::Error::InvalidCertificate(NotValidForNameContext { presented, .. })
            if presented.is_empty() =>
        {
            format!(
                "its certificate names no host that counts (a CN alone does not); create it again with \
                 subjectAltName = {}, or use a name in [mqtt] url that it was issued for",
                alternative_name(&config.host)
            )
        }
        rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => format!(
            "its certificate was not issued for \"{}\"; use a name in [mqtt] url that it was issued for",
            config.host
        ),
        // webpki's findings have no variants of their own here, only names.
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
            match format!("{other:?}") {
                e if e.contains("CaUsedAsEndEntity") => format!(
                    "its certificate is one of an authority (`openssl req -x509` makes such), which may not stand for a \
                     broker itself; create it again with -addext basicConstraints=critical,CA:FALSE -addext \
                     subjectAltName={}, and set [mqtt] ca_file to it",
                    alternative_name(&config.host)
                ),
                e if e.contains("UnsupportedCertVersion") => format!(
                    "its certificate is of X.509 version 1 (`openssl x509 -req` without extensions makes such), which names no \
                     host; sign it again with -extfile and subjectAltName={} in that file",
                    alternative_name(&config.host)
                ),
                _ => String::new(),
            }
        }
        rustls::Error::InvalidCertificate(
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. },
        ) => "its certificate has expired or is not valid yet; renew it, or set this machine's clock".to_owned(),
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it wants a client certificate; set [mqtt] client_cert_file and client_key_file".to_owned()
        }
        rustls::Error::AlertReceived(_) if shows => {
            "it rejected our handshake; does it trust the authority of [mqtt] client_cert_file?".to_owned()
        }
        rustls::Error::AlertReceived(_) => {
            "it rejected our handshake; does it want a client certificate ([mqtt] client_cert_file)?".to_owned()
        }
        rustls::Error::InvalidMessage(_) => {
            "it answered with something else; does that port speak TLS?".to_owned()
        }
        _ => String::new(),
    };
    if hint.is_empty() { error.to_string() } else { format!("{hint} ({error})") }
}
