//! Waves of groups in unusual cases: hosts that are busy, late or reinstalled, and people who stop
//! a group. The agents are scripted, because only the server is tested.

use muster_tests::{FakeAgent, Fixture, JsonFields as _, Publisher, eventually, on_both_databases};
use serde_json::{Value, json};
use uuid::Uuid;

use super::groups::group;

on_both_databases!(
    paused_group_still_records_results_of_its_agents,
    resuming_an_active_group_has_no_effect,
    group_of_a_revoked_key_halts_before_its_next_wave_until_another_key_resumes_it,
    calendar_holds_back_the_waves_of_its_agents_until_it_is_deleted,
);

/// A scripted host, which can reconnect.
struct ReconnectingHost {
    agent: FakeAgent,
    key: String,
    said: Value,
    id: String,
}

impl ReconnectingHost {
    async fn new(fixture: &Fixture, name: &str, max_executions: u32) -> Self {
        let permissions = json!(["ping", "scripts", "execute", "update"]);
        Self::with_permissions(fixture, name, max_executions, permissions).await
    }

    async fn with_permissions(
        fixture: &Fixture,
        name: &str,
        max_executions: u32,
        permissions: Value,
    ) -> Self {
        let (_, key) = fixture.api.agent_key(json!({"permissions": permissions})).await;
        let said = json!({
            "hostname": name, "version": "0.1.0", "max_executions": max_executions,
            "os": "Linux 6.1", "arch": "x86_64",
            "service_manager": if name == "openrc" { "openrc" } else { "systemd" },
            "machine_id": Uuid::new_v4().simple().to_string(), "ledger_id": Uuid::new_v4(),
            "capabilities": ["ping", "scripts", "execute", "update", "releases", "facts"],
        });
        let address = fixture.server.address();
        let (agent, registered) = FakeAgent::registered_full(&address, &key, said.clone()).await;
        let id = registered.text("agent_id").to_owned();
        let mut said = said;
        said["agent_id"] = registered["agent_id"].clone();
        Self { agent, key, said, id }
    }

    /// Reconnects as the same agent.
    async fn reconnect(&mut self, fixture: &Fixture) {
        let (address, said) = (fixture.server.address(), self.said.clone());
        (self.agent, _) = FakeAgent::registered_full(&address, &self.key, said).await;
    }

    /// Waits for a durable command, and skips other frames such as receipts.
    async fn is_asked(&mut self, command: &str) -> Value {
        loop {
            let frame = self.agent.next().await.expect("a session that goes on");
            if frame["type"] == "command" && frame["command"] == command {
                return frame;
            }
        }
    }

    async fn answers(&mut self, asked: &Value, success: bool) {
        let mut answer = json!({
            "type": "response", "command_id": asked["command_id"], "success": success,
            "data": {"update_result": "installed", "from_version": "0.1.0", "to_version": "0.2.0"},
        });
        if !success {
            answer["data"] = json!({});
            answer["error"] = json!("the sum is wrong");
            answer["error_code"] = json!("wrong_sum");
        }
        self.agent.send(answer).await;
    }
}

/// Publishes release 0.2.0.
async fn with_release(fixture: &Fixture) {
    Publisher::new(fixture).await.release("0.2.0").await;
}

/// A group of all agents with the desired version 0.2.0.
async fn group_for_next_version(fixture: &Fixture, fields: Value) -> String {
    let mut body =
        json!({"name": "all", "target": {"expression": "all"}, "desired_version": "0.2.0"});
    for (name, value) in fields.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    let made = fixture.api.post("/api/groups", body).await.expect(201);
    made.id().to_owned()
}

async fn change(fixture: &Fixture, id: &str, what: &str) -> Value {
    fixture.api.post(&format!("/api/groups/{id}/{what}"), json!({})).await.expect(200)
}

