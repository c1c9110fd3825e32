//! Services as people and hosts control them.

use muster_tests::{Fixture, JsonFields as _, ServerOptions, eventually};
use serde_json::{Value, json};

use super::{Hosted, PROGRAM, gone, hosted, in_state, is_alive, process_ids, remove, started};

#[tokio::test]
async fn a_key_that_makes_requests_repeatable_is_refused_for_actions_on_services() {
    let fixture = Fixture::on_sqlite().await;
    let Hosted { agent, id, log, .. } = hosted(&fixture, PROGRAM, "").await;
    let service = started(&log, 1).await;
    for action in ["start", "stop", "restart"] {
        let path = format!("/api/services/{id}/{action}");
        let refused = fixture.api.post_once(&path, "once", json!({})).await;
        assert_eq!(refused.status, 400, "{action}");
    }
    assert!(is_alive(service) && process_ids(&log).len() == 1);
    remove(&fixture, &agent, &id).await;
}

#[tokio::test]
async fn the_policy_of_a_host_decides_whether_services_run() {
    // The agent reads its policy at each heartbeat.
    let options = ServerOptions::default().with("MUSTER_HEARTBEAT_INTERVAL_MS", 500);
    let fixture = Fixture::with(options).await;
    let Hosted { agent, id, log, .. } = hosted(&fixture, PROGRAM, "").await;
    let mut starts = 0;
    let publisher = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    for (policy, code) in [
        (json!({"allow": "library", "forbid": ["services"]}), "services_not_allowed"),
        (json!({"allow": "manifest"}), "library_not_allowed"),
        (json!({"allow": "library", "publishers": [publisher]}), "publisher_required"),
    ] {
        starts += 1;
        let process = started(&log, starts).await;
        in_state(&fixture, &id, "running").await;
        agent.write_policy(&policy.to_string());
        gone(process).await;
        let path = format!("/api/assignments/{id}/agents");
        let refused = eventually("the refusal", async || {
            let page = fixture.api.get(&path).await.expect(200);
            let is_it =
                |it: &&Value| it["error_code"] == code && it["service"]["state"] == "waiting";
            page.list("items").first().filter(is_it).cloned()
        })
        .await;
        assert_eq!(refused["state"], "failed", "{refused}");
        agent.write_policy(&json!({"allow": "library"}).to_string());
    }
    started(&log, 4).await;
    remove(&fixture, &agent, &id).await;
}

#[tokio::test]
async fn a_service_is_controlled_by_the_command_line() {
    let fixture = Fixture::on_sqlite().await;
    let Hosted { agent, agent_id, id, log } = hosted(&fixture, PROGRAM, "").await;
    started(&log, 1).await;
    let running = in_state(&fixture, &id, "running").await;
    fixture.api.output_reaches(running.text("run_id"), 10).await;
    let cli = fixture.cli().await;
    let list = cli.run(&["services"]).await.expect(0);
    assert!(list.contains("1 running"), "{list:?}");
    let agents = cli.run(&["services", "agents", "kept"]).await.expect(0);
    assert!(agents.contains("running"), "{agents:?}");
    let logs = cli.run(&["services", "logs", "kept", &agent_id]).await.expect(0);
    assert_eq!(logs, "started 1\n");
    let said = cli.run(&["services", "stop", "kept"]).await.expect(0);
    assert!(said.contains("on 1 agent"), "{said:?}");
    in_state(&fixture, &id, "stopped").await;
    cli.run(&["services", "start", "kept", "--on", "all"]).await.expect(0);
    started(&log, 2).await;
    cli.run(&["services", "restart", "kept"]).await.expect(0);
    started(&log, 3).await;
    let none = cli.run(&["services", "stop", "kept", "--tag", "none"]).await;
    assert_ne!(none.code, Some(0), "{none:?}");
    remove(&fixture, &agent, &id).await;
}
