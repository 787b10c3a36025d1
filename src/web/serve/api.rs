//! Every address that is answered.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use futures_util::stream::{self, Stream};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::Problem;
use super::assets::{ASSETS, LOGIN, PAGE};
#[cfg(test)]
use super::described;
#[cfg(test)]
use super::events::{Began, Judged};
use super::events::{Filter, Page};
use super::guard::{Attempt, Guard, guard};
use super::history::Columns;
use super::view::View;
use super::{bundle, description, detail, pictures, reviews, spectra};
use crate::flaglog::record::SCHEMA;
use crate::health::{JudgedFrame, PublisherStatus, ShownMap, SourceStatus, rfc3339_text};
use crate::identity::ModelIdentity;

/// Bytes of a request's body at most.
const BODY: usize = 8 * 1024;
/// Open pages that get server-sent events, at most.
const LISTENERS: usize = 64;
/// Prometheus's text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The same as OpenMetrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All routes, behind the guard.
pub(super) fn router(view: Arc<View>, guarded: Guard) -> Router {
    let guarded = Arc::new(guarded);
    let listeners = Arc::new(Semaphore::new(LISTENERS));
    let mut router = Router::new()
        .route("/", get(|| async { Html(PAGE) }))
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/v1", get(about))
        .route("/api/v1/openapi.json", get(description::openapi))
        .route("/api/v1/sources", get(sources))
        .route("/api/v1/sources/{id}", get(source))
        .route("/api/v1/sources/{id}/history", get(history))
        .route("/api/v1/sources/{id}/picture", get(pictures::picture))
        .route("/api/v1/sources/{id}/map", get(map))
        .route("/api/v1/live", get(move |view| live(view, listeners.clone())))
        .route("/api/v1/events", get(events))
        .route("/api/v1/events/{id}", get(detail::event))
        .route("/api/v1/events/{id}/evidence/{sha256}", get(detail::evidence))
        .route("/api/v1/events/{id}/bundle", get(bundle::bundle))
        .route("/api/v1/events/{id}/spectrum", get(spectra::beside))
        .route("/api/v1/events/{id}/review", post(reviews::review))
        .with_state(view)
        .route("/login", get(|| async { Html(LOGIN) }).post(log_in).with_state(guarded.clone()))
        .route("/logout", post(log_out));
    for asset in &ASSETS {
        let answer =
            || async { ([(header::CONTENT_TYPE, HeaderValue::from_static(asset.mime))], asset.text) };
        router = router.route(asset.path, get(answer));
    }
    router
        .fallback(|| async {
            Problem::not_found("there is nothing here; the page is at /, the API at /api/v1")
        })
        .layer(DefaultBodyLimit::max(BODY))
        .layer(from_fn_with_state(guarded, guard))
}

/// `GET /healthz`
#[cfg_attr(test, utoipa::path(
    get, path = "/healthz",
    responses(
        (status = 200, description = "spotd is alive", content_type = "text/plain", body = String),
    )
))]
pub(super) async fn alive() -> &'static str {
    "alive\n"
}

/// The box, its versions and its model.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(super) struct About {
    /// Name of the box.
    node: String,
    /// Program and version.
    software: &'static str,
    /// Version of the log's schema, and so of events here.
    schema: u32,
    /// Which model judges.
    #[cfg_attr(test, schema(value_type = described::Model))]
    model: ModelIdentity,
    /// From here on synthetic, 0..1.
    threshold: f64,
    /// From here on unsure, 0..1.
    unsure_from: f64,
    /// Delivery status of each publisher.
    publishers: std::collections::BTreeMap<String, PublisherStatus>,
    /// Why the flag log needs attention, if it does.
    alarm: Option<String>,
}

#[cfg_attr(test, utoipa::path(
    get, path = "/api/v1",
    responses(
        (status = 200, description = "The box", body = About),
    )
))]
pub(super) async fn about(State(view): State<Arc<View>>) -> Json<About> {
    let facts = view.facts.clone();
    Json(About {
        node: facts.node,
        software: crate::flaglog::record::SOFTWARE,
        schema: SCHEMA,
        model: facts.model,
        threshold: facts.limits.threshold,
        unsure_from: facts.limits.unsure_from,
        publishers: view.board.publishers(),
        alarm: view.board.log().alarm.map(|alarm| alarm.to_string()),
    })
}

