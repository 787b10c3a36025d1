//! `[[webhook]]`: a web server that receives events.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::settings::{ConfigError, Context};
use crate::shown::Secret;
use crate::verdict::EventKind;

/// Longest id, in characters.
const MAX_ID: usize = 64;
/// Longest URL, in bytes.
const MAX_URL: usize = 2048;
/// Default time limit for a response, in seconds.
const TIMEOUT: f64 = 10.0;

/// What `events` calls reviews.
const REVIEW: &str = "review";

/// One `[[webhook]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookConfig {
    /// `webhook`, or `webhook-ID`: the name of its cursor, and of its status on the board and in
    /// metrics.
    pub name: String,
    /// Where records are sent: `http://` or `https://`. The path of many a webhook works like a
    /// password.
    pub url: Secret,
    /// Scheme, host and port of it, for messages.
    pub server: String,
    /// The key that signs requests.
    pub secret: Option<Secret>,
    /// Kinds of events that are sent.
    pub events: Vec<EventKind>,
    /// Whether reviews are sent, which are no events.
    pub reviews: bool,
    /// How long a request may take, including its response.
    pub timeout: Duration,
    /// PEM file of the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}

impl WebhookConfig {
    /// Whether requests are sent unencrypted.
    pub fn is_plain(&self) -> bool {
        self.server.starts_with("http://")
    }
}

/// The table as written in the file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawWebhook {
    pub id: Option<String>,
    pub url: Option<Address>,
    pub secret_file: Option<String>,
    pub events: Option<Vec<String>>,
    pub timeout_seconds: Option<f64>,
    pub ca_file: Option<String>,
}

/// A URL that no message shows.
#[derive(Clone, Deserialize)]
pub(crate) struct Address(String);

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// All tables, in the order of the file.
pub(crate) fn validate(all: Vec<RawWebhook>, cx: &Context<'_>) -> Result<Vec<WebhookConfig>, ConfigError> {
    let several = all.len() > 1;
    let mut done: Vec<WebhookConfig> = Vec::new();
    for (number, raw) in all.into_iter().enumerate() {
        let webhook = raw.validate(&format!("webhook[{number}]"), several, cx)?;
        if done.iter().any(|other| other.name == webhook.name) {
            let key = format!("webhook[{number}].id");
            return Err(cx.key(&key, "is that of another webhook; give each an id of its own"));
        }
        done.push(webhook);
    }
    Ok(done)
}

impl RawWebhook {
    fn validate(self, table: &str, several: bool, cx: &Context<'_>) -> Result<WebhookConfig, ConfigError> {
        let key = |name: &str| format!("{table}.{name}");
        let name = match self.id {
            None if several => {
                return Err(cx.key(
                    &key("id"),
                    "is missing; of several webhooks each needs one, which says how far it has come",
                ));
            }
            None => "webhook".to_owned(),
            Some(id) => {
                let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
                if id.is_empty() || id.len() > MAX_ID || !id.chars().all(good) {
                    let form = format!("must be 1 to {MAX_ID} letters, digits and '-'");
                    return Err(cx.key(&key("id"), form));
                }
                format!("webhook-{id}")
            }
        };
        let form = "must be http://HOST/PATH or https://HOST/PATH";
        let Address(url) = self.url.ok_or_else(|| cx.key(&key("url"), format!("is missing; it {form}")))?;
        let parsed = url::Url::parse(&url).map_err(|e| cx.key(&key("url"), format!("{form} ({e})")))?;
        let server = match (parsed.scheme(), parsed.host_str()) {
            (scheme @ ("http" | "https"), Some(host)) if url.len() <= MAX_URL => {
                let port = parsed.port().map(|port| format!(":{port}")).unwrap_or_default();
                format!("{scheme}://{host}{port}")
            }
            _ => return Err(cx.key(&key("url"), form)),
        };
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(cx.key(
                &key("url"),
                "must not hold a user or password; secret_file signs each request, which the server can check",
            ));
        }
        if self.ca_file.is_some() && parsed.scheme() == "http" {
            return Err(
                cx.key(&key("url"), "is not encrypted, so certificates are of no use; make it https://")
            );
        }
        let secret = self.secret_file.map(|file| cx.secret(&key("secret_file"), &file)).transpose()?;
        if secret.as_ref().is_some_and(|s| s.expose().is_empty()) {
            return Err(cx.key(&key("secret_file"), "is empty; put a long random text into it"));
        }
        let all = [EventKind::Start, EventKind::Update, EventKind::End, EventKind::Alert];
        let kind = |name: &String| {
            all.into_iter().find(|kind| kind.as_str() == name).ok_or_else(|| {
                let known = all.map(EventKind::as_str).join(", ");
                cx.key(&key("events"), format!("has '{name}'; known are {known}, {REVIEW}"))
            })
        };
        // A receiver that was made for events is not to get another kind of record unasked.
        let reviews = self.events.iter().flatten().any(|name| name == REVIEW);
        let events: Vec<EventKind> = match &self.events {
            None => all.to_vec(),
            Some(names) => names.iter().filter(|name| *name != REVIEW).map(kind).collect::<Result<_, _>>()?,
        };
        if events.is_empty() && !reviews {
            let why = "is empty, so nothing would be told; leave it out for all kinds of events";
            return Err(cx.key(&key("events"), why));
        }
        Ok(WebhookConfig {
            name,
            url: Secret::new(parsed.into()),
            server,
            secret,
            events,
            reviews,
            timeout: cx.seconds(&key("timeout_seconds"), self.timeout_seconds, TIMEOUT, 0.1, 120.0)?,
            ca_file: self.ca_file.as_deref().map(|file| cx.file(&key("ca_file"), file)).transpose()?,
        })
    }
}
