//! One rule for numbers that are out of bounds: 422 `invalid_field`, with the field and the bound in `errors`,
//! in a query as in a body. The OpenAPI document says which numbers have bounds.

use muster_tests::{Api, FakeAgent, Fixture, JsonFields as _};
use reqwest::Method;
use serde_json::{Value, json};

use crate::library::signed_packages::{own_package, push};

/// A number of a request that has bounds.
#[derive(Debug)]
struct Bounded {
    method: Method,
    path: String,
    /// In the query; otherwise in the body.
    is_query: bool,
    /// The path of the field, such as `rollout.wave_size`.
    field: String,
    least: Option<u64>,
    most: Option<u64>,
}

/// The numbers with bounds in all operations of the document.
fn bounded(document: &Value) -> Vec<Bounded> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let method: Method = method.to_uppercase().parse().expect("a method");
            let mut fields = Vec::new();
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let name = parameter.text("name");
                if parameter["in"] == "query" {
                    numbers(document, &parameter["schema"], name, true, &mut fields);
                }
            }
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            numbers(document, body, "", false, &mut fields);
            found.extend(fields.into_iter().map(|(field, is_query, least, most)| {
                let (method, path) = (method.clone(), path.clone());
                Bounded { method, path, is_query, field, least, most }
            }));
        }
    }
    found
}

type Field = (String, bool, Option<u64>, Option<u64>);

fn numbers(document: &Value, schema: &Value, field: &str, is_query: bool, into: &mut Vec<Field>) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap_or_default();
        let schema = &document["components"]["schemas"][name];
        return numbers(document, schema, field, is_query, into);
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        for schema in schema[choice].as_array().into_iter().flatten() {
            numbers(document, schema, field, is_query, into);
        }
    }
    // Fields of other types do not count: a negative number is none that they can hold.
    let (least, most) =
        (schema["minimum"].as_u64().filter(|least| *least > 0), schema["maximum"].as_u64());
    let is_known = into.iter().any(|(known, ..)| known == field);
    if (least.is_some() || most.is_some()) && !is_known {
        into.push((field.to_owned(), is_query, least, most));
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let field = if field.is_empty() { name.clone() } else { format!("{field}.{name}") };
        numbers(document, schema, &field, is_query, into);
    }
}

fn job(agent: &str, field: &str) -> Value {
    let gate = json!({"online": true, "within_ms": 60_000, "for_ms": 0});
    let rollout = match field.contains("health_gate") {
        true => json!({"wave_size": 1, "health_gate": gate}),
        false => json!({"wave_size": 1}),
    };
    json!({"script": "deploy", "target": {"ids": [agent]}, "rollout": rollout})
}

/// A valid body of the operation, which has the object that the field is in.
fn body(bounded: &Bounded, agent: &str) -> Value {
    match (bounded.path.as_str(), bounded.field.as_str()) {
        ("/api/agents/keys" | "/api/keys" | "/api/approvals/rules", _) => json!({"name": "bounds"}),
        ("/api/schedules", field) => {
            let rule = match field.starts_with("rule.") {
                true => json!({}),
                false => json!({"every_ms": 60_000}),
            };
            json!({"name": "bounds", "rule": rule, "job": job(agent, field)})
        }
        ("/api/hooks", field) => {
            json!({"name": "bounds", "authentication": "bearer", "job": job(agent, field)})
        }
        ("/api/hooks/{id}", field) if field.starts_with("job.") => {
            json!({"job": job(agent, field)})
        }
        ("/api/schedules/preview", "count") => json!({"rule": {"every_ms": 60_000}}),
        ("/api/schedules/preview", _) => json!({"rule": {}}),
        ("/api/schedules/{id}", field) if field.starts_with("rule.") => json!({"rule": {}}),
        ("/api/schedules/{id}", field) if field.starts_with("job.") => {
            json!({"job": job(agent, field)})
        }
        ("/api/groups", _) => json!({"name": "bounds", "target": {"tags": ["bounds"]}}),
        ("/api/agents/{id}/command" | "/api/agents/keys/{id}/command", "wait_ms") => {
            json!({"command": "echo"})
        }
        ("/api/agents/{id}/command" | "/api/agents/keys/{id}/command", _) => {
            json!({"command": "execute", "data": {"script": "deploy"}})
        }
        ("/api/assignments", "schedule.every_ms") => json!({"name": "bounds",
            "script": "library:disk", "target": {"tags": ["bounds"]}, "schedule": {}}),
        ("/api/assignments", _) => json!({"name": "bounds", "script": "package:tick@1",
            "target": {"tags": ["bounds"]}, "rollout": {"wave_size": 1}}),
        ("/api/assignments/{id}", _) => {
            json!({"script": "package:tick@2", "rollout": {"wave_size": 1}})
        }
        ("/api/integrations", _) => json!({"kind": "slack", "name": "bounds",
            "event_types": ["job.failed"], "settings": {"url": "https://hooks.invalid/x"}}),
        ("/api/scripts", _) => json!({"name": "bounds", "body": "true\n", "interpreter": "sh"}),
        ("/api/scripts/{id}/versions", _) => json!({"body": "true\n", "interpreter": "sh"}),
        ("/api/files", _) => json!({"name": "bounds", "sha256": "0".repeat(64)}),
        ("/api/jobs" | "/api/jobs/preview", "file.bytes") => {
            let file = json!({"path": "/srv/a", "sha256": "0".repeat(64)});
            json!({"script": "file:push", "file": file, "target": {"ids": [agent]}})
        }
        ("/api/jobs" | "/api/jobs/preview", field) => job(agent, field),
        _ => json!({}),
    }
}

