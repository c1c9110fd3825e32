//! Sessions of people: what ends with them, and who ends them.

use std::time::Duration;

use muster_tests::{
    FakeAgent, Fixture, JsonFields as _, LiveStream, PASSWORD, Person, on_both_databases, sign_in,
};
use serde_json::{Value, json};
use tokio::time::timeout;

on_both_databases!(
    what_a_session_has_open_ends_with_it,
    stream_continues_when_the_access_token_is_renewed_and_ends_at_revocation,
    changed_password_ends_the_other_sessions,
    person_sees_and_ends_its_own_sessions_and_no_others,
);

/// Generous: what a test waits for comes at once, or after a minute.
const PATIENCE: Duration = Duration::from_secs(45);

async fn another_session(fixture: &Fixture, person: &Person) -> Person {
    let answer = sign_in(&fixture.api, &person.email, PASSWORD).await.expect(200);
    Person::of(&fixture.api, &person.email, &answer)
}

async fn stream_continues_when_the_access_token_is_renewed_and_ends_at_revocation(
    fixture: Fixture,
) {
    let owner = fixture.owner().await;
    let other = another_session(&fixture, &owner).await;
    let path = "/api/audit/live?action=agent_key.create";
    let mut stream = LiveStream::open(&other.api, path, "").await.expect("a stream");
    stream.expect("ready").await;
    let change = async |name: &str| {
        fixture.api.post("/api/agents/keys", json!({"name": name})).await.expect(201);
    };
    change("before").await;
    stream.expect("entry").await;
    let mut token = other.refresh_token.clone();
    for name in ["first renewal", "second renewal"] {
        let body = json!({"refresh_token": token});
        let renewed = fixture.api.with_key("").post("/api/auth/refresh", body).await.expect(200);
        token = renewed.text("refresh_token").to_owned();
        change(name).await;
        let entry = stream.expect("entry").await;
        assert_eq!(entry.data["action"], "agent_key.create");
    }
    let path = format!("/api/me/sessions/{}", other.session_id);
    owner.api.delete(&path).await.expect(204);
    change("after").await;
    let end = async { stream.next().await };
    let event = timeout(PATIENCE, end).await.expect("the stream ends");
    assert!(event.is_none(), "an event after the revocation: {event:?}");
}

async fn what_a_session_has_open_ends_with_it(fixture: Fixture) {
    let owner = fixture.owner().await;
    let other = another_session(&fixture, &owner).await;
    let (_, key) = fixture.api.agent_key(json!({"permissions": muster_tests::ALL})).await;
    let _agent = FakeAgent::registered(&fixture.server.address(), &key, "one").await;
    let mut events = LiveStream::open(&other.api, "/api/events", "").await.expect("a stream");
    events.expect("ready").await;
    let poll = {
        let api = other.api.clone();
        let path = "/api/agents/connected?name=nobody&wait_ms=60000";
        tokio::spawn(async move { api.get(path).await })
    };
    // The poll of another session waits on.
    let path = format!("/api/me/sessions/{}", other.session_id);
    owner.api.delete(&path).await.expect(204);
    let end = async { while events.next().await.is_some() {} };
    timeout(PATIENCE, end).await.expect("the stream ends");
    let answer = timeout(PATIENCE, poll).await.expect("the poll ends").expect("an answer");
    answer.expect_problem(401, "session_ended");
    other.api.get("/api/agents").await.expect_problem(401, "session_ended");
    owner.api.get("/api/agents").await.expect(200);
}

async fn changed_password_ends_the_other_sessions(fixture: Fixture) {
    let owner = fixture.owner().await;
    let other = another_session(&fixture, &owner).await;
    let new = "another horse battery";
    let change = async |current: &str, new: &str| {
        let body = json!({"current_password": current, "new_password": new});
        owner.api.post("/api/me/password", body).await
    };
    change("wrong horse battery", new).await.expect_problem(403, "wrong_password");
    let refused = change(PASSWORD, "short").await.expect_problem(422, "invalid_field");
    assert_eq!(refused["errors"][0]["field"], "new_password");
    other.api.get("/api/agents").await.expect(200);
    change(PASSWORD, new).await.expect(204);
    other.api.get("/api/agents").await.expect_problem(401, "session_ended");
    let body = json!({"refresh_token": other.refresh_token});
    let refused = fixture.api.with_key("").post("/api/auth/refresh", body).await;
    refused.expect_problem(401, "invalid_refresh_token");
    owner.api.get("/api/agents").await.expect(200);
    let old = sign_in(&fixture.api, &owner.email, PASSWORD).await;
    old.expect_problem(401, "wrong_sign_in");
    sign_in(&fixture.api, &owner.email, new).await.expect(200);
    let log = fixture.api.get("/api/audit").await.expect(200).to_string();
    assert!(log.contains("\"changed\":[\"password\"]"), "{log}");
    assert!(!log.contains(new) && !log.contains(PASSWORD), "the log shows a password");
    let refused =
        fixture.api.post("/api/me/password", json!({"current_password": "", "new_password": ""}));
    refused.await.expect_problem(403, "session_required");
}

async fn person_sees_and_ends_its_own_sessions_and_no_others(fixture: Fixture) {
    let owner = fixture.owner().await;
    let other = another_session(&fixture, &owner).await;
    let bob = owner.add("bob@example.com", "member").await;
    let sessions = async |person: &Person| -> Vec<(String, bool)> {
        let list = person.api.get("/api/me/sessions").await.expect(200);
        let items = list["items"].as_array().expect("items").iter();
        let is_current = |item: &Value| item["is_current"] == true;
        items.map(|item| (item.id().to_owned(), is_current(item))).collect()
    };
    let both = [(other.session_id.clone(), false), (owner.session_id.clone(), true)];
    assert_eq!(sessions(&owner).await, both);
    assert_eq!(sessions(&bob).await, [(bob.session_id.clone(), true)]);
    for id in [owner.session_id.as_str(), "nonsense"] {
        bob.api.delete(&format!("/api/me/sessions/{id}")).await.expect_problem(404, "not_found");
    }
    bob.api.delete(&format!("/api/me/sessions/{}", bob.session_id)).await.expect(204);
    bob.api.get("/api/me").await.expect_problem(401, "session_ended");
    owner.api.get("/api/me").await.expect(200);
}
