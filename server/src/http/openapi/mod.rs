//! The OpenAPI document, made from the handlers, and the pages that show it.

mod refusals;

use axum::Router;
use axum::response::Redirect;
use axum::routing::get;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use self::refusals::Refusals;
use super::AppState;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Muster",
        description = "A self-hosted command bus for fleets. Authenticate with an API key as `Authorization: Bearer mst_live_…` or `x-api-key`. Errors are problem documents with a stable `code`. Lists are pages of `items` with a `next_cursor`.",
        license(name = "MIT OR Apache-2.0")
    ),
    security(("api_key" = [])),
    modifiers(&Credentials)
)]
struct Document;

struct Credentials;

impl Modify for Credentials {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme("api_key", scheme);
    }
}

pub(super) fn documented() -> OpenApiRouter<AppState> {
    let mut router = OpenApiRouter::with_openapi(Document::openapi())
        .merge(super::access::agent_keys::routes())
        .merge(super::fleet::agents::routes())
        .merge(super::commands::commands::routes())
        .merge(super::fleet::targets::routes())
        .merge(super::commands::jobs::routes())
        .merge(super::commands::executions::routes())
        .merge(super::integrations::webhooks::routes())
        .merge(super::releases::releases::routes())
        .merge(super::releases::groups::routes())
        .merge(super::commands::output::routes())
        .merge(super::commands::live_output::routes())
        .merge(super::integrations::events::routes())
        .merge(super::access::api_keys::routes())
        .merge(super::access::audit::routes())
        .merge(super::sessions::routes())
        .merge(super::operations::health::routes())
        .merge(super::operations::metrics::routes());
    Refusals.modify(router.get_openapi_mut());
    router
}

pub(super) fn pages<S: Clone + Send + Sync + 'static>(
    document: utoipa::openapi::OpenApi,
) -> Router<S> {
    // Who comes by the bare address is a person.
    let front = Router::new().route("/", get(async || Redirect::to("/docs")));
    front.merge(SwaggerUi::new("/docs").url("/openapi.json", document))
}

/// The document as it is committed beside the code.
///
/// # Errors
/// If the document can't be written as JSON.
pub fn document() -> Result<String, serde_json::Error> {
    let mut text = serde_json::to_string_pretty(documented().get_openapi())?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_document_is_current() {
        let committed = include_str!("../../../openapi.json");
        let current = super::document().expect("plain JSON");
        assert!(
            committed == current,
            "server/openapi.json is out of date: run `make openapi` and commit it"
        );
    }
}
