//! Where messages never go.

use muster_tests::{Authority, ClosedPort, Receiver, ServerOptions, Site, TlsFront, eventually};
use serde_json::json;

use super::{delivery, delivery_in, job, options, secret_of, world};

#[tokio::test]
async fn addresses_that_must_not_be_called_are_refused_before_anything_is_stored() {
    let (world, _agent) = world(ServerOptions::default()).await;
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
        world.api.post("/api/jobs", body).await.expect_problem(422, "invalid_webhook");
        let asked = world.api.post("/api/webhooks/secret", json!({"url": url})).await;
        asked.expect_problem(422, "invalid_webhook");
    }
    for webhook in [json!({}), json!({"url": 1}), json!({"url": "https://a.example", "x": 1})] {
        let body = json!({"script": "x", "target": {"tags": ["hand"]}, "on_mismatch": "send",
            "webhook": webhook});
        world.api.post("/api/jobs", body).await.expect_problem(422, "invalid_body");
    }
    assert_eq!(world.api.get("/api/jobs").await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn a_name_that_stands_for_a_private_address_is_not_called() {
    let options = ServerOptions::default().with("MUSTER_WEBHOOK_FIRST_RETRY_MS", 50);
    let (world, _agent) = world(options).await;
    let receiver = Receiver::start([]).await;
    let port = receiver.address().replace("127.0.0.1:", "");
    let id = job(&world, &format!("https://localhost:{port}/")).await;
    let tried = eventually("it was tried twice", async || {
        let delivery = delivery(&world.api, &id).await;
        (delivery["attempt_count"].as_i64() >= Some(2)).then_some(delivery)
    })
    .await;
    for attempt in tried["attempts"].as_array().expect("a list") {
        let error = attempt["error"].as_str().expect("a reason");
        assert!(error.contains("localhost") && error.contains("private address"), "{error}");
    }
    assert_eq!(receiver.received().len(), 0);
}

#[tokio::test]
async fn what_was_allowed_is_judged_again_by_the_server_that_sends_it() {
    let (mut world, _agent) = world(options()).await;
    let port = ClosedPort::new();
    let id = job(&world, &format!("http://127.0.0.1:{}/", port.number())).await;
    delivery(&world.api, &id).await;
    world.server.stop();
    let receiver = Receiver::on(port.open(), []);
    let strict = ServerOptions::default().with("MUSTER_WEBHOOK_FIRST_RETRY_MS", 50);
    world.server.resume_with(strict);
    eventually("it was refused", async || {
        let delivery = delivery(&world.api, &id).await;
        let error = delivery["last_attempt"]["error"].as_str()?.to_owned();
        error.contains("https://").then_some(())
    })
    .await;
    assert_eq!(receiver.received().len(), 0);
}

#[tokio::test]
async fn a_receiver_is_called_by_its_name_and_has_to_prove_it() {
    let site = Site::new();
    let authority = Authority::new(&site);
    let trusting = options().with("MUSTER_WEBHOOK_CA_FILE", authority.file().display());
    let (world, _agent) = world(trusting).await;
    let receiver = Receiver::start([]).await;
    let good = TlsFront::before(&receiver.address(), &authority.installed()).await;
    let port = good.address().replace("127.0.0.1:", "");
    let url = format!("https://localhost:{port}/hook");
    let id = job(&world, &url).await;
    let received = receiver.receives(1).await.remove(0);
    assert_eq!(received.header("host"), format!("localhost:{port}"));
    assert!(received.is_signed_by(&secret_of(&world.api, &url).await));
    delivery_in(&world.api, &id, "delivered").await;
    let other = authority.certify(&["hooks.example"], (-1, 90));
    let bad = TlsFront::before(&receiver.address(), &other).await;
    let port = bad.address().replace("127.0.0.1:", "");
    let id = job(&world, &format!("https://localhost:{port}/hook")).await;
    let tried = eventually("it was tried", async || {
        let delivery = delivery(&world.api, &id).await;
        (delivery["attempt_count"].as_i64() >= Some(1)).then_some(delivery)
    })
    .await;
    let error = tried["attempts"][0]["error"].as_str().expect("a reason");
    assert!(error.contains("certificate"), "{error}");
    assert_eq!(receiver.received().len(), 1);
}
