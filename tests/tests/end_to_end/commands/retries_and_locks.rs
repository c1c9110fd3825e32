//! Jobs that run failed executions again, and jobs whose executions run one at a time on a host.

use std::path::Path;

use muster_tests::{AgentOptions, Fixture, JsonFields as _, Script, eventually, on_both_databases};
use serde_json::{Value, json};

on_both_databases!(
    failed_execution_is_run_again_until_it_succeeds,
    waiting_attempt_survives_the_killed_server_and_runs_once,
    job_waits_for_the_lock_that_another_job_holds,
    retries_and_locks_out_of_their_bounds_are_refused,
);

/// Counts its starts in a file, and succeeds from the start with number `NEEDED` on.
fn flaky() -> Script {
    let script = "echo start >> \"$STARTS\"; test \"$(wc -l < \"$STARTS\")\" -ge \"$NEEDED\"";
    Script::new("flaky", script).taking(["STARTS", "NEEDED"])
}

fn starts(file: &Path) -> usize {
    std::fs::read_to_string(file).unwrap_or_default().lines().count()
}

async fn submit(fixture: &Fixture, body: Value) -> String {
    fixture.api.post("/api/jobs", body).await.expect(202).id().to_owned()
}

async fn over(fixture: &Fixture, job: &str) -> Value {
    eventually("the job is over", async || {
        let job = fixture.api.get(&format!("/api/jobs/{job}")).await.expect(200);
        (job["state"] != "running").then_some(job)
    })
    .await
}

/// The only execution of a job.
async fn execution(fixture: &Fixture, job: &str) -> Value {
    let page = fixture.api.get(&format!("/api/jobs/{job}/executions")).await.expect(200);
    let items = page.list("items");
    assert_eq!(items.len(), 1, "a job has one execution for each agent: {page}");
    items[0].clone()
}

async fn failed_execution_is_run_again_until_it_succeeds(fixture: Fixture) {
    let (_agent, id) = fixture.agent(AgentOptions::with_scripts([flaky()])).await;
    let file = fixture.test_dir.path().join("starts");
    let job = submit(
        &fixture,
        json!({"script": "flaky", "parameters": {"STARTS": file, "NEEDED": "3"},
            "target": {"ids": [id]}, "retries": {"count": 5, "backoff_ms": 20}}),
    )
    .await;
    let ended = over(&fixture, &job).await;
    assert_eq!(
        (&ended["state"], &ended["counts"]),
        (&json!("succeeded"), &json!({"succeeded": 1}))
    );
    assert_eq!(ended["retries"], json!({"count": 5, "backoff_ms": 20}));
    assert_eq!(starts(&file), 3);
    let mut attempt = execution(&fixture, &job).await;
    for number in [3, 2] {
        assert_eq!((&attempt["attempt"], &attempt["job_id"]), (&json!(number), &json!(job)));
        let before = attempt["retry_of"].as_str().expect("an earlier attempt").to_owned();
        let before = fixture.api.get(&format!("/api/executions/{before}")).await.expect(200);
        assert_eq!((&before["state"], &before["retried_as"]), (&json!("failed"), &attempt["id"]));
        attempt = before;
    }
    assert_eq!((&attempt["attempt"], &attempt["retry_of"]), (&json!(1), &Value::Null));
    let cli = fixture.cli().await;
    let other = fixture.test_dir.path().join("other");
    let parameter = format!("STARTS={}", other.display());
    let run = ["run", id.as_str(), "flaky", "NEEDED=2", parameter.as_str()];
    let options = ["--retries", "1", "--retry-backoff", "20ms", "--lock", "flaky"];
    let shown = cli.run(&[&run[..], &options[..]].concat()).await.expect(0);
    assert!(shown.contains("1 succeeded"), "{shown}");
    let failing = ["run", id.as_str(), "flaky", "NEEDED=9", parameter.as_str()];
    let shown = cli.run(&[&failing[..], &options[..]].concat()).await.expect(1);
    assert!(shown.contains("1 failed"), "{shown}");
    assert_eq!(starts(&other), 4);
}

