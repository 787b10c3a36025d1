//! One event whole: its records as the log has them, whether they hold, and its pictures.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::Value;
use ulid::Ulid;

use super::answer::Problem;
#[cfg(test)]
use super::described;
use super::events::{Event, Place};
use super::view::View;
use crate::flaglog::record::EvidenceFile;
use crate::flaglog::{Entry, Hash, Record, Review, Tail};

/// An event with all that the log has of it.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(super) struct Detail {
    /// In one line.
    #[serde(flatten)]
    pub event: Event,
    /// Its first record, every member of it.
    #[cfg_attr(test, schema(value_type = described::Record))]
    pub first: Value,
    /// Its newest record, where that is another one.
    #[cfg_attr(test, schema(value_type = Option<described::Record>))]
    pub last: Option<Value>,
    /// Its newest review, every member of it.
    #[cfg_attr(test, schema(value_type = Option<described::Review>))]
    pub reviewed: Option<Review>,
    /// Whether it is as it was written.
    pub checks: Checks,
}

/// What was checked just now, and found.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(super) struct Checks {
    /// Records follow the one before them, and their hashes hold.
    pub chain: Check,
    /// The pictures are those that the records name.
    pub evidence: Check,
    /// A signature stands under the records.
    pub signature: Check,
}

/// One of them.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(super) struct Check {
    /// True: it holds. False: it does not. None: there is nothing to be checked.
    pub holds: Option<bool>,
    /// The same for people.
    pub text: String,
}

impl Check {
    fn new(holds: Option<bool>, text: impl Into<String>) -> Self {
        Self { holds, text: text.into() }
    }
}

/// `GET /api/v1/events/{id}`
#[cfg_attr(test, utoipa::path(
    get, path = "/api/v1/events/{id}",
    params(("id" = String, Path, description = "Id of an event")),
    responses(
        (status = 200, description = "One event", body = Detail),
        (status = 400, description = "No id", body = Problem),
        (status = 404, description = "No such event", body = Problem),
        (status = 410, description = "It has made room", body = Problem),
    )
))]
pub(super) async fn event(
    State(view): State<Arc<View>>,
    Path(id): Path<String>,
) -> Result<Json<Detail>, Problem> {
    let (event, tail, signed) = find(&view, &id)?;
    blocking(move || detail(event, &tail, signed)).await?.map(Json)
}

/// `GET /api/v1/events/{id}/evidence/{sha256}`
#[cfg_attr(test, utoipa::path(
    get, path = "/api/v1/events/{id}/evidence/{sha256}",
    params(
        ("id" = String, Path, description = "Id of an event"),
        ("sha256" = String, Path, description = "Which picture, by its SHA-256"),
    ),
    responses(
        (status = 200, description = "A picture", content_type = "image/*", body = String),
        (status = 400, description = "No id or no hash", body = Problem),
        (status = 404, description = "No such picture", body = Problem),
        (status = 409, description = "Not what was written", body = Problem),
        (status = 410, description = "It has made room", body = Problem),
    )
))]
pub(super) async fn evidence(
    State(view): State<Arc<View>>,
    Path((id, sha256)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (event, tail, _) = find(&view, &id)?;
    let wanted = Hash::parse(&sha256)
        .ok_or_else(|| Problem::bad("evidence is asked for by its SHA-256, 64 hex digits"))?;
    // What a hash names never changes.
    let tag = format!("\"{wanted}\"");
    if headers.get(header::IF_NONE_MATCH).is_some_and(|v| v.as_bytes() == tag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let (bytes, mime) = blocking(move || {
        let file = [event.first, event.last]
            .into_iter()
            .filter_map(|place| read(&tail, place).ok())
            .filter_map(|record| record.evidence)
            .find_map(|evidence| evidence.files().find(|f| f.sha256 == wanted).cloned());
        let file =
            file.ok_or_else(|| Problem::not_found(format!("event {} has no such picture", event.id)))?;
        let bytes = bytes(&tail, &file, event.removed)?;
        let mime = if file.file.ends_with(".png") { "image/png" } else { "image/jpeg" };
        Ok::<_, Problem>((bytes, mime))
    })
    .await??;
    let forever = "private, max-age=31536000, immutable";
    Ok(([(header::CONTENT_TYPE, mime), (header::CACHE_CONTROL, forever), (header::ETAG, &*tag)], bytes)
        .into_response())
}

/// Files are read apart from the thread that answers everybody.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let failed =
        |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "reading the log failed; see spotd's messages");
    tokio::task::spawn_blocking(work).await.map_err(failed)
}

