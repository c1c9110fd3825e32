//! `muster schedules`.

use muster_tests::{Fixture, JsonFields as _};
use serde_json::json;

use super::counting_agent;

#[tokio::test]
async fn schedules_are_managed_from_the_command_line() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, _) = counting_agent(&fixture).await;
    let cli = fixture.cli().await;
    let created = cli
        .run(&[
            "schedules",
            "create",
            "nightly",
            "--cron",
            "30 2 * * *",
            "--time-zone",
            "Europe/Berlin",
            "--on",
            "all",
            "--overlap",
            "queue",
            "count",
            "--json",
        ])
        .await;
    created.expect(0);
    let id = created.json().id().to_owned();
    let listed = cli.run(&["schedules"]).await.expect(0);
    assert!(listed.contains("every day at 02:30, Europe/Berlin"), "{listed}");
    let shown = cli.run(&["schedules", "show", "nightly"]).await.expect(0);
    assert!(shown.contains(&id), "{shown}");
    let edited = cli.run(&["schedules", "edit", "night", "--cron", "@hourly", "--json"]).await;
    edited.expect(0);
    assert_eq!(edited.json()["sentence"], "every hour, UTC");
    assert_eq!(cli.run(&["schedules", "edit", "nightly"]).await.code, Some(2));
    let other = ["schedules", "edit", "nightly", "-p", "A=1", "--timeout", "5m", "--json"];
    let other = cli.run(&other).await.json();
    assert_eq!(
        (&other["job"]["script"], &other["job"]["timeout_ms"]),
        (&json!("count"), &json!(300_000))
    );
    assert_eq!(other["job"]["parameters"], json!({"A": "1"}));
    let listed = cli.run(&["schedules"]).await.expect(0);
    assert!(listed.contains("OWNER") && listed.contains("bootstrap"), "{listed}");
    let preview = cli.run(&["schedules", "preview", "nightly", "--count", "2"]).await.expect(0);
    assert!(preview.contains("+00:00"), "{preview}");
    let unsaved = ["schedules", "preview", "--every", "90s", "--json"];
    let unsaved = cli.run(&unsaved).await;
    unsaved.expect(0);
    assert_eq!(unsaved.json()["sentence"], "every 90 seconds");
    let job = cli.run(&["schedules", "run", "nightly"]).await.expect(0);
    let history = cli.run(&["schedules", "history", "nightly"]).await.expect(0);
    assert!(history.contains(job.trim()) && history.contains("manual"), "{history}");
    cli.run(&["schedules", "pause", "nightly"]).await.expect(0);
    let preview = cli.run(&["schedules", "preview", "nightly"]).await;
    assert!(preview.stderr.contains("it is disabled"), "{}", preview.stderr);
    for (action, state) in [("disable", "disabled"), ("enable", "active")] {
        let answer = cli.run(&["schedules", action, "nightly", "--json"]).await;
        answer.expect(0);
        assert_eq!(answer.json()["state"], state);
    }
    let refused = cli.run(&["schedules", "edit", "nightly", "--cron", "61 * * * *"]).await;
    refused.expect(1);
    let problem = "--cron is invalid: minute 61 is not 0 to 59";
    assert!(refused.stderr.contains(problem), "{refused:?}");
    cli.run(&["schedules", "delete", "nightly"]).await.expect(0);
}
