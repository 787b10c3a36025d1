//! What an operator says of an event: `POST /api/v1/events/{id}/review`. The log's one writer appends it; this waits for
//! that without holding up anybody else.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use ulid::Ulid;

use super::answer::Problem;
#[cfg(test)]
use super::described;
use super::detail::find;
use super::view::View;
use crate::clock::Moment;
use crate::control::Busy;
use crate::flaglog::review::Standing;
use crate::flaglog::{Finding, NewReview, ReviewError};

/// How long the log may take.
const WITHIN: Duration = Duration::from_secs(5);
/// Reviews taken within [`WINDOW`]: no person judges faster, and each is written to the disk.
const MOST: u32 = 60;
const WINDOW: Duration = Duration::from_secs(60);

/// How many were taken.
#[derive(Debug, Default)]
pub(super) struct Pace {
    since: Moment,
    taken: u32,
}

impl Pace {
    /// Whether one more may be taken.
    pub fn take(&mut self, now: Moment) -> bool {
        if now.saturating_sub(self.since) >= WINDOW {
            *self = Self { since: now, taken: 0 };
        }
        let room = self.taken < MOST;
        self.taken += u32::from(room);
        room
    }
}

/// The body.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// `confirmed`, `false-alarm` or `withdrawn`.
    #[cfg_attr(test, schema(value_type = described::Found))]
    review: Finding,
    /// Who says so.
    by: String,
    /// What is to be remembered with it.
    comment: Option<String>,
    /// Id of the review that stood when it was judged; none if there was none.
    #[cfg_attr(test, schema(value_type = Option<String>))]
    replaces: Option<Ulid>,
}

/// What is answered when somebody else was faster.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
struct Overtaken {
    error: String,
    /// What stands.
    #[cfg_attr(test, schema(value_type = Option<described::Standing>))]
    standing: Option<Standing>,
}

/// `POST /api/v1/events/{id}/review`
#[cfg_attr(test, utoipa::path(
    post, path = "/api/v1/events/{id}/review",
    params(("id" = String, Path, description = "Id of an event")),
    request_body = Asked,
    responses(
        (status = 201, description = "The review, on the disk", body = described::Review),
        (status = 400, description = "No review", body = Problem),
        (status = 403, description = "Not from the page itself: Origin is another or missing", body = Problem),
        (status = 404, description = "No such event", body = Problem),
        (status = 409, description = "Another one stands", body = Overtaken),
        (status = 410, description = "It has made room", body = Problem),
        (status = 413, description = "Too large", body = Problem),
        (status = 415, description = "No JSON", body = Problem),
        (status = 429, description = "Too many", body = Problem),
        (status = 503, description = "The log cannot be written", body = Problem),
    )
))]
pub(super) async fn review(
    State(view): State<Arc<View>>,
    Path(id): Path<String>,
    body: Result<Json<Asked>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(asked) = body.map_err(|e| {
        let status =
            if e.status() == StatusCode::UNPROCESSABLE_ENTITY { StatusCode::BAD_REQUEST } else { e.status() };
        Problem::new(status, e.body_text())
    })?;
    let (event, log, _) = find(&view, &id)?;
    let new = NewReview {
        event: event.id,
        source: event.source,
        finding: asked.review,
        by: asked.by.trim().to_owned(),
        comment: asked.comment.map(|c| c.replace("\r\n", "\n").trim().to_owned()).filter(|c| !c.is_empty()),
        replaces: asked.replaces,
    };
    new.check().map_err(|e| Problem::bad(e.to_string()))?;
    if !view.may_review() {
        let why = format!("{MOST} reviews in a minute were taken already; wait a little");
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, why));
    }
    let (answer, answered) = oneshot::channel();
    // Nobody waits any more when this fails.
    let taken = view.controls.review(new, log, move |done| drop(answer.send(done)));
    let unavailable = |why: &str| Problem::new(StatusCode::SERVICE_UNAVAILABLE, why);
    taken.map_err(|Busy| unavailable("the log is busy; judge again in a moment"))?;
    let slow = || {
        unavailable("the log does not answer; the review may still be written, and the page shows it then")
    };
    let done = tokio::time::timeout(WITHIN, answered).await.map_err(|_| slow())?.map_err(|_| slow())?;
    match done {
        Ok(review) => Ok((StatusCode::CREATED, Json(review)).into_response()),
        Err(error) => {
            let text = error.to_string();
            match error {
                ReviewError::Invalid(_) => Err(Problem::bad(text)),
                ReviewError::Overtaken(standing) => {
                    Ok((StatusCode::CONFLICT, Json(Overtaken { error: text, standing })).into_response())
                }
                ReviewError::Elsewhere => Err(Problem::new(StatusCode::GONE, text)),
                ReviewError::Log(_) => Err(unavailable(&format!("the review was not written: {text}"))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_stemmed_and_over_after_a_minute() {
        let mut pace = Pace::default();
        let mut taken = |second| (0..100).filter(|_| pace.take(Duration::from_secs(second))).count();
        assert_eq!((taken(5), taken(59), taken(65)), (60, 0, 60));
    }
}