async fn paused_group_still_records_results_of_its_agents(fixture: Fixture) {
    with_release(&fixture).await;
    let mut one = ReconnectingHost::new(&fixture, "one", 16).await;
    let mut two = ReconnectingHost::new(&fixture, "openrc", 16).await;
    let id = group_for_next_version(&fixture, json!({"wave_size": 2})).await;
    let (first, second) = (one.is_asked("update").await, two.is_asked("update").await);
    change(&fixture, &id, "pause").await;
    one.answers(&first, true).await;
    two.answers(&second, false).await;
    let all_told = |shown: &Value| shown["updating_count"] == 0;
    let shown = group(&fixture, &id, "both have told", all_told).await;
    assert_eq!((&shown["state"], &shown["failed_count"]), (&json!("paused"), &json!(1)), "{shown}");
    assert_eq!(shown["problems"][0]["code"], "wrong_sum", "{shown}");
    assert_eq!(shown["problems"][0]["agent_id"], two.id.as_str(), "{shown}");
}

async fn resuming_an_active_group_has_no_effect(fixture: Fixture) {
    with_release(&fixture).await;
    let mut one = ReconnectingHost::new(&fixture, "one", 16).await;
    let mut two = ReconnectingHost::new(&fixture, "openrc", 16).await;
    let id = group_for_next_version(&fixture, json!({"wave_size": 2, "max_failures": 1})).await;
    let (first, second) = (one.is_asked("update").await, two.is_asked("update").await);
    one.answers(&first, true).await;
    two.answers(&second, false).await;
    let has_failed = |shown: &Value| shown["failed_count"] == 1 && shown["updating_count"] == 0;
    let shown = group(&fixture, &id, "one has failed", has_failed).await;
    for _ in 0..2 {
        let again = change(&fixture, &id, "resume").await;
        assert_eq!((&again["wave"], &again["failed_count"]), (&json!(1), &json!(1)), "{again}");
        assert_eq!(again["changed_at"], shown["changed_at"]);
    }
    // After a pause the update is requested.
    for _ in 0..2 {
        change(&fixture, &id, "pause").await;
    }
    change(&fixture, &id, "resume").await;
    let again = two.is_asked("update").await;
    assert_ne!(again["command_id"], second["command_id"]);
}

async fn group_of_a_revoked_key_halts_before_its_next_wave_until_another_key_resumes_it(
    fixture: Fixture,
) {
    with_release(&fixture).await;
    let made = fixture.api.post("/api/keys", json!({"name": "k", "role": "admin"})).await;
    let made = made.expect(201);
    let requester = fixture.api.with_key(made.text("key"));
    let mut one = ReconnectingHost::new(&fixture, "one", 16).await;
    let mut two = ReconnectingHost::new(&fixture, "two", 16).await;
    let body = json!({"name": "all", "target": {"expression": "all"}, "desired_version": "0.2.0",
        "wave_size": 1});
    let id = requester.post("/api/groups", body).await.expect(201).id().to_owned();
    let asked = tokio::select! {
        asked = one.is_asked("update") => (asked, true),
        asked = two.is_asked("update") => (asked, false),
    };
    let (asked, first, other) = match asked {
        (asked, true) => (asked, &mut one, &mut two),
        (asked, false) => (asked, &mut two, &mut one),
    };
    fixture.api.delete(&format!("/api/keys/{}", made.id())).await.expect(200);
    // What was sent ends as it does, and nothing follows it.
    first.answers(&asked, true).await;
    // The new connection ends the old one, so the answer has to be there first.
    fixture.api.finished(asked.text("command_id")).await;
    first.said["version"] = json!("0.2.0");
    first.reconnect(&fixture).await;
    let shown = group(&fixture, &id, "it halts", |shown| shown["state"] == "halted").await;
    let reason = shown.text("halt_reason");
    assert!(reason.contains("the API key that requested it was revoked"), "{reason}");
    assert_eq!((&shown["up_to_date_count"], &shown["updating_count"]), (&json!(1), &json!(0)));
    let sent = fixture.server.query("SELECT 1 FROM commands WHERE command = 'update'");
    assert_eq!(sent.len(), 1, "{sent:?}");
    change(&fixture, &id, "resume").await;
    other.is_asked("update").await;
}

