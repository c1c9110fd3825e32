//! A new password by a token that is sent to the address.

use muster_tests::{
    Api, ApiResponse, Database, Fixture, PASSWORD, PostgresDatabase, ServerOptions, SmtpSink,
    TestDir, sign_in,
};
use serde_json::json;

const NEW: &str = "tired giraffe on a bus";

async fn fixture(sink: &SmtpSink, database: Database) -> Fixture {
    let options = ServerOptions::default()
        .with("MUSTER_SMTP_URL", format!("smtp+plain://{}", sink.address()))
        .with("MUSTER_SMTP_FROM", "muster@example.com");
    Fixture::on(TestDir::new(), database, options).await
}

async fn request(api: &Api, email: &str) -> ApiResponse {
    api.with_key("").post("/api/auth/password-reset", json!({"email": email})).await
}

async fn complete(api: &Api, token: &str, password: &str) -> ApiResponse {
    let body = json!({"password": password});
    api.with_key(token).post("/api/auth/password-reset/complete", body).await
}

async fn password_is_reset(fixture: Fixture, sink: SmtpSink) {
    let owner = fixture.owner().await;
    let api = &fixture.api;
    request(api, " ADA@example.com ").await.expect(202);
    request(api, &owner.email).await.expect(202);
    let tokens = [sink.mail(&owner.email, 1).await, sink.mail(&owner.email, 2).await];
    let [token, other] = tokens.each_ref().map(|mail| mail.secret());
    let guess = format!("mst_reset_{}", "0".repeat(64));
    // A person who was signed in made a key for later.
    let made = owner.api.post("/api/keys", json!({"name": "k", "role": "owner"})).await.expect(201);
    let kept = api.with_key(made["key"].as_str().expect("a key"));
    kept.get("/api/agents").await.expect(200);
    let invitation = owner.invite_by_mail(&sink, "bob@example.com", "member").await;
    for wrong in
        ["", &guess, &token[..token.len() - 1], &format!("{token}0"), &invitation, api.key()]
    {
        complete(api, wrong, NEW).await.expect_problem(401, "invalid_reset_token");
    }
    // A token is no key, and a bad password does not use it up.
    api.with_key(token).get("/api/agents").await.expect_problem(401, "invalid_api_key");
    complete(api, token, "short").await.expect_problem(422, "invalid_field");
    let (one, two) = tokio::join!(complete(api, token, NEW), complete(api, token, NEW));
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 401], "a token works once");
    // The other token ends with it, and so do all sessions.
    complete(api, other, NEW).await.expect_problem(401, "invalid_reset_token");
    owner.api.get("/api/agents").await.expect_problem(401, "session_ended");
    kept.get("/api/agents").await.expect_problem(401, "invalid_api_key");
    sign_in(api, &owner.email, PASSWORD).await.expect_problem(401, "wrong_sign_in");
    sign_in(api, &owner.email, NEW).await.expect(200);
    let notice = sink.mail(&owner.email, 3).await;
    assert!(notice.text.contains("was changed"), "{}", notice.text);
    let log = api.get("/api/audit?limit=500").await.expect(200);
    let entries = log["items"].as_array().expect("items").iter();
    let reset: Vec<_> = entries.filter(|entry| entry["detail"]["by"] == "password_reset").collect();
    assert_eq!(reset.len(), 1, "{log}");
    assert_eq!(reset[0]["action"], "member.update");
}

#[tokio::test]
async fn token_by_mail_sets_a_new_password_once_on_sqlite() {
    let sink = SmtpSink::start().await;
    password_is_reset(fixture(&sink, Database::Sqlite).await, sink).await;
}

#[tokio::test]
async fn token_by_mail_sets_a_new_password_once_on_postgres() {
    let sink = SmtpSink::start().await;
    let database = Database::Postgres(PostgresDatabase::empty());
    password_is_reset(fixture(&sink, database).await, sink).await;
}

#[tokio::test]
async fn change_of_the_password_ends_tokens_by_mail_and_is_in_the_log_of_every_tenant() {
    let sink = SmtpSink::start().await;
    let fixture = fixture(&sink, Database::Sqlite).await;
    let owner = fixture.owner().await;
    let other = fixture.other_tenant().await;
    let insert = "INSERT INTO members (id, tenant_id, user_id, role, created_at, is_from_setup) SELECT \
                  randomblob(16), tenants.id, users.id, 'auditor', 1, 0 FROM tenants, users \
                  WHERE tenants.name = 'other tenant'";
    fixture.server.query(insert);
    request(&fixture.api, &owner.email).await.expect(202);
    let token = sink.mail(&owner.email, 1).await.secret().to_owned();
    let body = json!({"current_password": PASSWORD, "new_password": NEW});
    owner.api.post("/api/me/password", body).await.expect(204);
    let refused = complete(&fixture.api, &token, "another long password").await;
    refused.expect_problem(401, "invalid_reset_token");
    for api in [&fixture.api, &other] {
        let log = api.get("/api/audit?action=member.update").await.expect(200);
        let changed = &log["items"][0]["detail"]["changed"];
        assert_eq!(changed, &json!(["password"]), "{log}");
    }
}

#[tokio::test]
async fn unknown_address_gets_the_same_answer_and_no_mail() {
    let sink = SmtpSink::start().await;
    let fixture = fixture(&sink, Database::Sqlite).await;
    let owner = fixture.owner().await;
    let known = request(&fixture.api, &owner.email).await;
    let unknown = request(&fixture.api, "nobody@example.com").await;
    assert_eq!((known.status, &known.bytes), (202, &unknown.bytes));
    assert_eq!(unknown.status, 202);
    sink.mail(&owner.email, 1).await;
    muster_tests::eventually("no mail waits", async || {
        (fixture.server.query("SELECT COUNT(*) FROM mails") == ["0"]).then_some(())
    })
    .await;
    assert_eq!(sink.attempts(), [owner.email.as_str()]);
}

#[tokio::test]
async fn token_that_expired_or_is_of_a_clock_that_was_ahead_is_refused() {
    let sink = SmtpSink::start().await;
    let fixture = fixture(&sink, Database::Sqlite).await;
    let owner = fixture.owner().await;
    for (count, ms) in [(1, "- 3600001"), (2, "+ 7200000")] {
        request(&fixture.api, &owner.email).await.expect(202);
        let token = sink.mail(&owner.email, count).await.secret().to_owned();
        fixture.server.query(&format!("UPDATE password_resets SET expires_at = expires_at {ms}"));
        let refused = complete(&fixture.api, &token, NEW).await;
        refused.expect_problem(401, "invalid_reset_token");
    }
    sign_in(&fixture.api, &owner.email, PASSWORD).await.expect(200);
}
