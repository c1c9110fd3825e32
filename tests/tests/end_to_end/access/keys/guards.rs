//! What a key with limits, an admin, a stolen session and a person who left can't reach in a roundabout way.

use muster_tests::{
    AgentOptions, Api, FakeAgent, Fixture, JsonFields as _, LiveStream, PASSWORD, Person, Script,
    on_both_databases, sign_in,
};
use reqwest::Method;
use serde_json::{Value, json};

on_both_databases!(
    a_person_keeps_no_secret_made_through_keys_of_others,
    tags_and_names_are_changed_only_by_who_may_grant_them,
    a_key_with_limits_decides_nothing_outside_of_them,
    a_schedule_keeps_the_rights_of_its_maker_when_it_is_renamed_or_enabled,
    a_stolen_session_becomes_no_key,
    an_explanation_shows_no_agents_and_rules_that_the_caller_may_not_read,
);

const OLD: &str = "UPDATE user_sessions SET confirmed_at = confirmed_at - 901000";

/// A new key: its id, and a caller with it.
async fn made(api: &Api, fields: Value) -> (String, Api) {
    let made = api.post("/api/keys", fields).await.expect(201);
    (made.id().to_owned(), api.with_key(made.text("key")))
}

async fn rotated(api: &Api, id: &str) -> Api {
    let body = json!({"grace_ms": 604_800_000});
    let made = api.post(&format!("/api/keys/{id}/rotate"), body).await.expect(200);
    api.with_key(made.text("key"))
}

async fn a_person_keeps_no_secret_made_through_keys_of_others(fixture: Fixture) {
    let ada = fixture.owner().await;
    let bert = ada.add("bert@example.com", "owner").await;
    let owner = |name: &str| json!({"name": name, "role": "owner"});
    let (first, _) = made(&ada.api, owner("ci")).await;
    let (second, second_old) = made(&ada.api, owner("deploy")).await;
    let (_, untouched) = made(&ada.api, owner("untouched")).await;
    let taken = rotated(&bert.api, &first).await;
    let (_, hidden) = made(&taken, owner("hidden")).await;
    let (_, own) = made(&bert.api, owner("own")).await;
    let other = rotated(&own, &second).await;
    // Ada rotates one again, so that what Bert knows is its previous secret.
    let (third, _) = made(&ada.api, owner("again")).await;
    let old = rotated(&bert.api, &third).await;
    let new = rotated(&ada.api, &third).await;
    old.get("/api/me").await.expect(200);
    ada.api.delete(&format!("/api/members/{}", bert.member_id)).await.expect(204);
    for secret in [&taken, &hidden, &own, &other, &old, &second_old] {
        secret.get("/api/me").await.expect(401);
    }
    for secret in [&untouched, &new] {
        secret.get("/api/me").await.expect(200);
    }

    let (parent, parent_key) = made(&ada.api, owner("parent")).await;
    let (sibling, _) = made(&ada.api, owner("sibling")).await;
    let of_sibling = rotated(&parent_key, &sibling).await;
    let path = format!("/api/keys/{parent}?cascade=true");
    let revoked = ada.api.delete(&path).await.expect(200);
    assert_eq!(revoked["revoked_keys"], json!([parent, sibling]));
    of_sibling.get("/api/me").await.expect_problem(401, "invalid_api_key");
}

async fn tags_and_names_are_changed_only_by_who_may_grant_them(fixture: Fixture) {
    let (_agent, id) = fixture.agent(AgentOptions::default()).await;
    let path = format!("/api/agents/{id}");
    let tags = |tags: &[&str]| json!({"tags": tags});
    fixture.api.patch(&path, tags(&["web", "prod"])).await.expect(200);
    let fields = json!({"name": "web", "role": "admin", "target": "tag:web"});
    let (_, limited) = made(&fixture.api, fields).await;
    for change in [tags(&["web", "prod", "db"]), json!({"name": "db-1"})] {
        limited.patch(&path, change).await.expect_problem(403, "key_has_limits");
    }
    let rule = json!({"name": "production", "target": "tag:prod"});
    fixture.api.post("/api/approvals/rules", rule).await.expect(201);
    let (_, admin) = made(&fixture.api, json!({"name": "admin", "role": "admin"})).await;
    let refused = admin.patch(&path, tags(&["web"])).await.expect_problem(403, "tags_are_guarded");
    assert!(refused.text("detail").contains("`production`"), "{refused}");
    let refused = admin.patch(&path, tags(&["prod"])).await.expect_problem(403, "tags_are_guarded");
    assert!(refused.text("detail").contains("`web`"), "{refused}");
    // A tag that the ladder counts.
    let steps = json!({"steps": [{"tag": "critical", "from_agents": 1, "demand": "refuse"}]});
    let set = fixture.api.send(Method::PUT, "/api/access/ladder", Some(steps)).await;
    set.expect(200);
    let more = admin.patch(&path, tags(&["web", "prod", "critical"])).await;
    let refused = more.expect_problem(403, "tags_are_guarded");
    assert!(refused.text("detail").contains("ladder"), "{refused}");
    // Other tags, names, and everything for an owner.
    let free = json!({"name": "front", "tags": ["web", "prod", "eu"]});
    admin.patch(&path, free).await.expect(200);
    fixture.api.patch(&path, tags(&["db"])).await.expect(200);
}

