//! Secrets of API keys: rotation with an overlap, and their last use.

use std::time::Duration;

use chrono::{DateTime, Utc};
use muster_tests::{
    Api, FakeAgent, Fixture, JsonFields as _, LiveStream, eventually_shown, on_both_databases,
};
use serde_json::{Value, json};
use tokio::time::timeout;

on_both_databases!(
    a_rotated_key_has_two_secrets_until_the_overlap_ends,
    an_old_secret_takes_no_key_over,
    a_key_that_replaces_its_own_secret_always_gets_the_new_one,
    both_secrets_of_a_rotated_key_end_with_its_revocation,
    both_secrets_and_the_keys_that_they_made_are_narrowed_with_a_rotated_key,
    streams_and_polls_of_an_old_secret_end_with_the_overlap,
    the_last_use_of_a_key_and_of_its_old_secret_is_shown,
);

/// Generous: a stream ends at once, or never.
const PATIENCE: Duration = Duration::from_secs(45);

async fn made(api: &Api, fields: Value) -> (String, Api) {
    let made = api.post("/api/keys", fields).await.expect(201);
    (made.id().to_owned(), api.with_key(made.text("key")))
}

async fn rotated(api: &Api, id: &str, grace_ms: u64) -> (Value, Api) {
    let body = json!({"grace_ms": grace_ms});
    let answer = api.post(&format!("/api/keys/{id}/rotate"), body).await.expect(200);
    let key = api.with_key(answer.text("key"));
    (answer, key)
}

async fn a_rotated_key_has_two_secrets_until_the_overlap_ends(fixture: Fixture) {
    let (id, first) = made(&fixture.api, json!({"name": "ci", "role": "owner"})).await;
    first.get("/api/agents").await.expect(200);
    let (answer, second) = rotated(&fixture.api, &id, 3_600_000).await;
    assert_eq!((answer.id(), &answer["name"]), (id.as_str(), &json!("ci")));
    let until: DateTime<Utc> =
        answer["previous_secret"].text("valid_until").parse().expect("an instant");
    assert!(until > Utc::now(), "{answer}");
    first.get("/api/agents").await.expect(200);
    second.get("/api/agents").await.expect(200);
    // Another person may know the old secret, so it manages no key.
    let child = first.post("/api/keys", json!({"name": "c"})).await;
    child.expect_problem(403, "previous_secret");

    // The next rotation ends the oldest secret at once.
    let (_, third) = rotated(&fixture.api, &id, 3_600_000).await;
    first.get("/api/agents").await.expect_problem(401, "invalid_api_key");
    second.get("/api/agents").await.expect(200);
    let shown = fixture.api.delete(&format!("/api/keys/{id}/previous-secret")).await.expect(200);
    assert!(shown["previous_secret"].is_null(), "{shown}");
    second.get("/api/agents").await.expect_problem(401, "expired_api_key");
    third.get("/api/agents").await.expect(200);
    let (answer, fourth) = rotated(&fixture.api, &id, 0).await;
    assert!(answer["previous_secret"].is_null(), "{answer}");
    third.get("/api/agents").await.expect_problem(401, "expired_api_key");
    fourth.get("/api/agents").await.expect(200);
    let too_long = json!({"grace_ms": 7 * 24 * 3_600_000_u64 + 1});
    let path = format!("/api/keys/{id}/rotate");
    fixture.api.post(&path, too_long).await.expect_problem(422, "invalid_field");
    let audit = fixture.api.get("/api/audit?limit=500").await.expect(200);
    let rotations = audit.list("items").iter().filter(|entry| entry["action"] == "api_key.rotate");
    assert_eq!(rotations.count(), 4, "{audit}");
    assert!(!audit.to_string().contains(fourth.key()), "a secret is in the audit log");
}

/// Both expire at the same time, so the rights of the secrets do not differ.
async fn an_old_secret_takes_no_key_over(fixture: Fixture) {
    let expires_at = (Utc::now() + chrono::TimeDelta::hours(1)).to_rfc3339();
    let fields = json!({"name": "brief", "role": "owner", "expires_at": expires_at});
    let (id, old) = made(&fixture.api, fields).await;
    let (_, new) = rotated(&fixture.api, &id, 7 * 24 * 3_600_000).await;
    let path = format!("/api/keys/{id}");
    let grace = json!({"grace_ms": 0});
    let rotation = old.post(&format!("{path}/rotate"), grace).await;
    rotation.expect_problem(403, "previous_secret");
    let renamed = old.patch(&path, json!({"name": "mine"})).await;
    renamed.expect_problem(403, "previous_secret");
    for path in [path.clone(), format!("{path}/previous-secret")] {
        old.delete(&path).await.expect_problem(403, "previous_secret");
    }
    old.get("/api/agents").await.expect(200);
    new.delete(&format!("{path}/previous-secret")).await.expect(200);
    new.get("/api/agents").await.expect(200);
}