async fn waiting_attempt_survives_the_killed_server_and_runs_once(mut fixture: Fixture) {
    let (_agent, id) = fixture.agent(AgentOptions::with_scripts([flaky()])).await;
    let file = fixture.test_dir.path().join("starts");
    let job = submit(
        &fixture,
        json!({"script": "flaky", "parameters": {"STARTS": file, "NEEDED": "2"},
            "target": {"ids": [id]}, "retries": {"count": 3, "backoff_ms": 3_000}}),
    )
    .await;
    eventually("the second attempt waits", async || {
        let run = execution(&fixture, &job).await;
        let explanation = run["explanation"].as_str().unwrap_or_default().to_owned();
        (run["attempt"] == 2 && explanation.starts_with("It is attempt 2")).then_some(())
    })
    .await;
    fixture.server.kill_9();
    fixture.server.resume();
    fixture.server.ready().await;
    let ended = over(&fixture, &job).await;
    assert_eq!(
        (&ended["state"], &ended["counts"]),
        (&json!("succeeded"), &json!({"succeeded": 1}))
    );
    assert_eq!(starts(&file), 2);
}

async fn job_waits_for_the_lock_that_another_job_holds(mut fixture: Fixture) {
    let script = "echo \"begin $N\" >> \"$LOG\"; while ! test -e \"$GO\"; do sleep 0.05; done; \
                  echo \"end $N\" >> \"$LOG\"";
    let script = Script::new("install", script).taking(["N", "LOG", "GO"]);
    let (_agent, id) = fixture.agent(AgentOptions::with_scripts([script])).await;
    let log = fixture.test_dir.path().join("log");
    let go = fixture.test_dir.path().join("go");
    let body = |number: &str| {
        json!({"script": "install", "parameters": {"N": number, "LOG": log, "GO": go},
            "target": {"ids": [id]}, "lock": "apt"})
    };
    let first = submit(&fixture, body("1")).await;
    let holder = eventually("the first runs", async || {
        let run = execution(&fixture, &first).await;
        (run["state"] == "running").then_some(run)
    })
    .await;
    let second = submit(&fixture, body("2")).await;
    let waits = async |fixture: &Fixture| {
        eventually("the second explains what it waits for", async || {
            let run = execution(fixture, &second).await;
            let lock = format!("which execution {} holds", holder.id());
            let explanation = run["explanation"].as_str().unwrap_or_default();
            (run["state"] == "queued" && explanation.contains(&lock)).then_some(())
        })
        .await;
    };
    waits(&fixture).await;
    fixture.server.kill_9();
    fixture.server.resume();
    fixture.server.ready().await;
    waits(&fixture).await;
    std::fs::write(&go, "").expect("write");
    for job in [&first, &second] {
        assert_eq!(over(&fixture, job).await["state"], "succeeded");
    }
    let lines = std::fs::read_to_string(&log).expect("read");
    assert_eq!(lines, "begin 1\nend 1\nbegin 2\nend 2\n");
}

async fn retries_and_locks_out_of_their_bounds_are_refused(fixture: Fixture) {
    let (_agent, id) = fixture.agent(AgentOptions::with_scripts([flaky()])).await;
    let cases = [
        json!({"retries": {"count": 0}}),
        json!({"retries": {"count": 11}}),
        json!({"retries": {"count": 1, "backoff_ms": 3_600_001}}),
        json!({"retries": {"count": 1, "jitter": 1}}),
        json!({"lock": ""}),
        json!({"lock": "a b"}),
    ];
    for case in cases {
        let mut body = json!({"script": "flaky", "target": {"ids": [id]}, "on_mismatch": "send"});
        let fields = case.as_object().expect("an object").clone();
        body.as_object_mut().expect("an object").extend(fields);
        let refused = fixture.api.post("/api/jobs", body).await;
        assert!([400, 422].contains(&refused.status), "{case}");
    }
}
