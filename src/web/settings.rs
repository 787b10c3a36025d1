//! `[web]`: where the operator's page is served, and to whom.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use crate::settings::{ConfigError, Context};
use crate::shown::Secret;

/// Where the page is unless told otherwise, on this machine alone.
pub const PORT: u16 = 8642;
/// Characters of a token at least: it is all that stands between the network and the cameras' pictures.
const MIN_TOKEN: usize = 16;

/// `[web]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebConfig {
    /// Address and port.
    pub listen: SocketAddr,
    /// Whether it was configured. Watching does not depend on the page: if it was not, a taken port is only a warning.
    pub chosen: bool,
    /// Host names under which browsers may ask, in lower case, beside `localhost` and addresses.
    pub names: Vec<String>,
    /// What a browser has to know; always there when others than this machine can ask.
    pub token: Option<Secret>,
    /// Where it is served over TLS.
    pub tls: Option<TlsFiles>,
}

/// PEM files: a certificate with those between it and an authority, and its private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, the page's own certificate first.
    pub certificate: PathBuf,
    /// Not encrypted.
    pub key: PathBuf,
}

/// The table as it stands in the file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawWeb {
    pub enabled: Option<bool>,
    pub listen: Option<String>,
    pub names: Vec<String>,
    pub token_file: Option<String>,
    pub certificate_file: Option<String>,
    pub key_file: Option<String>,
}

impl RawWeb {
    /// `None`: no page is wanted.
    pub(crate) fn validate(self, cx: &Context<'_>) -> Result<Option<WebConfig>, ConfigError> {
        if self.enabled == Some(false) {
            return Ok(None);
        }
        let default = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        let listen = match &self.listen {
            None => default,
            Some(text) => text.parse().map_err(|_| {
                let form = "must be ADDRESS:PORT, such as 127.0.0.1:8642, 0.0.0.0:8642 or [::1]:8642";
                cx.key("web.listen", format!("= \"{text}\" {form}"))
            })?,
        };
        for name in &self.names {
            let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            if name.is_empty() || !name.chars().all(good) {
                let form =
                    "must be names of this box alone, such as \"ingest-1.lan\", without port or scheme";
                return Err(cx.key("web.names", form));
            }
        }
        let token = self.token_file.map(|file| cx.secret("web.token_file", &file)).transpose()?;
        if token.as_ref().is_some_and(|t| t.expose().chars().count() < MIN_TOKEN) {
            let form = format!(
                "has a token of less than {MIN_TOKEN} characters; `openssl rand -hex 24` makes a good one"
            );
            return Err(cx.key("web.token_file", form));
        }
        if token.is_none() && !is_this_machine(listen.ip()) {
            let why = format!(
                "= \"{listen}\" can be reached by other machines, and the page shows the cameras' pictures; give \
                 web.token_file, a file with a token that the page asks for, or listen on 127.0.0.1"
            );
            return Err(cx.key("web.listen", why));
        }
        let tls = match (&self.certificate_file, &self.key_file) {
            (Some(certificate), Some(key)) => {
                let certificate = cx.file("web.certificate_file", certificate)?;
                Some(TlsFiles { certificate, key: cx.file("web.key_file", key)? })
            }
            (None, None) => None,
            (Some(_), None) => {
                return Err(cx.key("web.certificate_file", "needs web.key_file, its private key"));
            }
            (None, Some(_)) => return Err(cx.key("web.key_file", "needs web.certificate_file")),
        };
        let names = self.names.iter().map(|name| name.to_ascii_lowercase()).collect();
        Ok(Some(WebConfig { listen, chosen: self.listen.is_some(), names, token, tls }))
    }
}

/// Whether only programs of this machine reach the address.
fn is_this_machine(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
    }
}