/// Every change of any key makes requests under way check their own keys again.
async fn a_key_that_replaces_its_own_secret_always_gets_the_new_one(fixture: Fixture) {
    let (id, mut key) = made(&fixture.api, json!({"name": "ci", "role": "owner"})).await;
    let (other, _) = made(&fixture.api, json!({"name": "other"})).await;
    let (owner, path) = (fixture.api.clone(), format!("/api/keys/{other}"));
    let (stop, mut is_over) = tokio::sync::oneshot::channel::<()>();
    let changes = tokio::spawn(async move {
        let mut count = 0_u32;
        while is_over.try_recv().is_err() {
            count += 1;
            owner.patch(&path, json!({"name": format!("other-{count}")})).await.expect(200);
        }
    });
    for _ in 0..40 {
        (_, key) = rotated(&key, &id, 0).await;
    }
    stop.send(()).expect("the changes go on until now");
    changes.await.expect("every change is answered");
    key.get("/api/me").await.expect(200);
}

/// The stream ends, however many events come before.
async fn expect_end(mut stream: LiveStream) {
    let end = async { while stream.next().await.is_some() {} };
    timeout(PATIENCE, end).await.expect("the stream ends");
}

async fn both_secrets_of_a_rotated_key_end_with_its_revocation(fixture: Fixture) {
    let (id, first) = made(&fixture.api, json!({"name": "ci"})).await;
    let (_, second) = rotated(&fixture.api, &id, 3_600_000).await;
    let mut streams = Vec::new();
    for key in [&first, &second] {
        let mut stream = LiveStream::open(key, "/api/events", "").await.expect("a stream");
        stream.expect("ready").await;
        streams.push(stream);
    }
    fixture.api.delete(&format!("/api/keys/{id}")).await.expect(200);
    for key in [&first, &second] {
        key.get("/api/agents").await.expect_problem(401, "invalid_api_key");
    }
    for stream in streams {
        expect_end(stream).await;
    }
}

async fn both_secrets_and_the_keys_that_they_made_are_narrowed_with_a_rotated_key(
    fixture: Fixture,
) {
    let (id, first) = made(&fixture.api, json!({"name": "ci", "role": "owner"})).await;
    let (_, child) = made(&first, json!({"name": "child", "role": "member"})).await;
    let (_, second) = rotated(&fixture.api, &id, 3_600_000).await;
    let (_, grandchild) = made(&second, json!({"name": "grandchild", "role": "member"})).await;
    let all = [&first, &second, &child, &grandchild];
    for key in all {
        key.get("/api/agents").await.expect(200);
        key.get("/api/jobs").await.expect(200);
    }
    // Before the old secret ends.
    let expires_at = (Utc::now() + chrono::Duration::minutes(30)).to_rfc3339();
    let narrower = json!({"scopes": ["agents:read", "api_keys:read", "api_keys:write"],
        "target": "tag:web", "scripts": ["report"], "max_fan_out": 2, "expires_at": expires_at});
    let path = format!("/api/keys/{id}");
    let changed = fixture.api.patch(&path, narrower).await.expect(200);
    assert_eq!(changed.list("narrowed_keys").len(), 2, "{changed}");
    for key in all {
        key.get("/api/jobs").await.expect_problem(403, "missing_scope");
        key.get("/api/agents").await.expect(200);
        let me = key.get("/api/me").await.expect(200);
        assert_eq!(me["expires_at"], changed["expires_at"], "{me}");
    }
    let keys = fixture.api.get("/api/keys").await.expect(200);
    for name in ["ci", "child", "grandchild"] {
        let key = keys.list("items").iter().find(|key| key["name"] == name).expect("the key");
        for field in ["target", "scripts", "max_fan_out", "expires_at"] {
            assert_eq!(key[field], changed[field], "{field} of {key}");
        }
    }
    // Nor does another rotation give anything back.
    let (_, third) = rotated(&fixture.api, &id, 3_600_000).await;
    for key in [&second, &third] {
        key.get("/api/jobs").await.expect_problem(403, "missing_scope");
    }
}

