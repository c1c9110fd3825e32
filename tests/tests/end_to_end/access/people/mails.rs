//! Mails leave through a real mail server, also one that refuses, defers, hangs or breaks off.

use muster_tests::{
    Authority, Database, Fixture, MailReaction, ServerOptions, SmtpSink, TestDir, eventually,
};
use reqwest::Method;
use serde_json::json;

/// A server that sends mails to the sink.
fn sending(sink: &SmtpSink) -> ServerOptions {
    ServerOptions::default()
        .with("MUSTER_SMTP_URL", format!("smtp+plain://{}", sink.address()))
        .with("MUSTER_SMTP_FROM", "Muster <muster@example.com>")
        .with("MUSTER_SMTP_TIMEOUT_MS", 500)
        .with("MUSTER_MAIL_FIRST_RETRY_MS", 20)
}

async fn request_reset(fixture: &Fixture, email: &str) {
    let api = fixture.api.with_key("");
    api.post("/api/auth/password-reset", json!({"email": email})).await.expect(202);
}

async fn waits(fixture: &Fixture, statement: &str, expected: &str) {
    eventually(statement, async || (fixture.server.query(statement) == [expected]).then_some(()))
        .await;
}

#[tokio::test]
async fn mail_is_tried_until_the_mail_server_takes_it() {
    let sink = SmtpSink::start().await;
    let fixture = Fixture::with(sending(&sink)).await;
    let owner = fixture.owner().await;
    for reaction in [MailReaction::Defer, MailReaction::Drop, MailReaction::Hang] {
        let before = (sink.attempts().len(), sink.received().len());
        sink.react(reaction);
        request_reset(&fixture, &owner.email).await;
        eventually(&format!("two attempts: {reaction:?}"), async || {
            (sink.attempts().len() >= before.0 + 2).then_some(())
        })
        .await;
        sink.react(MailReaction::Accept);
        let mail = sink.mail(&owner.email, before.1 + 1).await;
        assert!(mail.secret().starts_with("mst_reset_"), "{}", mail.text);
        assert!(mail.text.contains("From: Muster <muster@example.com>"), "{}", mail.text);
        assert!(mail.text.contains("text/html") && mail.text.contains("@example.com>"));
        waits(&fixture, "SELECT COUNT(*) FROM mails", "0").await;
        assert!(!fixture.server.log().contains(mail.secret()), "the log shows a token");
    }
    assert_eq!(sink.received().len(), 3, "a mail arrived twice");
}

#[tokio::test]
async fn refused_mail_is_given_up_and_its_text_deleted() {
    let sink = SmtpSink::start().await;
    let fixture = Fixture::with(sending(&sink)).await;
    let owner = fixture.owner().await;
    sink.react(MailReaction::Refuse);
    request_reset(&fixture, &owner.email).await;
    let failed = "SELECT COUNT(*) FROM mails WHERE is_failed AND length(sealed) = 0";
    waits(&fixture, failed, "1").await;
    assert_eq!(sink.attempts().len(), 1);
    assert!(fixture.server.log().contains("giving up"));
}

#[tokio::test]
async fn mail_that_waits_is_sealed_and_survives_a_crash_and_another_master_key() {
    let sink = SmtpSink::start().await;
    let test_dir = TestDir::new();
    let mut fixture = Fixture::on(test_dir, Database::Sqlite, sending(&sink)).await;
    let owner = fixture.owner().await;
    sink.react(MailReaction::Defer);
    request_reset(&fixture, &owner.email).await;
    eventually("an attempt", async || (!sink.attempts().is_empty()).then_some(())).await;
    let sealed = fixture.server.query("SELECT hex(sealed) FROM mails").concat();
    let address = hexadecimal("ada@example.com");
    assert!(!sealed.is_empty() && !sealed.contains(&address), "the address is readable");
    fixture.server.kill_9();
    // What waits is sealed again under another master key.
    let rotated = fixture.server.run(&["rotate-master-key"]);
    assert!(rotated.status.success(), "{}", String::from_utf8_lossy(&rotated.stderr));
    sink.react(MailReaction::Accept);
    fixture.server.resume_with(sending(&sink));
    let mail = sink.mail(&owner.email, 1).await;
    assert!(mail.secret().starts_with("mst_reset_"));
}

