//! A program signs in with a code that a person approves elsewhere.

use std::io::{BufRead as _, BufReader};

use futures_util::future::join_all;
use muster_tests::{ApiResponse, on_both_databases};
use muster_tests::{Cli, Fixture, JsonFields as _, PASSWORD, Person, ServerOptions, ended};
use reqwest::Method;
use serde_json::{Value, json};

on_both_databases!(
    program_gets_one_session_after_a_person_approved_its_code,
    approval_ends_with_its_session_its_time_and_a_refusal,
);

async fn start(fixture: &Fixture) -> Value {
    let api = fixture.api.with_key("");
    let headers = [("user-agent", "tool \u{202e}1.0")];
    let answer =
        api.try_send(Method::POST, "/api/auth/device", &headers, Some(b"{}".to_vec())).await;
    answer.expect("reach the server").expect(200)
}

async fn redeem(fixture: &Fixture, started: &Value) -> ApiResponse {
    let body = json!({"device_code": started["device_code"]});
    fixture.api.with_key("").post("/api/auth/device/token", body).await
}

async fn decide(person: &Person, action: &str, started: &Value) -> ApiResponse {
    let body = json!({"user_code": started["user_code"]});
    person.api.post(&format!("/api/auth/device/{action}"), body).await
}

async fn program_gets_one_session_after_a_person_approved_its_code(fixture: Fixture) {
    let owner = fixture.owner().await;
    let started = start(&fixture).await;
    assert_eq!((&started["expires_in"], &started["interval"]), (&json!(600), &json!(5)));
    let code = started.text("user_code").to_owned();
    assert_eq!(started.text("verification_uri"), format!("{}/device", fixture.server.url()));
    assert!(started.text("verification_uri_complete").ends_with(&format!("?user_code={code}")));
    redeem(&fixture, &started).await.expect_problem(409, "authorization_pending");

    let typed = json!({"user_code": code.to_lowercase().replace('-', " ")});
    let shown = owner.api.post("/api/auth/device/show", typed).await.expect(200);
    assert_eq!((shown.text("user_agent"), shown.text("source")), ("tool 1.0", "127.0.0.1"));
    for wrong in ["BCDF-GHJK", "", "x", &code[..8]] {
        let body = json!({"user_code": wrong});
        owner.api.post("/api/auth/device/approve", body).await.expect_problem(404, "not_found");
    }
    let by_key = fixture.api.post("/api/auth/device/approve", json!({"user_code": code})).await;
    by_key.expect_problem(403, "session_required");
    fixture.server.query("UPDATE user_sessions SET confirmed_at = confirmed_at - 901000");
    let refused = decide(&owner, "approve", &started).await;
    refused.expect_problem(403, "confirmation_required");
    owner.api.post("/api/auth/confirm", json!({"password": PASSWORD})).await.expect(200);
    decide(&owner, "approve", &started).await.expect(200);
    for action in ["approve", "refuse", "show"] {
        decide(&owner, action, &started).await.expect_problem(404, "not_found");
    }

    let answers = join_all([redeem(&fixture, &started), redeem(&fixture, &started)]).await;
    let (made, other): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!((made.len(), other.len()), (1, 1), "{answers:?}");
    other[0].clone().expect_problem(410, "expired_token");
    redeem(&fixture, &started).await.expect_problem(410, "expired_token");
    let program = Person::of(&fixture.api, &owner.email, &made[0].json());
    assert_eq!(program.member_id, owner.member_id);
    assert_ne!(program.session_id, owner.session_id);
    let me = program.api.get("/api/me").await.expect(200);
    assert_eq!(me["session"]["confirmed_at"], Value::Null, "{me}");
    // The program has not proven the password.
    let body = json!({"email": "bob@example.com", "role": "owner"});
    let refused = program.api.post("/api/invitations", body).await;
    refused.expect_problem(403, "confirmation_required");
    let refresh = json!({"refresh_token": program.refresh_token});
    fixture.api.with_key("").post("/api/auth/refresh", refresh).await.expect(200);

    let log = fixture.api.get("/api/audit?limit=500").await.expect(200);
    let entries = log["items"].as_array().expect("items").iter();
    let approved: Vec<_> =
        entries.clone().filter(|entry| entry["action"] == "device_login.approve").collect();
    assert_eq!(approved.len(), 1);
    assert_eq!(approved[0]["actor_id"], owner.member_id.as_str());
    let id = &approved[0]["subject_id"];
    let mut created = entries.filter(|entry| entry["action"] == "session.create");
    assert!(created.any(|entry| entry["detail"]["device_login_id"] == *id), "{log}");
}

