//! Examples of requests and answers. They are taken from a test run, which checks that they are current.

use std::sync::LazyLock;

use muster_protocol::frame::exchange;
use serde_json::Value;

/// `{operation: {"query": …, "request": …, "status": "200", "content_type": …, "response": …, "location": …}}`
static EXAMPLES: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("examples.json")).unwrap_or_default());

/// Adds the examples of an operation.
pub fn add(name: &str, operation: &mut Value) {
    let example = &EXAMPLES[name];
    let content = operation.pointer_mut("/requestBody/content").and_then(Value::as_object_mut);
    if let (Some(request), Some(content)) = (example.get("request"), content) {
        for (kind, content) in content {
            content[field_of(kind)] = request.clone();
        }
    }
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        let given = parameter["name"].as_str().and_then(|name| example["query"].get(name));
        if let Some(value) = given {
            parameter["example"] = value.clone();
        }
    }
    let (Some(status), Some(kind)) = (example["status"].as_str(), example["content_type"].as_str())
    else {
        return;
    };
    let location = operation.pointer_mut(&format!("/responses/{status}/headers/Location"));
    if let (Some(value), Some(header)) = (example.get("location"), location) {
        header["example"] = value.clone();
    }
    let content = operation.pointer_mut(&format!("/responses/{status}/content"));
    if let Some(content) = content.and_then(|content| content.get_mut(kind)) {
        content[field_of(kind)] = example["response"].clone();
    }
}

/// The example of a stream is its text, while the schema describes one event of it; that of an exchange is
/// in base64, while the schema describes bytes.
fn field_of(kind: &str) -> &'static str {
    match kind {
        "text/event-stream" | exchange::CONTENT_TYPE => "x-example",
        _ => "example",
    }
}
