//! `muster schedules`.

use muster_tests::{Fixture, JsonFields as _};

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
    let preview = cli.run(&["schedules", "preview", "nightly", "--count", "2"]).await.expect(0);
    assert!(preview.contains("+00:00"), "{preview}");
    let unsaved = ["schedules", "preview", "--every", "90s", "--json"];
    let unsaved = cli.run(&unsaved).await;
    unsaved.expect(0);
    assert_eq!(unsaved.json()["sentence"], "every 90 seconds");
    let job = cli.run(&["schedules", "run", "nightly"]).await.expect(0);
    let history = cli.run(&["schedules", "history", "nightly"]).await.expect(0);
    assert!(history.contains(job.trim()), "{history}");
    for (action, state) in [("disable", "disabled"), ("enable", "active")] {
        let answer = cli.run(&["schedules", action, "nightly", "--json"]).await;
        answer.expect(0);
        assert_eq!(answer.json()["state"], state);
    }
    let refused = cli.run(&["schedules", "edit", "nightly", "--cron", "61 * * * *"]).await;
    assert!(refused.expect(1).is_empty() || refused.stderr.contains("--cron"), "{refused:?}");
    cli.run(&["schedules", "delete", "nightly"]).await.expect(0);
}
