//! The OpenAPI document, made from the handlers, and the pages that show it.

mod completion;
mod examples;
mod fields;
mod named_schemas;
mod operations;
mod pages;
mod parameters;
mod refusals;
mod scopes;
mod shapes;
mod streams;
mod successes;

use muster_protocol::schema;
use serde_json::Value;
use utoipa::{Modify as _, OpenApi};
use utoipa_axum::router::OpenApiRouter;

pub(super) use self::pages::routes as pages;
use self::refusals::Refusals;
use super::AppState;

#[derive(OpenApi)]
#[openapi(info(
    title = "Muster",
    description = "A self-hosted command bus for fleets. Authenticate with an API key as `Authorization: Bearer mst_live_…` or `x-api-key`, or with an access token of `POST /api/auth/login`. Errors are problem documents with a stable `code`. Lists are pages of `items` with a `next_cursor`.",
    license(name = "MIT OR Apache-2.0")
))]
struct Document;

pub(super) fn documented() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(Document::openapi())
        .merge(super::access::keys::agent_keys::routes())
        .merge(super::fleet::agents::routes())
        .merge(super::commands::commands::routes())
        .merge(super::fleet::targets::routes())
        .merge(super::commands::jobs::routes())
        .merge(super::commands::executions::routes())
        .merge(super::integrations::webhooks::routes())
        .merge(super::integrations::integrations::routes())
        .merge(super::integrations::alerts::routes())
        .merge(super::releases::releases::routes())
        .merge(super::releases::groups::routes())
        .merge(super::library::scripts::routes())
        .merge(super::schedules::schedules::routes())
        .merge(super::schedules::hooks::routes())
        .merge(super::schedules::calendars::routes())
        .merge(super::commands::output::routes())
        .merge(super::commands::live_output::routes())
        .merge(super::commands::output_search::routes())
        .merge(super::integrations::events::routes())
        .merge(super::certificates::routes())
        .merge(super::access::keys::api_keys::routes())
        .merge(super::access::keys::api_key_changes::routes())
        .merge(super::access::audit::routes())
        .merge(super::access::explain::routes())
        .merge(super::commands::approvals::routes())
        .merge(super::commands::approval_rules::routes())
        .merge(super::commands::ladder::routes())
        .merge(super::access::audit_export::routes())
        .merge(super::access::people::setup::routes())
        .merge(super::access::tenants::administration::routes())
        .merge(super::operations::storage::routes())
        .merge(super::access::people::sign_in::routes())
        .merge(super::access::people::device_login::routes())
        .merge(super::access::people::oidc::routes())
        .merge(super::access::people::passkeys::routes())
        .merge(super::access::people::totp::routes())
        .merge(super::access::people::account::routes())
        .merge(super::access::people::identities::routes())
        .merge(super::access::people::members::routes())
        .merge(super::access::people::email_change::routes())
        .merge(super::access::people::invitations::routes())
        .merge(super::access::people::password_reset::routes())
        .merge(super::access::people::registration::routes())
        .merge(super::access::tenants::tenant_deletion::routes())
        .merge(super::access::tenants::tenant_export::routes())
        .merge(super::sessions::routes())
        .merge(super::operations::health::routes())
        .merge(super::operations::metrics::routes())
}

/// The OpenAPI document as JSON.
fn described() -> serde_json::Result<Value> {
    let (_, mut document) = documented().split_for_parts();
    Refusals.modify(&mut document);
    serde_json::to_value(document).map(completion::complete)
}

/// The document as it is committed beside the code.
///
/// # Errors
/// If the document can't be written as JSON.
pub fn document() -> serde_json::Result<String> {
    described().map(|document| text(&document))
}

/// The AsyncAPI document of the agent protocol, as it is committed beside the code.
pub fn asyncapi() -> String {
    text(&schema::asyncapi(env!("CARGO_PKG_VERSION")))
}

/// JSON Schema of every frame, as it is committed beside the code.
pub fn frame_schemas() -> String {
    text(&schema::frame_schemas())
}

fn text(document: &Value) -> String {
    format!("{document:#}\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_committed_documents_are_current() {
        let documents = [
            ("server/openapi.json", include_str!("../../../openapi.json"), document()),
            (
                "protocol/asyncapi.json",
                include_str!("../../../../protocol/asyncapi.json"),
                Ok(asyncapi()),
            ),
            (
                "protocol/frames.schema.json",
                include_str!("../../../../protocol/frames.schema.json"),
                Ok(frame_schemas()),
            ),
        ];
        for (path, committed, current) in documents {
            let current = current.expect("plain JSON");
            assert!(
                committed == current,
                "{path} is out of date: run `make openapi` and commit it"
            );
        }
    }

    #[test]
    fn every_answer_has_a_sentence_and_every_sentence_an_answer() {
        let mut document = described().expect("plain JSON");
        let mut answers = BTreeSet::new();
        for operation in operations::operations(&mut document) {
            let name = operation["operationId"].as_str().expect("an id").to_owned();
            for (status, response) in operation["responses"].as_object().expect("responses") {
                assert_ne!(response["description"], "", "{name} {status}");
                answers.insert((name.clone(), status.clone()));
            }
        }
        for (name, status) in successes::all() {
            assert!(answers.contains(&(name.to_owned(), status.to_owned())), "{name} {status}");
        }
    }

    #[test]
    fn every_operation_has_a_summary_a_description_refusals_and_says_who_may_call_it() {
        let mut document = described().expect("plain JSON");
        let of_all = document["security"].clone();
        for operation in operations::operations(&mut document) {
            let name = operation["operationId"].as_str().expect("an id").to_owned();
            for field in ["summary", "description"] {
                let text = operation[field].as_str().unwrap_or_default();
                assert!(!text.is_empty() && !text.contains("\n\n\n"), "{name} has no {field}");
            }
            assert!(!operation["summary"].as_str().unwrap_or_default().contains(". "), "{name}");
            let security = operation.get("security").unwrap_or(&of_all);
            let is_open = security.as_array().is_none_or(Vec::is_empty)
                || security[0] == serde_json::json!({});
            let refusals = operation["responses"].as_object().expect("responses");
            let refused = |status: &str| refusals.contains_key(status);
            assert!(is_open || refused("401"), "{name}: {security}");
        }
    }

    #[test]
    fn operation_ids_are_unique() {
        let mut document = described().expect("plain JSON");
        let mut names = BTreeSet::new();
        for operation in operations::operations(&mut document) {
            let name = operation["operationId"].as_str().expect("an id").to_owned();
            assert!(names.insert(name.clone()), "{name} is there twice");
        }
        assert!(names.len() > 50, "{}", names.len());
    }
}
