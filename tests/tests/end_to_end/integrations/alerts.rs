//! Alerts with real servers and agents: each opens once and is resolved once.

use chrono::{Duration, Utc};
use muster_tests::{
    AgentOptions, CertifiedHost, Cli, Database, FakeAgent, Fixture, JsonFields as _, LiveStream,
    ServerOptions, TestDir, WebhookSink, eventually,
};
use serde_json::{Value, json};

use super::webhooks::{on_postgres, options};

/// An integration that sends alerts to the receiver.
async fn sending(fixture: &Fixture, receiver: &WebhookSink) {
    let body = json!({"kind": "webhook", "name": "alerts", "settings": {"url": receiver.url()},
        "event_types": ["alert.opened", "alert.resolved"]});
    fixture.api.post("/api/integrations", body).await.expect(201);
}

async fn rule(fixture: &Fixture, body: Value) -> String {
    let created = fixture.api.post("/api/alerts/rules", body).await.expect(201);
    format!("/api/alerts/rules/{}", created.id())
}

async fn alerts(fixture: &Fixture, query: &str) -> Vec<Value> {
    fixture.api.get(&format!("/api/alerts{query}")).await.expect(200).list("items").clone()
}

/// Waits until so many alerts match the query.
async fn with_alerts(fixture: &Fixture, query: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} alerts: {query}"), async || {
        Some(alerts(fixture, query).await).filter(|found| found.len() == count)
    })
    .await
}

