//! The REST API for its callers: problem documents, pages, rights, documentation.

use chrono::{SecondsFormat, TimeDelta, Utc};
use muster_tests::{Api, FakeAgent, Fixture, JsonFields as _, on_both_databases};
use reqwest::Method;
use serde_json::{Value, json};

on_both_databases!(
    unknown_and_invalid_fields_are_refused_by_name,
    lists_are_paged_without_gaps_or_repeats,
    api_keys_can_do_what_their_role_allows_until_they_end,
    every_change_writes_one_audit_entry,
);

async fn unknown_and_invalid_fields_are_refused_by_name(fixture: Fixture) {
    let refused = async |path: &str, body: Value, word: &str| {
        let answer = fixture.api.post(path, body).await;
        assert!(matches!(answer.status, 400 | 422), "{path}: {}", answer.status);
        let problem = answer.json();
        assert!(problem["detail"].as_str().is_some_and(|text| text.contains(word)), "{problem}");
        assert!(problem["code"].is_string(), "{problem}");
    };
    let keys = "/api/agents/keys";
    refused(keys, json!({"name": "a", "colour": "red"}), "colour").await;
    refused(keys, json!({"nmae": "a"}), "name").await;
    refused(keys, json!({"name": "a", "permissions": ["fly"]}), "fly").await;
    refused(keys, json!({"name": ""}), "name").await;
    refused(keys, json!({"name": "a", "max_agents": 0}), "max_agents").await;
    refused(keys, json!({"name": "a", "expires_at": "tomorrow"}), "expires_at").await;
    let (id, key) = fixture.api.agent_key(json!({})).await;
    let _agent = FakeAgent::registered(&fixture.server.address(), &key, "one").await;
    let command = format!("/api/agents/keys/{id}/command");
    refused(&command, json!({"command": "ping", "wait": 5}), "wait").await;
    refused(&command, json!({"command": "dance"}), "dance").await;
    refused(&command, json!({"command": "ping", "wait_ms": 10_000_000}), "wait_ms").await;
    refused(&command, json!({"command": "execute", "data": {"scirpt": "x"}}), "scirpt").await;

    let raw = |body: &str| Some(body.as_bytes().to_vec());
    let broken = fixture.api.try_send(Method::POST, keys, &[], raw("{\"name\": ")).await;
    let broken = broken.expect("reach the server");
    assert!(matches!(broken.status, 400 | 422), "{}", broken.status);
    assert!(broken.json()["code"].is_string());
    fixture.api.get("/api/agents/not-an-id").await.expect_problem(404, "not_found");
    fixture.api.get("/api/nothing/here").await.expect_problem(404, "not_found");
    let wrong = fixture.api.delete("/api/agents/keys").await;
    assert_eq!(wrong.status, 405);
}

async fn lists_are_paged_without_gaps_or_repeats(fixture: Fixture) {
    let mut made = Vec::new();
    for n in 0..7 {
        made.push(fixture.api.agent_key(json!({"name": format!("key {n}")})).await.0);
    }
    let mut listed = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let after = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let page = fixture.api.get(&format!("/api/agents/keys?limit=3{after}")).await.expect(200);
        let items = page.list("items");
        assert!(items.len() <= 3);
        listed.extend(items.iter().map(|key| key.id().to_owned()));
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(listed.len(), made.len());
    listed.sort();
    made.sort();
    assert_eq!(listed, made);
    let bad = fixture.api.get("/api/agents/keys?cursor=nonsense").await;
    assert!(matches!(bad.status, 400 | 422), "{}", bad.status);
}

async fn api_keys_can_do_what_their_role_allows_until_they_end(fixture: Fixture) {
    let nobody = fixture.api.with_key("mst_live_nobody");
    nobody.get("/api/agents").await.expect_problem(401, "invalid_api_key");
    let made = async |fields: Value| -> (String, Api) {
        let made = fixture.api.post("/api/keys", fields).await.expect(201);
        let key = made.text("key");
        assert!(key.starts_with("mst_live_"), "{key}");
        (made.id().to_owned(), fixture.api.with_key(key))
    };
    let (member_id, member) = made(json!({"name": "reader", "role": "member"})).await;
    member.get("/api/agents").await.expect(200);
    member.post("/api/keys", json!({"name": "more"})).await.expect_problem(403, "missing_scope");
    fixture.api.delete(&format!("/api/keys/{member_id}")).await.expect(200);
    member.get("/api/agents").await.expect_problem(401, "invalid_api_key");

    let soon = Utc::now() + TimeDelta::seconds(2);
    let soon = soon.to_rfc3339_opts(SecondsFormat::Millis, true);
    let (_, brief) = made(json!({"name": "brief", "expires_at": soon})).await;
    muster_tests::eventually("the key has ended", async || {
        (brief.get("/api/agents").await.status == 401).then_some(())
    })
    .await;
    let plain = fixture.api.with_key("");
    plain.get("/api/agents").await.expect(401);
    for (key, status) in [(fixture.api.key(), 200), ("mst_live_nobody", 401)] {
        let answer = plain.try_send(Method::GET, "/api/agents", &[("x-api-key", key)], None).await;
        assert_eq!(answer.expect("reach the server").status, status);
    }
}

async fn every_change_writes_one_audit_entry(fixture: Fixture) {
    let (id, _) = fixture.api.agent_key(json!({"name": "audited"})).await;
    let path = format!("/api/agents/keys/{id}");
    fixture.api.patch(&path, json!({"name": "renamed"})).await.expect(200);
    fixture.api.delete(&path).await.expect(204);
    // A refused request changes nothing.
    fixture.api.patch(&path, json!({"name": "again"})).await.expect_problem(404, "not_found");
    let audit = fixture.api.get("/api/audit").await.expect(200);
    let entries = audit.list("items");
    let about: Vec<_> = entries.iter().filter(|entry| entry.to_string().contains(&id)).collect();
    assert_eq!(about.len(), 3, "{about:#?}");
    assert!(!audit.to_string().contains("mst_agent_"), "a secret is in the audit");
}

#[tokio::test]
async fn health_and_documentation_need_no_key() {
    let fixture = Fixture::on_sqlite().await;
    let nobody = fixture.api.with_key("");
    nobody.get("/healthz").await.expect(200);
    nobody.get("/readyz").await.expect(200);
    let document = nobody.get("/openapi.json").await.expect(200);
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with('3')));
    for path in ["/api/agents/keys", "/api/agents/{id}/command", "/api/commands/{id}/output"] {
        assert!(document["paths"][path].is_object(), "{path} is not documented");
    }
    let docs = nobody.get("/docs").await;
    assert!(docs.status == 200 || docs.status == 303, "{}", docs.status);
}
