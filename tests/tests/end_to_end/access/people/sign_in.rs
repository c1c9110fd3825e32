//! People sign in, refresh their tokens and sign out.

use std::net::{IpAddr, Ipv4Addr};

use futures_util::future::join_all;
use muster_tests::{Fixture, JsonFields as _, PASSWORD, Person, on_both_databases, sign_in};
use serde_json::{Value, json};

on_both_databases!(
    person_signs_in_refreshes_and_signs_out,
    refresh_token_of_before_ends_its_session,
    failed_sign_ins_look_alike_and_are_audited,
);

async fn entries(fixture: &Fixture, action: &str) -> Vec<Value> {
    let log = fixture.api.get("/api/audit?limit=500").await.expect(200);
    let items = log["items"].as_array().expect("items").iter();
    items.filter(|entry| entry["action"] == action).cloned().collect()
}

async fn refresh(person: &Person, token: &str) -> muster_tests::ApiResponse {
    person.api.with_key("").post("/api/auth/refresh", json!({"refresh_token": token})).await
}

async fn person_signs_in_refreshes_and_signs_out(fixture: Fixture) {
    let owner = fixture.owner().await;
    owner.api.get("/api/agents").await.expect(200);
    let me = owner.api.get("/api/me").await.expect(200);
    assert_eq!((&me["kind"], &me["id"]), (&json!("member"), &json!(owner.member_id)));
    assert_eq!((&me["role"], &me["tenant_name"]), (&json!("owner"), &json!("default")));
    assert_eq!(me["session"]["id"], owner.session_id.as_str());
    assert_eq!(me["memberships"].as_array().map(Vec::len), Some(1));
    assert!(!me["scopes"].to_string().contains("releases:manage"), "{me}");
    // An address is typed in any case, and what a member does names member and session.
    sign_in(&fixture.api, " ADA@Example.com ", PASSWORD).await.expect(200);
    owner.api.post("/api/agents/keys", json!({"name": "k"})).await.expect(201);
    let made = entries(&fixture, "agent_key.create").await;
    assert_eq!(made[0]["actor_kind"], "member");
    assert_eq!(made[0]["actor_id"], owner.member_id.as_str());
    assert_eq!(made[0]["session_id"], owner.session_id.as_str());
    // A key outlives the access token of its maker.
    let key = owner.api.post("/api/keys", json!({"name": "k", "role": "member"})).await.expect(201);
    assert_eq!(key["expires_at"], Value::Null, "{key}");

    let one = refresh(&owner, &owner.refresh_token).await.expect(200);
    // A client that lost the answer, or a second tab.
    let again = refresh(&owner, &owner.refresh_token).await.expect(200);
    assert_eq!(one["refresh_token"], again["refresh_token"]);
    let next = owner.api.with_key(one.text("access_token"));
    next.get("/api/agents").await.expect(200);

    next.post("/api/auth/logout", json!({})).await.expect(204);
    for api in [&owner.api, &next] {
        api.get("/api/agents").await.expect_problem(401, "session_ended");
    }
    let refused = refresh(&owner, one.text("refresh_token")).await;
    refused.expect_problem(401, "invalid_refresh_token");
    assert_eq!(entries(&fixture, "session.create").await.len(), 2);
    assert_eq!(entries(&fixture, "session.revoke").await.len(), 1);
    // A key has no session.
    let refused = fixture.api.post("/api/auth/logout", json!({})).await;
    refused.expect_problem(403, "session_required");
    let key = fixture.api.get("/api/me").await.expect(200);
    assert_eq!((&key["kind"], &key["session"]), (&json!("api_key"), &Value::Null));
}

async fn refresh_token_of_before_ends_its_session(fixture: Fixture) {
    let owner = fixture.owner().await;
    let first = owner.refresh_token.clone();
    let second = refresh(&owner, &first).await.expect(200);
    let third = refresh(&owner, second.text("refresh_token")).await.expect(200);
    let newest = owner.api.with_key(third.text("access_token"));
    newest.get("/api/agents").await.expect(200);
    // Guesses end nothing: the tag is missing.
    let guess = format!("{}{}", &first[..first.len() - 10], "A".repeat(10));
    refresh(&owner, &guess).await.expect_problem(401, "invalid_refresh_token");
    newest.get("/api/agents").await.expect(200);

    refresh(&owner, &first).await.expect_problem(401, "session_ended");
    newest.get("/api/agents").await.expect_problem(401, "session_ended");
    let last = refresh(&owner, third.text("refresh_token")).await;
    last.expect_problem(401, "invalid_refresh_token");
    let ended = entries(&fixture, "session.revoke").await;
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0]["detail"]["reason"], "refresh_token_reused");
    assert_eq!(ended[0]["subject_id"], owner.session_id.as_str());
}

