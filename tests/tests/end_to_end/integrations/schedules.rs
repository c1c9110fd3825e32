//! What webhooks and integrations send about schedules.

use muster_tests::{AgentOptions, Fixture, JsonFields as _, Script, WebhookSink};
use serde_json::{Value, json};

use super::webhooks::{options, secret_of};

#[tokio::test]
async fn webhook_of_a_schedule_receives_the_result_of_each_job() {
    let fixture = Fixture::with(options()).await;
    let receiver = WebhookSink::start([]).await;
    let script = Script::new("count", "exit 0");
    let (_agent, _) = fixture.agent(AgentOptions::with_scripts([script])).await;
    let url = format!("{}?token=query-token", receiver.url());
    let body = json!({"name": "counts", "rule": {"every_ms": 3_600_000}, "webhook": {"url": url},
        "job": {"script": "count", "target": {"expression": "all"}}});
    let created = fixture.api.post("/api/schedules", body).await.expect(201);
    assert_eq!(created["webhook_url"], receiver.url(), "the query is not shown");
    assert!(!created["job"].to_string().contains("webhook"), "{created}");
    let path = format!("/api/schedules/{}", created.id());
    let run = fixture.api.post(&format!("{path}/run"), json!({})).await.expect(202);
    let sent = receiver.receives(1).await.remove(0);
    assert!(sent.is_signed_by(&secret_of(&fixture.api, &url).await));
    assert_eq!(sent.path, "/hook?token=query-token");
    let data = &sent.json()["data"];
    assert_eq!((&data["id"], &data["state"]), (&run["job_id"], &json!("succeeded")), "{data}");
    assert_eq!(data["counts"]["succeeded"], 1, "{data}");
    let reader = fixture.api.post("/api/keys", json!({"name": "r", "role": "auditor"})).await;
    let reader = fixture.api.with_key(reader.expect(201).text("key"));
    let shown = reader.get(&path).await.expect(200);
    assert!(!shown.to_string().contains("/hook"), "others see the host only: {shown}");
    let fires = fixture.api.get(&format!("{path}/fires")).await.expect(200);
    let fire = &fires["items"][0];
    assert!(fire["ended_at"].is_string() && fire["duration_ms"].is_u64(), "{fire}");
    let forbidden = json!({"webhook": {"url": "https://169.254.169.254/latest"}});
    fixture.api.patch(&path, forbidden).await.expect_problem(422, "invalid_webhook");
    let cli = fixture.cli().await;
    cli.run(&["schedules", "edit", "counts", "--webhook", "none"]).await.expect(0);
    let removed = fixture.api.get(&path).await.expect(200);
    assert_eq!(removed["webhook_url"], Value::Null);
}
