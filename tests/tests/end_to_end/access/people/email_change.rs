//! A person changes the address.

use muster_tests::{
    Database, Fixture, PASSWORD, PostgresDatabase, ServerOptions, SmtpSink, TestDir, sign_in,
};
use serde_json::json;

async fn fixture(sink: &SmtpSink, database: Database) -> Fixture {
    let options = ServerOptions::default()
        .with("MUSTER_SMTP_URL", format!("smtp+plain://{}", sink.address()))
        .with("MUSTER_SMTP_FROM", "muster@example.com");
    Fixture::on(TestDir::new(), database, options).await
}

async fn address_is_changed(fixture: Fixture, sink: SmtpSink) {
    let owner = fixture.owner().await;
    let invitation = owner.invite_by_mail(&sink, "bob@example.com", "member").await;
    let bob = owner.accepted(&invitation, "bob@example.com").await;
    let want = async |email: &str| owner.api.post("/api/me/email", json!({"email": email})).await;
    let verify =
        async |code: &str| owner.api.post("/api/me/email/verify", json!({"code": code})).await;
    verify("000000").await.expect_problem(422, "wrong_code");
    want(&owner.email).await.expect_problem(422, "invalid_field");
    want("no address").await.expect_problem(422, "invalid_field");
    // Another person's address: the same answer, and a notice.
    want(&bob.email).await.expect(202);
    let notice = sink.mail(&bob.email, 2).await;
    assert!(notice.text.contains("account with this address already"), "{}", notice.text);
    want("new@example.com").await.expect(202);
    let code = sink.mail("new@example.com", 1).await.secret().to_owned();
    // It counts for the person who asked alone.
    let stolen = bob.api.post("/api/me/email/verify", json!({"code": code})).await;
    stolen.expect_problem(422, "wrong_code");
    verify(&code).await.expect(204);
    verify(&code).await.expect_problem(422, "wrong_code");
    let notice = sink.mail(&owner.email, 1).await;
    assert!(notice.text.contains("new@example.com"), "{}", notice.text);
    sign_in(&fixture.api, &owner.email, PASSWORD).await.expect_problem(401, "wrong_sign_in");
    sign_in(&fixture.api, "new@example.com", PASSWORD).await.expect(200);
}

#[tokio::test]
async fn address_is_changed_with_a_code_to_the_new_one_on_sqlite() {
    let sink = SmtpSink::start().await;
    address_is_changed(fixture(&sink, Database::Sqlite).await, sink).await;
}

#[tokio::test]
async fn address_is_changed_with_a_code_to_the_new_one_on_postgres() {
    let sink = SmtpSink::start().await;
    let database = Database::Postgres(PostgresDatabase::empty());
    address_is_changed(fixture(&sink, database).await, sink).await;
}

#[tokio::test]
async fn another_request_does_not_give_more_tries_and_needs_a_recent_password() {
    let sink = SmtpSink::start().await;
    let fixture = fixture(&sink, Database::Sqlite).await;
    let owner = fixture.owner().await;
    let want = async || owner.api.post("/api/me/email", json!({"email": "new@example.com"})).await;
    want().await.expect(202);
    for _ in 0..5 {
        let refused = owner.api.post("/api/me/email/verify", json!({"code": "not it"})).await;
        refused.expect_problem(422, "wrong_code");
    }
    want().await.expect(202);
    let code = sink.mail("new@example.com", 2).await.secret().to_owned();
    let refused = owner.api.post("/api/me/email/verify", json!({"code": code})).await;
    refused.expect_problem(422, "wrong_code");
    fixture.server.query("UPDATE user_sessions SET confirmed_at = confirmed_at - 901000");
    want().await.expect_problem(403, "confirmation_required");
}
