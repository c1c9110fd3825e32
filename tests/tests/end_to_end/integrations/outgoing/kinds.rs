//! What each kind sends when a job fails, and when an agent goes and comes back.

use muster_tests::{AgentOptions, Fixture, JsonFields as _, WebhookSink};
use serde_json::{Value, json};

use super::super::webhooks::{fixture, job, on_postgres, options, with_hand};
use super::{base, delivery_in, integration};

mod failed_job_reaches_every_kind {
    use super::super::super::webhooks::{fixture, options};
    use super::{every_kind, on_postgres, with_hand};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_sqlite() {
        let (fixture, _agent) = fixture(options()).await;
        every_kind(fixture).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_a_cluster() {
        let (fixture, _agent) = with_hand(on_postgres().await).await;
        every_kind(fixture).await;
    }
}

async fn every_kind(fixture: Fixture) {
    let receiver = WebhookSink::start([]).await;
    let (hook, base) = (receiver.url(), base(&receiver));
    let to = |url: &str, key: Option<&str>| match key {
        Some(key) => json!({"url": url, "key": key}),
        None => json!({"url": url}),
    };
    let mut paths = Vec::new();
    for (kind, settings) in [
        ("webhook", to(&hook, None)),
        ("slack", to(&hook, None)),
        ("discord", to(&hook, None)),
        ("teams", to(&hook, None)),
        ("pagerduty", to(&hook, Some("routing"))),
        ("datadog", to(&base, Some("datadog-key"))),
        ("splunk", to(&base, Some("splunk-token"))),
    ] {
        let more = json!({"settings": settings, "event_types": ["job.failed"]});
        paths.push(integration(&fixture, kind, more).await);
    }
    let id = job(&fixture, &receiver.url().replace("/hook", "/job")).await;
    for path in &paths {
        let delivery = delivery_in(&fixture.api, path, "delivered").await;
        assert_eq!((&delivery["event"], &delivery["job_id"]), (&json!("job.failed"), &json!(id)));
        let shown = fixture.api.get(path).await.expect(200).to_string();
        for secret in ["/hook", "routing", "datadog-key", "splunk-token"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
        assert!(shown.contains("127.0.0.1"), "{shown}");
    }
    // Two of Datadog, one of each other, and the webhook of the job.
    let received = receiver.receives(9).await;
    let bodies: Vec<Value> = received.iter().map(|message| message.json()).collect();
    let with = |pointer: &str| {
        let found = bodies.iter().find(|body| body.pointer(pointer).is_some());
        found.unwrap_or_else(|| panic!("no body with {pointer}: {bodies:?}"))
    };
    assert_eq!(with("/blocks")["blocks"][0]["text"]["text"], "Job gone failed");
    assert_eq!(with("/embeds")["embeds"][0]["title"], "Job gone failed");
    assert_eq!(with("/attachments/0/content")["attachments"][0]["content"]["type"], "AdaptiveCard");
    let incident = with("/routing_key");
    assert_eq!(incident["event_action"], "trigger");
    assert_eq!(incident["dedup_key"], format!("muster-job-{id}"));
    assert_eq!(with("/series")["series"][0]["metric"], "muster.events");
    assert_eq!(with("/alert_type")["alert_type"], "error");
    assert_eq!(with("/sourcetype")["event"]["type"], "job.failed");
    let signed = received
        .iter()
        .find(|one| !one.header("webhook-id").is_empty() && one.json()["type"] == "job.failed");
    let signed = signed.expect("a signed webhook");
    let body = json!({"url": hook});
    let secret = fixture.api.post("/api/webhooks/secret", body).await.expect(200);
    assert!(signed.is_signed_by(secret.text("secret")));
    assert_eq!(signed.json()["data"]["job"]["id"], id);
    let keys: Vec<_> = received.iter().map(|one| one.header("dd-api-key")).collect();
    assert_eq!(keys.iter().filter(|key| **key == "datadog-key").count(), 2);
    let is_splunk = |one: &&muster_tests::ReceivedMessage| one.path == "/services/collector/event";
    let splunk = received.iter().find(is_splunk).expect("an event for Splunk");
    assert_eq!(splunk.header("authorization"), "Splunk splunk-token");
}

#[tokio::test]
async fn agent_that_goes_and_comes_back_opens_and_resolves_one_incident() {
    let (fixture, _agent) = fixture(options()).await;
    let receiver = WebhookSink::start([]).await;
    let settings = json!({"url": receiver.url(), "key": "routing"});
    let web = json!({"settings": settings, "target": {"expression": "tag:web"},
        "event_types": ["agent.offline", "agent.online"]});
    let (mut other, _) = fixture.agent(AgentOptions::named("other")).await;
    let (mut agent, id) = fixture.agent(AgentOptions::named("web-1")).await;
    let tags = json!({"name": "web-1", "tags": ["web"]});
    fixture.api.patch(&format!("/api/agents/{id}"), tags).await.expect(200);
    let path = integration(&fixture, "pagerduty", web).await;
    other.kill_9();
    agent.kill_9();
    let opened = receiver.receives(1).await.remove(0).json();
    assert_eq!(opened["event_action"], "trigger", "{opened}");
    assert_eq!(opened["payload"]["summary"], "Agent web-1 is offline");
    assert_eq!(opened["dedup_key"], format!("muster-agent-{id}"));
    agent.resume();
    let resolved = receiver.receives(2).await.remove(1).json();
    assert_eq!(resolved["event_action"], "resolve");
    assert_eq!(resolved["dedup_key"], opened["dedup_key"]);
    let shown = fixture.api.get(&format!("{path}/deliveries")).await.expect(200).to_string();
    assert!(!shown.contains("routing"), "{shown}");
}
