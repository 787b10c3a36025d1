//! The API described for programs: `GET /api/v1/openapi.json`, OpenAPI 3.1, from the same types that are answered. Its
//! version is that of the log's schema.

use axum::Json;
use utoipa::OpenApi;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{InfoBuilder, RefOr, Schema};

use super::{api, bundle, detail, pictures, reviews, spectra};
use crate::flaglog::Finding;
use crate::flaglog::record::SCHEMA;

/// What is answered below `/api/v1`, and to who watches the box. The page's own addresses are not part of it.
#[derive(OpenApi)]
#[openapi(paths(
    openapi,
    api::alive,
    api::ready,
    api::metrics,
    api::about,
    api::sources,
    api::source,
    api::history,
    api::map,
    api::live,
    api::events,
    pictures::picture,
    detail::event,
    detail::evidence,
    bundle::bundle,
    spectra::beside,
    reviews::review,
))]
struct Description;

/// A verdict, as a filter names it.
#[derive(utoipa::ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code)]
pub(super) enum Verdict {
    Clear,
    Unsure,
    Synthetic,
}

/// The findings that a review may have.
pub(super) fn finding() -> RefOr<Schema> {
    let all = [Finding::Confirmed, Finding::FalseAlarm, Finding::Withdrawn].map(Finding::as_str);
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(all)).build().into()
}

/// The description.
pub(super) fn description() -> utoipa::openapi::OpenApi {
    let mut all = Description::openapi();
    all.info = InfoBuilder::new().title("spotd").version(SCHEMA.to_string()).build();
    all
}

/// `GET /api/v1/openapi.json`
#[utoipa::path(get, path = "/api/v1/openapi.json", responses((status = 200, description = "This description", body = Object)))]
pub(super) async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(description())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let routes =
            include_str!("api.rs").split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next());
        let page = ["/", "/login", "/logout"];
        let wanted: std::collections::BTreeSet<&str> = routes.filter(|route| !page.contains(route)).collect();
        let all = description();
        let described: std::collections::BTreeSet<&str> =
            all.paths.paths.keys().map(String::as_str).collect();
        assert!(wanted.len() > 15, "{wanted:?}");
        assert_eq!(wanted, described);
        assert_eq!(all.info.version, SCHEMA.to_string());
    }
}
