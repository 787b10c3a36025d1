//! One event as a ZIP file that can be checked elsewhere: `GET /api/v1/events/{id}/bundle`. It is sent while it is made,
//! by a thread of its own, so that neither its size nor a slow reader matters to anybody else.

use std::io::{self, Write};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use tokio::sync::mpsc;

use super::answer::Problem;
use super::detail::{blocking, find};
use super::view::View;
use crate::flaglog::export::ExportError;
use crate::flaglog::record::timestamp;

/// Bytes that are handed over at once.
const CHUNK: usize = 64 * 1024;
/// Chunks that wait for the reader at most.
const AHEAD: usize = 4;
/// Downloads at once.
pub(super) const DOWNLOADS: usize = 2;

/// `GET /api/v1/events/{id}/bundle`
#[cfg_attr(test, utoipa::path(
    get, path = "/api/v1/events/{id}/bundle",
    params(("id" = String, Path, description = "Id of an event")),
    responses(
        (status = 200, description = "An export", content_type = "application/zip", body = String),
        (status = 400, description = "No id", body = Problem),
        (status = 404, description = "No such event", body = Problem),
        (status = 409, description = "It does not hold", body = Problem),
        (status = 410, description = "It has made room", body = Problem),
        (status = 503, description = "Two are sent already", body = Problem),
    )
))]
pub(super) async fn bundle(
    State(view): State<Arc<View>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (event, log, _) = find(&view, &id)?;
    let permit = view.downloads.clone().try_acquire_owned().map_err(|_| {
        let why = format!("{DOWNLOADS} downloads are running already; try again when one is done");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, why)
    })?;
    let found = blocking(move || log.bundle(event.id, event.first.before)).await?;
    let found = found.map_err(|error| {
        let status = match error {
            ExportError::Damaged(_) => StatusCode::CONFLICT,
            ExportError::Unknown { .. } => StatusCode::GONE,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Problem::new(status, format!("event {}: {error}", event.id))
    })?;
    let named = format!("attachment; filename=\"{}\"", found.file_name());
    let now = timestamp(view.clock.wall());
    let (to, chunks) = mpsc::channel(AHEAD);
    let started = std::thread::Builder::new().name("web bundle".into()).spawn(move || {
        let _permit = permit;
        let mut pipe = Pipe { to, chunk: Vec::with_capacity(CHUNK) };
        if let Err(error) = found.write(&mut pipe, now) {
            log::debug!("web: {}: not sent to its end: {error}", found.file_name());
            // The connection is broken off, so that nobody takes what has come for all of it.
            let _ = pipe.to.blocking_send(Err(io::Error::other("it does not hold")));
        }
    });
    started.map_err(|e| Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("no download now: {e}")))?;
    let chunks = stream::unfold(chunks, |mut chunks| async move {
        chunks.recv().await.map(|chunk: io::Result<Bytes>| (chunk, chunks))
    });
    let headers = [(header::CONTENT_TYPE, "application/zip"), (header::CONTENT_DISPOSITION, &*named)];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

/// From the thread that makes it to the one that sends.
struct Pipe {
    to: mpsc::Sender<io::Result<Bytes>>,
    chunk: Vec<u8>,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        if self.chunk.len() == CHUNK {
            self.flush()?;
        }
        Ok(taken)
    }

    /// Waits until there is room; an error when the reader has gone.
    fn flush(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        if chunk.is_empty() {
            return Ok(());
        }
        self.to.blocking_send(Ok(chunk.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