/// One source as it is now.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(super) struct Source {
    /// Its id.
    id: String,
    /// Its status, as over MQTT.
    #[serde(flatten)]
    status: SourceStatus,
    /// The frame that was judged last.
    newest: Option<JudgedFrame>,
}

impl Source {
    fn new((id, status): (Arc<str>, SourceStatus)) -> Self {
        Self { id: id.to_string(), newest: status.newest.as_deref().cloned(), status }
    }
}

#[cfg_attr(test, utoipa::path(
    get, path = "/api/v1/sources",
    responses(
        (status = 200, description = "All sources", body = Vec<Source>),
    )
))]
pub(super) async fn sources(State(view): State<Arc<View>>) -> Json<Vec<Source>> {
    Json(view.board.snapshot().into_iter().map(Source::new).collect())
}

#[cfg_attr(test, utoipa::path(
    get, path = "/api/v1/sources/{id}",
    params(("id" = String, Path, description = "Id of a source")),
    responses(
        (status = 200, description = "One source", body = Source),
        (status = 404, description = "No such source", body = Problem),
    )
))]
pub(super) async fn source(
    State(view): State<Arc<View>>,
    Path(id): Path<String>,
) -> Result<Json<Source>, Problem> {
    let found = view.board.snapshot().into_iter().find(|(known, _)| **known == *id);
    found.map(Source::new).map(Json).ok_or_else(|| Problem::no_source(&id))
}

#[cfg_attr(test, utoipa::path(
    get, path = "/api/v1/sources/{id}/history",
    params(("id" = String, Path, description = "Id of a source")),
    responses(
        (status = 200, description = "Scores of the last ten minutes", body = Columns),
        (status = 404, description = "No such source", body = Problem),
    )
))]
pub(super) async fn history(
    State(view): State<Arc<View>>,
    Path(id): Path<String>,
) -> Result<Json<Columns>, Problem> {
    view.controls.source(&id).ok_or_else(|| Problem::no_source(&id))?;
    Ok(Json(view.history().of(&id)))
}

#[cfg_attr(test, utoipa::path(
    get, path = "/api/v1/sources/{id}/map",
    params(("id" = String, Path, description = "Id of a source")),
    responses(
        (status = 200, description = "The map", body = ShownMap<'static>),
        (status = 404, description = "No such source", body = Problem),
        (status = 503, description = "No frame was judged yet", body = Problem),
    )
))]
pub(super) async fn map(State(view): State<Arc<View>>, Path(id): Path<String>) -> Result<Response, Problem> {
    view.controls.source(&id).ok_or_else(|| Problem::no_source(&id))?;
    match view.board.map(&id) {
        Some(map) => Ok(Json(ShownMap::from(&*map)).into_response()),
        None => {
            let why = format!("source {id} has no map yet: no frame of it was judged; its state says why");
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why))
        }
    }
}

#[cfg_attr(test, utoipa::path(
    get, path = "/api/v1/events",
    params(
        ("source" = Option<String>, Query, description = "Of this source"),
        ("kind" = Option<Began>, Query, description = "Of this kind"),
        ("verdict" = Option<described::Verdict>, Query, description = "The verdict when it began"),
        ("review" = Option<Judged>, Query, description = "With this review"),
        ("from" = Option<String>, Query, format = DateTime, description = "Captured at or after this moment"),
        ("to" = Option<String>, Query, format = DateTime, description = "Captured before this moment"),
        ("before" = Option<String>, Query, pattern = "^[0-7][0-9A-HJKMNP-TV-Z]{25}$", description = "The `next` of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 200, description = "How many; 24 unless told otherwise"),
    ),
    responses(
        (status = 200, description = "Events, newest first", body = Page),
        (status = 400, description = "A wrong filter", body = Problem),
    )
))]
pub(super) async fn events(
    State(view): State<Arc<View>>,
    filter: Result<Query<Filter>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Page>, Problem> {
    let Query(filter) = filter.map_err(|e| Problem::bad(e.body_text()))?;
    Ok(Json(view.with_log(|_, index| index.page(&filter))))
}

#[cfg_attr(test, utoipa::path(
    get, path = "/metrics",
    responses(
        (status = 200, description = "Metrics for Prometheus", content_type = "text/plain", body = String),
    )
))]
pub(super) async fn metrics(State(view): State<Arc<View>>, headers: HeaderMap) -> Response {
    let accepts = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let (mime, text) = match accepts.contains("application/openmetrics-text") {
        true => (OPEN_METRICS, view.metrics.render_open()),
        false => (METRICS, view.metrics.render()),
    };
    ([(header::CONTENT_TYPE, HeaderValue::from_static(mime))], text).into_response()
}

