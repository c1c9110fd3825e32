//! What callers of the REST API meet: problems that say what to do, pages, rights, documents.

use chrono::{SecondsFormat, TimeDelta, Utc};
use muster_tests::{Api, FakeAgent, World, on_both_databases};
use reqwest::Method;
use serde_json::{Value, json};

on_both_databases!(
    unknown_fields_and_wrong_bodies_are_refused_by_name,
    lists_come_in_pages_without_gaps_or_repeats,
    api_keys_can_do_what_their_role_allows_until_they_end,
    every_change_leaves_one_entry_in_the_audit,
);

async fn unknown_fields_and_wrong_bodies_are_refused_by_name(world: World) {
    let refused = async |path: &str, body: Value, word: &str| {
        let answer = world.api.post(path, body).await;
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
    let (id, key) = world.api.agent_key(json!({})).await;
    let _agent = FakeAgent::registered(&world.server.address(), &key, "one").await;
    let command = format!("/api/agents/keys/{id}/command");
    refused(&command, json!({"command": "ping", "wait": 5}), "wait").await;
    refused(&command, json!({"command": "dance"}), "dance").await;
    refused(&command, json!({"command": "ping", "wait_ms": 10_000_000}), "wait_ms").await;
    refused(&command, json!({"command": "execute", "data": {"scirpt": "x"}}), "scirpt").await;

    let raw = |body: &str| Some(body.as_bytes().to_vec());
    let broken = world.api.try_send(Method::POST, keys, &[], raw("{\"name\": ")).await;
    let broken = broken.expect("reach the server");
    assert!(matches!(broken.status, 400 | 422), "{}", broken.status);
    assert!(broken.json()["code"].is_string());
    world.api.get("/api/agents/not-an-id").await.expect_problem(404, "not_found");
    world.api.get("/api/nothing/here").await.expect_problem(404, "not_found");
    let wrong = world.api.delete("/api/agents/keys").await;
    assert_eq!(wrong.status, 405);
}

async fn lists_come_in_pages_without_gaps_or_repeats(world: World) {
    let mut made = Vec::new();
    for n in 0..7 {
        made.push(world.api.agent_key(json!({"name": format!("key {n}")})).await.0);
    }
    let mut listed = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let after = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let page = world.api.get(&format!("/api/agents/keys?limit=3{after}")).await.expect(200);
        let items = page["items"].as_array().expect("items");
        assert!(items.len() <= 3);
        listed.extend(items.iter().map(|key| key["id"].as_str().expect("an id").to_owned()));
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(listed.len(), made.len());
    listed.sort();
    made.sort();
    assert_eq!(listed, made);
    let bad = world.api.get("/api/agents/keys?cursor=nonsense").await;
    assert!(matches!(bad.status, 400 | 422), "{}", bad.status);
}

async fn api_keys_can_do_what_their_role_allows_until_they_end(world: World) {
    let nobody = world.api.with_key("mst_live_nobody");
    nobody.get("/api/agents").await.expect_problem(401, "invalid_api_key");
    let made = async |fields: Value| -> (String, Api) {
        let made = world.api.post("/api/keys", fields).await.expect(201);
        let key = made["key"].as_str().expect("a key");
        assert!(key.starts_with("mst_live_"), "{key}");
        (made["id"].as_str().expect("an id").to_owned(), world.api.with_key(key))
    };
    let (member_id, member) = made(json!({"name": "reader", "role": "member"})).await;
    member.get("/api/agents").await.expect(200);
    member.post("/api/keys", json!({"name": "more"})).await.expect_problem(403, "missing_scope");
    world.api.delete(&format!("/api/keys/{member_id}")).await.expect(200);
    member.get("/api/agents").await.expect_problem(401, "invalid_api_key");

    let soon = Utc::now() + TimeDelta::seconds(2);
    let soon = soon.to_rfc3339_opts(SecondsFormat::Millis, true);
    let (_, brief) = made(json!({"name": "brief", "expires_at": soon})).await;
    muster_tests::eventually("the key has ended", async || {
        (brief.get("/api/agents").await.status == 401).then_some(())
    })
    .await;
    let plain = world.api.with_key("");
    plain.get("/api/agents").await.expect(401);
    for (key, status) in [(world.api.key(), 200), ("mst_live_nobody", 401)] {
        let answer = plain.try_send(Method::GET, "/api/agents", &[("x-api-key", key)], None).await;
        assert_eq!(answer.expect("reach the server").status, status);
    }
}

async fn every_change_leaves_one_entry_in_the_audit(world: World) {
    let (id, _) = world.api.agent_key(json!({"name": "audited"})).await;
    let path = format!("/api/agents/keys/{id}");
    world.api.patch(&path, json!({"name": "renamed"})).await.expect(200);
    world.api.delete(&path).await.expect(204);
    // What was refused changed nothing.
    world.api.patch(&path, json!({"name": "again"})).await.expect_problem(404, "not_found");
    let audit = world.api.get("/api/audit").await.expect(200);
    let entries = audit["items"].as_array().expect("items");
    let about: Vec<_> = entries.iter().filter(|entry| entry.to_string().contains(&id)).collect();
    assert_eq!(about.len(), 3, "{about:#?}");
    assert!(!audit.to_string().contains("mst_agent_"), "a secret is in the audit");
}

#[tokio::test]
async fn health_documents_and_docs_are_there_for_everybody() {
    let world = World::on_sqlite().await;
    let nobody = world.api.with_key("");
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
