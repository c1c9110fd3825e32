//! The metrics of a server for Prometheus.

use muster_tests::{
    ALL, AgentOptions, Api, Database, FakeAgent, Fixture, JsonFields as _, Reaction, Script,
    ServerOptions, TestDir, WebhookSink, eventually, fake_time, on_both_databases,
};
use prometheus_parse::{Scrape, Value};
use serde_json::json;

on_both_databases!(metrics_follow_the_work_done);

/// The metrics, as a parser reads them.
struct Metrics(Vec<prometheus_parse::Sample>);

impl Metrics {
    async fn of(api: &Api) -> Self {
        let answer = api.get("/metrics").await;
        assert_eq!(answer.status, 200);
        let kind = answer.header("content-type");
        assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
        let text = String::from_utf8(answer.bytes).expect("UTF-8");
        assert!(text.ends_with("# EOF\n"), "the end says that all is there");
        // The parser takes the first closing brace as the end of the labels.
        let text = text.replace("{id}", ":id");
        let lines = text.lines().map(|line| Ok(line.to_owned()));
        Self(Scrape::parse(lines).expect("readable").samples)
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|sample| sample.metric == name)
    }

    /// The sum of all samples of this name whose labels are as given.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |sample: &&prometheus_parse::Sample| {
            sample.metric == name
                && labels.iter().all(|(label, word)| sample.labels.get(label) == Some(*word))
        };
        let value = |sample: &prometheus_parse::Sample| match &sample.value {
            Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => *value,
            other => panic!("{name} is {other:?}"),
        };
        self.0.iter().filter(fits).map(value).sum()
    }
}

async fn metrics_follow_the_work_done(fixture: Fixture) {
    let before = Metrics::of(&fixture.api).await;
    assert_eq!(before.sum("muster_agents_online", &[]), 0.0);
    let scripts = [Script::new("good", "echo twelve bytes"), Script::new("bad", "exit 3")];
    let (_agent, id) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    for script in ["good", "good", "bad"] {
        let command = fixture.api.execute(&id, script, json!({})).await;
        fixture.api.finished(&command).await;
    }
    let away = fixture.api.agent_key(json!({"permissions": ALL})).await;
    let mut gone = FakeAgent::registered(&fixture.server.address(), &away.1, "gone").await;
    let basic = fixture.online(&away.0).await.id().to_owned();
    let hanging = fixture.api.execute(&basic, "never", json!({})).await;
    gone.expect("command").await;
    let metrics = Metrics::of(&fixture.api).await;
    assert_eq!(metrics.sum("muster_agents_online", &[]), 2.0);
    let full = [("level", "full"), ("transport", "websocket")];
    assert_eq!(metrics.sum("muster_sessions", &full), 1.0);
    let basic = [("level", "basic"), ("transport", "websocket")];
    assert_eq!(metrics.sum("muster_sessions", &basic), 1.0);
    assert_eq!(metrics.sum("muster_commands_ended_total", &[("state", "succeeded")]), 2.0);
    assert_eq!(metrics.sum("muster_commands_ended_total", &[("state", "failed")]), 1.0);
    assert_eq!(metrics.sum("muster_commands_open", &[("state", "delivered")]), 1.0);
    assert_eq!(metrics.sum("muster_commands_open", &[("state", "queued")]), 0.0);
    assert_eq!(metrics.sum("muster_output_stored_bytes_total", &[]), 26.0);
    let posts = [("method", "POST"), ("route", "/api/agents/:id/command"), ("status", "202")];
    assert_eq!(metrics.sum("muster_http_requests_total", &posts), 4.0);
    assert_eq!(metrics.sum("muster_dispatch_wait_seconds_count", &[]), 4.0);
    for moved in ["muster_writer_batch_operations_count", "muster_writer_commit_seconds_count"] {
        assert!(metrics.sum(moved, &[]) > before.sum(moved, &[]), "{moved}");
    }
    assert!(metrics.sum("muster_process_resident_memory_bytes", &[]) > 1e6);
    // Ended by the server, without a report of its agent.
    let agent = fixture.api.command(&hanging).await.text("agent_id").to_owned();
    fixture.api.delete(&format!("/api/agents/{agent}")).await.expect(204);
    let metrics = Metrics::of(&fixture.api).await;
    assert_eq!(metrics.sum("muster_commands_ended_total", &[("state", "lost")]), 1.0);
    assert_eq!(metrics.sum("muster_commands_open", &[]), 0.0);
}