async fn calendar_holds_back_the_waves_of_its_agents_until_it_is_deleted(fixture: Fixture) {
    with_release(&fixture).await;
    let mut one = ReconnectingHost::new(&fixture, "one", 16).await;
    let mut two = ReconnectingHost::new(&fixture, "two", 16).await;
    let mut free = ReconnectingHost::new(&fixture, "free", 16).await;
    for host in [&mut one, &mut two] {
        let tags = json!({"tags": ["held"]});
        let path = format!("/api/agents/{}", host.id);
        fixture.api.patch(&path, tags).await.expect(200);
        // The group does not name the fact that the calendar names.
        host.agent.send(json!({"type": "facts", "facts": {"place": "shop"}})).await;
        eventually("the facts are known", async || {
            let known = fixture.api.get(&format!("{path}/facts")).await.expect(200);
            (known["facts"]["place"] == "shop").then_some(())
        })
        .await;
    }
    let held = json!({"name": "held", "target": {"tags": ["held"]}, "wave_size": 1});
    let id = group_for_next_version(&fixture, held).await;
    let (asked, first, other) = tokio::select! {
        asked = one.is_asked("update") => (asked, &mut one, &mut two),
        asked = two.is_asked("update") => (asked, &mut two, &mut one),
    };
    let now = chrono::Utc::now();
    let entries = json!([{"kind": "freeze", "starts_at": (now - chrono::Duration::minutes(1)).to_rfc3339(),
        "ends_at": (now + chrono::Duration::hours(1)).to_rfc3339()}]);
    let calendar = json!({"name": "sale", "entries": entries,
        "target": {"expression": "tag:held & fact:place=shop"}});
    let calendar = fixture.api.post("/api/calendars", calendar).await.expect(201);
    // The update that was requested continues.
    first.answers(&asked, true).await;
    fixture.api.finished(asked.text("command_id")).await;
    first.said["version"] = json!("0.2.0");
    first.reconnect(&fixture).await;
    group(&fixture, &id, "the first is updated", |shown| shown["up_to_date_count"] == 1).await;
    // A round that starts the wave of another group has looked at this group too.
    let others = json!({"name": "free", "target": {"ids": [free.id]}});
    group_for_next_version(&fixture, others).await;
    free.is_asked("update").await;
    let shown = group(&fixture, &id, "it is active", |shown| shown["state"] == "active").await;
    assert_eq!((&shown["wave"], &shown["updating_count"]), (&json!(1), &json!(0)), "{shown}");
    let sent = fixture.server.query("SELECT 1 FROM commands WHERE command = 'update'");
    assert_eq!(sent.len(), 2, "the second wave is held back: {sent:?}");
    fixture.api.delete(&format!("/api/calendars/{}", calendar.id())).await.expect(204);
    other.is_asked("update").await;
}

#[tokio::test]
async fn agent_whose_key_forbids_updates_halts_its_group_with_a_reason() {
    let fixture = Fixture::on_sqlite().await;
    with_release(&fixture).await;
    let host =
        ReconnectingHost::with_permissions(&fixture, "host", 16, json!(["ping", "execute"])).await;
    let id = group_for_next_version(&fixture, json!({})).await;
    let shown = group(&fixture, &id, "it halts", |shown| shown["state"] == "halted").await;
    let trouble = &shown["problems"][0];
    assert_eq!(
        (&trouble["agent_id"], &trouble["code"]),
        (&json!(host.id), &json!("permission_denied"))
    );
    let message = trouble.text("message");
    assert!(message.contains("does not allow `update`"), "{message}");
    let reason = shown.text("halt_reason");
    assert!(reason.starts_with("Halted: 1 failed, the limit is"), "{reason}");
}

