//! The API described for programs: `GET /api/v1/openapi.json`, OpenAPI 3.1, written by the test below from the same types
//! that are answered. Its version is that of the log's schema.

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use crate::built_in;

/// `GET /api/v1/openapi.json`
#[cfg_attr(test, utoipa::path(get, path = "/api/v1/openapi.json", responses((status = 200, description = "This description", body = Object))))]
pub(super) async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], built_in::API.bytes())
}

#[cfg(test)]
mod tests {
    use utoipa::OpenApi;
    use utoipa::openapi::path::Operation;
    use utoipa::openapi::security::{
        ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
    };
    use utoipa::openapi::{ContentBuilder, InfoBuilder, Ref, RefOr, ResponseBuilder};

    use super::super::{api, bundle, detail, events, guard, pictures, reviews, spectra};
    use super::*;
    use crate::flaglog::record::SCHEMA;

    /// What is answered below `/api/v1`, and to who watches the box. The page's own addresses are not part of it.
    #[derive(OpenApi)]
    #[openapi(
        paths(
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
        ),
        components(schemas(events::Judged))
    )]
    struct Description;

    /// The description.
    fn description() -> utoipa::openapi::OpenApi {
        let mut all = Description::openapi();
        all.info = InfoBuilder::new().title("spotd").version(SCHEMA.to_string()).build();
        guarded(&mut all);
        all
    }

    /// Adds what the guard answers in place of every operation, and what it asks for.
    fn guarded(all: &mut utoipa::openapi::OpenApi) {
        let problem = Ref::from_schema_name("Problem");
        let refusal = |why: &str| {
            let content = ContentBuilder::new().schema(Some(problem.clone())).build();
            RefOr::T(ResponseBuilder::new().description(why).content("application/json", content).build())
        };
        let misdirected = refusal("Asked by a name that is not this box's: see [web] names");
        let unknown = refusal("A token is needed: where the page is bound beyond this machine");
        for (path, item) in &mut all.paths.paths {
            let operations: [&mut Option<Operation>; 2] = [&mut item.get, &mut item.post];
            for operation in operations.into_iter().flatten() {
                let answers = &mut operation.responses.responses;
                answers.insert("421".into(), misdirected.clone());
                if path != guard::ALIVE {
                    answers.insert("401".into(), unknown.clone());
                }
            }
        }
        // None, or one of the two: on this machine alone no token is needed.
        let parts = all.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        parts.add_security_scheme("token", SecurityScheme::Http(bearer));
        let cookie = ApiKeyValue::with_description(guard::COOKIE, "What a login at /login gives");
        parts.add_security_scheme("login", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
        let none: [&str; 0] = [];
        all.security = Some(vec![
            SecurityRequirement::default(),
            SecurityRequirement::new("token", none),
            SecurityRequirement::new("login", none),
        ]);
    }

    /// `make openapi` writes it anew.
    #[test]
    fn the_file_describes_the_types_that_are_answered() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
        let written = format!("{}\n", description().to_pretty_json().expect("JSON"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &written).expect("written");
        }
        let file = std::fs::read_to_string(path).expect("readable");
        assert!(file == written, "docs/openapi.json differs: make openapi");
    }

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
        for (path, item) in &all.paths.paths {
            for operation in [&item.get, &item.post].into_iter().flatten() {
                let answers = &operation.responses.responses;
                assert!(answers.contains_key("421"), "{path}");
                assert_eq!(answers.contains_key("401"), path != "/healthz", "{path}");
            }
        }
    }
}
