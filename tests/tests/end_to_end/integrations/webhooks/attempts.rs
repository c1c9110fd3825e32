//! Receivers that do not accept a message at once.

use muster_tests::{ClosedPort, JsonFields as _, Reaction, WebhookSink};
use serde_json::json;

use super::{delivery_in, fixture, job, options};

#[tokio::test]
async fn failing_receiver_gets_the_same_message_until_it_accepts() {
    let (fixture, _agent) = fixture(options()).await;
    let long = "x".repeat(100_000) + "\u{7}";
    let reactions = [
        Reaction::Answer(500, vec![], format!("\u{1b}[2Jbroken {long}")),
        Reaction::status(429),
        Reaction::status(204),
    ];
    let receiver = WebhookSink::start(reactions).await;
    let id = job(&fixture, &receiver.url()).await;
    let messages = receiver.receives(3).await;
    for message in &messages {
        assert_eq!(message.body, messages[0].body);
        assert_eq!(message.header("webhook-id"), messages[0].header("webhook-id"));
    }
    let delivery = delivery_in(&fixture.api, &id, "delivered").await;
    let attempts = delivery.list("attempts");
    let statuses: Vec<_> = attempts.iter().map(|attempt| attempt["status"].clone()).collect();
    assert_eq!(statuses, [json!(500), json!(429), json!(204)]);
    let excerpt = attempts[0].text("response");
    assert!(excerpt.starts_with("[2Jbroken xxx") && excerpt.len() <= 512, "{excerpt}");
}

#[tokio::test]
async fn unreachable_receiver_is_retried_until_it_is_up() {
    let (fixture, _agent) = fixture(options()).await;
    let port = ClosedPort::new();
    let url = format!("http://127.0.0.1:{}/hook", port.number());
    let id = job(&fixture, &url).await;
    let pending = muster_tests::eventually("it was tried in vain", async || {
        let delivery = super::delivery(&fixture.api, &id).await;
        (delivery["attempt_count"].as_i64() >= Some(2)).then_some(delivery)
    })
    .await;
    let error = pending["last_attempt"].text("error");
    assert!(error.contains("refused"), "{error}");
    assert!(pending["due_at"].is_string() && pending["finished_at"].is_null(), "{pending}");
    let receiver = WebhookSink::on(port.open(), []);
    receiver.receives(1).await;
    delivery_in(&fixture.api, &id, "delivered").await;
}

#[tokio::test]
async fn receiver_that_answers_gone_gets_no_more_unless_redelivered_by_hand() {
    let (fixture, _agent) = fixture(options()).await;
    let receiver = WebhookSink::start([Reaction::status(410)]).await;
    let id = job(&fixture, &receiver.url()).await;
    let failed = delivery_in(&fixture.api, &id, "failed").await;
    assert!(failed["due_at"].is_null() && failed["finished_at"].is_string(), "{failed}");
    assert_eq!(receiver.received().len(), 1);
    let delivery = failed.id();
    let resend = format!("/api/webhooks/deliveries/{delivery}/resend");
    let pending = fixture.api.post(&resend, json!({})).await.expect(202);
    assert_eq!(pending["state"], "pending");
    let messages = receiver.receives(2).await;
    assert_eq!(messages[0].header("webhook-id"), messages[1].header("webhook-id"));
    let delivered = delivery_in(&fixture.api, &id, "delivered").await;
    assert_eq!(delivered["attempt_count"], 2);
    // A delivered message may be sent again too.
    fixture.api.post(&resend, json!({})).await.expect(202);
    receiver.receives(3).await;
}

#[tokio::test]
async fn retry_after_of_a_receiver_is_respected() {
    let (fixture, _agent) = fixture(options()).await;
    let later = vec![("retry-after", "7200".to_owned())];
    let receiver = WebhookSink::start([Reaction::Answer(503, later, String::new())]).await;
    let id = job(&fixture, &receiver.url()).await;
    let delivery = muster_tests::eventually("it was tried", async || {
        let delivery = super::delivery(&fixture.api, &id).await;
        (delivery["attempt_count"] == 1).then_some(delivery)
    })
    .await;
    let instant = |value: &serde_json::Value| {
        let text = value.as_str().expect("an instant");
        chrono::DateTime::parse_from_rfc3339(text).expect("an instant")
    };
    let waits = instant(&delivery["due_at"]) - instant(&delivery["attempts"][0]["at"]);
    assert!(waits >= chrono::TimeDelta::seconds(7_200), "{delivery}");
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn silent_receiver_delays_other_deliveries_only_briefly() {
    let (fixture, _agent) = fixture(options().with("MUSTER_WEBHOOK_TIMEOUT_MS", 300)).await;
    let receiver = WebhookSink::start([Reaction::Silence]).await;
    let id = job(&fixture, &receiver.url()).await;
    receiver.receives(2).await;
    let delivery = delivery_in(&fixture.api, &id, "delivered").await;
    let error = &delivery["attempts"][0]["error"];
    assert_eq!(*error, "no response within 300 ms", "{delivery}");
}

#[tokio::test]
async fn silent_receiver_with_many_messages_delays_no_other() {
    let (fixture, _agent) = fixture(options().with("MUSTER_WEBHOOK_TIMEOUT_MS", 60_000)).await;
    let silent = WebhookSink::start(vec![Reaction::Silence; 40]).await;
    for _ in 0..40 {
        job(&fixture, &silent.url()).await;
    }
    silent.receives(4).await;
    let other = WebhookSink::start([]).await;
    let id = job(&fixture, &other.url().replace("127.0.0.1", "localhost")).await;
    delivery_in(&fixture.api, &id, "delivered").await;
    assert_eq!(silent.received().len(), 4, "so many at once to one host");
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let (fixture, _agent) = fixture(options()).await;
    let elsewhere = WebhookSink::start([]).await;
    let there = vec![("location", elsewhere.url())];
    let receiver = WebhookSink::start([Reaction::Answer(307, there, String::new())]).await;
    let id = job(&fixture, &receiver.url()).await;
    let delivery = delivery_in(&fixture.api, &id, "delivered").await;
    let error = delivery["attempts"][0].text("error");
    assert!(error.contains("redirects are not followed"), "{error}");
    assert_eq!(elsewhere.received().len(), 0);
}
