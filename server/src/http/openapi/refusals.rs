//! Error responses that follow from the inputs of an operation: a credential, a body, a query, an
//! id. They are defined here once, as the extractors refuse them. Other errors are documented at
//! their handlers.

use serde_json::{Value, json};
use utoipa::Modify;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::{Content, OpenApi, PathItem, Ref, RefOr, Response};

/// The media type of every error response.
const PROBLEM_JSON: &str = "application/problem+json";
const JSON: &str = "application/json";

/// What each status of a refusal means, in every operation.
const MEANINGS: [(&str, &str); 14] = [
    ("400", "The query, a header or the body cannot be read. `errors` names the parameter."),
    ("401", "No key was sent, or the key is not valid."),
    ("403", "The key does not have the scope that this operation needs."),
    ("404", "There is no such resource in this tenant."),
    ("405", "This path does not support this method."),
    ("409", "The current state does not permit this. `code` says why."),
    ("410", "It existed and is gone. `code` says why."),
    ("413", "The body is too large."),
    ("415", "The body has another content type than this operation accepts."),
    ("416", "The range starts behind the end of the output."),
    (
        "422",
        "A field of the body is invalid, or a number is out of its bounds. `errors` names the field.",
    ),
    ("429", "The key has too much in progress. Try again after `Retry-After` seconds."),
    ("503", "The server cannot answer now. Try again after `Retry-After` seconds."),
    ("504", "The agent did not reply in time. The command may still have been carried out."),
];

/// What a status of a refusal means; `None` if it is none.
pub fn meaning(status: &str) -> Option<&'static str> {
    MEANINGS.iter().find(|(known, _)| *known == status).map(|(_, meaning)| *meaning)
}

/// The headers that come with a refusal.
pub fn headers(status: &str) -> Option<Value> {
    match status {
        "401" => Some(json!({"WWW-Authenticate": {
            "description": "The scheme to authenticate with.",
            "schema": {"type": "string", "const": "Bearer"},
        }})),
        "429" | "503" => Some(json!({"Retry-After": {
            "description": "Seconds to wait before the next try.",
            "schema": {"type": "integer", "minimum": 0},
        }})),
        _ => None,
    }
}

/// Adds these responses to every operation of a document.
pub struct Refusals;

impl Modify for Refusals {
    fn modify(&self, document: &mut OpenApi) {
        for item in document.paths.paths.values_mut() {
            let PathItem { get, put, post, delete, patch, .. } = item;
            for operation in [get, delete].into_iter().flatten() {
                let takes_body = operation.request_body.is_some();
                add(operation, takes_body);
            }
            for operation in [put, post, patch].into_iter().flatten() {
                add(operation, true);
            }
        }
    }
}

fn add(operation: &mut Operation, takes_body: bool) {
    let mut statuses = Vec::new();
    // Without its own security an operation has the document's: an API key.
    if operation.security.is_none() {
        statuses.extend(["401", "403", "429", "503"]);
    }
    let parameters = || operation.parameters.iter().flatten();
    if parameters().any(|parameter| is_in(parameter, &ParameterIn::Query)) {
        statuses.push("400");
    }
    // Elsewhere `after` is a position in a list.
    let is_link = operation.operation_id.as_deref() == Some("verify_audit");
    if is_link || parameters().any(is_bounded) {
        statuses.push("422");
    }
    if parameters().any(|parameter| is_in(parameter, &ParameterIn::Path)) {
        statuses.push("404");
    }
    // If no body is described, an empty object is accepted.
    let is_json = match &operation.request_body {
        Some(RefOr::T(body)) => body.content.contains_key(JSON),
        _ => true,
    };
    if takes_body && is_json {
        statuses.extend(["400", "413", "415", "422"]);
    }
    for status in statuses {
        let responses = &mut operation.responses.responses;
        responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(Response::default()));
    }
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && status.starts_with(['4', '5'])
        {
            let problem = Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem"))));
            response.content.clear();
            response.content.insert(PROBLEM_JSON.to_owned(), problem.into());
        }
    }
}

/// True for numbers of the query.
fn is_bounded(parameter: &RefOr<Parameter>) -> bool {
    const NAMES: [&str; 5] = ["count", "from_bytes", "limit", "offset_bytes", "wait_ms"];
    matches!(parameter, RefOr::T(parameter) if NAMES.contains(&parameter.name.as_str()))
}

fn is_in(parameter: &RefOr<Parameter>, place: &ParameterIn) -> bool {
    matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == *place)
}
