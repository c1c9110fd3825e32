//! Keys that keys create: they never outlive or outrank their makers.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use muster_tests::{Api, Fixture, JsonFields as _, on_both_databases};
use serde_json::{Value, json};

on_both_databases!(
    a_child_key_never_outlives_or_outranks_its_maker,
    a_key_revokes_only_what_it_could_have_created,
    a_key_is_revoked_with_the_keys_that_it_created,
);

/// A new key: its id, and a caller with it.
async fn made(api: &Api, fields: Value) -> (String, Api) {
    let made = api.post("/api/keys", fields).await.expect(201);
    let text = |field: &str| made[field].as_str().expect("a string").to_owned();
    (text("id"), api.with_key(&text("key")))
}

fn in_hours(hours: i64) -> String {
    (Utc::now() + TimeDelta::hours(hours)).to_rfc3339_opts(SecondsFormat::Millis, true)
}

async fn a_child_key_never_outlives_or_outranks_its_maker(fixture: Fixture) {
    let expires_at = in_hours(1);
    let scopes = json!(["api_keys:write", "api_keys:read", "agents:read"]);
    let brief =
        json!({"name": "brief", "role": "owner", "scopes": scopes, "expires_at": expires_at});
    let (brief_id, brief) = made(&fixture.api, brief).await;

    let child = brief.post("/api/keys", json!({"name": "c", "role": "owner"})).await.expect(201);
    assert_eq!(child["created_by"], brief_id);
    assert_eq!(child["scopes"], json!(["agents:read", "api_keys:read", "api_keys:write"]));
    let time = |text: &str| text.parse::<DateTime<Utc>>().expect("a time");
    let child_expires_at = child.text("expires_at");
    assert_eq!(time(child_expires_at), time(&expires_at), "by default it expires with its maker");

    let later = json!({"name": "c", "role": "owner", "expires_at": in_hours(2)});
    let refused = brief.post("/api/keys", later).await.expect_problem(422, "invalid_field");
    assert_eq!(refused["errors"][0]["field"], "expires_at", "{refused}");
    let wider = json!({"name": "c", "role": "owner", "scopes": ["commands:shell"]});
    brief.post("/api/keys", wider).await.expect_problem(403, "scope_not_held");
    let first = fixture.api.get("/api/keys").await.expect(200);
    assert!(first["items"][0]["created_by"].is_null(), "{first}");
}

async fn a_key_revokes_only_what_it_could_have_created(fixture: Fixture) {
    let keys = fixture.api.get("/api/keys").await.expect(200);
    let first = keys["items"][0].id().to_owned();
    let narrow = json!({"name": "n", "role": "owner", "scopes": ["api_keys:write", "agents:read"]});
    let (own_id, narrow) = made(&fixture.api, narrow).await;
    let (_, brief) =
        made(&fixture.api, json!({"name": "b", "role": "owner", "expires_at": in_hours(1)})).await;
    let reader = json!({"name": "r", "role": "member", "scopes": ["agents:read"]});
    let (reader_id, reader) = made(&fixture.api, reader).await;

    for path in [format!("/api/keys/{first}"), format!("/api/keys/{first}?cascade=true")] {
        narrow.delete(&path).await.expect_problem(403, "key_not_held");
        brief.delete(&path).await.expect_problem(403, "key_not_held");
    }
    // It never expires, but the caller does.
    brief.delete(&format!("/api/keys/{reader_id}")).await.expect_problem(403, "key_not_held");
    reader.get("/api/agents").await.expect(200);
    narrow.delete(&format!("/api/keys/{reader_id}")).await.expect(200);
    reader.get("/api/agents").await.expect_problem(401, "invalid_api_key");
    narrow.delete(&format!("/api/keys/{own_id}")).await.expect(200);
    narrow.get("/api/agents").await.expect_problem(401, "invalid_api_key");
}

async fn a_key_is_revoked_with_the_keys_that_it_created(fixture: Fixture) {
    let owner = json!({"name": "maker", "role": "owner"});
    let (maker_id, maker) = made(&fixture.api, owner.clone()).await;
    let (child_id, child) = made(&maker, owner.clone()).await;
    let (grandchild_id, grandchild) = made(&child, owner.clone()).await;
    let (_, other) = made(&fixture.api, owner).await;
    // A key in between that is already revoked does not protect the keys that it created.
    fixture.api.delete(&format!("/api/keys/{child_id}")).await.expect(200);
    grandchild.get("/api/agents").await.expect(200);
    let path = format!("/api/keys/{maker_id}?cascade=true");
    let revoked = fixture.api.delete(&path).await.expect(200);
    assert_eq!(revoked["revoked_keys"], json!([maker_id, grandchild_id]));
    for key in [&maker, &child, &grandchild] {
        key.get("/api/agents").await.expect_problem(401, "invalid_api_key");
    }
    other.get("/api/agents").await.expect(200);
    let audit = fixture.api.get("/api/audit").await.expect(200);
    let entry = |id: &str| {
        let mut entries = audit.list("items").iter();
        let is_it =
            |entry: &&Value| entry["action"] == "api_key.revoke" && entry["subject_id"] == id;
        entries.find(is_it).unwrap_or_else(|| panic!("no entry of {id}: {audit}"))
    };
    assert_eq!(entry(&grandchild_id)["detail"]["revoked_with"], maker_id);
    assert_eq!(entry(&maker_id)["detail"]["revoked_keys"], 2);
}
