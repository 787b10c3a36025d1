//! A source's newest picture: asked for when somebody looks, and at most once a second, however many look.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::answer::Problem;
use super::view::{Picture, View};

/// A picture that is younger than this serves all who ask.
const YOUNG: Duration = Duration::from_millis(900);
/// How long a new one is waited for.
const WAIT: Duration = Duration::from_secs(2);
/// An older one than this is shown to nobody: it would look live.
const OLD: Duration = Duration::from_secs(10);

/// `GET /api/v1/sources/{id}/picture`
#[cfg_attr(test, utoipa::path(
    get, path = "/api/v1/sources/{id}/picture",
    params(("id" = String, Path, description = "Id of a source")),
    responses(
        (status = 200, description = "The newest frame", content_type = "image/jpeg", body = String),
        (status = 404, description = "No such source", body = Problem),
        (status = 503, description = "No picture now", body = Problem),
    )
))]
pub(super) async fn picture(
    State(view): State<Arc<View>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let control = view.controls.source(&id).ok_or_else(|| Problem::no_source(&id))?;
    let mut pictures = view.pictures();
    let age = |picture: &Picture| view.clock.now().saturating_sub(picture.at);
    let here = |all: &std::collections::BTreeMap<Arc<str>, Picture>, within: Duration| {
        all.get(&*id).filter(|p| age(p) < within).map(|p| p.jpeg.clone())
    };
    let young = here(&pictures.borrow(), YOUNG);
    let jpeg = match young {
        Some(jpeg) => Some(jpeg),
        None => {
            control.ask_snapshot();
            let fresh = pictures.wait_for(|all| here(all, YOUNG).is_some());
            let fresh = tokio::time::timeout(WAIT, fresh).await;
            let fresh = fresh.ok().and_then(Result::ok).and_then(|all| here(&all, YOUNG));
            fresh.or_else(|| here(&view.pictures().borrow(), OLD))
        }
    };
    let Some(jpeg) = jpeg else {
        let why = format!("source {id} gives no picture now; its state says why");
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why));
    };
    Ok(([(header::CONTENT_TYPE, "image/jpeg")], jpeg).into_response())
}
