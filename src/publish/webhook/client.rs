//! One request and what its answer means.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;
use thiserror::Error;
use ureq::http::header::{LOCATION, RETRY_AFTER};
use ureq::http::{Response, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::WebhookConfig;
use super::signature::{HEADER, signature};
use crate::clock::SharedClock;
use crate::flaglog::record::SCHEMA;
use crate::shown::{Secret, redact};

/// Bytes of a response that are read: the start of a reason. The rest is not waited for.
const MAX_ANSWER: u64 = 2048;
/// Characters of a reason that are shown.
const MAX_REASON: usize = 200;
/// The longest that a server may ask us to wait.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// Why a webhook cannot be used. No text contains its URL's path or its secret.
#[derive(Debug, Error)]
pub enum WebhookError {
    /// The authorities to trust cannot be read.
    #[error("[[webhook]] ca_file {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system has no certificate authorities to trust.
    #[error(
        "this system has no certificate authorities to trust ({0}); install the package ca-certificates or set [[webhook]] ca_file"
    )]
    NoAuthorities(String),
    /// It cannot be reached, or does not accept what it is sent.
    #[error("webhook {server}: {reason}")]
    Unusable {
        /// Scheme, host and port.
        server: String,
        /// Why.
        reason: String,
    },
    /// The OS cannot start a thread.
    #[error("the webhook's thread cannot be started: {0}")]
    Thread(#[source] std::io::Error),
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It was accepted.
    Taken,
    /// It was refused, and would be refused again.
    Refused(String),
    /// It may be accepted later, not before the time that the server stated.
    Later { why: String, after: Option<Duration> },
}

/// Sends requests to one webhook. Clones share connections.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    url: Secret,
    server: String,
    secret: Option<Secret>,
    timeout: Duration,
    clock: SharedClock,
}

impl Client {
    /// Loads the authorities to trust; sends nothing.
    ///
    /// # Errors
    /// [`WebhookError::File`] and [`WebhookError::NoAuthorities`].
    pub fn new(config: &WebhookConfig, clock: SharedClock) -> Result<Self, WebhookError> {
        let mut agent = Agent::config_builder()
            .user_agent(concat!("spotd/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            // The signed record is for the configured server. A POST would also become a GET.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .timeout_global(Some(config.timeout));
        if !config.is_plain() {
            let tls = TlsConfig::builder()
                .root_certs(RootCerts::Specific(Arc::new(authorities(config)?)))
                .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
            agent = agent.tls_config(tls.build());
        }
        Ok(Self {
            agent: agent.build().new_agent(),
            url: config.url.clone(),
            server: config.server.clone(),
            secret: config.secret.clone(),
            timeout: config.timeout,
            clock,
        })
    }

    /// Sends a record's line and its id.
    pub(super) fn post(&self, id: &str, line: &[u8]) -> Answer {
        let mut request = self
            .agent
            .post(self.url.expose())
            .header("Content-Type", "application/json")
            .header("Idempotency-Key", id);
        if let Some(secret) = &self.secret {
            request = request.header(HEADER, signature(secret.expose().as_bytes(), line));
        }
        match request.send(line) {
            Ok(response) => self.interpret(response),
            Err(error) => Answer::Later { why: self.said(&error), after: None },
        }
    }

    /// Tries it, for `spotd check`, with a body that is not a record: `{"type":"check", ...}`.
    ///
    /// # Errors
    /// [`WebhookError::Unusable`] says what is wrong.
    pub fn probe(&self, node: &str) -> Result<String, WebhookError> {
        let text = "spotd check asks whether this webhook takes what it is sent";
        let body = json!({ "type": "check", "schema": SCHEMA, "node": node, "text": text }).to_string();
        let reason = match self.post(&ulid::Ulid::new().to_string(), body.as_bytes()) {
            Answer::Taken => return Ok(format!("{} takes what it is sent", self.server)),
            Answer::Refused(why) => format!("rejects what it is sent: {why}"),
            Answer::Later { why, .. } => why,
        };
        Err(WebhookError::Unusable { server: self.server.clone(), reason })
    }

    fn interpret(&self, mut response: Response<Body>) -> Answer {
        let status = response.status();
        if status.is_success() {
            // A short response is read, so that its connection can serve the next record too.
            if response.body().content_length().is_some_and(|length| length <= MAX_ANSWER) {
                let _ = response.body_mut().as_reader().read_to_end(&mut Vec::new());
            }
            return Answer::Taken;
        }
        if status.is_redirection() {
            let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
            let to =
                to.and_then(|to| url::Url::parse(to).ok()).and_then(|to| Some(to.host_str()?.to_owned()));
            let to = to.map_or("elsewhere".to_owned(), |host| format!("to another address, at {host}"));
            let why =
                format!("it redirects {to} ({status}), which is not followed; correct url in [[webhook]]");
            return Answer::Later { why, after: None };
        }
        let after = response.headers().get(RETRY_AFTER).and_then(|text| text.to_str().ok());
        let after = after.and_then(|text| retry_after(text, self.clock.wall()));
        let mut why = status.to_string();
        let said = first_line(response.body_mut());
        if !said.is_empty() {
            why += &format!(" ({said})");
        }
        let for_now = status.is_server_error()
            || matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY
            );
        if for_now { Answer::Later { why: format!("it answers {why}"), after } } else { Answer::Refused(why) }
    }

    /// What went wrong, without the URL's path.
    fn said(&self, error: &ureq::Error) -> String {
        match error {
            ureq::Error::Timeout(_) => {
                format!("it has not answered within {} s", self.timeout.as_secs_f64())
            }
            ureq::Error::HostNotFound => {
                "its name cannot be resolved; check url in [[webhook]] and the DNS of this machine".to_owned()
            }
            ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
                format!("it cannot be reached: {e}; is it running, and are host and port right?")
            }
            ureq::Error::Rustls(e) => tls(e),
            ureq::Error::Io(e) => match e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(e) => tls(e),
                None => format!("the connection broke: {e}"),
            },
            other => redact(&other.to_string()).replace(self.url.expose(), "***"),
        }
    }
}