/// Has a rule checked now, and waits for it.
async fn checked(fixture: &Fixture, path: &str) {
    let before = fixture.api.get(path).await.expect(200);
    let body = json!({"name": before.text("name")});
    fixture.api.patch(path, body).await.expect(200);
    eventually("the rule is checked", async || {
        let now = fixture.api.get(path).await.expect(200);
        (now["checked_at"] != before["checked_at"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn stream_of_events_has_alerts_and_changes_of_rules() {
    let fixture = Fixture::with(options()).await;
    let (mut agent, _) = fixture.agent(AgentOptions::named("web-1")).await;
    let limited = json!({"name": "k", "role": "auditor", "scopes": ["agents:read"]});
    let limited = fixture.api.post("/api/keys", limited).await.expect(201);
    let limited = fixture.api.with_key(limited.text("key"));
    let refused = LiveStream::open(&limited, "/api/events?types=alert", "").await;
    refused.expect_err("refused").expect_problem(403, "missing_scope");
    let types = "/api/events?types=alert,alert_rule";
    let mut events = LiveStream::open(&fixture.api, types, "").await.expect("a stream");
    let down = json!({"name": "down", "metric": "agents_online", "threshold": 1, "for_ms": 0});
    let path = rule(&fixture, down).await;
    let id = json!(path.rsplit('/').next());
    let changed = events.expect("alert_rule").await.data;
    assert_eq!((&changed["id"], &changed["silenced_until"]), (&id, &Value::Null));
    agent.stop();
    let opened = events.expect("alert").await.data;
    assert_eq!((&opened["rule_id"], &opened["state"]), (&id, &json!("open")), "{opened}");
    let shown = with_alerts(&fixture, "?is_open=true", 1).await.remove(0);
    assert_eq!(opened["id"], shown["id"]);
    let until = (Utc::now() + Duration::hours(1)).to_rfc3339();
    fixture.api.post(&format!("{path}/silence"), json!({"until": until})).await.expect(200);
    assert!(events.expect("alert_rule").await.data["silenced_until"].is_string());
    fixture.api.delete(&path).await.expect(204);
    let resolved = events.expect("alert").await.data;
    assert_eq!((&resolved["id"], &resolved["state"]), (&opened["id"], &json!("resolved")));
    assert_eq!(events.expect("alert_rule").await.data["id"], id);
}

#[tokio::test]
async fn rules_have_pages() {
    let fixture = Fixture::on_sqlite().await;
    let cli = fixture.cli().await;
    for number in 0..3 {
        let name = format!("rule {number}");
        let body = json!({"name": name, "metric": "disk_percent", "threshold": 90});
        rule(&fixture, body).await;
    }
    let first = fixture.api.get("/api/alerts/rules?limit=2").await.expect(200);
    assert_eq!(first.list("items").len(), 2);
    let next = format!("/api/alerts/rules?limit=2&cursor={}", first.text("next_cursor"));
    let second = fixture.api.get(&next).await.expect(200);
    assert_eq!(
        (&second["items"][0]["name"], &second["next_cursor"]),
        (&json!("rule 2"), &Value::Null)
    );
    let all = cli.run(&["alerts", "rules"]).await.expect(0);
    assert!(all.contains("rule 0") && all.contains("rule 2"), "{all}");
}

mod alert_opens_without_agents_and_is_resolved_when_one_is_back {
    use super::{missing_agents, on_postgres, options};
    use muster_tests::Fixture;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_sqlite() {
        missing_agents(Fixture::with(options()).await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_a_cluster() {
        missing_agents(on_postgres().await).await;
    }
}

async fn missing_agents(fixture: Fixture) {
    let receiver = WebhookSink::start([]).await;
    sending(&fixture, &receiver).await;
    let (mut agent, id) = fixture.agent(AgentOptions::named("web-1")).await;
    let tags = json!({"tags": ["web"]});
    fixture.api.patch(&format!("/api/agents/{id}"), tags).await.expect(200);
    let path = rule(
        &fixture,
        json!({"name": "web-down", "metric": "agents_online", "threshold": 1, "for_ms": 0,
            "target": {"expression": "tag:web"}}),
    )
    .await;
    checked(&fixture, &path).await;
    assert_eq!(alerts(&fixture, "").await, [] as [Value; 0], "an agent is online");
    agent.kill_9();
    let open = with_alerts(&fixture, "?is_open=true", 1).await.remove(0);
    assert_eq!((&open["metric"], &open["value"]), (&json!("agents_online"), &json!(0.0)));
    assert!(open["agent_id"].is_null() && open["resolved_at"].is_null(), "{open}");
    checked(&fixture, &path).await;
    agent.resume();
    let ended = with_alerts(&fixture, "?is_open=false", 1).await.remove(0);
    assert_eq!((ended.id(), &ended["end_reason"]), (open.id(), &json!("cleared")));
    checked(&fixture, &path).await;
    let sent: Vec<_> = receiver.receives(2).await.iter().map(|one| one.json()).collect();
    assert_eq!(sent.len(), 2, "each once: {sent:?}");
    assert_eq!(
        (&sent[0]["type"], &sent[1]["type"]),
        (&json!("alert.opened"), &json!("alert.resolved"))
    );
    assert_eq!(sent[0]["data"]["rule_name"], "web-down");
    assert_eq!(sent[0]["data"]["alert_id"], sent[1]["data"]["alert_id"]);
    assert_eq!(alerts(&fixture, "").await.len(), 1);
}

#[tokio::test]
async fn disk_above_its_threshold_opens_an_alert_of_the_agent_until_it_is_clear() {
    let fixture = Fixture::with(options()).await;
    let receiver = WebhookSink::start([]).await;
    sending(&fixture, &receiver).await;
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let mut agent = FakeAgent::registered(&fixture.server.address(), &key, "db-1").await;
    let id = fixture.api.get("/api/agents").await.expect(200)["items"][0].id().to_owned();
    agent.send(json!({"type": "heartbeat", "status": {"disk_percent": 95.0}})).await;
    agent.expect("heartbeat_ack").await;
    eventually("the value is stored", async || {
        let shown = fixture.api.get(&format!("/api/agents/{id}")).await.expect(200);
        (shown["telemetry"]["disk_percent"] == 95.0).then_some(())
    })
    .await;
    // The server stores the values of a connection seldom, so later ones are written by the test.
    let becomes = |percent: f64| {
        let change =
            format!("UPDATE telemetry_samples SET disk_percent = {percent:.1} RETURNING 1");
        assert_eq!(fixture.server.query(&change).len(), 1);
    };
    let path = rule(
        &fixture,
        json!({"name": "disk", "metric": "disk_percent", "threshold": 90, "clear_threshold": 80,
            "for_ms": 0}),
    )
    .await;
    let open = with_alerts(&fixture, "?is_open=true", 1).await.remove(0);
    assert_eq!((open["agent_id"].as_str(), &open["value"]), (Some(id.as_str()), &json!(95.0)));
    assert_eq!(open["agent_name"], "db-1", "{open}");
    let listed = fixture.cli().await.run(&["alerts"]).await.expect(0);
    assert!(listed.contains("db-1"), "{listed}");
    for percent in [85.0, 91.0] {
        becomes(percent);
        checked(&fixture, &path).await;
        assert_eq!(
            alerts(&fixture, "").await,
            std::slice::from_ref(&open),
            "{percent} changes nothing"
        );
    }
    becomes(80.0);
    checked(&fixture, &path).await;
    let ended = with_alerts(&fixture, "?is_open=false", 1).await.remove(0);
    assert_eq!(ended.id(), open.id());
    let sent: Vec<_> = receiver.receives(2).await.iter().map(|one| one.json()).collect();
    assert_eq!(sent[0]["data"]["agent"]["id"], id, "{sent:?}");
    assert_eq!(sent.len(), 2, "{sent:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_that_ends_soon_opens_an_alert_of_its_agent_until_it_is_renewed() {
    let test_dir = TestDir::new();
    let options = ServerOptions::issuing(&test_dir).with("MUSTER_REQUIRE_CLIENT_CERT", "agents");
    let fixture = Fixture::on(test_dir, Database::Sqlite, options).await;
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let mut host = CertifiedHost::new();
    let authority = fixture.server.data_dir().join("ca.pem");
    host.enrol(&authority, &fixture.server.address(), &key).await;
    let fewer =
        json!({"name": "certificates", "metric": "certificate_days", "threshold": 7, "for_ms": 0});
    let path = rule(&fixture, fewer).await;
    checked(&fixture, &path).await;
    assert_eq!(alerts(&fixture, "").await, [] as [Value; 0], "it is valid for 30 days");
    let earlier_by = |days: i64| {
        let change = format!(
            "UPDATE client_certificates SET expires_at = expires_at - {} RETURNING 1",
            days * 86_400_000
        );
        assert_eq!(fixture.server.query(&change).len(), 1);
    };
    // The agent is offline, so nothing renews it.
    earlier_by(28);
    checked(&fixture, &path).await;
    let open = with_alerts(&fixture, "?is_open=true", 1).await.remove(0);
    assert_eq!(open["agent_id"], host.agent_id(), "{open}");
    let days = open["value"].as_f64().expect("days");
    assert!((1.0..=2.0).contains(&days), "{open}");
    earlier_by(-28);
    checked(&fixture, &path).await;
    let ended = with_alerts(&fixture, "?is_open=false", 1).await.remove(0);
    assert_eq!((ended.id(), &ended["end_reason"]), (open.id(), &json!("cleared")));
    let cli = Cli::new(&fixture.test_dir);
    let (url, trusted) = (fixture.server.url(), authority.display().to_string());
    let login = ["login", "--server", &url, "--ca-file", &trusted];
    cli.run_with_input(&login, fixture.api.key()).await.expect(0);
    cli.run(&["alerts", "add", "soon", "--certificate-days-below", "9"]).await.expect(0);
    let made = fixture.api.get("/api/alerts/rules").await.expect(200);
    assert_eq!(made["items"][1]["metric"], "certificate_days", "{made}");
}

#[tokio::test]
async fn silence_and_freeze_hold_back_an_alert_and_a_disabled_rule_resolves_it() {
    let fixture = Fixture::with(options()).await;
    let span = |from: Duration, until: Duration| {
        let now = Utc::now();
        json!([{"kind": "freeze", "starts_at": (now + from).to_rfc3339(),
            "ends_at": (now + until).to_rfc3339()}])
    };
    let entries = span(Duration::minutes(-1), Duration::hours(1));
    let calendar = json!({"name": "sale", "entries": entries});
    let calendar = fixture.api.post("/api/calendars", calendar).await.expect(201);
    let path = rule(
        &fixture,
        json!({"name": "down", "metric": "agents_online", "threshold": 1, "for_ms": 0}),
    )
    .await;
    let silence = format!("{path}/silence");
    let until = (Utc::now() + Duration::hours(1)).to_rfc3339();
    checked(&fixture, &path).await;
    assert_eq!(alerts(&fixture, "").await.len(), 0, "a freeze holds");
    fixture.api.post(&silence, json!({"until": until})).await.expect(200);
    fixture.api.delete(&format!("/api/calendars/{}", calendar.id())).await.expect(204);
    checked(&fixture, &path).await;
    assert_eq!(alerts(&fixture, "").await.len(), 0, "a silence holds");
    let past = json!({"until": "2026-01-01T00:00:00Z"});
    fixture.api.post(&silence, past).await.expect_problem(422, "invalid_field");
    fixture.api.post(&silence, json!({})).await.expect(200);
    with_alerts(&fixture, "?is_open=true", 1).await;
    fixture.api.patch(&path, json!({"is_enabled": false})).await.expect(200);
    let ended = alerts(&fixture, "").await.remove(0);
    assert_eq!(ended["end_reason"], "rule_changed", "{ended}");
    let actions = fixture.api.get("/api/audit?action=alert_rule.silence").await.expect(200);
    assert_eq!(actions.list("items").len(), 2, "{actions}");
}

#[tokio::test]
async fn rule_that_can_not_work_is_refused_with_its_field() {
    let fixture = Fixture::on_sqlite().await;
    let valid = json!({"name": "disk", "metric": "disk_percent", "threshold": 90});
    for (field, value) in [
        ("threshold", json!(101)),
        // Nothing is above 100 percent, so the alert would never open.
        ("threshold", json!(100)),
        ("threshold", json!(-1)),
        ("clear_threshold", json!(91)),
        ("for_ms", json!(86_400_001)),
        ("clear_for_ms", json!(86_400_001)),
        ("name", json!("")),
    ] {
        let mut body = valid.clone();
        body[field] = value;
        let problem = fixture.api.post("/api/alerts/rules", body).await.expect(422);
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    let half = json!({"name": "n", "metric": "agents_online", "threshold": 1.5});
    let problem = fixture.api.post("/api/alerts/rules", half).await.expect(422);
    assert_eq!(problem["errors"][0]["field"], "threshold", "{problem}");
    let target =
        json!({"name": "n", "metric": "load_1m", "threshold": 1, "target": {"expression": "("}});
    fixture.api.post("/api/alerts/rules", target).await.expect(422);
    fixture.api.post("/api/alerts/rules", valid.clone()).await.expect(201);
    let again = fixture.api.post("/api/alerts/rules", valid).await;
    again.expect_problem(409, "alert_rule_exists");
}

#[tokio::test]
async fn command_line_manages_alert_rules() {
    let fixture = Fixture::on_sqlite().await;
    let cli = fixture.cli().await;
    let none = cli.run(&["alerts", "rules"]).await.expect(0);
    assert!(none.contains("No alert rules yet"), "{none}");
    let add = ["alerts", "add", "down", "--online-below", "1", "--for", "0s", "--on", "all"];
    cli.run(&add).await.expect(0);
    with_alerts(&fixture, "", 1).await;
    let listed = cli.run(&["alerts"]).await.expect(0);
    assert!(listed.contains("down") && listed.contains("agents_online"), "{listed}");
    cli.run(&["alerts", "edit", "down", "--disk-above", "90", "--clear-at", "85"]).await.expect(0);
    let shown = cli.run(&["alerts", "show", "down", "--json"]).await.json();
    assert_eq!(
        (&shown["metric"], &shown["clear_threshold"]),
        (&json!("disk_percent"), &json!(85.0))
    );
    let open = cli.run(&["alerts", "list", "--json"]).await.json();
    assert_eq!(open["items"], json!([]), "another metric resolves it");
    let until = ["alerts", "silence", "down", "--until", "2099-01-01T00:00:00Z"];
    cli.run(&until).await.expect(1);
    let wrong = cli.run(&["alerts", "edit", "down", "--clear-at", "95"]).await;
    wrong.expect(1);
    cli.run(&["alerts", "remove", "down"]).await.expect(0);
    let all = cli.run(&["alerts", "list", "--all", "--json"]).await.json();
    assert_eq!(all["items"], json!([]));
}

#[tokio::test]
async fn freeze_of_one_agent_holds_back_no_alert_about_another() {
    let fixture = Fixture::with(options()).await;
    let (_here, here) = fixture.agent(AgentOptions::named("here")).await;
    let (mut gone, _) = fixture.agent(AgentOptions::named("gone")).await;
    let now = Utc::now();
    let entries = json!([{"kind": "freeze", "starts_at": (now - Duration::minutes(1)).to_rfc3339(),
        "ends_at": (now + Duration::hours(1)).to_rfc3339()}]);
    let calendar = json!({"name": "one", "entries": entries, "target": {"ids": [here]}});
    fixture.api.post("/api/calendars", calendar).await.expect(201);
    let down = json!({"name": "down", "metric": "agents_online", "threshold": 2, "for_ms": 0});
    rule(&fixture, down).await;
    gone.stop();
    with_alerts(&fixture, "?is_open=true", 1).await;
}
