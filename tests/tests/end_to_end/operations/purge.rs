//! `muster-server purge`: deletes history while the server is stopped, and gives its space back.

use muster_tests::{Agent, AgentOptions, Fixture, JsonFields as _, Script, on_both_databases};
use serde_json::json;

on_both_databases!(a_purge_deletes_what_has_ended_and_gives_its_space_back);

/// The numbers of the output of a purge.
fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

async fn a_purge_deletes_what_has_ended_and_gives_its_space_back(mut fixture: Fixture) {
    let script = Script::new("talk", "head -c 200000 /dev/zero");
    let (mut agent, id): (Agent, String) =
        fixture.agent(AgentOptions::with_scripts([script])).await;
    let ended = fixture.api.execute(&id, "talk", json!({})).await;
    fixture.api.in_state(&ended, "succeeded").await;
    agent.stop();
    let waiting = fixture.api.execute(&id, "talk", json!({})).await;
    // Telemetry of the first minutes of 1970.
    let insert = match fixture.server.is_postgres() {
        true => format!(
            "INSERT INTO telemetry_samples (agent_id, at) SELECT '{id}', generate_series(1, 100000)"
        ),
        false => format!(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100000) \
             INSERT INTO telemetry_samples (agent_id, at) SELECT x'{}', n FROM numbers",
            id.replace('-', "")
        ),
    };
    fixture.server.query(&insert);
    // Not beside a server.
    assert!(!fixture.server.run(&["purge", "--older-than", "0"]).status.success());
    fixture.api.command(&ended).await;
    fixture.server.stop();
    let young = fixture.server.run(&["purge", "--older-than", "1"]);
    assert!(young.status.success(), "{}", String::from_utf8_lossy(&young.stderr));
    let freed = numbers(&String::from_utf8_lossy(&young.stdout));
    assert!(freed[1] + 1_000_000 < freed[0], "the database keeps the space: {freed:?}");
    fixture.server.resume();
    fixture.server.ready().await;
    fixture.api = fixture.server.api();
    fixture.api.command(&ended).await;

    fixture.server.stop();
    let all = fixture.server.run(&["purge", "--older-than", "0"]);
    assert!(all.status.success(), "{}", String::from_utf8_lossy(&all.stderr));
    fixture.server.resume();
    fixture.server.ready().await;
    fixture.api = fixture.server.api();
    fixture.api.get(&format!("/api/commands/{ended}")).await.expect_problem(404, "not_found");
    assert_eq!(fixture.api.command(&waiting).await.text("state"), "queued");
    let found =
        fixture.server.query("SELECT COUNT(*) FROM audit_entries WHERE action = 'server.purge'");
    assert_eq!(found, ["2"]);
}
