//! A server that is killed between the end of a job and its telling.

use muster_tests::{ClosedPort, Reaction, Receiver, World, eventually};

use super::{delivery, delivery_in, job, options, with_hand, world};

mod a_message_that_was_not_delivered_outlives_its_server {
    use muster_tests::World;

    use super::super::{on_postgres, options};
    use super::outlives;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_sqlite() {
        outlives(World::with(options()).await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_a_cluster() {
        outlives(on_postgres().await).await;
    }
}

async fn outlives(world: World) {
    let (mut world, _agent) = with_hand(world).await;
    let port = ClosedPort::new();
    let id = job(&world, &format!("http://127.0.0.1:{}/hook", port.number())).await;
    let before = delivery(&world.api, &id).await;
    world.server.kill_9();
    let receiver = Receiver::on(port.open(), []);
    world.server.resume();
    let message = receiver.receives(1).await.remove(0);
    assert_eq!(before["id"], message.header("webhook-id"));
    delivery_in(&world.api, &id, "delivered").await;
}

#[tokio::test]
async fn a_message_whose_answer_was_not_written_down_is_sent_again_under_its_id() {
    let (mut world, _agent) = world(options().with("MUSTER_WEBHOOK_TIMEOUT_MS", 60_000)).await;
    let receiver = Receiver::start([Reaction::Silence]).await;
    let id = job(&world, &receiver.url()).await;
    receiver.receives(1).await;
    world.server.kill_9();
    world.server.resume();
    let messages = receiver.receives(2).await;
    assert_eq!(messages[0].header("webhook-id"), messages[1].header("webhook-id"));
    assert_eq!(messages[0].body, messages[1].body);
    let delivered = delivery_in(&world.api, &id, "delivered").await;
    assert_eq!(delivered["attempt_count"], 1, "the other was never known");
}

#[tokio::test]
async fn a_job_that_ended_while_its_server_was_killed_is_told_all_the_same() {
    let (mut world, mut agent) = world(options()).await;
    let receiver = Receiver::start([]).await;
    agent.stop();
    let id = job(&world, &receiver.url()).await;
    agent.resume();
    // Killed anywhere around the end of its one execution.
    eventually("it has left the queue", async || {
        let job = world.api.get(&format!("/api/jobs/{id}")).await.expect(200);
        job["counts"].get("queued").is_none().then_some(())
    })
    .await;
    world.server.kill_9();
    world.server.resume();
    receiver.receives(1).await;
    delivery_in(&world.api, &id, "delivered").await;
}