fn tls(error: &rustls::Error) -> String {
    format!("TLS failed: {error}; ca_file in [[webhook]] names the authority to trust")
}

/// Seconds, or a date.
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let wait = match text.trim().parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = jiff::fmt::rfc2822::parse(text.trim()).ok()?;
            SystemTime::from(date.timestamp()).duration_since(now).unwrap_or_default()
        }
    };
    Some(wait.min(MAX_WAIT))
}

/// The first line of a response, for people.
fn first_line(body: &mut Body) -> String {
    let mut bytes = Vec::new();
    // What came before it broke may be enough.
    let _ = body.as_reader().take(MAX_ANSWER).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    redact(&line.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect::<String>())
}

/// The authorities to trust.
fn authorities(config: &WebhookConfig) -> Result<Vec<Certificate<'static>>, WebhookError> {
    let Some(path) = &config.ca_file else {
        let found = rustls_native_certs::load_native_certs();
        if found.certs.is_empty() {
            let reason = found.errors.first().map_or("none found".to_owned(), ToString::to_string);
            return Err(WebhookError::NoAuthorities(reason));
        }
        return Ok(found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect());
    };
    let bad = |reason: String| WebhookError::File { path: path.clone(), reason };
    let all = crate::tls::certificates(path).map_err(bad)?;
    Ok(all.iter().map(|der| Certificate::from_der(der).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_ask_for_seconds_or_until_a_date_and_for_an_hour_at_most() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_480);
        let wait = |text: &str| retry_after(text, now).map(|wait| wait.as_secs());
        assert_eq!((wait("120"), wait(" 0 "), wait("86400")), (Some(120), Some(0), Some(3600)));
        assert_eq!(wait("Wed, 21 Oct 2015 07:29:00 GMT"), Some(60));
        assert_eq!(wait("Wed, 21 Oct 2015 07:27:00 GMT"), Some(0));
        assert_eq!((wait("soon"), wait("-1"), wait("")), (None, None, None));
    }
}
