//! Examples of requests and answers. They are taken from a test run, which checks that they are current.

use std::sync::LazyLock;

use serde_json::{Value, json};

/// `{operation: {"request": …, "status": "200", "content_type": …, "response": …}}`
static EXAMPLES: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("examples.json")).unwrap_or_default());

/// Adds the examples of an operation.
pub fn add(name: &str, operation: &mut Value) {
    let example = &EXAMPLES[name];
    if let Some(request) = example.get("request") {
        operation["requestBody"]["content"]["application/json"]["example"] = request.clone();
    }
    let (Some(status), Some(kind)) = (example["status"].as_str(), example["content_type"].as_str())
    else {
        return;
    };
    let content = operation.pointer_mut(&format!("/responses/{status}/content"));
    if let Some(content) = content.and_then(|content| content.get_mut(kind)) {
        // The example of a stream is its text; the schema describes one event of it.
        let shown = match kind {
            "text/event-stream" => ("x-example", example["response"].clone()),
            _ => ("example", example["response"].clone()),
        };
        content[shown.0] = json!(shown.1);
    }
}
