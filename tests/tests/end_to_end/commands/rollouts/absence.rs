//! Rollouts with agents that are offline: when the job is created, or after their wave.

use muster_tests::{Fixture, eventually_shown, on_both_databases};
use serde_json::{Value, json};

use super::{answer, executions, fakes, ids, in_state, job_that, steer, submit};

on_both_databases!(
    offline_agents_are_in_the_last_wave_or_skipped,
    deregistered_agent_closes_the_gate_of_its_wave_until_resumed,
);

async fn offline_agents_are_in_the_last_wave_or_skipped(fixture: Fixture) {
    let mut agents = fakes(&fixture, 4).await;
    let target = ids(&agents);
    let away = agents.remove(0);
    drop(away.0);
    let path = format!("/api/agents/{}", away.1);
    eventually_shown("the first is offline", async || {
        let agent = fixture.api.get(&path).await.expect(200);
        if agent["status"] == "offline" { Ok(()) } else { Err(agent) }
    })
    .await;
    let rollout = |offline| json!({"wave_size": 2, "offline": offline});
    let last = submit(&fixture, target.clone(), rollout("last_wave")).await;
    let skip = submit(&fixture, target, rollout("skip")).await;
    let job = in_state(&fixture, &skip, "running").await;
    assert_eq!((&job["rollout"]["skipped"], &job["rollout"]["wave_count"]), (&json!(1), &json!(2)));
    for (agent, _) in &mut agents {
        for _ in 0..2 {
            answer(agent, true).await;
        }
    }
    let job = in_state(&fixture, &skip, "succeeded").await;
    assert_eq!(job["counts"], json!({"succeeded": 3, "skipped": 1}));
    let runs = executions(&fixture, &skip).await;
    let skipped = runs.iter().find(|run| run["agent_id"] == *away.1).expect("shown");
    assert_eq!(skipped["error_code"], "skipped_offline");
    // The last wave waits for it.
    let waits = |job: &Value| job["rollout"]["wave"] == 3 && job["rollout"]["held"] == 0;
    let job = job_that(&fixture, &last, "is in its last wave", waits).await;
    assert_eq!(job["counts"], json!({"succeeded": 3, "queued": 1}), "{job}");
    steer(&fixture, &last, "abort").await;
    in_state(&fixture, &last, "aborted").await;
    let refused =
        json!({"script": "deploy", "target": {"ids": [away.1]}, "rollout": rollout("skip")});
    fixture.api.post("/api/jobs", refused).await.expect_problem(422, "all_agents_skipped");
}

async fn deregistered_agent_closes_the_gate_of_its_wave_until_resumed(fixture: Fixture) {
    let mut agents = fakes(&fixture, 2).await;
    let gate = json!({"online": true, "for_ms": 2_000, "within_ms": 3_000});
    let rollout = json!({"wave_size": 1, "health_gate": gate});
    let well = submit(&fixture, ids(&agents), rollout.clone()).await;
    for (agent, _) in &mut agents {
        answer(agent, true).await;
    }
    in_state(&fixture, &well, "succeeded").await;
    let id = submit(&fixture, ids(&agents), rollout).await;
    let (mut first, _) = agents.remove(0);
    answer(&mut first, true).await;
    drop(first);
    let job = in_state(&fixture, &id, "halted").await;
    let reason = job["halt_reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("Halted: 1 agent of wave 1 did not stay online"), "{job}");
    assert_eq!(job["counts"], json!({"succeeded": 1, "queued": 1}));
    steer(&fixture, &id, "resume").await;
    answer(&mut agents[0].0, true).await;
    in_state(&fixture, &id, "succeeded").await;
}
