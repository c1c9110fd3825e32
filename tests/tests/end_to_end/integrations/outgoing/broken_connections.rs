//! Receivers that reset the connection, that have a wrong certificate, and mails end to end.

use muster_tests::{
    Authority, JsonFields as _, MailReaction, SmtpSink, TestDir, TlsTerminator, WebhookSink,
    eventually,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::super::webhooks::{fixture, job, options};
use super::{deliveries, delivery_in, integration};

/// Resets the first connections in the middle of a request, and passes later ones on to a receiver.
struct ResettingReceiver {
    address: String,
    serving: JoinHandle<()>,
}

impl ResettingReceiver {
    async fn before(receiver: &WebhookSink, resets: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let address = listener.local_addr().expect("a bound address").to_string();
        let receiver = receiver.address();
        let serving = tokio::spawn(async move {
            let mut connections = 0;
            while let Ok((mut stream, _)) = listener.accept().await {
                connections += 1;
                if connections <= resets {
                    // Some of the request has arrived, so the client waits for the answer.
                    let _ = stream.read(&mut [0; 16]).await;
                    stream.set_zero_linger().expect("set the option");
                    continue;
                }
                let mut onward = TcpStream::connect(&receiver).await.expect("reach the receiver");
                tokio::spawn(async move { copy_bidirectional(&mut stream, &mut onward).await });
            }
        });
        Self { address, serving }
    }
}

impl Drop for ResettingReceiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn of_jobs(url: &str) -> Value {
    json!({"settings": {"url": url}, "event_types": ["job.failed"]})
}

#[tokio::test]
async fn message_is_tried_again_after_connections_that_were_reset() {
    let (fixture, _agent) = fixture(options()).await;
    let receiver = WebhookSink::start([]).await;
    let resetting = ResettingReceiver::before(&receiver, 3).await;
    let url = format!("http://{}/hook", resetting.address);
    let path = integration(&fixture, "webhook", of_jobs(&url)).await;
    let quiet = WebhookSink::start([]).await;
    let first = job(&fixture, &quiet.url()).await;
    quiet.receives(1).await;
    let second = job(&fixture, &quiet.url()).await;
    let received = receiver.receives(2).await;
    let ids: Vec<_> = received.iter().map(|one| one.json()["data"]["job"]["id"].clone()).collect();
    assert_eq!(ids, [json!(first), json!(second)], "in order, each once");
    eventually("both are delivered", async || {
        let all = deliveries(&fixture.api, &path).await;
        (all.len() == 2 && all.iter().all(|one| one["state"] == "delivered")).then_some(())
    })
    .await;
    let shown = fixture.api.get(&path).await.expect(200);
    assert!(shown["failing_since"].is_null(), "{shown}");
}

#[tokio::test]
async fn receiver_with_a_wrong_certificate_gets_nothing_and_the_reason_is_shown() {
    let test_dir = TestDir::new();
    let authority = Authority::new(&test_dir);
    let trusting = options().with("MUSTER_WEBHOOK_CA_FILE", authority.file().display());
    let (fixture, _agent) = fixture(trusting).await;
    let receiver = WebhookSink::start([]).await;
    let other_name = authority.certify(&["hooks.example"], (-1, 90));
    let wrong = TlsTerminator::before(&receiver.address(), &other_name).await;
    let port = wrong.address().replace("127.0.0.1:", "");
    let url = format!("https://localhost:{port}/hook");
    let path = integration(&fixture, "slack", of_jobs(&url)).await;
    let tested = fixture.api.post(&format!("{path}/test"), json!({})).await.expect(200);
    assert!(tested["status"].is_null(), "{tested}");
    assert!(tested.text("error").contains("certificate"), "{tested}");
    let quiet = WebhookSink::start([]).await;
    job(&fixture, &quiet.url()).await;
    let failing = eventually("the integration fails", async || {
        let shown = fixture.api.get(&path).await.expect(200);
        (!shown["failing_since"].is_null()).then_some(shown)
    })
    .await;
    assert!(failing.text("last_error").contains("certificate"), "{failing}");
    assert_eq!(receiver.received().len(), 0, "nothing is sent without a proof of the name");
    let right_name = authority.certify(&["localhost"], (-1, 90));
    let good = TlsTerminator::before(&receiver.address(), &right_name).await;
    let port = good.address().replace("127.0.0.1:", "");
    let settings = json!({"settings": {"url": format!("https://localhost:{port}/hook")}});
    fixture.api.patch(&path, settings).await.expect(200);
    receiver.receives(1).await;
    delivery_in(&fixture.api, &path, "delivered").await;
}

#[tokio::test]
async fn mail_of_an_integration_arrives_after_the_mail_server_deferred_it() {
    let sink = SmtpSink::start().await;
    let options = options()
        .with("MUSTER_SMTP_URL", format!("smtp+plain://{}", sink.address()))
        .with("MUSTER_SMTP_FROM", "Muster <muster@example.com>")
        .with("MUSTER_SMTP_TIMEOUT_MS", 500)
        .with("MUSTER_MAIL_FIRST_RETRY_MS", 20);
    let (fixture, _agent) = fixture(options).await;
    let owner = fixture.owner().await;
    sink.react(MailReaction::Defer);
    let body = json!({"settings": {"to": [owner.email]}, "event_types": ["job.failed"]});
    let path = integration(&fixture, "email", body).await;
    let quiet = WebhookSink::start([]).await;
    job(&fixture, &quiet.url()).await;
    eventually("two attempts", async || (sink.attempts().len() >= 2).then_some(())).await;
    sink.react(MailReaction::Accept);
    let mail = sink.mail(&owner.email, 1).await;
    assert!(mail.text.contains("Job gone failed"), "{}", mail.text);
    delivery_in(&fixture.api, &path, "delivered").await;
    let stranger = json!({"settings": {"to": ["stranger@example.com"]}});
    fixture.api.patch(&path, stranger).await.expect_problem(422, "invalid_field");
    assert_eq!(sink.received().len(), 1, "one mail");
}