#[tokio::test]
async fn metrics_need_a_permission_and_contain_no_names() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, id) = fixture.agent(AgentOptions::named("a-name")).await;
    fixture.api.get(&format!("/api/agents/{id}")).await.expect(200);
    fixture.api.get("/no/such/path/secret-word").await.expect_problem(404, "not_found");
    let odd = reqwest::Method::from_bytes(b"ODD").expect("a method");
    let answer = fixture.api.try_send(odd, "/api/jobs", &[], None).await.expect("an answer");
    assert_eq!(answer.status, 405);
    fixture.api.with_key("").get("/metrics").await.expect_problem(401, "missing_api_key");
    let key = async |role: &str, scopes: serde_json::Value| {
        let body = json!({"name": "key", "role": role, "scopes": scopes});
        let made = fixture.api.post("/api/keys", body).await.expect(201);
        fixture.api.with_key(made.text("key"))
    };
    let looks = key("member", json!(["commands:read", "agents:read"])).await;
    looks.get("/metrics").await.expect_problem(403, "missing_scope");
    let watches = key("admin", json!(["metrics:read"])).await;
    watches.get("/api/agents").await.expect_problem(403, "missing_scope");
    let answer = watches.get("/metrics").await;
    let text = String::from_utf8(answer.bytes).expect("UTF-8");
    for absent in [id.as_str(), "a-name", "secret-word", "ODD"] {
        assert!(!text.contains(absent), "{absent}");
    }
    assert!(text.contains("route=\"/api/agents/{id}\"") && text.contains("method=\"other\""));
    assert!(text.contains("route=\"(none)\",status=\"404\""), "{text}");
}

#[tokio::test]
async fn webhooks_are_counted_by_outcome() {
    let options = ServerOptions::default()
        .with("MUSTER_ALLOW_PRIVATE_WEBHOOKS", true)
        .with("MUSTER_WEBHOOK_FIRST_RETRY_MS", 50);
    let fixture = Fixture::with(options).await;
    let (_agent, id) = fixture.agent(AgentOptions::named("agent")).await;
    let receiver = WebhookSink::start([Reaction::status(500)]).await;
    let body = json!({"script": "none", "target": {"ids": [id]}, "on_mismatch": "send",
        "webhook": {"url": receiver.url()}});
    fixture.api.post("/api/jobs", body).await.expect(202);
    eventually("both attempts are counted", async || {
        let metrics = Metrics::of(&fixture.api).await;
        let count =
            |result| metrics.sum("muster_webhook_attempts_total", &[("result", result)]) as u64;
        let is_there = count("refused") == 1
            && count("delivered") == 1
            && metrics.sum("muster_webhook_deliveries_pending", &[]) == 0.0;
        is_there.then_some(())
    })
    .await;
}

#[tokio::test]
async fn metrics_without_a_database_are_served_while_it_is_down() {
    let mut fixture = Fixture::on_cluster().await;
    let (_agent, _) = fixture.agent(AgentOptions::named("agent")).await;
    let stored = ["muster_commands_open", "muster_webhook_deliveries_pending"];
    let metrics = Metrics::of(&fixture.api).await;
    assert_eq!(metrics.sum("muster_database_up", &[]), 1.0);
    assert!(stored.iter().all(|name| metrics.has(name)));
    fixture.server.cluster().stop();
    let metrics = Metrics::of(&fixture.api).await;
    assert_eq!(metrics.sum("muster_database_up", &[]), 0.0);
    assert!(!stored.iter().any(|name| metrics.has(name)), "not what was so once");
    assert!(metrics.has("muster_agents_online") && metrics.has("muster_writer_queue_operations"));
    fixture.server.cluster().resume();
    fixture.server.ready().await;
    let metrics = Metrics::of(&fixture.api).await;
    assert_eq!(metrics.sum("muster_database_up", &[]), 1.0);
    assert!(stored.iter().all(|name| metrics.has(name)));
}

#[tokio::test]
async fn wait_of_a_queued_command_is_measured_over_a_step_of_the_clock() {
    let test_dir = TestDir::new();
    let clock = test_dir.path().join("clock");
    std::fs::write(&clock, "+0").expect("write the offset");
    let (preload, library) = fake_time("+0").into_iter().next().expect("a library");
    let options = ServerOptions::default()
        .with(preload, library)
        .with("FAKETIME_TIMESTAMP_FILE", clock.display())
        .with("FAKETIME_NO_CACHE", 1)
        .with("FAKETIME_DONT_FAKE_MONOTONIC", 1);
    let fixture = Fixture::on(test_dir, Database::Sqlite, options).await;
    let (key_id, key) = fixture.api.agent_key(json!({})).await;
    for (commands, offset) in [(1.0, "+5h"), (2.0, "-2h")] {
        drop(FakeAgent::registered(&fixture.server.address(), &key, "one").await);
        let agent = eventually("the agent is offline", async || {
            let known = fixture.agents_of(&key_id).await.pop()?;
            (known["status"] == "offline").then_some(known)
        })
        .await;
        fixture.api.execute_anyway(agent.id(), json!({"script": "x"})).await;
        std::fs::write(&clock, offset).expect("write the offset");
        let mut agent = FakeAgent::registered(&fixture.server.address(), &key, "one").await;
        agent.expect("command").await;
        let metrics = Metrics::of(&fixture.api).await;
        assert_eq!(metrics.sum("muster_dispatch_wait_seconds_count", &[]), commands);
        let waited = metrics.sum("muster_dispatch_wait_seconds_sum", &[]);
        assert!(waited < 3600.0, "{waited} seconds after a step to {offset}");
    }
}