async fn a_key_with_limits_decides_nothing_outside_of_them(fixture: Fixture) {
    let scripts = [Script::new("deploy", "true"), Script::new("status", "true")];
    let (_agent, id) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    fixture.api.patch(&format!("/api/agents/{id}"), json!({"tags": ["db"]})).await.expect(200);
    let fields =
        json!({"name": "web", "role": "owner", "target": "tag:web", "scripts": ["status"]});
    let (_, limited) = made(&fixture.api, fields).await;

    let job = json!({"script": "deploy", "target": {"tags": ["db"]}});
    let schedule = json!({"name": "backup", "rule": {"cron": "@yearly"}, "job": job});
    let path = fixture.api.post("/api/schedules", schedule.clone()).await.expect(201);
    let path = format!("/api/schedules/{}", path.id());
    for answer in [
        limited.post(&format!("{path}/disable"), json!({})).await,
        limited.post(&format!("{path}/enable"), json!({})).await,
        limited.patch(&path, json!({"name": "mine"})).await,
        limited.delete(&path).await,
        limited.post("/api/schedules", schedule).await,
    ] {
        answer.expect_problem(403, "script_not_in_key");
    }
    let wide = json!({"name": "wide", "rule": {"cron": "@yearly"},
        "job": {"script": "status", "target": {"expression": "all"}}});
    limited.post("/api/schedules", wide).await.expect_problem(403, "outside_key_target");
    let inside = json!({"name": "inside", "rule": {"cron": "@yearly"},
        "job": {"script": "status", "target": {"tags": ["web"]}}});
    limited.post("/api/schedules", inside).await.expect(201);

    let rule = json!({"name": "all"});
    limited.post("/api/approvals/rules", rule.clone()).await.expect_problem(403, "key_has_limits");
    let rule = fixture.api.post("/api/approvals/rules", rule).await.expect(201);
    let path = format!("/api/approvals/rules/{}", rule.id());
    limited.delete(&path).await.expect_problem(403, "key_has_limits");
    let grace = fixture.owner().await.add("grace@example.com", "owner").await;
    let narrow = json!({"name": "narrow", "role": "owner", "target": "tag:web"});
    let (_, narrow) = made(&grace.api, narrow).await;
    fixture.api.post("/api/jobs", job).await.expect(202);
    let pending = fixture.api.get("/api/approvals?state=pending").await.expect(200);
    let path = format!("/api/approvals/{}/refuse", pending["items"][0].id());
    let refusal = narrow.post(&path, json!({"reason": "no"})).await;
    refusal.expect_problem(403, "outside_key_target");
}

async fn a_schedule_keeps_the_rights_of_its_maker_when_it_is_renamed_or_enabled(fixture: Fixture) {
    let (maker_id, maker) = made(&fixture.api, json!({"name": "maker", "role": "member"})).await;
    let schedule = json!({"name": "nightly", "rule": {"cron": "@yearly"},
        "job": {"script": "deploy", "target": {"tags": ["db"]}}});
    let schedule = maker.post("/api/schedules", schedule).await.expect(201);
    let path = format!("/api/schedules/{}", schedule.id());
    let renamed = fixture.api.patch(&path, json!({"name": "weekly"})).await.expect(200);
    assert_eq!((&renamed["owner_id"], &renamed["name"]), (&json!(maker_id), &json!("weekly")));
    fixture.api.post(&format!("{path}/disable"), json!({})).await.expect(200);
    let enabled = fixture.api.post(&format!("{path}/enable"), json!({})).await.expect(200);
    assert_eq!(enabled["owner_id"], maker_id.as_str());
    let moved = fixture.api.patch(&path, json!({"rule": {"cron": "@daily"}})).await.expect(200);
    assert_ne!(moved["owner_id"], maker_id.as_str(), "who changes the work answers for it");
}

async fn a_stolen_session_becomes_no_key(fixture: Fixture) {
    let ada = fixture.owner().await;
    let signed = sign_in(&fixture.api, &ada.email, PASSWORD).await.expect(200);
    let thief = Person::of(&fixture.api, &ada.email, &signed);
    let owner = |name: &str| json!({"name": name, "role": "owner"});
    let (own_id, own) = made(&ada.api, json!({"name": "own", "role": "member"})).await;
    let rule = ada.api.post("/api/approvals/rules", json!({"name": "all"})).await.expect(201);
    // It was stolen with a fresh proof.
    let (_, stolen) = made(&thief.api, owner("stolen")).await;
    let (_, of_stolen) = made(&stolen, owner("child")).await;
    let mine = fixture.api.get("/api/tenant").await.expect(200);
    fixture.server.query(OLD);
    for answer in [
        thief.api.post("/api/keys", owner("thief")).await,
        thief.api.post(&format!("/api/keys/{own_id}/rotate"), json!({})).await,
        thief
            .api
            .patch(
                &format!("/api/keys/{own_id}"),
                json!({"role": "admin", "scopes": ["agents:manage"]}),
            )
            .await,
        thief.api.delete(&format!("/api/approvals/rules/{}", rule.id())).await,
        thief.api.send(Method::DELETE, "/api/tenant", Some(json!({"name": mine["name"]}))).await,
    ] {
        answer.expect_problem(403, "confirmation_required");
    }
    // To narrow a key needs no proof.
    let narrower = json!({"scopes": ["agents:read"]});
    thief.api.patch(&format!("/api/keys/{own_id}"), narrower).await.expect(200);
    let change = json!({"current_password": PASSWORD, "new_password": "tired giraffe on a bus"});
    ada.api.post("/api/me/password", change).await.expect(204);
    for ended in [&thief.api, &stolen, &of_stolen] {
        ended.get("/api/me").await.expect(401);
    }
    own.get("/api/me").await.expect(200);
}

