//! `[mqtt]`: the broker, and what is published to it.

use std::path::PathBuf;

use serde::Deserialize;

use crate::settings::{ConfigError, Context, MAX_NAME};
use crate::shown::Secret;

/// Longest string in MQTT, in bytes.
const MAX_STRING: usize = 65_535;

/// `[mqtt]`
#[derive(Clone, PartialEq)]
pub struct MqttConfig {
    /// Broker's host name or address.
    pub host: String,
    /// Broker's port.
    pub port: u16,
    /// `mqtts://`: encrypted, the broker's certificate checked.
    pub tls: bool,
    /// PEM file of the authorities to trust for TLS.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate and its key, for a broker that requires one.
    pub client_cert: Option<ClientCert>,
    /// Version of the protocol.
    pub version: MqttVersion,
    /// User name.
    pub user: Option<String>,
    /// Password; never in a log or an error.
    pub password: Option<Secret>,
    /// First level of all topics, by default `spotd`.
    pub prefix: String,
    /// Records per second at most, so that the backlog of an outage does not flood the broker.
    pub catch_up_rate: f64,
    /// First level of Home Assistant's discovery topics; `None`: nothing is announced.
    pub discovery: Option<String>,
    /// Publish pictures.
    pub snapshots: bool,
    /// Obey commands.
    pub commands: bool,
}

/// A client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCert {
    /// PEM file of the certificate and the intermediate ones.
    pub cert_file: PathBuf,
    /// PEM file of its private key.
    pub key_file: PathBuf,
}

/// Supported versions of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MqttVersion {
    /// 3.1.1
    V3,
    /// 5.0
    V5,
}

impl MqttConfig {
    /// Host and port, for messages.
    pub fn broker(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl std::fmt::Debug for MqttConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MqttConfig")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls", &self.tls)
            .field("version", &self.version)
            .field("user", &self.user)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// The table as written in the file.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawMqtt {
    pub url: Option<String>,
    pub version: Option<String>,
    pub user: Option<String>,
    #[serde(deserialize_with = "secret")]
    pub password: Option<String>,
    pub password_file: Option<String>,
    pub ca_file: Option<String>,
    pub client_cert_file: Option<String>,
    pub client_key_file: Option<String>,
    pub prefix: Option<String>,
    pub catch_up_rate: Option<f64>,
    pub discovery: Option<bool>,
    pub discovery_prefix: Option<String>,
    pub snapshots: Option<bool>,
    pub commands: Option<bool>,
}

/// A text whose value appears in no error, unlike serde's own: a password without quotes is still a
/// password.
fn secret<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    struct Text;
    impl<'de> serde::de::Visitor<'de> for Text {
        type Value = Option<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a text in quotes")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(text.to_owned()))
        }

        fn visit_none<E: serde::de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: serde::Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
            d.deserialize_any(self)
        }
    }
    d.deserialize_any(Text).map_err(|_| serde::de::Error::custom("the password must be a text in quotes"))
}

impl std::fmt::Debug for RawMqtt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RawMqtt(..)")
    }
}

impl RawMqtt {
    pub(crate) fn validate(self, cx: &Context<'_>) -> Result<MqttConfig, ConfigError> {
        let url = self
            .url
            .ok_or_else(|| cx.key("mqtt.url", "is missing; give mqtt://HOST:1883 or mqtts://HOST:8883"))?;
        let form = "must be mqtt://HOST[:PORT] or mqtts://HOST[:PORT]";
        let parsed = url::Url::parse(&url).map_err(|e| cx.key("mqtt.url", format!("{form} ({e})")))?;
        let (tls, default_port) = match parsed.scheme() {
            "mqtt" => (false, 1883),
            "mqtts" => (true, 8883),
            other => return Err(cx.key("mqtt.url", format!("has scheme '{other}'; it {form}"))),
        };
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(
                cx.key("mqtt.url", "must not hold a user or password; use mqtt.user and mqtt.password_file")
            );
        }
        if !matches!(parsed.path(), "" | "/") || parsed.query().is_some() {
            return Err(cx.key("mqtt.url", format!("has more than host and port; it {form}")));
        }
        let host = parsed.host_str().filter(|h| !h.is_empty()).ok_or_else(|| cx.key("mqtt.url", form))?;
        let password = match (self.password, self.password_file) {
            (Some(_), Some(_)) => {
                return Err(cx.key("mqtt.password_file", "and mqtt.password are both given; keep one"));
            }
            (Some(password), None) => Some(Secret::new(password)),
            (None, Some(file)) => Some(cx.secret("mqtt.password_file", &file)?),
            (None, None) => None,
        };
        for (key, text) in
            [("mqtt.user", self.user.as_deref()), ("mqtt.password", password.as_ref().map(Secret::expose))]
        {
            if text.is_some_and(|t| t.len() > MAX_STRING) {
                return Err(
                    cx.key(key, format!("has more than the {MAX_STRING} bytes that MQTT has room for"))
                );
            }
        }
        if password.is_some() && self.user.is_none() {
            return Err(cx.key("mqtt.user", "is missing; a password needs a user"));
        }
        if !tls && (self.ca_file.is_some() || self.client_cert_file.is_some()) {
            return Err(
                cx.key("mqtt.url", "is not encrypted, so certificates are of no use; make it mqtts://")
            );
        }
        let client_cert = match (self.client_cert_file, self.client_key_file) {
            (Some(cert), Some(key)) => {
                let cert_file = cx.file("mqtt.client_cert_file", &cert)?;
                Some(ClientCert { cert_file, key_file: cx.file("mqtt.client_key_file", &key)? })
            }
            (None, None) => None,
            (Some(_), None) => {
                return Err(cx.key("mqtt.client_cert_file", "needs its key; add mqtt.client_key_file"));
            }
            (None, Some(_)) => {
                return Err(
                    cx.key("mqtt.client_key_file", "needs its certificate; add mqtt.client_cert_file")
                );
            }
        };
        let version = match self.version.as_deref() {
            None | Some("5") => MqttVersion::V5,
            Some("3.1.1") => MqttVersion::V3,
            Some(other) => {
                return Err(cx.key("mqtt.version", format!("= \"{other}\" must be \"5\" or \"3.1.1\"")));
            }
        };
        let prefix = self.prefix.unwrap_or_else(|| "spotd".into());
        let level = |key: &str, text: &str| {
            let good = !text.is_empty() && !text.contains(['#', '+', '/', '\0']);
            let form = "must be one topic level without '/', '#' and '+'";
            if text.chars().count() > MAX_NAME {
                return Err(cx.key(key, format!("is too long; {MAX_NAME} at most")));
            }
            if good { Ok(()) } else { Err(cx.key(key, format!("= \"{text}\" {form}"))) }
        };
        level("mqtt.prefix", &prefix)?;
        let discovery_prefix = self.discovery_prefix.unwrap_or_else(|| "homeassistant".into());
        level("mqtt.discovery_prefix", &discovery_prefix)?;
        Ok(MqttConfig {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: parsed.port().unwrap_or(default_port),
            tls,
            ca_file: self.ca_file.as_deref().map(|f| cx.file("mqtt.ca_file", f)).transpose()?,
            client_cert,
            version,
            user: self.user,
            password,
            prefix,
            catch_up_rate: cx.number("mqtt.catch_up_rate", self.catch_up_rate, 100.0, 1.0, 100_000.0)?,
            discovery: self.discovery.unwrap_or(false).then_some(discovery_prefix),
            snapshots: self.snapshots.unwrap_or(false),
            commands: self.commands.unwrap_or(false),
        })
    }
}
