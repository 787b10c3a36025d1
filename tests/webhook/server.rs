//! Web servers that records are sent to.

use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tiny_http::{Header, Request, Response, Server, StatusCode};

use crate::publishing::until;

/// A received request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub id: String,
    pub signature: Option<String>,
    pub content_type: String,
    pub body: String,
    pub path: String,
}

impl Received {
    fn take(request: &mut Request) -> Self {
        let header = |name: &str| {
            let found = request.headers().iter().find(|h| h.field.to_string().eq_ignore_ascii_case(name));
            found.map(|h| h.value.to_string())
        };
        let (id, signature) = (header("Idempotency-Key"), header("X-Spotd-Signature"));
        let content_type = header("Content-Type").unwrap_or_default();
        let path = request.url().to_owned();
        let mut body = String::new();
        request.as_reader().read_to_string(&mut body).expect("a text");
        Self { id: id.unwrap_or_default(), signature, content_type, body, path }
    }
}

/// The reply to a request.
pub enum Reply {
    Status(u16, &'static str),
    /// A status, with a header.
    With(u16, &'static str, String),
    /// Nothing, for this long.
    Silence(Duration),
    /// A status, followed by a gigabyte.
    Gigabyte(u16),
}

/// A server in this process with configurable replies.
pub struct Hook {
    port: u16,
    received: Arc<Mutex<Vec<(Received, Instant)>>>,
    /// Bytes of responses that were read from it.
    pub sent: Arc<AtomicU64>,
}

impl Hook {
    /// `reply` gets each request and how many came before it.
    pub fn start(reply: impl Fn(&Received, usize) -> Reply + Send + Sync + 'static) -> Self {
        let server = Server::http((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = server.server_addr().to_ip().expect("an address").port();
        let hook = Self { port, received: Arc::default(), sent: Arc::default() };
        let (received, sent, reply) = (hook.received.clone(), hook.sent.clone(), Arc::new(reply));
        std::thread::spawn(move || {
            for mut request in server.incoming_requests() {
                let (received, sent, reply) = (received.clone(), sent.clone(), reply.clone());
                // Each in a separate thread: a late reply does not delay others.
                std::thread::spawn(move || {
                    let got = Received::take(&mut request);
                    let before = {
                        let mut all = received.lock().expect("lock");
                        all.push((got.clone(), Instant::now()));
                        all.len() - 1
                    };
                    // The client may be gone.
                    let _ = match reply(&got, before) {
                        Reply::Status(status, text) => {
                            request.respond(Response::from_string(text).with_status_code(status))
                        }
                        Reply::With(status, name, value) => {
                            let header = Header::from_bytes(name, value.as_bytes()).expect("a header");
                            let response = Response::from_string("").with_status_code(status);
                            request.respond(response.with_header(header))
                        }
                        Reply::Silence(pause) => {
                            std::thread::sleep(pause);
                            Ok(())
                        }
                        Reply::Gigabyte(status) => {
                            let bytes = Counting { left: 1 << 30, sent };
                            let status = StatusCode(status);
                            request.respond(Response::new(status, vec![], bytes, Some(1 << 30), None))
                        }
                    };
                });
            }
        });
        hook
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().expect("lock").iter().map(|(got, _)| got.clone()).collect()
    }

    /// When requests came.
    pub fn times(&self) -> Vec<Instant> {
        self.received.lock().expect("lock").iter().map(|(_, at)| *at).collect()
    }

    /// Waits until so many requests have come.
    pub fn wait(&self, count: usize) -> Vec<Received> {
        until(&format!("{count} requests"), || self.received().len() >= count);
        self.received()
    }
}

/// Letters, counted as they go.
struct Counting {
    left: u64,
    sent: Arc<AtomicU64>,
}

impl Read for Counting {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let n = into.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        into[..n].fill(b'x');
        self.left -= n as u64;
        self.sent.fetch_add(n as u64, Ordering::SeqCst);
        Ok(n)
    }
}

/// A server in a separate process, which can be killed at any moment. It stores what it accepts
/// before it replies.
pub struct Mortal {
    process: Child,
}

impl Mortal {
    pub fn start(port: u16, file: &Path) -> Self {
        let process = Command::new(std::env::current_exe().expect("this program"))
            .args(["--ignored", "--exact", "server::a_process_that_can_be_killed"])
            .env("SPOTD_HOOK_PORT", port.to_string())
            .env("SPOTD_HOOK_FILE", file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        until("the server", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        Self { process }
    }

    /// By SIGKILL.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// What any process has written into the file.
    pub fn taken(file: &Path) -> Vec<(String, String)> {
        let text = |v: &Value| v.as_str().expect("a text").to_owned();
        let whole = std::fs::read_to_string(file).unwrap_or_default();
        // The last line may have been cut by a kill: then it was not answered either.
        let lines = whole.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
            .map(|v| (text(&v["id"]), text(&v["body"])))
            .collect()
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        self.end();
    }
}

#[test]
#[ignore = "a process that other tests start and kill"]
fn a_process_that_can_be_killed() {
    let (Ok(port), Ok(file)) = (std::env::var("SPOTD_HOOK_PORT"), std::env::var("SPOTD_HOOK_FILE")) else {
        return;
    };
    let port: u16 = port.parse().expect("a port");
    let server = Server::http((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(file).expect("opened");
    for mut request in server.incoming_requests() {
        let got = Received::take(&mut request);
        let line = json!({ "id": got.id, "body": got.body }).to_string() + "\n";
        file.write_all(line.as_bytes()).expect("written");
        let _ = request.respond(Response::from_string("taken"));
    }
}

/// A port that nobody listens at.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}
