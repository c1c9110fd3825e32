//! Webhooks from a terminal.

use muster_tests::{Cli, JsonFields as _, WebhookSink};

use super::{delivery_in, fixture, options};

#[tokio::test]
async fn command_line_requests_and_manages_webhooks() {
    let (fixture, _agent) = fixture(options()).await;
    let receiver = WebhookSink::start([]).await;
    let cli = Cli::new(&fixture.test_dir);
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, fixture.api.key()).await.expect(0);
    assert_eq!(cli.run(&["webhooks"]).await.expect(0).trim(), "No webhook deliveries yet.");
    let url = receiver.url();
    let run =
        ["run", "--tag", "hand", "gone", "--webhook", &url, "--detach", "--on-mismatch", "send"];
    let job = cli.run(&run).await.expect(0);
    let message = receiver.receives(1).await.remove(0);
    let secret = cli.run(&["webhooks", "secret", &url]).await.expect(0);
    assert!(message.is_signed_by(secret.trim()));
    let delivery = delivery_in(&fixture.api, job.trim(), "delivered").await;
    let id = delivery.id();
    let listed = cli.run(&["webhooks", "list", "--job", job.trim()]).await.expect(0);
    assert!(listed.contains(id) && listed.contains("delivered"), "{listed}");
    let none = cli.run(&["webhooks", "list", "--state", "failed"]).await.expect(0);
    assert_eq!(none.trim(), "No webhook deliveries yet.");
    assert_eq!(
        cli.run(&["webhooks", "show", id, "--json"]).await.json()["attempts"][0]["status"],
        200
    );
    cli.run(&["webhooks", "resend", id]).await.expect(0);
    receiver.receives(2).await;
    cli.run(&["webhooks", "rotate"]).await.expect(0);
    assert_ne!(cli.run(&["webhooks", "secret", &url]).await.expect(0), secret);
    let one = cli.run(&["run", "hand", "gone", "--webhook", &url]).await;
    one.expect(2);
    assert!(one.stderr.contains("list them with `muster agents`"), "{}", one.stderr);
}
