//! Examples: jobs, executions and approvals.

use muster_tests::{JsonFields as _, eventually};
use reqwest::Method;
use serde_json::json;

use super::Recorder;

pub async fn jobs(run: &mut Recorder<'_>, id: &str) {
    let url = "https://hooks.invalid/muster";
    let body = json!({"script": "deploy", "target": {"ids": [id]}, "webhook": {"url": url}});
    run.post("/api/jobs/preview", body.clone()).await;
    let job = run.post("/api/jobs", body).await.id().to_owned();
    let path = format!("/api/jobs/{{id={job}}}");
    let page = run.get(&format!("{path}/executions")).await;
    let execution = page["items"][0].id().to_owned();
    let execution = format!("/api/executions/{{id={execution}}}");
    run.get(&format!("{execution}?wait_ms=60000")).await;
    run.get("/api/executions?state=failed&state=lost").await;
    run.get(&format!("{execution}/output")).await;
    run.get(&format!("{execution}/output/live?follow=false")).await;
    run.get(&format!("{execution}/output/search?q=deployed")).await;
    run.get(&format!("{execution}/output/times")).await;
    let command = execution.replace("executions", "commands");
    run.get(&format!("{command}?wait_ms=60000")).await;
    run.get(&format!("{command}/output")).await;
    run.get("/api/commands").await;
    run.get(&path).await;
    run.get("/api/jobs").await;
    run.post(&format!("{path}/retry"), json!({"executions": "failed"})).await;
    run.get("/api/certificates").await;
    let request = "-----BEGIN CERTIFICATE REQUEST-----\n…\n-----END CERTIFICATE REQUEST-----\n";
    run.post("/api/certificates", json!({ "request": request })).await;
    run.get("/api/certificates/status").await;
    run.get("/api/certificates/rollover").await;
    run.post("/api/certificates/rollover", json!({"action": "announce"})).await;
    let certificate = format!("/api/certificates/{{id={}}}", uuid::Uuid::now_v7());
    run.call(Method::DELETE, &certificate, None).await;
    run.post("/api/webhooks/secret", json!({"url": url})).await;
    let delivery = eventually("the webhook is stored", async || {
        let page = run.fixture.api.get("/api/webhooks/deliveries").await.expect(200);
        page["items"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    run.get("/api/webhooks/deliveries").await;
    let delivery = format!("/api/webhooks/deliveries/{{id={delivery}}}");
    run.get(&delivery).await;
    run.post(&format!("{delivery}/resend"), json!({})).await;
    run.post("/api/webhooks/secret/rotate", json!({})).await;
}

/// What is sent to an agent that is offline stays open, and can be ended.
pub async fn unfinished(run: &mut Recorder<'_>, id: &str) {
    let body = json!({"script": "deploy", "target": {"ids": [id]}, "rollout":
        {"wave_size": "25%", "max_failures": 0, "pause_ms": 60_000}});
    let job = run.fixture.api.post("/api/jobs", body.clone()).await.expect(202).id().to_owned();
    for action in ["pause", "resume", "abort"] {
        run.post(&format!("/api/jobs/{{id={job}}}/{action}"), json!({})).await;
    }
    let job = run.fixture.api.post("/api/jobs", body.clone()).await.expect(202).id().to_owned();
    run.post(&format!("/api/jobs/{{id={job}}}/cancel"), json!({})).await;
    let ended = run.fixture.api.execute(id, "deploy", json!({})).await;
    run.post(&format!("/api/commands/{{id={ended}}}/cancel"), json!({})).await;
    run.post(&format!("/api/commands/{{id={ended}}}/retry"), json!({})).await;
    let command = run.fixture.api.execute(id, "deploy", json!({})).await;
    run.post(&format!("/api/executions/{{id={command}}}/cancel"), json!({})).await;
}

/// Requests for approval, on the basic agent. A key of another person decides: of the member that was
/// set up, as if it had been invited.
pub async fn approvals(run: &mut Recorder<'_>) {
    let rule = json!({"name": "production", "target": "tag:production", "scripts": ["deploy"],
        "fan_out_above": 10, "wait_ms": 3_600_000});
    let rule = run.post("/api/approvals/rules", rule).await.id().to_owned();
    run.get("/api/approvals/rules").await;
    run.call(Method::DELETE, &format!("/api/approvals/rules/{{id={rule}}}"), None).await;
    let api = &run.fixture.api;
    api.post("/api/approvals/rules", json!({"name": "every script"})).await.expect(201);
    let key = json!({"name": "grace", "role": "owner"});
    let key = api.post("/api/keys", key).await.expect(201).text("key").to_owned();
    for statement in [
        "UPDATE api_keys SET created_by = (SELECT id FROM members) WHERE name = 'grace'",
        "UPDATE api_key_secrets SET made_by = (SELECT id FROM members) \
         WHERE key_id = (SELECT id FROM api_keys WHERE name = 'grace')",
        "UPDATE members SET is_from_setup = (1 = 0)",
    ] {
        run.fixture.server.query(statement);
    }
    let agents = api.get("/api/agents").await.expect(200);
    let body = json!({"script": "deploy", "target": {"ids": [agents["items"][0]["id"]]}});
    for verb in ["approve", "refuse"] {
        api.post("/api/jobs", body.clone()).await.expect(202);
        let page = run.get("/api/approvals?state=pending").await;
        let path = format!("/api/approvals/{{id={}}}", page["items"][0].id());
        run.get(&path).await;
        let reason = json!({"reason": "checked with the team"});
        run.call_with(&key, Method::POST, &format!("{path}/{verb}"), Some(reason)).await;
    }
    run.get("/api/access/explain?operation=run:deploy&target=all").await;
    let steps = json!({"steps": [{"from_agents": 10, "demand": "confirm"},
        {"tag": "critical", "from_agents": 1, "demand": "approve"},
        {"from_agents": 1_000, "demand": "refuse"}]});
    run.call(Method::PUT, "/api/access/ladder", Some(steps)).await;
    run.get("/api/access/ladder").await;
}
