//! Webhooks: the end of a job, sent to the receiver that the job names.

mod addresses;
mod attempts;
mod command_line;
mod restarts;

use muster_tests::{
    Agent, AgentOptions, Api, Database, Fixture, JsonFields as _, PostgresDatabase, Reaction,
    Script, ServerOptions, TestDir, WebhookSink, eventually,
};
use reqwest::Method;
use serde_json::{Value, json};

/// Options that allow receivers on this machine, with short delays between attempts.
pub fn options() -> ServerOptions {
    ServerOptions::default()
        .with("MUSTER_ALLOW_PRIVATE_WEBHOOKS", true)
        .with("MUSTER_WEBHOOK_FIRST_RETRY_MS", 50)
}

/// A job that ends at once, with a webhook to this URL. Returns its id.
pub async fn job(fixture: &Fixture, url: &str) -> String {
    submit(
        &fixture.api,
        json!({"script": "gone", "target": {"tags": ["hand"]}, "on_mismatch": "send",
        "webhook": {"url": url}}),
    )
    .await
}

pub async fn submit(api: &Api, body: Value) -> String {
    let job = api.post("/api/jobs", body).await.expect(202);
    job.id().to_owned()
}

/// A server with an agent for jobs, which refuses every command.
pub async fn fixture(options: ServerOptions) -> (Fixture, Agent) {
    with_hand(Fixture::with(options).await).await
}

/// Adds that agent to a server.
pub async fn with_hand(fixture: Fixture) -> (Fixture, Agent) {
    let (agent, id) = fixture.agent(AgentOptions::named("hand")).await;
    fixture.api.patch(&format!("/api/agents/{id}"), json!({"tags": ["hand"]})).await.expect(200);
    (fixture, agent)
}

