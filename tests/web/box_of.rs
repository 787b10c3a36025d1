//! A daemon that watches a feed which turns from dark (clear) to bright (synthetic) after some seconds.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::authority::Authority;
use crate::common::daemon::Daemon;
use crate::common::pictures::textured;
use crate::common::{free_port, model};

/// Frames that are dark, then bright, five a second.
const DARK: usize = 40;
const BRIGHT: usize = 3000;

pub struct SpotdBox {
    pub daemon: Daemon,
    pub port: u16,
    pub dir: tempfile::TempDir,
    /// Before `/api/v1` and the like.
    base: String,
    agent: ureq::Agent,
}

/// An answer.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    pub headers: ureq::http::HeaderMap,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().expect("text"))
    }
}

impl SpotdBox {
    /// `web`: further lines of `[web]`; `more`: further tables.
    pub fn start(web: &str, more: &str) -> Self {
        Self::with_log("", web, more)
    }

    /// Its page is served over TLS with the server's certificate of an authority, which we trust alone.
    pub fn start_encrypted(authority: &Authority, web: &str) -> Self {
        let (certificate, key) = (authority.file("server.pem"), authority.file("server.key"));
        let tls = format!("certificate_file = {certificate:?}\nkey_file = {key:?}\n{web}");
        Self::begin(tempfile::tempdir().expect("a folder"), Some(authority), "", &tls, "")
    }

    /// As [`Self::start`]; `log`: further lines of `[log]`. A `dir` among them is where the log is, else it is in `flags`.
    pub fn with_log(log: &str, web: &str, more: &str) -> Self {
        Self::begin(tempfile::tempdir().expect("a folder"), None, log, web, more)
    }

    /// The same, in a folder in which something lies already.
    pub fn begin(
        dir: tempfile::TempDir,
        authority: Option<&Authority>,
        log: &str,
        web: &str,
        more: &str,
    ) -> Self {
        let port = free_port();
        let config = Self::config(dir.path(), port, log, web, more);
        Self::run(dir, port, authority, &config)
    }

    /// The built-in detector on the demonstration.
    pub fn demonstration() -> Self {
        let port = free_port();
        let config = format!(
            "[node]\nname = \"ingest-1\"\n[[source]]\nid = \"studio\"\nuri = \"demo://1\"\n\
             [log]\ndir = \"flags\"\n[web]\nlisten = \"127.0.0.1:{port}\"\n"
        );
        Self::run(tempfile::tempdir().expect("a folder"), port, None, &config)
    }

    fn run(dir: tempfile::TempDir, port: u16, authority: Option<&Authority>, text: &str) -> Self {
        let config = dir.path().join("spotd.toml");
        std::fs::write(&config, text).expect("written");
        let daemon = Daemon::start(&config, dir.path());
        let base = match authority {
            None => format!("http://127.0.0.1:{port}"),
            // The certificate is for this name.
            Some(_) => format!("https://localhost:{port}"),
        };
        let mut tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
        if let Some(authority) = authority {
            let pem = std::fs::read(authority.file("ca.pem")).expect("the authority");
            let certificate = Certificate::from_pem(&pem).expect("a certificate");
            tls = tls.root_certs(RootCerts::new_with_certs(&[certificate]));
        }
        let agent = ureq::Agent::config_builder()
            .tls_config(tls.build())
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(Duration::from_secs(30)))
            .build()
            .new_agent();
        let started = Self { daemon, port, dir, base, agent };
        started
            .wait("its page", |b| b.try_get("/healthz", &[]).is_some_and(|a| a.status == 200).then_some(()));
        started
    }

    fn config(dir: &Path, port: u16, log: &str, web: &str, more: &str) -> String {
        let model = model::write_brightness(dir);
        for (name, brightness) in [("dark", 40), ("bright", 230)] {
            textured(brightness, 480, 270).save(dir.join(format!("{name}.jpg"))).expect("saved");
        }
        std::fs::create_dir(dir.join("feed")).expect("a folder");
        for number in 0..DARK + BRIGHT {
            let shown = dir.join(if number < DARK { "dark.jpg" } else { "bright.jpg" });
            std::os::unix::fs::symlink(shown, dir.join(format!("feed/{number}.jpg"))).expect("a link");
        }
        let flags = if log.contains("dir = ") { "" } else { "dir = \"flags\"\n" };
        format!(
            "[node]\nname = \"test box\"\n[model]\npath = {model:?}\n\
             [[source]]\nid = \"studio.1\"\nfps = 5\nuri = \"\"\"pipeline:multifilesrc location={}/feed/%d.jpg \
             caps=image/jpeg,framerate=5/1 ! jpegdec ! identity sync=true\"\"\"\n\
             [verdict]\nwindow = 5\nmin_frames = 3\n[log]\n{flags}{log}\n\
             [web]\nlisten = \"127.0.0.1:{port}\"\n{web}\n{more}\n",
            dir.display()
        )
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub fn try_get(&self, path: &str, headers: &[(&str, &str)]) -> Option<Answer> {
        let mut request = self.agent.get(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut answer = request.call().ok()?;
        let body = answer.body_mut().read_to_vec().ok()?;
        Some(Answer { status: answer.status().as_u16(), headers: answer.headers().clone(), body })
    }

    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.try_get(path, headers).unwrap_or_else(|| panic!("{path}: no answer; {}", self.daemon.log()))
    }

    pub fn post(&self, path: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.agent.post(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut answer = request.send(body).expect("an answer");
        let body = answer.body_mut().read_to_vec().expect("a body");
        Answer { status: answer.status().as_u16(), headers: answer.headers().clone(), body }
    }

    pub fn wait<T>(&self, what: &str, mut ready: impl FnMut(&Self) -> Option<T>) -> T {
        crate::support::wait_for(what, || ready(self))
    }

    /// The first event, when there is one.
    pub fn flagged(&self) -> Value {
        self.wait("an event", |b| {
            let page = b.get("/api/v1/events", &[]).json();
            page["events"].get(0).cloned()
        })
    }
}