async fn failed_sign_ins_look_alike_and_are_audited(fixture: Fixture) {
    let owner = fixture.owner().await;
    let known = sign_in(&fixture.api, &owner.email, "wrong horse battery").await;
    let unknown = sign_in(&fixture.api, "eve@example.com", "wrong horse battery").await;
    let malformed = sign_in(&fixture.api, "no address", PASSWORD).await;
    // Each answer has a request id of its own.
    let shown = |answer: &muster_tests::ApiResponse| {
        let mut body = answer.json();
        body["request_id"] = Value::Null;
        (answer.status, body)
    };
    for answer in [&unknown, &malformed] {
        assert_eq!(shown(&known), shown(answer));
    }
    known.expect_problem(401, "wrong_sign_in");
    let failed = entries(&fixture, "session.refuse").await;
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0]["subject_id"], owner.member_id.as_str());
    assert_eq!(
        (&failed[0]["actor_kind"], &failed[0]["source"]),
        (&json!("system"), &json!("127.0.0.1"))
    );
    // The other two cost an entry, too, which no tenant sees and which names no address.
    let stored = "SELECT detail FROM audit_entries WHERE action = 'session.refuse'";
    assert_eq!(fixture.server.query(stored), ["{}", "{}", "{}"]);
    let long = "x".repeat(257);
    let refused = sign_in(&fixture.api, "eve@example.com", &long).await;
    assert!(!refused.expect_problem(422, "invalid_field").to_string().contains(&long));
    let body = json!({"email": owner.email, "password": PASSWORD,
        "tenant_id": uuid::Uuid::now_v7()});
    let refused = fixture.api.with_key("").post("/api/auth/login", body).await;
    refused.expect_problem(401, "wrong_sign_in");
}

/// The status of an answer and its headers about limits.
#[derive(Debug)]
struct Attempt {
    status: u16,
    limit: Option<u64>,
    remaining: Option<u64>,
    retry_after_s: Option<u64>,
}

async fn attempt(fixture: &Fixture, last: u8, email: String) -> Attempt {
    let from = IpAddr::from(Ipv4Addr::new(127, 0, 0, last));
    let client = reqwest::Client::builder().no_proxy().local_address(from).build();
    let url = format!("{}/api/auth/login", fixture.server.url());
    let request = client.expect("make a client").post(url);
    let request = request.json(&json!({"email": email, "password": "wrong horse battery"}));
    let answer = request.send().await.expect("reach the server");
    let number = |name: &str| answer.headers().get(name)?.to_str().ok()?.parse().ok();
    Attempt {
        status: answer.status().as_u16(),
        limit: number("ratelimit-limit"),
        remaining: number("ratelimit-remaining"),
        retry_after_s: number("retry-after"),
    }
}

#[tokio::test]
async fn passwords_are_tried_ten_times_a_minute_from_an_address_and_for_an_account() {
    let fixture = Fixture::on_sqlite().await;
    fixture.owner().await;
    // At once, so that a slow machine earns few more.
    let from_many = (20..40).map(|last| attempt(&fixture, last, "ada@example.com".into()));
    let of_many = (0..20).map(|index| attempt(&fixture, 2, format!("person{index}@example.com")));
    for attempts in [join_all(from_many).await, join_all(of_many).await] {
        let refused: Vec<_> = attempts.iter().filter(|attempt| attempt.status == 429).collect();
        assert!((1..=11).contains(&refused.len()), "{attempts:?}");
        for refused in refused {
            assert_eq!((refused.limit, refused.remaining), (Some(10), Some(0)), "{refused:?}");
            let wait = refused.retry_after_s;
            assert!(wait.is_some_and(|wait| (1..=60).contains(&wait)), "{refused:?}");
        }
    }
    let other = attempt(&fixture, 3, "bob@example.com".into()).await;
    assert_eq!((other.status, other.limit, other.remaining), (401, Some(10), Some(9)));
    assert_eq!(other.retry_after_s, None);
}

#[tokio::test]
async fn guesses_from_other_addresses_do_not_keep_a_person_out() {
    let fixture = Fixture::on_sqlite().await;
    let owner = fixture.owner().await;
    let guesses = (20..60).map(|last| attempt(&fixture, last, "ada@example.com".into()));
    let guesses = join_all(guesses).await;
    assert!(guesses.iter().any(|attempt| attempt.status == 429), "{guesses:?}");
    // In the session, and from the address that it was opened from.
    owner.api.post("/api/auth/confirm", json!({"password": PASSWORD})).await.expect(200);
    sign_in(&fixture.api, "ada@example.com", PASSWORD).await.expect(200);
}

#[tokio::test]
async fn tokens_of_a_clock_that_was_ahead_are_refused() {
    let mut fixture = Fixture::on_sqlite().await;
    let start = |fixture: &mut Fixture, offset: &str| {
        fixture.server.stop();
        let options = muster_tests::fake_time(offset).into_iter();
        let options = options.fold(muster_tests::ServerOptions::default(), |options, pair| {
            options.with(pair.0, pair.1)
        });
        fixture.server.resume_with(options);
    };
    start(&mut fixture, "+1h");
    fixture.api = fixture.server.api();
    let ahead = fixture.owner().await;
    ahead.api.get("/api/agents").await.expect(200);
    start(&mut fixture, "+0h");
    let base = fixture.server.api();
    let now = base.with_key(ahead.api.key());
    now.get("/api/agents").await.expect_problem(401, "invalid_access_token");
    let body = json!({"refresh_token": ahead.refresh_token});
    let refused = base.with_key("").post("/api/auth/refresh", body).await;
    refused.expect_problem(401, "invalid_refresh_token");
    // The server signs with a key of its own time, and people sign in.
    let again = sign_in(&base, &ahead.email, PASSWORD).await.expect(200);
    base.with_key(again.text("access_token")).get("/api/agents").await.expect(200);
}