/// The only delivery of a job, once it exists.
pub async fn delivery(api: &Api, job: &str) -> Value {
    eventually("the job has a delivery", async || {
        // Also while the server restarts.
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
    shown.text("secret").to_owned()
}

/// A server on PostgreSQL under these settings.
pub async fn on_postgres() -> Fixture {
    let test_dir = TestDir::new();
    let database = Database::Postgres(PostgresDatabase::empty());
    Fixture::on(test_dir, database, options()).await
}

mod job_end_is_delivered_signed_and_without_secrets_or_output {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_sqlite() {
        told(Fixture::with(options()).await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_postgres() {
        told(super::on_postgres().await).await;
    }
}

async fn told(fixture: Fixture) {
    let receiver = WebhookSink::start([]).await;
    let script = "echo \"printed $TOKEN $NAME\"; exit \"$CODE\"";
    let names = ["NAME", "CODE", "TOKEN"];
    let scripts = [Script::new("try", script).taking(names)];
    let (_bad, bad) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    let (_good, good) = fixture
        .agent(AgentOptions {
            scripts: vec![Script::new("try", "exit 0").taking(names)],
            ..AgentOptions::named("good")
        })
        .await;
    let url = format!("{}?token=query-token", receiver.url());
    let body = json!({"script": "try", "target": {"ids": [bad, good]},
        "parameters": {"NAME": "parameter-text", "CODE": "3"},
        "secret_parameters": {"TOKEN": "hunter2-hunter2"}, "webhook": {"url": url}});
    let submitted = fixture.api.post("/api/jobs", body).await.expect(202);
    assert_eq!(submitted["webhook_url"], receiver.url(), "the query is not shown");
    let id = submitted.id();
    let received = receiver.receives(1).await.remove(0);
    assert_eq!(received.path, "/hook?token=query-token");
    assert!(received.is_signed_by(&secret_of(&fixture.api, &url).await));
    assert!(!received.is_signed_by(&secret_of(&fixture.api, &receiver.url()).await), "one each");
    let text = String::from_utf8_lossy(&received.body).into_owned();
    for absent in ["hunter2", "***", "printed", "parameter-text", "query-token"] {
        assert!(!text.contains(absent), "{absent} in {text}");
    }
    let message = received.json();
    let job = fixture.api.get(&format!("/api/jobs/{id}")).await.expect(200);
    assert_eq!(message["type"], "job.finished");
    assert_eq!(message["timestamp"], job["finished_at"]);
    let data = &message["data"];
    for field in ["id", "script", "state", "counts", "agent_count", "created_at", "finished_at"] {
        assert_eq!(data[field], job[field], "{field}: {data}");
    }
    assert_eq!(data["counts"], json!({"failed": 1, "succeeded": 1}));
    let failed = data.list("failed_executions");
    assert_eq!(failed.len(), 1, "{data}");
    assert_eq!((&failed[0]["agent_id"], &failed[0]["exit_code"]), (&json!(bad), &json!(3)));
    assert_eq!((&failed[0]["state"], &data["is_cut"]), (&json!("failed"), &json!(false)));
    let delivery = delivery_in(&fixture.api, id, "delivered").await;
    assert_eq!(delivery["id"], received.header("webhook-id"));
    assert_eq!(delivery["url"], receiver.url());
    let attempts = delivery.list("attempts");
    assert_eq!((attempts.len(), &attempts[0]["status"]), (1, &json!(200)), "{delivery}");
    assert_eq!(receiver.received().len(), 1, "once is enough");
}

#[tokio::test]
async fn job_without_a_webhook_is_not_delivered_and_a_retried_job_keeps_its_webhook() {
    let (fixture, _agent) = fixture(options()).await;
    let receiver = WebhookSink::start([]).await;
    let silent = submit(
        &fixture.api,
        json!({"script": "x", "target": {"tags": ["hand"]}, "on_mismatch": "send"}),
    )
    .await;
    let told = job(&fixture, &receiver.url()).await;
    receiver.receives(1).await;
    let retry = format!("/api/jobs/{told}/retry");
    let again = fixture.api.post(&retry, json!({})).await.expect(202);
    let messages = receiver.receives(2).await;
    assert_eq!(messages[1].json()["data"]["id"], again["id"]);
    let page = fixture.api.get("/api/webhooks/deliveries").await.expect(200);
    let jobs: Vec<_> = page.list("items").iter().collect();
    assert!(jobs.len() == 2 && jobs.iter().all(|one| one["job_id"] != silent.as_str()));
    let first = fixture.api.get("/api/webhooks/deliveries?limit=1").await.expect(200);
    let cursor = first.text("next_cursor");
    let second = format!("/api/webhooks/deliveries?limit=1&cursor={cursor}&state=delivered");
    assert_eq!(fixture.api.get(&second).await.expect(200)["items"][0]["job_id"], told);
}

#[tokio::test]
async fn rotated_secret_signs_together_with_the_previous_one() {
    let (fixture, _agent) = fixture(options()).await;
    let receiver = WebhookSink::start([Reaction::status(200)]).await;
    let before = secret_of(&fixture.api, &receiver.url()).await;
    let rotate = "/api/webhooks/secret/rotate";
    fixture.api.post(rotate, json!({})).await.expect(200);
    let after = secret_of(&fixture.api, &receiver.url()).await;
    assert_ne!(before, after);
    job(&fixture, &receiver.url()).await;
    let received = receiver.receives(1).await.remove(0);
    assert!(received.is_signed_by(&before) && received.is_signed_by(&after));
    fixture.api.post(rotate, json!({})).await.expect(200);
    job(&fixture, &receiver.url()).await;
    let received = receiver.receives(2).await.remove(1);
    assert!(!received.is_signed_by(&before), "the one before the one before holds no longer");
    assert!(received.is_signed_by(&after));
    let log = fixture.api.get("/api/audit").await.expect(200).to_string();
    assert!(log.contains("webhook_secret.rotate") && log.contains("webhook_secret.read"), "{log}");
    assert!(!log.contains("whsec_"), "{log}");
}

#[tokio::test]
async fn read_only_key_sees_deliveries_and_no_secrets() {
    let (fixture, _agent) = fixture(options()).await;
    let receiver = WebhookSink::start([]).await;
    let id = job(&fixture, &receiver.url()).await;
    let delivery = delivery_in(&fixture.api, &id, "delivered").await;
    let key = json!({"name": "looks", "role": "member", "scopes": ["commands:read"]});
    let key = fixture.api.post("/api/keys", key).await.expect(201);
    let looks = fixture.api.with_key(key.text("key"));
    looks.get("/api/webhooks/deliveries").await.expect(200);
    let asked = json!({"url": receiver.url()});
    looks.post("/api/webhooks/secret", asked).await.expect_problem(403, "missing_scope");
    looks.post("/api/webhooks/secret/rotate", json!({})).await.expect_problem(403, "missing_scope");
    let id = delivery.id();
    let resend = format!("/api/webhooks/deliveries/{id}/resend");
    looks.post(&resend, json!({})).await.expect_problem(403, "missing_scope");
    let nobody = "/api/webhooks/deliveries/01980000-0000-7000-8000-000000000000";
    fixture.api.get(nobody).await.expect_problem(404, "not_found");
    fixture.api.post(&format!("{nobody}/resend"), json!({})).await.expect_problem(404, "not_found");
}
