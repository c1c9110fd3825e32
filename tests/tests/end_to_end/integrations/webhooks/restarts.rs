//! A server that is killed between the end of a job and its webhook.

use muster_tests::{ClosedPort, Fixture, Reaction, WebhookSink, eventually};

use super::{delivery, delivery_in, fixture, job, options, with_hand};

mod undelivered_message_survives_a_server_restart {
    use muster_tests::Fixture;

    use super::super::{on_postgres, options};
    use super::outlives;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_sqlite() {
        outlives(Fixture::with(options()).await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_a_cluster() {
        outlives(on_postgres().await).await;
    }
}

async fn outlives(fixture: Fixture) {
    let (mut fixture, _agent) = with_hand(fixture).await;
    let port = ClosedPort::new();
    let id = job(&fixture, &format!("http://127.0.0.1:{}/hook", port.number())).await;
    let before = delivery(&fixture.api, &id).await;
    fixture.server.kill_9();
    let receiver = WebhookSink::on(port.open(), []);
    fixture.server.resume();
    let message = receiver.receives(1).await.remove(0);
    assert_eq!(before["id"], message.header("webhook-id"));
    delivery_in(&fixture.api, &id, "delivered").await;
}

#[tokio::test]
async fn message_without_a_recorded_answer_is_sent_again_with_the_same_id() {
    let (mut fixture, _agent) = fixture(options().with("MUSTER_WEBHOOK_TIMEOUT_MS", 3_000)).await;
    let receiver = WebhookSink::start([Reaction::Silence]).await;
    let id = job(&fixture, &receiver.url()).await;
    receiver.receives(1).await;
    fixture.server.kill_9();
    fixture.server.resume();
    let messages = receiver.receives(2).await;
    assert_eq!(messages[0].header("webhook-id"), messages[1].header("webhook-id"));
    assert_eq!(messages[0].body, messages[1].body);
    let delivered = delivery_in(&fixture.api, &id, "delivered").await;
    assert_eq!(delivered["attempt_count"], 1, "the other was never known");
}

#[tokio::test]
async fn job_that_ended_around_a_server_kill_is_still_delivered() {
    let (mut fixture, mut agent) = fixture(options()).await;
    let receiver = WebhookSink::start([]).await;
    agent.stop();
    let id = job(&fixture, &receiver.url()).await;
    agent.resume();
    // Killed at any time around the end of its only execution.
    eventually("it has left the queue", async || {
        let job = fixture.api.get(&format!("/api/jobs/{id}")).await.expect(200);
        job["counts"].get("queued").is_none().then_some(())
    })
    .await;
    fixture.server.kill_9();
    fixture.server.resume();
    receiver.receives(1).await;
    delivery_in(&fixture.api, &id, "delivered").await;
}
