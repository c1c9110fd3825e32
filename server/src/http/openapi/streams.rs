//! Streams of server-sent events: OpenAPI 3.1 describes the body as a whole, so the schema of a stream
//! is that of one event, with its name, its id and its data.

use serde_json::{Map, Value, json};

use super::operations::operations;
use crate::domain::integrations::tenant_event::TenantEventKind;

/// Completes the streams of a document.
pub fn complete(document: &mut Value) {
    let Some(schemas) = document["components"]["schemas"].as_object_mut() else { return };
    let changes = name_parts(
        schemas,
        "TenantEventView",
        &[
            "ExecutionEventData",
            "JobEventData",
            "AgentEventData",
            "ApprovalEventData",
            "AgentRefusedEventData",
            "AlertEventData",
            "AlertRuleEventData",
        ],
    );
    let live =
        name_parts(schemas, "LiveEventView", &["OutputEvent", "RemovedEvent", "ResultEvent"]);
    schemas.insert(
        "EmptyData".into(),
        json!({"type": "object", "additionalProperties": false,
        "description": "No data."}),
    );
    let empty = "EmptyData".to_owned();
    let audit = ["AuditEntryView".to_owned(), empty.clone()];
    let audit = add_events(schemas, ["entry", "ready"].into_iter().zip(audit));
    let kinds = TenantEventKind::ALL.map(TenantEventKind::as_str);
    let names = kinds.into_iter().chain(["ready", "reset"]);
    let data = changes.into_iter().chain([empty.clone(), empty]);
    let changes = add_events(schemas, names.zip(data));
    let live = add_events(schemas, ["output", "removed", "result"].into_iter().zip(live));
    if let Some(agent) = schemas.get_mut("AgentEventData") {
        agent["properties"]["status"] = json!({"$ref": "#/components/schemas/AgentStatus"});
    }
    if let Some(alert) = schemas.get_mut("AlertEventData") {
        alert["properties"]["state"] = json!({"type": "string", "enum": ["open", "resolved"]});
    }
    if let Some(job) = schemas.get_mut("JobEventData") {
        job["properties"]["counts"] = json!({"$ref": "#/components/schemas/StateCounts"});
    }
    if let Some(output) = schemas.get_mut("OutputEvent") {
        output["properties"]["stream"] = json!({"type": "string", "enum": ["stdout", "stderr"]});
    }
    for operation in operations(document) {
        let schema = match operation["operationId"].as_str() {
            Some("follow_audit") => &audit,
            Some("follow_events") => &changes,
            Some("follow_output") => &live,
            _ => continue,
        };
        operation["responses"]["200"]["content"]["text/event-stream"] = json!({"schema": schema});
    }
}

/// Gives the parts of a schema names of their own, and removes the schema.
fn name_parts(schemas: &mut Map<String, Value>, schema: &str, names: &[&str]) -> Vec<String> {
    let parts = schemas.remove(schema).unwrap_or_default();
    let parts = parts["oneOf"].as_array().cloned().unwrap_or_default();
    for (name, part) in names.iter().zip(parts) {
        if part.get("$ref").is_none() {
            schemas.insert((*name).to_owned(), part);
        }
    }
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Adds a schema for each event, and returns the choice between them.
fn add_events<'a>(
    schemas: &mut Map<String, Value>,
    events: impl Iterator<Item = (&'a str, String)>,
) -> Value {
    let mut choice = Vec::new();
    for (event, data) in events {
        let words = event.split('_').map(|word| {
            let (first, rest) = word.split_at(1);
            format!("{}{rest}", first.to_uppercase())
        });
        let name = format!("{}StreamEvent", words.collect::<String>());
        choice.push(json!({"$ref": format!("#/components/schemas/{name}")}));
        let data = format!("#/components/schemas/{data}");
        let schema = json!({
            "type": "object",
            "description": format!("An event `{event}` of a stream."),
            "required": ["event", "id", "data"],
            "properties": {
                "event": {"type": "string", "const": event},
                "id": {"type": "string", "description": "For `Last-Event-ID`."},
                // On the wire, the data of an event is always a text.
                "data": {"type": "string", "contentMediaType": "application/json",
                    "contentSchema": {"$ref": data}},
            },
        });
        schemas.insert(name, schema);
    }
    json!({"oneOf": choice})
}
