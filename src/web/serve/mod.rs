//! Two threads beside the frame's way. One keeps copies of what is shown (`view`): it follows the log as a publisher
//! does, reads the board once a second and takes pictures that were asked for. The other one answers browsers from
//! these copies, on a small runtime of its own (`connections`, `guard`, `api`). A slow browser, or a thousand of them,
//! costs connections but never a frame.

mod answer;
mod api;
mod assets;
mod connections;
mod detail;
mod events;
mod guard;
mod history;
mod pictures;
mod view;

use std::net::{SocketAddr, TcpListener};
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
    /// The operating system gives no thread or runtime.
    #[error("the page cannot be served: {0}")]
    System(#[from] std::io::Error),
    /// The operating system gives no random numbers.
    #[error("the page cannot be served: no random numbers for its logins: {0}")]
    Random(#[from] getrandom::Error),
}

/// The page, as it is served.
pub struct Web {
    /// Where it is.
    pub address: SocketAddr,
    /// Threads that end after the stop signal.
    pub threads: Vec<JoinHandle<()>>,
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
    let guard = Guard::new(config.names, config.token, clock.clone())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(READERS)
        .thread_name("web files")
        .build()?;
    let snapshots = controls.snapshots();
    let view = Arc::new(View::new(facts, log, board, controls, clock));
    let (ended, ending) = watch::channel(false);
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
                Ok(listener) => connections::serve(listener, api::router(view, guard), ending).await,
                Err(error) => log::error!("web: the page cannot be served: {error}"),
            }
        });
        runtime.shutdown_timeout(END_WITHIN);
    })?;
    Ok(Web { address, threads: vec![follows, answers] })
}
