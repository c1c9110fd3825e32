//! Examples: integrations, webhooks and alerts.

use muster_tests::{JsonFields as _, Reaction, WebhookSink, eventually};
use reqwest::Method;
use serde_json::json;

use super::Recorder;

pub async fn alerts(run: &mut Recorder<'_>) {
    let body = json!({"name": "disk", "metric": "disk_percent", "threshold": 90,
        "clear_threshold": 85, "for_ms": 600_000, "target": {"expression": "tag:web"}});
    let id = run.post("/api/alerts/rules", body).await.id().to_owned();
    let path = format!("/api/alerts/rules/{{id={id}}}");
    run.get("/api/alerts").await;
    run.get("/api/alerts/rules").await;
    run.get(&path).await;
    run.call(Method::PATCH, &path, Some(json!({"clear_for_ms": 60_000}))).await;
    run.post(&format!("{path}/silence"), json!({})).await;
    run.call(Method::DELETE, &path, None).await;
}

pub async fn integrations(run: &mut Recorder<'_>, agent: &str) {
    let receiver = WebhookSink::start([Reaction::status(400)]).await;
    let body = json!({"kind": "webhook", "name": "receiver", "settings": {"url": receiver.url()},
        "event_types": ["job.failed"]});
    let refused = run.fixture.api.post("/api/integrations", body).await.expect(201).id().to_owned();
    let job = json!({"script": "deploy", "target": {"ids": [agent]}});
    run.fixture.api.post("/api/jobs", job).await.expect(202);
    let path = format!("/api/integrations/{refused}/deliveries");
    let dead = eventually("a delivery has failed", async || {
        let page = run.fixture.api.get(&format!("{path}?state=failed")).await.expect(200);
        page["items"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    let path = format!("/api/integrations/{{id={refused}}}/deliveries");
    run.get(&path).await;
    run.post(&format!("{path}/{{delivery_id={dead}}}/resend"), json!({})).await;
    run.fixture.api.delete(&format!("/api/integrations/{refused}")).await.expect(204);
    let body = json!({"kind": "slack", "name": "operations", "target": {"expression": "tag:web"},
        "settings": {"url": "https://hooks.invalid/services/T/B/X"},
        "event_types": ["agent.offline", "agent.online", "job.failed"]});
    let integration = run.post("/api/integrations", body).await.id().to_owned();
    let path = format!("/api/integrations/{{id={integration}}}");
    run.get("/api/integrations").await;
    run.get(&path).await;
    run.call(Method::PATCH, &path, Some(json!({"offline_after_ms": 300_000}))).await;
    run.post(&format!("{path}/test"), json!({})).await;
    run.call(Method::DELETE, &path, None).await;
}
