//! The queue of an integration: order, receivers that behave badly, and what is sent again.

use muster_tests::{JsonFields as _, Reaction, WebhookSink, eventually};
use serde_json::{Value, json};

use super::super::webhooks::{fixture, job, options};
use super::{deliveries, delivery_in, integration};

fn of_jobs(receiver: &WebhookSink) -> Value {
    json!({"settings": {"url": receiver.url()}, "event_types": ["job.failed"]})
}

#[tokio::test]
async fn messages_arrive_in_order_after_a_receiver_that_behaves_badly() {
    let (fixture, _agent) = fixture(options().with("MUSTER_WEBHOOK_TIMEOUT_MS", 500)).await;
    let elsewhere = WebhookSink::start([]).await;
    let huge = "x".repeat(1_000_000);
    let receiver = WebhookSink::start([
        Reaction::status(500),
        Reaction::Answer(429, vec![("retry-after", "0".into())], String::new()),
        Reaction::Answer(307, vec![("location", elsewhere.url())], String::new()),
        Reaction::Silence,
        Reaction::Answer(503, vec![], huge),
    ])
    .await;
    let path = integration(&fixture, "webhook", of_jobs(&receiver)).await;
    let mut jobs = Vec::new();
    let quiet = WebhookSink::start([]).await;
    for _ in 0..3 {
        jobs.push(job(&fixture, &quiet.url()).await);
        quiet.receives(jobs.len()).await;
    }
    let failing = fixture.api.get(&path).await.expect(200);
    let received = receiver.receives(8).await;
    let ids: Vec<_> = received.iter().map(|one| one.json()["data"]["job"]["id"].clone()).collect();
    assert_eq!(ids[..6], vec![json!(jobs[0]); 6][..], "the first is tried until it arrives");
    assert_eq!(ids[6..], [json!(jobs[1]), json!(jobs[2])], "then the others, in order");
    assert_eq!(elsewhere.received().len(), 0, "redirects are not followed");
    eventually("all are delivered", async || {
        let all = deliveries(&fixture.api, &path).await;
        (all.len() == 3 && all.iter().all(|one| one["state"] == "delivered")).then_some(())
    })
    .await;
    let recovered = fixture.api.get(&path).await.expect(200);
    assert!(recovered["failing_since"].is_null(), "{failing} {recovered}");
}

#[tokio::test]
async fn refused_message_is_a_dead_letter_and_delays_no_other() {
    let (fixture, _agent) = fixture(options()).await;
    let receiver = WebhookSink::start([Reaction::status(400)]).await;
    let path = integration(&fixture, "slack", of_jobs(&receiver)).await;
    let quiet = WebhookSink::start([]).await;
    for count in 1..=2 {
        job(&fixture, &quiet.url()).await;
        quiet.receives(count).await;
    }
    receiver.receives(2).await;
    let dead = delivery_in(&fixture.api, &path, "failed").await;
    assert_eq!(dead["last_attempt"]["status"], 400);
    delivery_in(&fixture.api, &path, "delivered").await;
    let resend = format!("{path}/deliveries/{}/resend", dead.id());
    fixture.api.post(&resend, json!({})).await.expect(202);
    receiver.receives(3).await;
    eventually("it is delivered", async || {
        let all = deliveries(&fixture.api, &path).await;
        all.iter().all(|one| one["state"] == "delivered").then_some(())
    })
    .await;
}

#[tokio::test]
async fn test_message_passes_the_queue_and_reports_the_answer() {
    let (fixture, _agent) = fixture(options()).await;
    let receiver = WebhookSink::start([Reaction::Answer(403, vec![], "no such hook".into())]).await;
    let path = integration(&fixture, "discord", of_jobs(&receiver)).await;
    let test = format!("{path}/test");
    let refused = fixture.api.post(&test, json!({})).await.expect(200);
    assert_eq!((&refused["status"], refused.text("response")), (&json!(403), "no such hook"));
    let accepted = fixture.api.post(&test, json!({})).await.expect(200);
    assert!(accepted["status"] == 200 && accepted["error"].is_null(), "{accepted}");
    assert_eq!(deliveries(&fixture.api, &path).await.len(), 0);
    let log = fixture.api.get("/api/audit").await.expect(200).to_string();
    assert!(log.contains("integration.test") && !log.contains("/hook"), "{log}");
}

#[tokio::test]
async fn disabled_integration_sends_no_more_and_template_replaces_the_text() {
    let (fixture, _agent) = fixture(options()).await;
    let receiver = WebhookSink::start([]).await;
    let mut body = of_jobs(&receiver);
    body["template"] = json!("{{ data.job.script }} is {{ data.job.state }}");
    let path = integration(&fixture, "slack", body).await;
    let quiet = WebhookSink::start([]).await;
    job(&fixture, &quiet.url()).await;
    let sent = receiver.receives(1).await.remove(0).json();
    assert_eq!(sent["blocks"][1]["text"]["text"], "gone is failed", "{sent}");
    fixture.api.patch(&path, json!({"is_enabled": false})).await.expect(200);
    job(&fixture, &quiet.url()).await;
    quiet.receives(2).await;
    assert_eq!(deliveries(&fixture.api, &path).await.len(), 1);
    let bad = json!({"template": "{{ "});
    let problem = fixture.api.patch(&path, bad).await.expect(422);
    assert_eq!(problem["errors"][0]["field"], "template", "{problem}");
    let private = json!({"settings": {"url": "http://169.254.169.254/latest"}});
    let problem = fixture.api.patch(&path, private).await.expect(422);
    assert_eq!(problem["errors"][0]["field"], "settings.url", "{problem}");
}
