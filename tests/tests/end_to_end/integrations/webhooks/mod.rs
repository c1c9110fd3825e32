//! The end of a job, told to whoever asked for it.

mod addresses;
mod attempts;
mod command_line;
mod restarts;

use muster_tests::{
    Agent, AgentOptions, Api, Database, PostgresDatabase, Reaction, Receiver, Script,
    ServerOptions, Site, World, eventually,
};
use reqwest::Method;
use serde_json::{Value, json};

/// Settings under which receivers on this machine are allowed, and tried again soon.
pub fn options() -> ServerOptions {
    ServerOptions::default()
        .with("MUSTER_ALLOW_PRIVATE_WEBHOOKS", true)
        .with("MUSTER_WEBHOOK_FIRST_RETRY_MS", 50)
}

/// A job that ends at once, told to this address: its id.
pub async fn job(world: &World, url: &str) -> String {
    submit(
        &world.api,
        json!({"script": "gone", "target": {"tags": ["hand"]}, "on_mismatch": "send",
        "webhook": {"url": url}}),
    )
    .await
}

pub async fn submit(api: &Api, body: Value) -> String {
    let job = api.post("/api/jobs", body).await.expect(202);
    job["id"].as_str().expect("an id").to_owned()
}

/// A server with an agent that jobs can be tried on: whatever it is asked for, it refuses.
pub async fn world(options: ServerOptions) -> (World, Agent) {
    with_hand(World::with(options).await).await
}

/// Adds that agent to a server.
pub async fn with_hand(world: World) -> (World, Agent) {
    let (agent, id) = world.agent(AgentOptions::named("hand")).await;
    world.api.patch(&format!("/api/agents/{id}"), json!({"tags": ["hand"]})).await.expect(200);
    (world, agent)
}

/// The one delivery of a job, once there is one.
pub async fn delivery(api: &Api, job: &str) -> Value {
    eventually("the job has a delivery", async || {
        // Also while the server comes back.
        let path = format!("/api/webhooks/deliveries?job_id={job}");
        let page = api.try_send(Method::GET, &path, &[], None).await.ok()?.json();
        let items = page["items"].as_array().cloned().unwrap_or_default();
        assert!(items.len() < 2, "one message each: {items:?}");
        let id = items.first()?["id"].as_str()?.to_owned();
        let path = format!("/api/webhooks/deliveries/{id}");
        Some(api.try_send(Method::GET, &path, &[], None).await.ok()?.expect(200))
    })
    .await
}

/// The delivery of a job, once it is in this state.
pub async fn delivery_in(api: &Api, job: &str, state: &str) -> Value {
    eventually(&format!("the delivery is {state}"), async || {
        Some(delivery(api, job).await).filter(|delivery| delivery["state"] == state)
    })
    .await
}

pub async fn secret_of(api: &Api, url: &str) -> String {
    let shown = api.post("/api/webhooks/secret", json!({"url": url})).await.expect(200);
    shown["secret"].as_str().expect("a secret").to_owned()
}

/// A server on PostgreSQL under these settings.
pub async fn on_postgres() -> World {
    let site = Site::new();
    let database = Database::Postgres(PostgresDatabase::empty());
    World::on(site, database, options()).await
}