async fn streams_and_polls_of_an_old_secret_end_with_the_overlap(fixture: Fixture) {
    let (_, agent_key) = fixture.api.agent_key(json!({})).await;
    let mut agent = FakeAgent::registered(&fixture.server.address(), &agent_key, "one").await;
    let agents = fixture.api.get("/api/agents").await.expect(200);
    let agent_id = agents["items"][0].id().to_owned();
    let command = fixture.api.execute_anyway(&agent_id, json!({"script": "x"})).await;
    agent.expect("command").await;
    let (id, first) = made(&fixture.api, json!({"name": "ci"})).await;
    let mut old = LiveStream::open(&first, "/api/events", "").await.expect("a stream");
    old.expect("ready").await;
    let path = format!("/api/commands/{command}?wait_ms=60000");
    let poll = tokio::spawn({
        let first = first.clone();
        async move { first.get(&path).await }
    });
    let (_, second) = rotated(&fixture.api, &id, 4_000).await;
    let mut new = LiveStream::open(&second, "/api/events", "").await.expect("a stream");
    new.expect("ready").await;
    expect_end(old).await;
    poll.await.expect("an answer").expect_problem(401, "expired_api_key");
    first.get("/api/agents").await.expect_problem(401, "expired_api_key");
    // The stream of the new secret goes on.
    agent.send(json!({"type": "response", "command_id": command, "success": true})).await;
    second.get("/api/agents").await.expect(200);
    drop(agent);
    new.expect("agent").await;
}

async fn the_last_use_of_a_key_and_of_its_old_secret_is_shown(fixture: Fixture) {
    let (id, first) = made(&fixture.api, json!({"name": "ci"})).await;
    let path = format!("/api/keys/{id}");
    let shown = async || fixture.api.get(&path).await.expect(200);
    assert!(shown().await["last_used_at"].is_null());
    first.get("/api/agents").await.expect(200);
    let used = shown().await;
    let at = used.text("last_used_at").to_owned();
    let (_, second) = rotated(&fixture.api, &id, 3_600_000).await;
    second.get("/api/agents").await.expect(200);
    let used = shown().await;
    assert!(used.text("last_used_at") >= at.as_str(), "{used}");
    let old_at = used["previous_secret"].text("last_used_at").to_owned();
    first.get("/api/agents").await.expect(200);
    let used = shown().await;
    assert!(used["previous_secret"].text("last_used_at") >= old_at.as_str(), "{used}");
    // It is stored a few seconds later.
    eventually_shown("the use is stored", async || {
        let statement = "SELECT count(*) FROM api_keys WHERE name = 'ci' AND last_used_at IS NOT NULL \
                         AND previous_used_at IS NOT NULL";
        let stored = fixture.server.query(statement);
        if stored == ["1"] { Ok(()) } else { Err(stored) }
    })
    .await;
}

#[tokio::test]
async fn api_keys_are_edited_and_rotated_from_the_command_line() {
    let fixture = Fixture::on_sqlite().await;
    let cli = fixture.cli().await;
    let create = ["api-keys", "create", "ci", "--target", "tag:web", "--script", "deploy"];
    let made = cli.run(&create).await;
    let old = fixture.api.with_key(made.expect(0).trim());
    assert!(made.stderr.contains("not shown again"), "{}", made.stderr);
    old.get("/api/agents").await.expect(200);
    let listed = cli.run(&["api-keys", "list"]).await.expect(0);
    assert!(listed.contains("tag:web") && listed.contains("LAST USED"), "{listed}");
    let edit = ["api-keys", "edit", "ci", "--any-script", "--max-fan-out", "3", "--json"];
    let edited = cli.run(&edit).await.json();
    assert_eq!((&edited["scripts"], &edited["max_fan_out"]), (&Value::Null, &json!(3)));
    let shown = cli.run(&["api-keys", "show", "ci", "--json"]).await.json();
    assert_eq!((&shown["target"], &shown["max_fan_out"]), (&json!("tag:web"), &json!(3)));

    let rotated = cli.run(&["api-keys", "rotate", "ci", "--overlap", "1h"]).await;
    let new = fixture.api.with_key(rotated.expect(0).trim());
    assert!(rotated.stderr.contains("is valid until"), "{}", rotated.stderr);
    new.get("/api/agents").await.expect(200);
    old.get("/api/agents").await.expect(200);
    cli.run(&["api-keys", "rotate", "ci", "--end-overlap"]).await.expect(0);
    old.get("/api/agents").await.expect_problem(401, "expired_api_key");
    let long = cli.run(&["api-keys", "rotate", "ci", "--overlap", "8d"]).await;
    long.expect(1);
    assert!(long.stderr.contains("--overlap must be at most 7d"), "{}", long.stderr);
    let wide = cli.run(&["api-keys", "edit", "ci", "--target", "os:linux"]).await;
    wide.expect(1);
    assert!(wide.stderr.contains("--target"), "{}", wide.stderr);
    cli.run(&["api-keys", "revoke", "ci"]).await.expect(0);
    new.get("/api/agents").await.expect_problem(401, "invalid_api_key");
}