pub(super) fn find(view: &View, id: &str) -> Result<(Event, Tail, Option<u64>), Problem> {
    let id: Ulid = id
        .parse()
        .map_err(|_| Problem::bad(format!("'{}' is no id of an event", crate::shown::plain(id))))?;
    view.with_log(|tail, index| {
        let event = index.event(id).cloned();
        event.map(|event| (event, tail.clone(), index.signed_until()))
    })
    .ok_or_else(|| {
        let way = "`spotd log` shows older ones than the page lists";
        Problem::not_found(format!("no event {id} in the flag log; {way}"))
    })
}

pub(super) fn read(tail: &Tail, place: Place) -> Result<Record, String> {
    match read_entry(tail, place)? {
        Entry::Event(record) => Ok(*record),
        Entry::Note(_) | Entry::Review(_) => Err("another kind of record stands in its place".into()),
    }
}

/// A record, whose hash holds and which follows the one before it: the reader would not give it otherwise.
fn read_entry(tail: &Tail, place: Place) -> Result<Entry, String> {
    let mut reader = match place.before {
        None => tail.from_start(),
        Some(mark) => tail.after(mark)?,
    };
    match reader.next_durable().map_err(|e| e.to_string())? {
        Some(item) if item.entry.seq() == place.seq => Ok(item.entry),
        _ => Err("it has made room (see [log] keep_days and the like)".into()),
    }
}

pub(super) fn bytes(tail: &Tail, file: &EvidenceFile, removed: bool) -> Result<Vec<u8>, Problem> {
    let bytes = tail.evidence(file).map_err(|error| match removed {
        true => Problem::new(StatusCode::GONE, "this picture has made room; the record and its hash remain"),
        false => Problem::new(StatusCode::GONE, format!("the picture cannot be read: {error}")),
    })?;
    match Hash::of(&bytes) == file.sha256 {
        true => Ok(bytes),
        false => Err(Problem::new(
            StatusCode::CONFLICT,
            "the file is not the one that the record names: somebody has changed it; `spotd verify` says more",
        )),
    }
}

fn detail(event: Event, tail: &Tail, signed: Option<u64>) -> Result<Detail, Problem> {
    let gone = |why| {
        Problem::new(StatusCode::GONE, format!("event {}: its record can no longer be read: {why}", event.id))
    };
    let first = read(tail, event.first).map_err(gone)?;
    let last = (event.last != event.first).then(|| read(tail, event.last)).transpose();
    let chain = match &last {
        Ok(_) => Check::new(Some(true), "the records' hashes hold, and each follows the one before it"),
        Err(why) => Check::new(Some(false), format!("the newest record does not follow: {why}")),
    };
    let last = last.ok().flatten();
    let files: Vec<EvidenceFile> = [Some(&first), last.as_ref()]
        .into_iter()
        .flatten()
        .filter_map(|record| record.evidence.as_ref())
        .flat_map(|evidence| evidence.files().cloned())
        .collect();
    let evidence = check_files(tail, &files, event.removed);
    let reviewed = event.reviewed.map(|place| read_entry(tail, place)).and_then(|entry| match entry {
        Ok(Entry::Review(review)) => Some(review),
        _ => None,
    });
    let newest = event.reviewed.map_or(event.last.seq, |review| review.seq.max(event.last.seq));
    let signature = match signed {
        Some(until) if until >= newest => Check::new(Some(true), format!("signed up to record {until}")),
        Some(until) => {
            Check::new(None, format!("not signed yet: the newest signature is under record {until}"))
        }
        None => Check::new(None, "this log is not signed ([log] sign_key)"),
    };
    let value = |record: &Record| serde_json::to_value(record).unwrap_or_default();
    Ok(Detail {
        first: value(&first),
        last: last.as_ref().map(value),
        reviewed,
        checks: Checks { chain, evidence, signature },
        event,
    })
}

fn check_files(tail: &Tail, files: &[EvidenceFile], removed: bool) -> Check {
    if files.is_empty() {
        return Check::new(None, "no picture was kept");
    }
    let problems: Vec<String> =
        files.iter().filter_map(|f| bytes(tail, f, removed).err()).map(|p| p.to_string()).collect();
    match problems.first() {
        None => Check::new(Some(true), format!("{} file(s) are those that the records name", files.len())),
        Some(_) if removed => {
            Check::new(None, "the pictures have made room; the records and their hashes remain")
        }
        Some(why) => Check::new(Some(false), format!("{} of {} file(s): {why}", problems.len(), files.len())),
    }
}