/// Whether all sources were live once and the log can be written.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(super) struct Ready {
    ready: bool,
    /// What is missing.
    why: Vec<String>,
}

#[cfg_attr(test, utoipa::path(
    get, path = "/readyz",
    responses(
        (status = 200, description = "Ready", body = Ready),
        (status = 503, description = "Not ready", body = Ready),
    )
))]
pub(super) async fn ready(State(view): State<Arc<View>>) -> Response {
    let mut why: Vec<String> =
        view.never_live().iter().map(|id| format!("source {id} has not delivered yet")).collect();
    why.extend(view.board.log().alarm.map(|alarm| format!("flag log: {alarm}")));
    let ready = why.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Ready { ready, why })).into_response()
}

/// What an open page gets each second.
#[derive(Debug, Serialize)]
struct Second {
    /// When, RFC 3339.
    at: String,
    /// All sources.
    sources: Vec<Live>,
    /// Changes when the list of events does.
    changes: u64,
    /// Why the flag log needs attention, if it does.
    alarm: Option<String>,
}

#[derive(Debug, Serialize)]
struct Live {
    #[serde(flatten)]
    source: Source,
    /// The newest point of its curve: seconds since the Unix epoch, score of the frame, median.
    point: Option<(f64, Option<f64>, Option<f64>)>,
}

fn second(view: &View) -> Second {
    let live = |source: Source| {
        let point = view.history().newest(&source.id).map(|p| (p.at, p.raw, p.smoothed));
        Live { source, point }
    };
    Second {
        at: rfc3339_text(view.clock.wall()),
        sources: view.board.snapshot().into_iter().map(Source::new).map(live).collect(),
        changes: view.with_log(|_, index| index.changes()),
        alarm: view.board.log().alarm.map(|alarm| alarm.to_string()),
    }
}

/// `GET /api/v1/live`: server-sent events, `second` each second.
#[cfg_attr(test, utoipa::path(
    get, path = "/api/v1/live",
    responses(
        (status = 200, description = "An event `second` each second", content_type = "text/event-stream", body = String),
        (status = 503, description = "Too many pages are open", body = Problem),
    )
))]
pub(super) async fn live(
    State(view): State<Arc<View>>,
    listeners: Arc<Semaphore>,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Problem> {
    let permit: OwnedSemaphorePermit = listeners.try_acquire_owned().map_err(|_| {
        let why =
            format!("{LISTENERS} pages are open already; close one, or ask /api/v1/sources now and then");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, why)
    })?;
    let mut ticks = view.ticks();
    // The first one at once.
    ticks.mark_changed();
    let seconds = stream::unfold((ticks, view, permit), |(mut ticks, view, permit)| async move {
        // A slow reader gets only the newest second.
        ticks.changed().await.ok()?;
        let event = sse::Event::default().event("second").json_data(second(&view)).ok()?;
        Some((Ok(event), (ticks, view, permit)))
    });
    Ok(Sse::new(seconds).keep_alive(KeepAlive::new().interval(Duration::from_secs(10))))
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

async fn log_in(State(guarded): State<Arc<Guard>>, Form(Token { token }): Form<Token>) -> Response {
    match guarded.log_in(&token) {
        (Attempt::Right, cookie) => {
            let mut response = Redirect::to("/").into_response();
            if let Some(cookie) = cookie {
                response.headers_mut().insert(header::SET_COOKIE, cookie);
            }
            response
        }
        (Attempt::Wrong, _) => Redirect::to("/login?wrong").into_response(),
        (Attempt::TooMany, _) => {
            let why = "too many wrong tokens; wait a minute";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, why).into_response()
        }
    }
}

async fn log_out() -> Response {
    let mut response = Redirect::to("/login").into_response();
    response.headers_mut().insert(header::SET_COOKIE, Guard::log_out());
    response
}
