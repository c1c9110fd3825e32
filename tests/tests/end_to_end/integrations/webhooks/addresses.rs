//! Addresses to which messages are never sent.

use muster_tests::{
    Authority, ClosedPort, JsonFields as _, ServerOptions, TestDir, TlsTerminator, WebhookSink,
    eventually,
};
use serde_json::json;

use super::{delivery, delivery_in, fixture, job, options, secret_of};

#[tokio::test]
async fn forbidden_addresses_are_refused_and_not_stored() {
    let (fixture, _agent) = fixture(ServerOptions::default()).await;
    for url in [
        "",
        "hooks.example",
        "http://hooks.example/",
        "ftp://hooks.example/",
        "https://user:password@hooks.example/",
        "https://hooks.example/#fragment",
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[fd00::1]/",
        "https://0.0.0.0/",
        &format!("https://hooks.example/{}", "x".repeat(2_048)),
    ] {
        let body = json!({"script": "x", "target": {"tags": ["hand"]}, "on_mismatch": "send",
            "webhook": {"url": url}});
        fixture.api.post("/api/jobs", body).await.expect_problem(422, "invalid_webhook");
        let asked = fixture.api.post("/api/webhooks/secret", json!({"url": url})).await;
        asked.expect_problem(422, "invalid_webhook");
    }
    for webhook in [json!({}), json!({"url": 1}), json!({"url": "https://a.example", "x": 1})] {
        let body = json!({"script": "x", "target": {"tags": ["hand"]}, "on_mismatch": "send",
            "webhook": webhook});
        fixture.api.post("/api/jobs", body).await.expect_problem(422, "invalid_body");
    }
    assert_eq!(fixture.api.get("/api/jobs").await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn name_that_resolves_to_a_private_address_is_not_called() {
    let options = ServerOptions::default().with("MUSTER_WEBHOOK_FIRST_RETRY_MS", 50);
    let (fixture, _agent) = fixture(options).await;
    let receiver = WebhookSink::start([]).await;
    let port = receiver.address().replace("127.0.0.1:", "");
    let id = job(&fixture, &format!("https://localhost:{port}/")).await;
    let tried = eventually("it was tried twice", async || {
        let delivery = delivery(&fixture.api, &id).await;
        (delivery["attempt_count"].as_i64() >= Some(2)).then_some(delivery)
    })
    .await;
    for attempt in tried.list("attempts") {
        let error = attempt.text("error");
        assert!(error.contains("localhost") && error.contains("private address"), "{error}");
    }
    assert_eq!(receiver.received().len(), 0);
}

#[tokio::test]
async fn webhook_address_is_checked_again_before_each_delivery() {
    let (mut fixture, _agent) = fixture(options()).await;
    let port = ClosedPort::new();
    let id = job(&fixture, &format!("http://127.0.0.1:{}/", port.number())).await;
    delivery(&fixture.api, &id).await;
    fixture.server.stop();
    let receiver = WebhookSink::on(port.open(), []);
    let strict = ServerOptions::default().with("MUSTER_WEBHOOK_FIRST_RETRY_MS", 50);
    fixture.server.resume_with(strict);
    eventually("it was refused", async || {
        let delivery = delivery(&fixture.api, &id).await;
        let error = delivery["last_attempt"]["error"].as_str()?.to_owned();
        error.contains("https://").then_some(())
    })
    .await;
    assert_eq!(receiver.received().len(), 0);
}

#[tokio::test]
async fn receiver_must_prove_its_name_by_certificate() {
    let test_dir = TestDir::new();
    let authority = Authority::new(&test_dir);
    let trusting = options().with("MUSTER_WEBHOOK_CA_FILE", authority.file().display());
    let (fixture, _agent) = fixture(trusting).await;
    let receiver = WebhookSink::start([]).await;
    let good = TlsTerminator::before(&receiver.address(), &authority.installed()).await;
    let port = good.address().replace("127.0.0.1:", "");
    let url = format!("https://localhost:{port}/hook");
    let id = job(&fixture, &url).await;
    let received = receiver.receives(1).await.remove(0);
    assert_eq!(received.header("host"), format!("localhost:{port}"));
    assert!(received.is_signed_by(&secret_of(&fixture.api, &url).await));
    delivery_in(&fixture.api, &id, "delivered").await;
    let other = authority.certify(&["hooks.example"], (-1, 90));
    let bad = TlsTerminator::before(&receiver.address(), &other).await;
    let port = bad.address().replace("127.0.0.1:", "");
    let id = job(&fixture, &format!("https://localhost:{port}/hook")).await;
    let tried = eventually("it was tried", async || {
        let delivery = delivery(&fixture.api, &id).await;
        (delivery["attempt_count"].as_i64() >= Some(1)).then_some(delivery)
    })
    .await;
    let error = tried["attempts"][0].text("error");
    assert!(error.contains("certificate"), "{error}");
    assert_eq!(receiver.received().len(), 1);
}
