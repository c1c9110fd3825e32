//! Integrations from a terminal.

use muster_tests::{JsonFields as _, WebhookSink};

use super::super::webhooks::{fixture, job, options};
use super::delivery_in;

#[tokio::test]
async fn command_line_manages_integrations() {
    let (fixture, _agent) = fixture(options()).await;
    let (receiver, quiet) = (WebhookSink::start([]).await, WebhookSink::start([]).await);
    let cli = fixture.cli().await;
    let none = cli.run(&["integrations"]).await.expect(0);
    assert!(none.contains("No integrations yet"), "{none}");
    let url = receiver.url();
    let add = ["integrations", "add", "ops", "slack", "--url", &url, "--event", "job.failed"];
    cli.run(&add).await.expect(0);
    cli.run(&["integrations", "edit", "ops", "--offline-after", "5m"]).await.expect(0);
    let shown = cli.run(&["integrations", "show", "ops", "--json"]).await.json();
    assert_eq!(shown["offline_after_ms"], 300_000);
    let listed = cli.run(&["integrations", "list"]).await.expect(0);
    assert!(listed.contains("slack") && !listed.contains("/hook"), "{listed}");
    let tested = cli.run(&["integrations", "test", "ops", "--json"]).await.json();
    assert_eq!(tested["status"], 200);
    job(&fixture, &quiet.url()).await;
    let path = format!("/api/integrations/{}", shown.id());
    let delivery = delivery_in(&fixture.api, &path, "delivered").await;
    let listed = cli.run(&["integrations", "deliveries", "ops"]).await.expect(0);
    assert!(listed.contains(delivery.id()), "{listed}");
    cli.run(&["integrations", "resend", "ops", delivery.id()]).await.expect(0);
    receiver.receives(3).await;
    let wrong = cli.run(&["integrations", "edit", "ops", "--event", "job.exploded"]).await;
    wrong.expect(1);
    cli.run(&["integrations", "remove", "ops"]).await.expect(0);
}