mod the_end_of_a_job_is_told_with_a_signature_and_without_what_is_secret_or_printed {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_sqlite() {
        told(World::with(options()).await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_postgres() {
        told(super::on_postgres().await).await;
    }
}

async fn told(world: World) {
    let receiver = Receiver::start([]).await;
    let script = "echo \"printed $TOKEN $NAME\"; exit \"$CODE\"";
    let names = ["NAME", "CODE", "TOKEN"];
    let scripts = [Script::new("try", script).taking(names)];
    let (_bad, bad) = world.agent(AgentOptions::with_scripts(scripts)).await;
    let (_good, good) = world
        .agent(AgentOptions {
            scripts: vec![Script::new("try", "exit 0").taking(names)],
            ..AgentOptions::named("good")
        })
        .await;
    let url = format!("{}?token=query-token", receiver.url());
    let body = json!({"script": "try", "target": {"ids": [bad, good]},
        "parameters": {"NAME": "parameter-text", "CODE": "3"},
        "secret_parameters": {"TOKEN": "hunter2-hunter2"}, "webhook": {"url": url}});
    let submitted = world.api.post("/api/jobs", body).await.expect(202);
    assert_eq!(submitted["webhook_url"], receiver.url(), "the query is not shown");
    let id = submitted["id"].as_str().expect("an id");
    let received = receiver.receives(1).await.remove(0);
    assert_eq!(received.path, "/hook?token=query-token");
    assert!(received.is_signed_by(&secret_of(&world.api, &url).await));
    assert!(!received.is_signed_by(&secret_of(&world.api, &receiver.url()).await), "one each");
    let text = String::from_utf8_lossy(&received.body).into_owned();
    for absent in ["hunter2", "***", "printed", "parameter-text", "query-token"] {
        assert!(!text.contains(absent), "{absent} in {text}");
    }
    let message = received.json();
    let job = world.api.get(&format!("/api/jobs/{id}")).await.expect(200);
    assert_eq!(message["type"], "job.finished");
    assert_eq!(message["timestamp"], job["finished_at"]);
    let data = &message["data"];
    for field in ["id", "script", "state", "counts", "agent_count", "created_at", "finished_at"] {
        assert_eq!(data[field], job[field], "{field}: {data}");
    }
    assert_eq!(data["counts"], json!({"failed": 1, "succeeded": 1}));
    let failed = data["failed_executions"].as_array().expect("a list");
    assert_eq!(failed.len(), 1, "{data}");
    assert_eq!((&failed[0]["agent_id"], &failed[0]["exit_code"]), (&json!(bad), &json!(3)));
    assert_eq!((&failed[0]["state"], &data["is_cut"]), (&json!("failed"), &json!(false)));
    let delivery = delivery_in(&world.api, id, "delivered").await;
    assert_eq!(delivery["id"], received.header("webhook-id"));
    assert_eq!(delivery["url"], receiver.url());
    let attempts = delivery["attempts"].as_array().expect("a list");
    assert_eq!((attempts.len(), &attempts[0]["status"]), (1, &json!(200)), "{delivery}");
    assert_eq!(receiver.received().len(), 1, "once is enough");
}

#[tokio::test]
async fn a_job_without_a_webhook_is_told_to_nobody_and_a_retried_one_to_the_same() {
    let (world, _agent) = world(options()).await;
    let receiver = Receiver::start([]).await;
    let silent = submit(
        &world.api,
        json!({"script": "x", "target": {"tags": ["hand"]}, "on_mismatch": "send"}),
    )
    .await;
    let told = job(&world, &receiver.url()).await;
    receiver.receives(1).await;
    let retry = format!("/api/jobs/{told}/retry");
    let again = world.api.post(&retry, json!({})).await.expect(202);
    let messages = receiver.receives(2).await;
    assert_eq!(messages[1].json()["data"]["id"], again["id"]);
    let page = world.api.get("/api/webhooks/deliveries").await.expect(200);
    let jobs: Vec<_> = page["items"].as_array().expect("a list").iter().collect();
    assert!(jobs.len() == 2 && jobs.iter().all(|one| one["job_id"] != silent.as_str()));
    let first = world.api.get("/api/webhooks/deliveries?limit=1").await.expect(200);
    let cursor = first["next_cursor"].as_str().expect("there is more");
    let second = format!("/api/webhooks/deliveries?limit=1&cursor={cursor}&state=delivered");
    assert_eq!(world.api.get(&second).await.expect(200)["items"][0]["job_id"], told);
}

#[tokio::test]
async fn a_rotated_secret_signs_beside_the_one_before() {
    let (world, _agent) = world(options()).await;
    let receiver = Receiver::start([Reaction::status(200)]).await;
    let before = secret_of(&world.api, &receiver.url()).await;
    let rotate = "/api/webhooks/secret/rotate";
    world.api.post(rotate, json!({})).await.expect(200);
    let after = secret_of(&world.api, &receiver.url()).await;
    assert_ne!(before, after);
    job(&world, &receiver.url()).await;
    let received = receiver.receives(1).await.remove(0);
    assert!(received.is_signed_by(&before) && received.is_signed_by(&after));
    world.api.post(rotate, json!({})).await.expect(200);
    job(&world, &receiver.url()).await;
    let received = receiver.receives(2).await.remove(1);
    assert!(!received.is_signed_by(&before), "the one before the one before holds no longer");
    assert!(received.is_signed_by(&after));
    let log = world.api.get("/api/audit").await.expect(200).to_string();
    assert!(log.contains("webhook_secret.rotate") && log.contains("webhook_secret.read"), "{log}");
    assert!(!log.contains("whsec_"), "{log}");
}

#[tokio::test]
async fn whoever_may_only_look_sees_deliveries_and_no_secrets() {
    let (world, _agent) = world(options()).await;
    let receiver = Receiver::start([]).await;
    let id = job(&world, &receiver.url()).await;
    let delivery = delivery_in(&world.api, &id, "delivered").await;
    let key = json!({"name": "looks", "role": "member", "scopes": ["commands:read"]});
    let key = world.api.post("/api/keys", key).await.expect(201);
    let looks = world.api.with_key(key["key"].as_str().expect("a key"));
    looks.get("/api/webhooks/deliveries").await.expect(200);
    let asked = json!({"url": receiver.url()});
    looks.post("/api/webhooks/secret", asked).await.expect_problem(403, "missing_scope");
    looks.post("/api/webhooks/secret/rotate", json!({})).await.expect_problem(403, "missing_scope");
    let id = delivery["id"].as_str().expect("an id");
    let resend = format!("/api/webhooks/deliveries/{id}/resend");
    looks.post(&resend, json!({})).await.expect_problem(403, "missing_scope");
    let nobody = "/api/webhooks/deliveries/01980000-0000-7000-8000-000000000000";
    world.api.get(nobody).await.expect_problem(404, "not_found");
    world.api.post(&format!("{nobody}/resend"), json!({})).await.expect_problem(404, "not_found");
}
