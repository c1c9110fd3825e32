//! Power cuts at any step of an update: the host starts again and reports the outcome.

use std::path::Path;

use muster_protocol::release::Program;
use muster_tests::{Fixture, Publisher, current_version, eventually};
use serde_json::json;

use super::{ask, host};

/// A step of an update that can be seen in the program folder.
type UpdateStep = (&'static str, fn(&Path) -> bool);

const STEPS: [UpdateStep; 4] = [
    ("the download has begun", |folder| folder.join(".release-0.2.0").exists()),
    ("the new version is in its place", |folder| folder.join("versions/0.2.0").exists()),
    ("the trial is noted", |folder| folder.join("trial.json").exists()),
    ("the new version is current", |folder| current_version(folder) == "0.2.0"),
];

#[tokio::test]
async fn host_that_loses_power_at_any_step_restarts_and_reports() {
    let fixture = Fixture::on_sqlite().await;
    let publisher = Publisher::new(&fixture).await;
    publisher.release("0.1.0").await;
    publisher.release("0.2.0").await;
    for (number, (what, has_come)) in STEPS.into_iter().enumerate() {
        let name = format!("host-{number}");
        let (mut agent, id, folder) = host(&fixture, &publisher, &name, "0.1.0").await;
        let update = ask(&fixture, &id, "update", json!({"version": "0.2.0"})).await;
        eventually(what, async || has_come(&folder).then_some(())).await;
        agent.cut_power();
        agent.resume();
        let ended = fixture.api.finished(&update).await;
        let is_known = ["installed", "unchanged", "rolled_back", "failed"]
            .iter()
            .any(|outcome| ended["result"]["update_result"] == *outcome);
        assert!(is_known, "{what}: {ended}");
        let version = current_version(&folder);
        let is_installed = ended["state"] == "succeeded";
        assert_eq!(version, if is_installed { "0.2.0" } else { "0.1.0" }, "{what}: {ended}");
        super::runs(&fixture, &id, &version).await;
        agent.stop();
    }
}

#[tokio::test]
async fn unreachable_server_does_not_fail_a_release() {
    let mut fixture = Fixture::on_sqlite().await;
    let publisher = Publisher::new(&fixture).await;
    publisher.release("0.1.0").await;
    // It must not end before the server does.
    let script = "[ \"$1\" = version ] && exit 0; exec sleep 600";
    publisher.replace("0.2.0", Program::Agent, script);
    publisher.release("0.2.0").await;
    let (_agent, id, folder) = host(&fixture, &publisher, "host", "0.1.0").await;
    let update = ask(&fixture, &id, "update", json!({"version": "0.2.0"})).await;
    let is_tried = || folder.join("trial.json").exists();
    eventually("the new version is tried", async || is_tried().then_some(())).await;
    fixture.server.kill_9();
    eventually("the host has gone back and given up", async || (!is_tried()).then_some(())).await;
    assert_eq!(current_version(&folder), "0.1.0");
    fixture.server.resume();
    let ended = fixture.api.finished(&update).await;
    assert_eq!(
        (&ended["state"], &ended["error_code"]),
        (&json!("failed"), &json!("server_unreachable"))
    );
    assert_eq!(ended["result"]["update_result"], "failed", "{ended}");
    super::runs(&fixture, &id, "0.1.0").await;
}
