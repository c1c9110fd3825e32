//! Actions of people: pause, resume, abort.

use std::path::Path;

use muster_tests::{Cli, Fixture, JsonFields as _, on_both_databases};
use serde_json::{Value, json};

use super::{audited, executions, fakes, ids, in_state, job_that, reals, reply, steer, submit};

on_both_databases!(
    paused_rollout_stays_paused_after_a_server_kill_and_starts_no_wave_twice,
    aborted_rollout_cancels_queued_commands_and_lets_running_ones_finish,
);

async fn paused_rollout_stays_paused_after_a_server_kill_and_starts_no_wave_twice(
    mut fixture: Fixture,
) {
    let agents =
        reals(&fixture, 3, "echo x >>\"$DIR/$$\"; until test -e \"$DIR/go\"; do sleep 0.1; done")
            .await;
    let folder = fixture.test_dir.folder("runs");
    let ids: Vec<_> = agents.iter().map(|(_, id)| id).collect();
    let body = json!({"script": "deploy", "parameters": {"DIR": folder}, "target": {"ids": ids},
        "rollout": {"wave_size": 1}});
    let job = fixture.api.post("/api/jobs", body).await.expect(202);
    let id = job.id().to_owned();
    let runs = |folder: &Path| std::fs::read_dir(folder).expect("read").count();
    job_that(&fixture, &id, "runs", |job| job["counts"]["running"] == 1).await;
    let job = steer(&fixture, &id, "pause").await;
    assert_eq!(job["state"], "paused");
    steer(&fixture, &id, "pause").await;
    assert_eq!(audited(&fixture, "job.pause").await, 1, "what is so already leaves no trace");
    fixture.server.kill_9();
    std::fs::write(folder.join("go"), "").expect("let it end");
    fixture.server.resume();
    fixture.server.ready().await;
    // Running executions continue to their end, and no others start.
    let job = job_that(&fixture, &id, "has one end", |job| job["counts"]["succeeded"] == 1).await;
    assert_eq!((&job["state"], &job["rollout"]["wave"]), (&json!("paused"), &json!(1)));
    assert_eq!(runs(&folder), 2, "one run, and the file that ends it");
    steer(&fixture, &id, "resume").await;
    job_that(&fixture, &id, "is in its last wave or over", |job| job["rollout"]["wave"] != 1).await;
    fixture.server.kill_9();
    fixture.server.resume();
    fixture.server.ready().await;
    let job = in_state(&fixture, &id, "succeeded").await;
    assert_eq!(job["counts"], json!({"succeeded": 3}));
    assert_eq!(runs(&folder), 4, "each ran once");
}

async fn aborted_rollout_cancels_queued_commands_and_lets_running_ones_finish(fixture: Fixture) {
    let mut agents = fakes(&fixture, 3).await;
    let id = submit(&fixture, ids(&agents), json!({"wave_size": 1})).await;
    let running = agents[0].0.expect("command").await;
    let job = steer(&fixture, &id, "abort").await;
    assert_eq!((&job["state"], &job["stop"]), (&json!("running"), &json!("aborted")));
    assert_eq!(job["counts"], json!({"delivered": 1, "cancelled": 2}));
    for word in ["pause", "resume"] {
        let refused = fixture.api.post(&format!("/api/jobs/{id}/{word}"), json!({})).await;
        refused.expect_problem(409, "wrong_state");
    }
    reply(&mut agents[0].0, &running, true).await;
    let job = in_state(&fixture, &id, "aborted").await;
    assert_eq!(job["counts"], json!({"succeeded": 1, "cancelled": 2}));
    let runs = executions(&fixture, &id).await;
    assert_eq!(runs[2]["error_code"], "aborted_in_queue", "{runs:?}");
    steer(&fixture, &id, "abort").await;
    assert_eq!(audited(&fixture, "job.abort").await, 1);
    // A retry has the same rollout.
    let failed = json!({"executions": "failed"});
    let again = fixture.api.post(&format!("/api/jobs/{id}/retry"), failed).await.expect(202);
    assert_eq!(
        (&again["agent_count"], &again["rollout"]["asked"]),
        (&json!(2), &json!({"wave_size": 1}))
    );
    // Cancelling ends all of it, held executions at once.
    let again = again.id();
    agents[1].0.expect("command").await;
    let job = steer(&fixture, again, "cancel").await;
    assert_eq!(job["counts"], json!({"delivered": 1, "cancelled": 1}));
    assert_eq!(job["stop"], "cancelled");
}

#[tokio::test]
async fn command_line_manages_a_rollout() {
    let fixture = Fixture::on_sqlite().await;
    let cli = Cli::new(&fixture.test_dir);
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, fixture.api.key()).await.expect(0);
    let _agents = reals(&fixture, 3, "exit \"$N\"").await;
    let waves = ["run", "--on", "all", "--wave", "1", "--pause", "10ms", "--max-failures", "0"];
    let good = cli.run(&[&waves[..], &["deploy", "N=0"]].concat()).await;
    assert_eq!(good.expect(0).trim(), "3 succeeded");
    let bad = cli.run(&[&waves[..], &["deploy", "N=1"]].concat()).await;
    assert_eq!(bad.expect(1).trim(), "1 failed, 2 queued");
    assert!(bad.stderr.contains("the job halted in wave 1 of 3\n"), "{}", bad.stderr);
    assert!(bad.stderr.contains("1 failed, the limit is 0"), "{}", bad.stderr);
    let jobs = fixture.api.get("/api/jobs").await.expect(200);
    let id = jobs["items"][0].id();
    cli.run(&["jobs", "resume", id]).await.expect(0);
    let second = |job: &Value| job["state"] == "halted" && job["counts"]["failed"] == 2;
    job_that(&fixture, id, "halted again", second).await;
    cli.run(&["jobs", "abort", id]).await.expect(0);
    in_state(&fixture, id, "aborted").await;
    let refused = cli.run(&["jobs", "pause", id]).await;
    refused.expect(1);
    assert!(refused.stderr.contains("aborted"), "{}", refused.stderr);
    cli.run(&["run", "real-0", "deploy", "N=0", "--wave", "1"]).await.expect(2);
}
