//! Two tenants on one server: neither sees, names or reaches anything of the other.

use muster_tests::{
    ALL, Api, FakeAgent, Fixture, JsonFields as _, LiveStream, eventually, on_both_databases,
};
use serde_json::{Value, json};
use uuid::Uuid;

on_both_databases!(
    no_list_filter_target_or_repeated_request_reaches_another_tenant,
    event_stream_shows_nothing_of_another_tenant_from_any_event_on,
    agent_key_reaches_no_command_of_another_tenant,
    owner_of_a_tenant_has_no_right_over_the_server,
);

/// What one tenant has.
struct Belongings {
    agent: FakeAgent,
    agent_id: String,
    agent_key: String,
    job: String,
    execution: String,
}

/// An agent with a job that it was sent.
async fn belongings(fixture: &Fixture, api: &Api, name: &str) -> Belongings {
    let (_, agent_key) = api.agent_key(json!({"permissions": ALL})).await;
    let mut agent = FakeAgent::registered(&fixture.server.address(), &agent_key, name).await;
    let agents = api.get("/api/agents").await.expect(200);
    assert_eq!(agents["items"].as_array().map(Vec::len), Some(1), "{agents}");
    let agent_id = agents["items"][0].id().to_owned();
    let body = json!({"script": "deploy", "target": {"ids": [agent_id]}});
    let job = api.post_once("/api/jobs", "the same key", body).await.expect(202).id().to_owned();
    let execution = agent.expect("command").await.text("command_id").to_owned();
    Belongings { agent, agent_id, agent_key, job, execution }
}

async fn no_list_filter_target_or_repeated_request_reaches_another_tenant(fixture: Fixture) {
    let other_api = fixture.other_tenant().await;
    let one = belongings(&fixture, &fixture.api, "one").await;
    // The same idempotency key was used by the other tenant, for another request.
    let other = belongings(&fixture, &other_api, "other").await;
    assert_ne!(one.job, other.job);
    let Belongings { agent_id, job, execution, .. } = &one;
    for path in [
        format!("/api/commands?agent_id={agent_id}"),
        format!("/api/executions?agent_id={agent_id}"),
        format!("/api/executions?job_id={job}"),
        format!("/api/webhooks/deliveries?job_id={job}"),
        "/api/agents/connected?name=one".to_owned(),
    ] {
        let page = other_api.get(&path).await.expect(200);
        assert_eq!(page["items"], json!([]), "{path}: {page}");
        // A cursor that is an id of another tenant is a place in the own list.
        let page = other_api.get(&format!("{path}&cursor={execution}")).await;
        let text = String::from_utf8_lossy(&page.bytes).into_owned();
        assert!(!text.contains(agent_id) && !text.contains(job), "{path}: {text}");
    }
    for path in [
        "/api/agents",
        "/api/commands",
        "/api/executions",
        "/api/jobs",
        "/api/audit",
        "/api/agents/keys",
        "/api/keys",
        "/api/groups",
        "/api/webhooks/deliveries",
    ] {
        for cursor in [String::new(), format!("&cursor={job}"), format!("&cursor={}", Uuid::max())]
        {
            let answer = other_api.get(&format!("{path}?limit=500{cursor}")).await;
            let text = String::from_utf8_lossy(&answer.bytes).into_owned();
            for id in [agent_id, job, execution] {
                assert!(!text.contains(id.as_str()), "{path} shows {id}: {text}");
            }
        }
    }
    let target = json!({"ids": [agent_id]});
    let preview = other_api.post("/api/targets/preview", target.clone()).await;
    let text = String::from_utf8_lossy(&preview.bytes).into_owned();
    assert!(!text.contains("\"one\""), "{text}");
    let body = json!({"script": "deploy", "target": target});
    let refused = other_api.post("/api/jobs", body).await;
    assert_eq!(refused.status, 422, "{}", refused.json());
    let resolved = other_api.get("/api/agents/resolve?name=one").await;
    assert_eq!(resolved.status, 404, "{}", resolved.json());
    // What belongs to the caller is there.
    let own = other_api.get(&format!("/api/jobs/{}", other.job)).await.expect(200);
    assert_eq!(own.id(), other.job);
    drop((one.agent, other.agent));
}