#[tokio::test]
async fn busy_host_delays_no_other_and_is_reported_as_busy() {
    let fixture = Fixture::on_postgres().await;
    with_release(&fixture).await;
    let mut busy = ReconnectingHost::new(&fixture, "busy", 1).await;
    let body = json!({"command": "execute", "data": {"script": "long"}, "on_mismatch": "send"});
    fixture.api.post(&format!("/api/agents/{}/command", busy.id), body).await.expect(202);
    let long = busy.is_asked("execute").await;
    let mut other = ReconnectingHost::new(&fixture, "other", 1).await;
    let id = group_for_next_version(&fixture, json!({})).await;
    // The command expires while it waits for a slot.
    let expire = "UPDATE commands SET expires_at = 1 WHERE command = 'update' AND state = 'queued'
        RETURNING agent_id";
    eventually("the busy one was asked", async || {
        let asked = fixture.server.query(expire);
        asked.iter().any(|row| row.contains(&busy.id)).then_some(())
    })
    .await;
    let asked = other.is_asked("update").await;
    other.answers(&asked, true).await;
    let is_over = |shown: &Value| shown["pending_count"] == 1 && shown["updating_count"] == 0;
    let shown = group(&fixture, &id, "only the busy one is left", is_over).await;
    assert_eq!((&shown["state"], &shown["wave"]), (&json!("active"), &json!(2)), "{shown}");
    let trouble = &shown["problems"][0];
    assert_eq!((&trouble["agent_id"], &trouble["code"]), (&json!(busy.id), &json!("busy")));

    fixture.server.query("UPDATE agent_updates SET due_at = 1 WHERE state = 'pending' RETURNING 1");
    busy.answers(&long, true).await;
    // A change of the group triggers a round at once.
    fixture.api.patch(&format!("/api/groups/{id}"), json!({"healthy_for_ms": 0})).await.expect(200);
    busy.is_asked("update").await;
}

#[tokio::test]
async fn idle_group_updates_new_agents_although_one_of_its_last_wave_is_offline() {
    let fixture = Fixture::on_postgres().await;
    with_release(&fixture).await;
    let mut first = ReconnectingHost::new(&fixture, "first", 16).await;
    let id = group_for_next_version(&fixture, json!({})).await;
    let asked = first.is_asked("update").await;
    first.answers(&asked, true).await;
    eventually("its wave is well", async || {
        let well = fixture.server.query("SELECT 1 FROM agent_groups WHERE healthy_wave = 1");
        (!well.is_empty()).then_some(())
    })
    .await;
    // Months later, the host is switched off.
    let long_ago = "UPDATE agent_updates SET changed_at = 1 RETURNING 1";
    assert!(!fixture.server.query(long_ago).is_empty());
    drop(first);
    let mut second = ReconnectingHost::new(&fixture, "second", 16).await;
    second.is_asked("update").await;
    let shown = group(&fixture, &id, "it is asked", |shown| shown["updating_count"] == 1).await;
    assert_eq!((&shown["state"], &shown["wave"]), (&json!("active"), &json!(2)), "{shown}");
}

#[tokio::test]
async fn member_that_reconnects_with_another_version_is_updated_again() {
    let fixture = Fixture::on_postgres().await;
    with_release(&fixture).await;
    let mut host = ReconnectingHost::new(&fixture, "host", 16).await;
    // An agent without an attempt comes first, so the wave must have space for both.
    let id = group_for_next_version(&fixture, json!({"wave_size": 2})).await;
    let first = host.is_asked("update").await;
    host.answers(&first, true).await;
    group(&fixture, &id, "it has told", |shown| shown["updating_count"] == 0).await;
    host.said["version"] = json!("0.2.0");
    host.reconnect(&fixture).await;
    group(&fixture, &id, "it is there", |shown| shown["up_to_date_count"] == 1).await;
    // It was reinstalled with an older version, and does not update itself to the desired one.
    host.said["version"] = json!("0.1.5");
    host.reconnect(&fixture).await;
    let shown =
        group(&fixture, &id, "it is not there", |shown| shown["up_to_date_count"] == 0).await;
    assert_eq!(shown["updating_count"], 0, "it has a minute: {shown}");
    for statement in [
        "UPDATE agent_updates SET changed_at = 1 RETURNING 1",
        "UPDATE agents SET connected_at = connected_at - 120000 RETURNING 1",
    ] {
        assert!(!fixture.server.query(statement).is_empty());
    }
    // An agent that connects triggers a round.
    let _other = ReconnectingHost::new(&fixture, "other", 16).await;
    let second = host.is_asked("update").await;
    assert_ne!(first["command_id"], second["command_id"]);
}
