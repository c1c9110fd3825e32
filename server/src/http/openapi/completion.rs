//! What handlers cannot say about themselves by annotations: sentences of answers, bounds, patterns, and
//! the shape of values that are checked after they were read. Works on the document as JSON.

use muster_protocol::schema::shared_with_api;
use serde_json::{Map, Value, json};

use super::operations::operations;
use super::{examples, fields, parameters, refusals, scopes, streams, successes};

/// The document as it is served.
pub fn complete(mut document: Value) -> Value {
    document["info"]["license"]["identifier"] = document["info"]["license"]["name"].clone();
    document["servers"] = json!([{"url": "/", "description": "This server"}]);
    document["tags"] = tags();
    document["components"]["securitySchemes"] = security_schemes();
    document["security"] = json!([{"api_key": []}, {"api_key_header": []}, {"access_token": []}, {"access_cookie": []}]);
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        complete_schemas(schemas);
    }
    streams::complete(&mut document);
    let schemas = document["components"]["schemas"].clone();
    for operation in operations(&mut document) {
        complete_operation(operation, &schemas);
    }
    scopes::complete(&mut document);
    document
}

fn complete_schemas(schemas: &mut Map<String, Value>) {
    for (name, schema) in shared_with_api() {
        schemas.entry(name).or_insert(schema);
    }
    name_page_items(schemas);
    fields::complete(schemas);
}

/// Pages refer to the schema of their items, so that generated clients have one type for both.
fn name_page_items(schemas: &mut Map<String, Value>) {
    for (name, schema) in schemas {
        if let Some(item) = name.strip_prefix("PageView_") {
            let reference = format!("#/components/schemas/{item}");
            schema["properties"]["items"]["items"] = json!({"$ref": reference});
            schema["required"] = json!(["items", "next_cursor"]);
        }
    }
}

fn complete_operation(operation: &mut Value, schemas: &Value) {
    let name = operation["operationId"].as_str().unwrap_or_default().to_owned();
    if operation["tags"][0] == "agent link" {
        operation["security"] = json!([{"agent_key": []}]);
    }
    describe(operation);
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        parameters::complete(&name, parameter);
    }
    complete_body(&name, operation, schemas);
    if let Some(responses) = operation["responses"].as_object_mut() {
        for (status, response) in responses {
            complete_response(&name, status, response);
        }
    }
    examples::add(&name, operation);
}

/// Of a comment with one paragraph, the first sentence is the summary and the others are the description.
/// A single sentence is both, because some programs show only one of them.
fn describe(operation: &mut Value) {
    let Some(text) = operation["summary"].as_str().map(|text| text.replace('\n', " ")) else {
        return;
    };
    let (summary, rest) = match text.split_once(". ") {
        Some((first, rest)) => (format!("{first}."), Some(rest.to_owned())),
        None => (text, None),
    };
    let further = operation["description"].as_str().map(str::to_owned);
    let paragraphs: Vec<String> = rest.into_iter().chain(further).collect();
    operation["description"] = match paragraphs.is_empty() {
        true => json!(summary),
        false => json!(paragraphs.join("\n\n")),
    };
    operation["summary"] = json!(summary);
}

/// A body is required unless an empty object is valid, because no body means an empty object.
fn complete_body(name: &str, operation: &mut Value, schemas: &Value) {
    let Some(body) = operation.get_mut("requestBody") else { return };
    if let Some(schema) = fields::body_of(name) {
        body["content"]["application/json"]["schema"] = schema;
    }
    let content = body["content"].as_object_mut();
    for (kind, content) in content.into_iter().flatten() {
        if kind != "application/json" {
            *content = json!({"schema": {"type": "string", "format": "binary"}});
        }
    }
    let schema = &body["content"]["application/json"]["schema"];
    let schema = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next());
    let schema = schema.map_or(&Value::Null, |name| &schemas[name]);
    let may_be_empty = schema.is_object()
        && schema["required"].as_array().is_none_or(Vec::is_empty)
        && schema["minProperties"].is_null();
    body["required"] = json!(!may_be_empty);
}

fn complete_response(operation: &str, status: &str, response: &mut Value) {
    let sentence = successes::sentence(operation, status);
    let content = response.get_mut("content").and_then(Value::as_object_mut);
    for (_, content) in content.into_iter().flatten() {
        if content.get("schema").is_none() {
            *content = json!({"schema": {"type": "string", "format": "binary"}});
        }
    }
    response["description"] = json!(sentence.or(refusals::meaning(status)).unwrap_or_default());
    if let Some(headers) = refusals::headers(status) {
        response["headers"] = headers;
    }
    if successes::has_location(operation, status) {
        response["headers"] = json!({"Location": {
            "description": "The path of the resource.",
            "schema": {"type": "string"},
        }});
    }
}

fn tags() -> Value {
    json!([
        {"name": "agents", "description": "Agents and what they report."},
        {"name": "agent keys", "description": "Keys that agents enrol and connect with."},
        {"name": "agent link", "description": "For agents: sessions over HTTP."},
        {"name": "commands", "description": "Durable commands."},
        {"name": "executions", "description": "Runs of scripts, and their output."},
        {"name": "jobs", "description": "Scripts on many agents, at once or in waves."},
        {"name": "approvals", "description": "Work that waits for another person's approval."},
        {"name": "library", "description": "Scripts that the server keeps, and their versions."},
        {"name": "schedules", "description": "Jobs that start at due times."},
        {"name": "calendars", "description": "When work may start: freezes, exclusions and maintenance windows."},
        {"name": "hooks", "description": "Jobs that start when another program asks for it."},
        {"name": "integrations", "description": "Where events are sent: webhooks, chat, incidents, metrics and mail."},
        {"name": "alerts", "description": "Conditions on agents and their telemetry."},
        {"name": "targets", "description": "Which agents a target matches."},
        {"name": "groups", "description": "Agents that follow one version."},
        {"name": "releases", "description": "Signed versions of the programs for hosts."},
        {"name": "events", "description": "Changes as they happen."},
        {"name": "webhooks", "description": "Messages about finished jobs."},
        {"name": "API keys", "description": "Keys for this API."},
        {"name": "accounts", "description": "People, and how they sign in."},
        {"name": "tenants", "description": "Customers of this server, their plans and their limits."},
        {"name": "certificates", "description": "Certificates of agents, people and programs."},
        {"name": "audit", "description": "Who changed what."},
        {"name": "server", "description": "Metrics of the server."},
        {"name": "health", "description": "Checks without a key."},
    ])
}

fn security_schemes() -> Value {
    json!({
        "api_key": {"type": "http", "scheme": "bearer", "description": "An API key, `mst_live_…`."},
        "api_key_header": {"type": "apiKey", "in": "header", "name": "x-api-key",
            "description": "An API key, `mst_live_…`."},
        "access_token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT",
            "description": "The access token of a person who is signed in."},
        "access_cookie": {"type": "apiKey", "in": "cookie", "name": "__Host-muster_access",
            "description": "The same, for a browser. A request that changes something must come from a page of this server."},
        "agent_key": {"type": "http", "scheme": "bearer",
            "description": "An agent key, `mst_agent_…`."},
        "invitation": {"type": "http", "scheme": "bearer",
            "description": "The token of an invitation, `mst_invite_…`."},
        "password_reset": {"type": "http", "scheme": "bearer",
            "description": "The token for a new password, `mst_reset_…`."},
        "setup_token": {"type": "http", "scheme": "bearer",
            "description": "The token for the first owner, `mst_setup_…`."},
    })
}
