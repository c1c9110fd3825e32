//! Every text of a request has a bound, a pattern, a format or a list of values in the OpenAPI document, and a
//! body is required exactly where the server refuses an empty one.

use std::collections::{BTreeMap, BTreeSet};

use muster_tests::{Fixture, JsonFields as _, repository};
use reqwest::Method;
use serde_json::{Map, Value};

/// Texts that only the size of the request bounds, and why. An entry without a dot or a question mark is a
/// whole schema.
const UNBOUNDED: [(&str, &str); 25] = [
    ("Attestation", "An agent reports it; one that is too long is not stored."),
    ("CallReport.data", "An agent reports it; one that is too long is not stored."),
    ("Registration", "An agent reports it; the server shortens it."),
    ("Response.error", "An agent reports it; the server shortens it."),
    ("Response.error_code", "An agent reports it; the server shortens it."),
    ("UpdateResult", "An agent reports it; the server shortens it."),
    ("complete_single_sign_on?code", "The provider decides about it."),
    ("complete_single_sign_on?iss", "The provider decides about it."),
    ("complete_single_sign_on?state", "Any text but the expected one is refused."),
    ("deliver_hook?Authorization", "A proof; any wrong one is refused with 401."),
    ("deliver_hook?Webhook-Signature", "A proof; any wrong one is refused with 401."),
    ("deliver_hook?Webhook-Timestamp", "A proof; any wrong one is refused with 401."),
    ("deliver_hook?X-GitHub-Event", "Any text is a valid name of an event."),
    ("deliver_hook?X-Hub-Signature-256", "A proof; any wrong one is refused with 401."),
    ("follow_events?Last-Event-ID", "Any unknown id gets the event `reset`."),
    ("follow_events?script", "Any text is valid, and may match no event."),
    ("list_connected_agents?name", "Any text is valid, and may match no agent."),
    ("list_packages?name", "Any text is valid, and may match no package."),
    ("read_execution_output?Range", "Any other value is ignored."),
    ("read_output?Range", "Any other value is ignored."),
    ("resolve_agent?name", "Any text is valid, and may match no agent."),
    ("send_file", "The bytes of a file; the server counts them."),
    ("upload_package", "The bytes of an archive; the server counts them."),
    ("upload_program", "The bytes of a program; their number is in the release."),
    ("exchange_frames", "Frames in a binary format."),
];

/// Collects the texts of a schema that have no bound.
struct Texts<'a> {
    schemas: &'a Map<String, Value>,
    seen: BTreeSet<String>,
    unbounded: BTreeSet<String>,
}

impl Texts<'_> {
    fn find(&mut self, place: &str, schema: &Value) {
        if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
            if self.seen.insert(name.to_owned()) {
                let schemas = self.schemas;
                self.find(name, &schemas[name]);
            }
            return;
        }
        for choice in ["oneOf", "anyOf", "allOf"] {
            for schema in schema[choice].as_array().into_iter().flatten() {
                self.find(place, schema);
            }
        }
        let is_text = match &schema["type"] {
            Value::Array(kinds) => kinds.contains(&Value::from("string")),
            kind => kind == "string",
        };
        let is_bounded = ["maxLength", "pattern", "enum", "const"]
            .iter()
            .any(|bound| schema.get(bound).is_some())
            || schema.get("format").is_some_and(|format| format != "binary");
        if is_text && !is_bounded {
            self.unbounded.insert(place.to_owned());
        }
        self.find_in(&format!("{place}[]"), &schema["items"]);
        self.find_in(&format!("{place}.*"), &schema["additionalProperties"]);
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            self.find(&format!("{place}.{name}"), schema);
        }
    }

    fn find_in(&mut self, place: &str, schema: &Value) {
        if schema.is_object() {
            self.find(place, schema);
        }
    }
}

fn operations(document: &Value) -> Vec<(Method, &str, &Value)> {
    let paths = document["paths"].as_object().expect("paths").iter();
    let all = paths.flat_map(|(path, item)| {
        let operations = item.as_object().expect("operations").iter();
        operations.map(move |(method, operation)| (method, path.as_str(), operation))
    });
    all.map(|(method, path, operation)| {
        (method.to_uppercase().parse().expect("a method"), path, operation)
    })
    .collect()
}

#[test]
fn every_text_of_a_request_has_a_bound_or_a_reason_to_have_none() {
    // Another test checks that the committed document is current.
    let file = repository().join("server/openapi.json");
    let document = std::fs::read_to_string(file).expect("read the document");
    let document: Value = serde_json::from_str(&document).expect("JSON");
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    let mut texts = Texts { schemas, seen: BTreeSet::new(), unbounded: BTreeSet::new() };
    for (_, _, operation) in operations(&document) {
        let name = operation.text("operationId");
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            texts.find(&format!("{name}?{}", parameter.text("name")), &parameter["schema"]);
        }
        let content = operation["requestBody"]["content"].as_object();
        for (_, content) in content.into_iter().flatten() {
            texts.find(name, &content["schema"]);
        }
    }
    let known = BTreeMap::from(UNBOUNDED);
    let entry = |place: &String| {
        let whole = place.split(['.', '[']).next().unwrap_or_default();
        [place.as_str(), whole]
            .into_iter()
            .find(|entry| known.contains_key(entry))
            .map(str::to_owned)
    };
    let unknown: Vec<_> = texts.unbounded.iter().filter(|place| entry(place).is_none()).collect();
    assert!(unknown.is_empty(), "describe what the server checks of these texts: {unknown:#?}");
    let used: BTreeSet<_> = texts.unbounded.iter().filter_map(entry).collect();
    let unused: Vec<_> = known.keys().filter(|entry| !used.contains(**entry)).collect();
    assert!(unused.is_empty(), "they have bounds: {unused:?}");
}

#[tokio::test]
async fn body_is_required_exactly_where_a_request_without_one_is_refused() {
    let fixture = Fixture::on_sqlite().await;
    let document = fixture.api.get("/openapi.json").await.expect(200);
    let mut wrong = Vec::new();
    for (method, path, operation) in operations(&document) {
        let body = &operation["requestBody"];
        if body["content"]["application/json"].is_null() {
            continue;
        }
        let concrete = path.replace("{id}", &uuid::Uuid::nil().to_string());
        let answer = fixture.api.send(method.clone(), &concrete, None).await;
        let is_refused = matches!(answer.status, 400 | 415 | 422);
        let is_wrong = match body["required"] == true {
            true => answer.status < 300,
            false => is_refused,
        };
        if is_wrong {
            let shown = String::from_utf8_lossy(&answer.bytes);
            wrong.push(format!("{method} {path}: {} {shown}", answer.status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn filter_for_a_script_is_checked_alike_in_the_lists_of_jobs_and_executions() {
    let fixture = Fixture::on_sqlite().await;
    for list in ["/api/jobs", "/api/executions"] {
        for wrong in ["", "two%20words"] {
            let answer = fixture.api.get(&format!("{list}?script={wrong}")).await;
            let problem = answer.expect_problem(400, "invalid_query");
            assert_eq!(problem["errors"][0]["field"], "script", "{list} {problem}");
        }
        fixture.api.get(&format!("{list}?script=library:disk-report")).await.expect(200);
    }
}