#[tokio::test]
async fn number_out_of_its_bounds_is_refused_by_one_rule_in_every_operation() {
    let fixture = Fixture::on_sqlite().await;
    let (key_id, key) = fixture.api.agent_key(json!({"permissions": muster_tests::ALL})).await;
    let _agent = FakeAgent::registered(&fixture.server.address(), &key, "one").await;
    let agent = fixture.online(&key_id).await.id().to_owned();
    let command = fixture.api.execute_anyway(&agent, json!({"script": "deploy"})).await;
    let file = json!({"name": "bounds", "sha256": "1".repeat(64), "bytes": 1});
    let file = fixture.api.post("/api/files", file).await.expect(201);
    let group = json!({"name": "web", "target": {"tags": ["web"]}});
    let group = fixture.api.post("/api/groups", group).await.expect(201).id().to_owned();
    let job = json!({"script": "deploy", "target": {"ids": [agent]}});
    let schedule = json!({"name": "nightly", "rule": {"every_ms": 3_600_000}, "job": job});
    let schedule = fixture.api.post("/api/schedules", schedule).await.expect(201).id().to_owned();
    let hook = json!({"name": "deploys", "authentication": "bearer",
        "job": {"script": "deploy", "target": {"ids": [agent]}}});
    let hook = fixture.api.post("/api/hooks", hook).await.expect(201).id().to_owned();
    let api_key = fixture.api.post("/api/keys", json!({"name": "ci", "role": "member"})).await;
    let api_key = api_key.expect(201).id().to_owned();
    let integration = json!({"kind": "slack", "name": "chat", "event_types": ["job.failed"],
        "settings": {"url": "https://hooks.invalid/x"}});
    let integration = fixture.api.post("/api/integrations", integration).await.expect(201);
    let script = json!({"name": "disk", "body": "df\n", "interpreter": "sh"});
    let script = fixture.api.post("/api/scripts", script).await.expect(201).id().to_owned();
    for version in ["1", "2"] {
        let kind = "kind = \"task\"\n[schedule]\ncron = \"0 0 1 1 *\"";
        push(&fixture, &own_package(&fixture, "tick", version, "true\n", kind)).await;
    }
    let assignment =
        json!({"name": "ticks", "script": "package:tick@1", "target": {"tags": ["bounds"]}});
    let assignment = fixture.api.post("/api/assignments", assignment).await.expect(201);
    let (_, basic) = fixture.api.agent_key(json!({})).await;
    let basic = fixture.api.with_key(&basic);

    let document = fixture.api.get("/openapi.json").await.expect(200);
    let all = bounded(&document);
    assert!(all.len() > 40, "{all:?}");
    assert!(all.iter().any(|one| one.is_query) && all.iter().any(|one| !one.is_query));
    let mut wrong = Vec::new();
    for one in &all {
        let is_link = one.path == "/api/agents/poll";
        let api: &Api = if is_link { &basic } else { &fixture.api };
        let id = match one.path.split('/').nth(2) {
            Some("agents") if one.path.starts_with("/api/agents/keys") => &key_id,
            Some("agents") => &agent,
            Some("groups") => &group,
            Some("schedules") => &schedule,
            Some("hooks") => &hook,
            Some("integrations") => integration.id(),
            Some("scripts") => &script,
            Some("keys") => &api_key,
            Some("files") => file.id(),
            Some("assignments") => assignment.id(),
            _ => &command,
        };
        let path = one.path.replace("{id}", id);
        let below = one.least.map(|least| (least - 1, "too_small", least));
        let above = one.most.map(|most| (most + 1, "too_large", most));
        for (value, code, limit) in below.into_iter().chain(above) {
            let answer = if one.is_query {
                // What the request needs beside: the other version of two, or the text of a search.
                let more = match (path.rsplit('/').next(), one.field.as_str()) {
                    (Some("diff"), "from") => "&to=1",
                    (Some("diff"), _) => "&from=1",
                    (Some("search"), _) => "&q=x",
                    _ => "",
                };
                let path = format!("{path}?{}={value}{more}", one.field);
                api.send(one.method.clone(), &path, None).await
            } else {
                let mut body = body(one, &agent);
                let pointer = format!("/{}", one.field.replace('.', "/"));
                let (parent, name) = pointer.rsplit_once('/').expect("a field");
                let parent =
                    body.pointer_mut(parent).unwrap_or_else(|| panic!("extend `body`: {one:?}"));
                parent[name] = json!(value);
                api.send(one.method.clone(), &path, Some(body)).await
            };
            let shown = String::from_utf8_lossy(&answer.bytes).into_owned();
            let problem: Value = serde_json::from_slice(&answer.bytes).unwrap_or_default();
            let error = &problem["errors"][0];
            let is_named = error["field"] == one.field;
            let is_expected = error["code"] == code && error["limit"] == limit;
            let is_right = answer.status == 422 && problem["code"] == "invalid_field";
            if !is_right || !is_named || !is_expected {
                wrong.push(format!("{one:?} {value}: {} {shown}", answer.status));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