async fn an_explanation_shows_no_agents_and_rules_that_the_caller_may_not_read(fixture: Fixture) {
    let rule = json!({"name": "secret-name"});
    fixture.api.post("/api/approvals/rules", rule).await.expect(201);
    let blind =
        |name: &str, scopes: Value| json!({"name": name, "role": "owner", "scopes": scopes});
    let (_, blind_key) = made(&fixture.api, blind("blind", json!(["audit:read"]))).await;
    let path = "/api/access/explain?operation=run:deploy";
    let refused = blind_key.get(&format!("{path}&target=tag:db")).await;
    refused.expect_problem(403, "missing_scope");
    let shown = blind_key.get(path).await.expect(200);
    let rules: Vec<_> = shown.list("rules").iter().map(|rule| rule["rule"].clone()).collect();
    assert_eq!(rules, [json!("validity"), json!("scope")], "{shown}");
    let (_, runner) = made(&fixture.api, blind("runner", json!(["commands:run"]))).await;
    let shown = runner.get(path).await.expect(200);
    assert_eq!(shown["outcome"], "needs_approval", "{shown}");
    assert!(!shown.to_string().contains("secret-name"), "{shown}");
    let shown = fixture.api.get(path).await.expect(200);
    assert!(shown.to_string().contains("secret-name"), "{shown}");
}

/// The server does not wait until it forgets who the caller was.
#[tokio::test]
async fn a_session_beyond_the_limit_ends_at_once() {
    let fixture = Fixture::on_sqlite().await;
    let ada = fixture.owner().await;
    let mut stream = LiveStream::open(&ada.api, "/api/events", "").await.expect("a stream");
    stream.expect("ready").await;
    for number in 0..31 {
        fixture.server.query(&format!(
            "INSERT INTO user_sessions SELECT x'ff{number:030x}', tenant_id, member_id, created_at, \
             refreshed_at, expires_at, confirmed_at, confirmed_by_passkey, refresh_hash, previous_refresh_hash, revoked_at, \
             source FROM user_sessions WHERE id < x'ff' LIMIT 1"
        ));
    }
    ada.api.get("/api/me").await.expect(200);
    sign_in(&fixture.api, &ada.email, PASSWORD).await.expect(200);
    ada.api.get("/api/me").await.expect_problem(401, "session_ended");
    while stream.next().await.is_some() {}
}

/// As a key whose limits were narrowed.
#[tokio::test]
async fn queued_work_of_a_key_without_the_scope_is_never_sent() {
    let fixture = Fixture::on_sqlite().await;
    let (agent_key_id, agent_key) = fixture.api.agent_key(json!({})).await;
    let agent = FakeAgent::registered(&fixture.server.address(), &agent_key, "one").await;
    let id = fixture.online(&agent_key_id).await.id().to_owned();
    drop(agent);
    fixture.with_status(&agent_key_id, "offline").await;
    let (demoted_id, demoted) = made(&fixture.api, json!({"name": "demoted"})).await;
    let (bare_id, bare) = made(&fixture.api, json!({"name": "bare", "role": "owner"})).await;
    let (_, free) = made(&fixture.api, json!({"name": "free"})).await;
    let by_demoted = demoted.execute_anyway(&id, json!({"script": "x"})).await;
    let by_bare = bare.execute_anyway(&id, json!({"argv": ["id"]})).await;
    let by_free = free.execute_anyway(&id, json!({"script": "x"})).await;
    let auditor = json!({"role": "auditor"});
    fixture.api.patch(&format!("/api/keys/{demoted_id}"), auditor).await.expect(200);
    let scopes = json!({"scopes": ["commands:run"]});
    fixture.api.patch(&format!("/api/keys/{bare_id}"), scopes).await.expect(200);
    let mut agent = FakeAgent::registered(&fixture.server.address(), &agent_key, "one").await;
    let sent = agent.expect("command").await;
    assert_eq!(sent["command_id"], by_free.as_str(), "a command without the scope was sent");
    for command in [by_demoted, by_bare] {
        let ended = fixture.api.finished(&command).await;
        let seen = (&ended["state"], &ended["error_code"], &ended["delivered_at"]);
        assert_eq!(seen, (&json!("rejected"), &json!("outside_key_limits"), &Value::Null));
    }
}
