//! Three threads beside the frame's way. One keeps copies of what is shown (`view`): it follows the log as a publisher
//! does, reads the board once a second and takes pictures that were asked for. The second one keeps what the sources'
//! spectra are normally (`spectra`). The third one answers browsers from these copies, on a small runtime of its own
//! (`connections`, `guard`, `api`). A slow browser, or a thousand of them, costs connections but never a frame.

mod answer;
mod api;
mod assets;
mod bundle;
mod connections;
#[cfg(test)]
mod described;
mod description;
mod detail;
mod events;
mod guard;
mod history;
mod pictures;
mod reviews;
mod spectra;
mod tls;
mod view;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;

pub use view::Facts;

use super::WebConfig;
use crate::clock::{SharedClock, Stop};
use crate::control::Controls;
use crate::flaglog::Tail;
use crate::health::Board;
use crate::shown::Shown as _;
use guard::Guard;
use view::View;

/// Threads that read evidence for browsers, at most.
const READERS: usize = 2;
/// How long the end of the daemon waits for answers that are on their way.
const END_WITHIN: Duration = Duration::from_millis(500);

/// Why there is no page.
#[derive(Debug, Error)]
pub enum WebError {
    /// The address cannot be listened on.
    #[error(
        "the page cannot be served on {listen}: {source}; is another program there? choose another port in [web] listen"
    )]
    Listen {
        /// Where it was to be.
        listen: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file of the page's certificate is unusable.
    #[error("[web] {key} {}: {reason}", path.shown())]
    Certificate {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system gives no thread or runtime.
    #[error("the page cannot be served: {0}")]
    System(#[from] std::io::Error),
    /// The operating system gives no random numbers.
    #[error("the page cannot be served: no random numbers for its logins: {0}")]
    Random(#[from] getrandom::Error),
}

/// The page, as it is served.
pub struct Web {
    /// Where it is: `http://ADDRESS:PORT/`, or `https://`.
    pub address: String,
    /// Threads that end after the stop signal.
    pub threads: Vec<JoinHandle<()>>,
}

/// Says where the page would be served, and whether it could be: for `spotd check`, also while a daemon serves it.
///
/// # Errors
/// [`WebError`].
pub fn try_out(config: &WebConfig, clock: &SharedClock) -> Result<String, WebError> {
    let listen = config.listen;
    if let Some(files) = &config.tls {
        tls::acceptor(files.clone(), clock.clone())?;
    }
    let address = address(listen, config.tls.is_some());
    match TcpListener::bind(listen) {
        Ok(_) => Ok(address),
        Err(e) if e.kind() == ErrorKind::AddrInUse => Ok(format!("{address} (a program serves there now)")),
        Err(source) => Err(WebError::Listen { listen, source }),
    }
}

fn address(at: SocketAddr, encrypted: bool) -> String {
    format!("{}://{at}/", if encrypted { "https" } else { "http" })
}

/// Starts to serve the page.
///
/// # Errors
/// [`WebError`].
pub fn spawn(
    config: WebConfig,
    facts: Facts,
    log: &Tail,
    board: Board,
    controls: Controls,
    clock: SharedClock,
    stop: Stop,
) -> Result<Web, WebError> {
    let listen = config.listen;
    let bind = |listen| {
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    let (listener, address) = bind(listen).map_err(|source| WebError::Listen { listen, source })?;
    let encrypted = config.tls.is_some();
    let tls = config.tls.map(|files| tls::acceptor(files, clock.clone())).transpose()?;
    let guard = Guard::new(config.names, config.token, encrypted, clock.clone())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(READERS)
        .thread_name("web files")
        .build()?;
    let (snapshots, more) = (controls.snapshots(), controls.snapshots());
    let view = Arc::new(View::new(facts, log, board, controls, clock));
    let (ended, ending) = watch::channel(false);
    let spectra = {
        let (view, stop) = (view.clone(), stop.clone());
        let follow = move || spectra::follow(&view, &more, &stop);
        std::thread::Builder::new().name("web spectra".into()).spawn(follow)?
    };
    let follows = {
        let view = view.clone();
        std::thread::Builder::new().name("web view".into()).spawn(move || {
            view.follow(&snapshots, &stop);
            // Nobody answers any more when this fails.
            let _ = ended.send(true);
        })?
    };
    let answers = std::thread::Builder::new().name("web".into()).spawn(move || {
        runtime.block_on(async move {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => connections::serve(listener, tls, api::router(view, guard), ending).await,
                Err(error) => log::error!("web: the page cannot be served: {error}"),
            }
        });
        runtime.shutdown_timeout(END_WITHIN);
    })?;
    Ok(Web { address: self::address(address, encrypted), threads: vec![follows, spectra, answers] })
}
