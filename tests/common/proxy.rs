//! A small TCP proxy that breaks connections in the ways that networks do.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Forwards connections on a port of its own to another port of the loopback.
pub struct Proxy {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    open: Mutex<Vec<TcpStream>>,
    refuse: AtomicBool,
    silent: AtomicBool,
    /// Nothing is forwarded on connections opened before this one.
    frozen_before: AtomicUsize,
    accepted: AtomicUsize,
    cuts: AtomicUsize,
    /// Bytes towards the target until everything is cut; 0: never.
    cut_after: AtomicUsize,
    /// Bytes towards clients until nothing more arrives there.
    freeze_after: Mutex<Option<usize>>,
}

#[allow(dead_code)]
impl Proxy {
    /// A proxy to `target` on 127.0.0.1.
    pub fn start(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let state = Arc::new(State::default());
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let number = shared.accepted.fetch_add(1, Ordering::SeqCst) + 1;
                if shared.refuse.load(Ordering::SeqCst) {
                    continue;
                }
                shared.keep(&client);
                if shared.silent.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else { continue };
                shared.keep(&server);
                forward(&client, &server, &shared, number, true);
                forward(&server, &client, &shared, number, false);
            }
        });
        Self { port, state }
    }

    /// Where to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connections that were attempted.
    pub fn accepted(&self) -> usize {
        self.state.accepted.load(Ordering::SeqCst)
    }

    /// How often connections were cut.
    pub fn cuts(&self) -> usize {
        self.state.cuts.load(Ordering::SeqCst)
    }

    /// Keeps existing connections open, but forwards nothing on them any more.
    pub fn freeze(&self) {
        self.state.frozen_before.store(self.accepted() + 1, Ordering::SeqCst);
    }

    /// Closes all connections abruptly.
    pub fn cut(&self) {
        self.state.cut();
    }

    /// Closes all connections in the middle of what the client sends, after `bytes` more.
    pub fn cut_after(&self, bytes: usize) {
        self.state.cut_after.store(bytes.max(1), Ordering::SeqCst);
    }

    /// Keeps connections open, but after `bytes` more nothing arrives at a client any more.
    pub fn freeze_after(&self, bytes: usize) {
        *self.state.freeze_after.lock().expect("lock") = Some(bytes);
    }

    /// Lets new connections work again; frozen ones stay frozen.
    pub fn thaw(&self) {
        *self.state.freeze_after.lock().expect("lock") = None;
    }

    /// Whether a cut is waiting for its byte.
    pub fn is_armed(&self) -> bool {
        self.state.cut_after.load(Ordering::SeqCst) > 0
    }

    /// Whether new connections are closed at once.
    pub fn refuse(&self, refuse: bool) {
        self.state.refuse.store(refuse, Ordering::SeqCst);
    }

    /// Whether new connections are accepted and then never answered.
    pub fn silent(&self, silent: bool) {
        self.state.silent.store(silent, Ordering::SeqCst);
    }
}

impl State {
    fn keep(&self, stream: &TcpStream) {
        self.open.lock().expect("lock").push(stream.try_clone().expect("clone"));
    }

    fn cut(&self) {
        let mut open = self.open.lock().expect("lock");
        self.cuts.fetch_add(usize::from(!open.is_empty()), Ordering::SeqCst);
        for stream in open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// How many of `bytes` may pass, and whether all is cut then.
    fn pass(&self, bytes: usize) -> (usize, bool) {
        let left = self.cut_after.load(Ordering::SeqCst);
        if left == 0 || bytes < left {
            self.cut_after.store(left.saturating_sub(bytes), Ordering::SeqCst);
            return (bytes, false);
        }
        self.cut_after.store(0, Ordering::SeqCst);
        (left, true)
    }

    /// How many of `bytes` may go to a client, and whether nothing may go any more.
    fn freeze(&self, bytes: usize) -> (usize, bool) {
        match &mut *self.freeze_after.lock().expect("lock") {
            Some(left) => {
                let pass = bytes.min(*left);
                *left -= pass;
                (pass, pass < bytes)
            }
            None => (bytes, false),
        }
    }
}

fn forward(from: &TcpStream, to: &TcpStream, state: &Arc<State>, number: usize, upward: bool) {
    let (mut from, mut to) = (from.try_clone().expect("clone"), to.try_clone().expect("clone"));
    let state = state.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        let mut frozen = false;
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            if frozen || number < state.frozen_before.load(Ordering::SeqCst) {
                continue;
            }
            let (pass, cut) = if upward { state.pass(n) } else { (n, false) };
            let (pass, freeze) = if upward { (pass, false) } else { state.freeze(pass) };
            frozen = freeze;
            let sent = to.write_all(&buffer[..pass]);
            if cut {
                state.cut();
            }
            if cut || sent.is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}