async fn event_stream_shows_nothing_of_another_tenant_from_any_event_on(fixture: Fixture) {
    let other_api = fixture.other_tenant().await;
    let mut own = LiveStream::open(&fixture.api, "/api/events", "").await.expect("a stream");
    let mut one = belongings(&fixture, &fixture.api, "one").await;
    let event = loop {
        let event = own.next().await.expect("an event");
        if !event.id.is_empty() && event.data.to_string().contains(&one.job) {
            break event;
        }
    };
    // From the start, from an event of the other tenant, and from the one before all.
    let mut streams = Vec::new();
    for last_event_id in ["", &event.id, "0"] {
        if let Ok(stream) = LiveStream::open(&other_api, "/api/events", last_event_id).await {
            streams.push(stream);
        }
    }
    assert!(!streams.is_empty());
    let id = one.execution.clone();
    one.agent.send(json!({"type": "response", "command_id": id, "success": true})).await;
    fixture.api.finished(&one.execution).await;
    let other = belongings(&fixture, &other_api, "other").await;
    for mut stream in streams {
        loop {
            let event = stream.next().await.expect("an event");
            let text = event.data.to_string();
            for id in [&one.agent_id, &one.job, &one.execution] {
                assert!(!text.contains(id.as_str()), "{text}");
            }
            if text.contains(&other.job) {
                break;
            }
        }
    }
}

async fn agent_key_reaches_no_command_of_another_tenant(fixture: Fixture) {
    let other_api = fixture.other_tenant().await;
    let one = belongings(&fixture, &fixture.api, "one").await;
    let mut other = belongings(&fixture, &other_api, "other").await;
    let report = json!({"type": "response", "command_id": one.execution, "success": true});
    other.agent.send(report).await;
    other.agent.send(json!({"type": "heartbeat", "status": {}})).await;
    eventually("the report was read", async || {
        let frame = other.agent.next().await.expect("a frame");
        (frame["type"] == "heartbeat_ack").then_some(())
    })
    .await;
    assert_eq!(fixture.api.command(&one.execution).await["state"], "delivered");
    // Over HTTP, for a key that has no session yet.
    let (_, key) = other_api.agent_key(json!({})).await;
    let agent = fixture.api.with_key(&key);
    let body = json!({"command_id": one.execution, "result": {"success": true}});
    agent.post("/api/agents/result", body).await.expect_problem(404, "unknown_command");
    assert_eq!(fixture.api.command(&one.execution).await["state"], "delivered");
    let path = format!("/api/agents/desired-release?agent_id={}", one.agent_id);
    fixture.api.with_key(&other.agent_key).get(&path).await.expect_problem(409, "no_release");
}

async fn owner_of_a_tenant_has_no_right_over_the_server(fixture: Fixture) {
    let other_api = fixture.other_tenant().await;
    other_api.get("/metrics").await.expect_problem(403, "missing_scope");
    let release = json!({"manifest": "", "signature": ""});
    other_api.post("/api/releases", release).await.expect_problem(403, "missing_scope");
    for scope in ["metrics:read", "releases:manage"] {
        let body = json!({"name": "k", "role": "owner", "scopes": [scope]});
        other_api.post("/api/keys", body).await.expect_problem(403, "scope_not_held");
    }
    // The operator's right is in no default, even of a key that the operator creates.
    let made: Value =
        fixture.api.post("/api/keys", json!({"name": "k", "role": "owner"})).await.expect(201);
    fixture
        .api
        .with_key(made.text("key"))
        .get("/metrics")
        .await
        .expect_problem(403, "missing_scope");
    let body = json!({"name": "prometheus", "role": "admin", "scopes": ["metrics:read"]});
    let made = fixture.api.post("/api/keys", body).await.expect(201);
    let answer = fixture.api.with_key(made.text("key")).get("/metrics").await;
    assert_eq!(answer.status, 200);
}
