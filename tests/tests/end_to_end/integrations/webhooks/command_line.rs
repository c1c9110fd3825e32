//! Webhooks from a terminal.

use muster_tests::{Cli, Receiver};

use super::{delivery_in, options, world};

#[tokio::test]
async fn webhooks_are_asked_for_and_looked_after_from_the_command_line() {
    let (world, _agent) = world(options()).await;
    let receiver = Receiver::start([]).await;
    let cli = Cli::new(&world.site);
    let login = ["login", "--server", &world.server.url()];
    cli.run_with_input(&login, world.api.key()).await.expect(0);
    assert_eq!(cli.run(&["webhooks"]).await.expect(0).trim(), "No webhook deliveries yet.");
    let url = receiver.url();
    let run =
        ["run", "--tag", "hand", "gone", "--webhook", &url, "--detach", "--on-mismatch", "send"];
    let job = cli.run(&run).await.expect(0);
    let message = receiver.receives(1).await.remove(0);
    let secret = cli.run(&["webhooks", "secret", &url]).await.expect(0);
    assert!(message.is_signed_by(secret.trim()));
    let delivery = delivery_in(&world.api, job.trim(), "delivered").await;
    let id = delivery["id"].as_str().expect("an id");
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
    assert!(one.stderr.contains("--on or --tag"), "{}", one.stderr);
}