fn hexadecimal(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02X}")).collect()
}

#[tokio::test]
async fn mail_is_sent_over_starttls_with_a_password_from_a_file() {
    let test_dir = TestDir::new();
    let authority = Authority::new(&test_dir);
    let sink = SmtpSink::secured(&authority).await;
    let file = test_dir.path().join("smtp_password");
    std::fs::write(&file, "s3cret\n").expect("write");
    let url = format!("smtp://localhost:{}", sink.address().port());
    let options = sending(&sink)
        .with("MUSTER_SMTP_URL", url)
        .with("MUSTER_SMTP_USER", "muster")
        .with("MUSTER_SMTP_PASSWORD_FILE", file.display())
        .with("MUSTER_SMTP_TIMEOUT_MS", 10_000)
        .with("MUSTER_SMTP_CA_FILE", authority.file().display());
    let fixture = Fixture::on(test_dir, Database::Sqlite, options).await;
    let owner = fixture.owner().await;
    request_reset(&fixture, &owner.email).await;
    let mail = sink.mail(&owner.email, 1).await;
    assert!(mail.is_secure);
    // `\0muster\0s3cret`
    assert_eq!(mail.authenticated.as_deref(), Some("AG11c3RlcgBzM2NyZXQ="));
}

#[tokio::test]
async fn mail_server_with_an_unknown_certificate_gets_no_mail() {
    let test_dir = TestDir::new();
    let authority = Authority::new(&test_dir);
    let sink = SmtpSink::secured(&authority).await;
    let url = format!("smtp://localhost:{}", sink.address().port());
    let options = sending(&sink).with("MUSTER_SMTP_URL", url);
    let fixture = Fixture::on(test_dir, Database::Sqlite, options).await;
    let owner = fixture.owner().await;
    request_reset(&fixture, &owner.email).await;
    eventually("an attempt fails", async || {
        fixture.server.log().contains("failed to send a mail; retrying").then_some(())
    })
    .await;
    assert!(sink.attempts().is_empty());
}

#[tokio::test]
async fn without_a_mail_server_what_needs_mail_is_refused_with_the_setting() {
    let options = ServerOptions::default().with("MUSTER_REGISTRATION", "open");
    let fixture = Fixture::with(options).await;
    let owner = fixture.owner().await;
    assert!(fixture.server.log().contains("`smtp_url`"), "the operator learns nothing");
    let stranger = fixture.api.with_key("");
    let register = json!({"email": "bob@example.com", "password": "correct horse battery"});
    for (api, path, body) in [
        (&stranger, "/api/auth/register", register),
        (&stranger, "/api/auth/password-reset", json!({"email": "bob@example.com"})),
        (&owner.api, "/api/me/email", json!({"email": "bob@example.com"})),
    ] {
        let refused = api.send(Method::POST, path, Some(body)).await;
        let problem = refused.expect_problem(409, "mail_not_configured");
        assert!(problem.to_string().contains("smtp_url"), "{problem}");
    }
    assert_eq!(fixture.server.query("SELECT COUNT(*) FROM mails"), ["0"]);
}

#[tokio::test]
async fn invitation_is_mailed_to_its_address_and_not_shown() {
    let sink = SmtpSink::start().await;
    let fixture = Fixture::with(sending(&sink)).await;
    let owner = fixture.owner().await;
    let token = owner.invite_by_mail(&sink, "grace@example.com", "admin").await;
    assert!(token.starts_with("mst_invite_"));
    assert!(!fixture.server.log().contains(&token), "the log shows a token");
    owner.accepted(&token, "grace@example.com").await;
}
