//! Connections: how many, how long, how large. Nothing a browser does costs more than this allows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

/// Connections at once; further ones are closed unanswered.
const CONNECTIONS: usize = 200;
/// A request's head has to come within this time, as has what begins TLS, and an idle connection ends after it.
const HEAD_WITHIN: Duration = Duration::from_secs(15);
/// Bytes of a request's head at most.
const HEAD: usize = 16 * 1024;
/// A reader that takes nothing for so long is left.
const WRITE_WITHIN: Duration = Duration::from_secs(15);
/// After an error of the listening socket, such as no more file descriptors, it rests for so long.
const REST: Duration = Duration::from_millis(200);

/// Answers until `stop` changes.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut complained = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return,
        };
        match accepted {
            Ok((stream, from)) => match room.clone().try_acquire_owned() {
                Ok(permit) => drop(tokio::spawn(connection(
                    stream,
                    from,
                    tls.clone(),
                    router.clone(),
                    stop.clone(),
                    permit,
                ))),
                Err(_) if !std::mem::replace(&mut complained, true) => {
                    log::warn!("web: more than {CONNECTIONS} connections at once; further ones are closed");
                }
                Err(_) => {}
            },
            Err(error) => {
                log::debug!("web: a connection could not be taken: {error}");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    from: SocketAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
) {
    // Small answers are not to wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    let mut stream = Box::pin(TimeoutStream::new(stream));
    stream.as_mut().set_write_timeout_pinned(Some(WRITE_WITHIN));
    let Some(tls) = tls else { return answer(stream, from, router, stop).await };
    match tokio::time::timeout(HEAD_WITHIN, tls.accept(stream)).await {
        Ok(Ok(stream)) => answer(stream, from, router, stop).await,
        Ok(Err(error)) => log::debug!("web: {from}: TLS: {error}"),
        Err(_) => log::debug!("web: {from}: TLS did not begin within {} s", HEAD_WITHIN.as_secs()),
    }
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    from: SocketAddr,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let service = TowerToHyperService::new(
        router.map_request(|request: Request<_>| request.map(axum::body::Body::new)),
    );
    let mut served = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .max_buf_size(HEAD)
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut ending = false;
    loop {
        tokio::select! {
            done = served.as_mut() => {
                if let Err(error) = done {
                    log::debug!("web: {from}: {error}");
                }
                return;
            }
            _ = stop.changed(), if !ending => {
                ending = true;
                served.as_mut().graceful_shutdown();
            }
        }
    }
}