async fn approval_ends_with_its_session_its_time_and_a_refusal(fixture: Fixture) {
    let owner = fixture.owner().await;
    let (expired, refused) = (start(&fixture).await, start(&fixture).await);
    let (approved, kept) = (start(&fixture).await, start(&fixture).await);
    decide(&owner, "approve", &approved).await.expect(200);
    decide(&owner, "refuse", &refused).await.expect(200);
    redeem(&fixture, &refused).await.expect_problem(403, "access_denied");
    owner.api.post("/api/auth/logout", json!({})).await.expect(204);
    redeem(&fixture, &approved).await.expect_problem(403, "access_denied");
    redeem(&fixture, &kept).await.expect_problem(409, "authorization_pending");
    fixture.server.query("UPDATE device_logins SET expires_at = expires_at - 600001");
    redeem(&fixture, &expired).await.expect_problem(410, "expired_token");
    let answer = muster_tests::sign_in(&fixture.api, &owner.email, PASSWORD).await.expect(200);
    let owner = Person::of(&fixture.api, &owner.email, &answer);
    decide(&owner, "approve", &expired).await.expect_problem(404, "not_found");
    for secret in ["", "mst_device_", "nonsense", owner.refresh_token.as_str()] {
        let answer = redeem(&fixture, &json!({"device_code": secret})).await;
        answer.expect_problem(410, "expired_token");
    }
    // The next one forgets those that have expired.
    start(&fixture).await;
    assert_eq!(fixture.server.query("SELECT COUNT(*) FROM device_logins"), ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codes_starts_and_polls_are_limited() {
    let options = ServerOptions::default().with("MUSTER_TRUSTED_PROXY", "127.0.0.1");
    let fixture = Fixture::with(options).await;
    let owner = fixture.owner().await;
    let api = fixture.api.with_key("");
    let start_from = async |address: String| {
        let headers = [("x-forwarded-for", address.as_str())];
        let body = Some(b"{}".to_vec());
        let answer = api.try_send(Method::POST, "/api/auth/device", &headers, body).await;
        answer.expect("reach the server")
    };
    let first = start_from("10.0.0.1".into()).await.expect(200);
    for _ in 0..3 {
        redeem(&fixture, &first).await.expect_problem(409, "authorization_pending");
    }
    redeem(&fixture, &first).await.expect_problem(429, "slow_down");
    for _ in 1..10 {
        start_from("10.0.0.1".into()).await.expect(200);
    }
    start_from("10.0.0.1".into()).await.expect_problem(429, "too_many_attempts");
    for _ in 0..10 {
        decide(&owner, "show", &json!({"user_code": "BCDF-GHJK"})).await.expect(404);
    }
    decide(&owner, "show", &first).await.expect_problem(429, "too_many_attempts");
    for chunk in 0..30 {
        let starts = (0..33).map(|n| start_from(format!("10.1.{chunk}.{n}")));
        for answer in join_all(starts).await {
            answer.expect(200);
        }
    }
    // The source with the most makes room for one that has none, and not for its second.
    start_from("10.2.0.1".into()).await.expect(200);
    redeem(&fixture, &first).await.expect_problem(410, "expired_token");
    for n in 0..8 {
        start_from(format!("10.2.1.{n}")).await.expect(200);
    }
    start_from("10.2.2.1".into()).await.expect_problem(503, "too_many_device_logins");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn person_approves_the_sign_in_of_another_host_at_the_command_line() {
    let fixture = Fixture::on_sqlite().await;
    fixture.owner().await;
    let url = fixture.server.url();
    let here = Cli::new(&fixture.test_dir);
    let there = here.clone().with("XDG_CONFIG_HOME", fixture.test_dir.folder("there").display());
    let login = ["login", "--server", &url, "--email", "ada@example.com"];
    here.run_with_input(&login, &format!("{PASSWORD}\n")).await.expect(0);

    let mut waiting = there.start(&["login", "--device", "--server", &url, "--json"]);
    let notes = BufReader::new(waiting.stderr.take().expect("a pipe")).lines();
    let code = notes.map(|line| line.expect("text")).find_map(|line| {
        line.split_once("muster login approve ").map(|(_, code)| code.trim().to_owned())
    });
    let code = code.expect("the code");
    let unasked = here.run(&["login", "approve", &code]).await;
    unasked.expect(2);
    assert!(unasked.stderr.contains("--yes"), "{}", unasked.stderr);
    let approved = here.run(&["login", "approve", &code.to_lowercase(), "--yes"]).await.expect(0);
    assert!(approved.contains("muster-cli/") && approved.contains("127.0.0.1"), "{approved}");
    let signed_in = ended(waiting).await.json();
    assert_eq!(signed_in["member"].text("email"), "ada@example.com");
    let me = there.run(&["whoami", "--json"]).await.json();
    assert_eq!((me.text("kind"), me.text("role")), ("member", "owner"));
    assert_eq!(me["session"]["confirmed_at"], Value::Null);

    let mut waiting = there.start(&["login", "--device", "--server", &url]);
    let notes = BufReader::new(waiting.stderr.take().expect("a pipe")).lines();
    let code = notes.map(|line| line.expect("text")).find_map(|line| {
        line.split_once("muster login approve ").map(|(_, code)| code.trim().to_owned())
    });
    here.run(&["login", "refuse", &code.expect("the code")]).await.expect(0);
    ended(waiting).await.expect(1);
    // What was stored before stays.
    there.run(&["whoami"]).await.expect(0);
}
