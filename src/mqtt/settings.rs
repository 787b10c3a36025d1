//! `[mqtt]`, from raw to validated.

use super::load::{ConfigError, Context, MAX_NAME};
use super::raw::RawMqtt;
use super::{ClientCert, MqttConfig, MqttVersion, Secret};
use crate::shown::Shown as _;

/// Bytes of a text in MQTT at most.
const MAX_STRING: usize = 65_535;

pub(super) fn validate(raw: RawMqtt, cx: &Context<'_>) -> Result<MqttConfig, ConfigError> {
    let url = raw
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
    let password = match (raw.password, raw.password_file) {
        (Some(_), Some(_)) => {
            return Err(cx.key("mqtt.password_file", "and mqtt.password are both given; keep one"));
        }
        (Some(password), None) => Some(Secret::new(password)),
        (None, Some(file)) => {
            let path = cx.path(&file);
            let failed = |why: String| cx.key("mqtt.password_file", format!("= \"{}\": {why}", path.shown()));
            let bytes = std::fs::read(&path).map_err(|e| failed(e.to_string()))?;
            let text = std::str::from_utf8(&bytes)
                .map_err(|_| failed("it is not UTF-8; save it as UTF-8".to_owned()))?;
            // Editors put a mark in front that nobody sees.
            let text = text.strip_prefix('\u{feff}').unwrap_or(text);
            Some(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()))
        }
        (None, None) => None,
    };
    for (key, text) in
        [("mqtt.user", raw.user.as_deref()), ("mqtt.password", password.as_ref().map(Secret::expose))]
    {
        if text.is_some_and(|t| t.len() > MAX_STRING) {
            return Err(cx.key(key, format!("has more than the {MAX_STRING} bytes that MQTT has room for")));
        }
    }
    if password.is_some() && raw.user.is_none() {
        return Err(cx.key("mqtt.user", "is missing; a password needs a user"));
    }
    if !tls && (raw.ca_file.is_some() || raw.client_cert_file.is_some()) {
        return Err(cx.key("mqtt.url", "is not encrypted, so certificates are of no use; make it mqtts://"));
    }
    let client_cert = match (raw.client_cert_file, raw.client_key_file) {
        (Some(cert), Some(key)) => Some(ClientCert { cert_file: cx.path(&cert), key_file: cx.path(&key) }),
        (None, None) => None,
        (Some(_), None) => {
            return Err(cx.key("mqtt.client_cert_file", "needs its key; add mqtt.client_key_file"));
        }
        (None, Some(_)) => {
            return Err(cx.key("mqtt.client_key_file", "needs its certificate; add mqtt.client_cert_file"));
        }
    };
    let version = match raw.version.as_deref() {
        None | Some("5") => MqttVersion::V5,
        Some("3.1.1") => MqttVersion::V3,
        Some(other) => {
            return Err(cx.key("mqtt.version", format!("= \"{other}\" must be \"5\" or \"3.1.1\"")));
        }
    };
    let prefix = raw.prefix.unwrap_or_else(|| "spotd".into());
    let level = |key: &str, text: &str| {
        let good = !text.is_empty() && !text.contains(['#', '+', '/', '\0']);
        let form = "must be one topic level without '/', '#' and '+'";
        if text.chars().count() > MAX_NAME {
            return Err(cx.key(key, format!("is too long; {MAX_NAME} at most")));
        }
        if good { Ok(()) } else { Err(cx.key(key, format!("= \"{text}\" {form}"))) }
    };
    level("mqtt.prefix", &prefix)?;
    let discovery_prefix = raw.discovery_prefix.unwrap_or_else(|| "homeassistant".into());
    level("mqtt.discovery_prefix", &discovery_prefix)?;
    Ok(MqttConfig {
        host: host.trim_matches(['[', ']']).to_owned(),
        port: parsed.port().unwrap_or(default_port),
        tls,
        ca_file: raw.ca_file.as_deref().map(|f| cx.path(f)),
        client_cert,
        version,
        user: raw.user,
        password,
        prefix,
        catch_up_rate: cx.number("mqtt.catch_up_rate", raw.catch_up_rate, 100.0, 1.0, 100_000.0)?,
        discovery: raw.discovery.unwrap_or(false).then_some(discovery_prefix),
        snapshots: raw.snapshots.unwrap_or(false),
        commands: raw.commands.unwrap_or(false),
    })
}
