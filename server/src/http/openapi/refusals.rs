//! Error responses that follow from the inputs of an operation: a credential, a body, a query, an
//! id. They are defined here once, as the extractors refuse them. Other errors are documented at
//! their handlers.

use utoipa::Modify;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::{Content, OpenApi, PathItem, Ref, RefOr, Response};

/// The media type of every error response.
const PROBLEM_JSON: &str = "application/problem+json";
const JSON: &str = "application/json";

/// Adds these responses to every operation of a document.
pub struct Refusals;

impl Modify for Refusals {
    fn modify(&self, document: &mut OpenApi) {
        for item in document.paths.paths.values_mut() {
            let PathItem { get, put, post, delete, patch, .. } = item;
            for operation in [get, delete].into_iter().flatten() {
                add(operation, false);
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

fn is_in(parameter: &RefOr<Parameter>, place: &ParameterIn) -> bool {
    matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == *place)
}
