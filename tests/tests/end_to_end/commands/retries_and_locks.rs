//! Jobs that run failed executions again, and jobs whose executions run one at a time on a host.

use std::io::{BufRead as _, BufReader};
use std::path::Path;

use muster_tests::{
    AgentOptions, Fixture, JsonFields as _, Script, ended, eventually, on_both_databases,
};
use serde_json::{Value, json};

on_both_databases!(
    failed_execution_is_run_again_until_it_succeeds,
    waiting_attempt_survives_the_killed_server_and_runs_once,
    job_waits_for_the_lock_that_another_job_holds,
    retries_and_locks_out_of_their_bounds_are_refused,
    one_execution_is_run_again_by_its_id,
    open_execution_is_not_run_again,
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
    // A person who watches the second job reads the same.
    let mut watching = fixture.cli().await.start(&["jobs", "watch", &second]);
    let notes = BufReader::new(watching.stderr.take().expect("a pipe")).lines();
    let note = tokio::task::spawn_blocking(move || {
        notes.map_while(Result::ok).find(|line| line.contains("queued: "))
    });
    let note = note.await.expect("read").expect("a note");
    assert!(note.contains("It waits for the lock `apt`"), "{note}");
    std::fs::write(&go, "").expect("write");
    ended(watching).await.expect(0);
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

/// Runs a script on one agent, until it has ended.
async fn run_once(fixture: &Fixture, agent: &str, data: Value) -> Value {
    let body = json!({"command": "execute", "data": data});
    let sent = fixture.api.post(&format!("/api/agents/{agent}/command"), body).await.expect(202);
    fixture.api.finished(sent.id()).await
}

async fn one_execution_is_run_again_by_its_id(fixture: Fixture) {
    let token = Script::new("token", "echo \"$TOKEN\"; exit 1").taking(["TOKEN"]);
    let (_agent, id) = fixture.agent(AgentOptions::with_scripts([flaky(), token])).await;
    let file = fixture.test_dir.path().join("starts");
    let data = json!({"script": "flaky", "timeout_ms": 60_000,
        "parameters": {"STARTS": file, "NEEDED": "3"}});
    let first = run_once(&fixture, &id, data.clone()).await;
    assert_eq!((&first["state"], &first["retry_of"]), (&json!("failed"), &Value::Null));
    let path = format!("/api/commands/{}/retry", first.id());
    let again = fixture.api.post_once(&path, "again", json!({})).await.expect(202);
    let repeated = fixture.api.post_once(&path, "again", json!({})).await.expect(202);
    assert_eq!(again.id(), repeated.id(), "the same key runs it once");
    let second = fixture.api.finished(again.id()).await;
    assert_eq!((&second["retry_of"], &second["data"]), (&first["id"], &data));
    assert_eq!(starts(&file), 2);
    let shown = fixture.api.get(&format!("/api/executions/{}", again.id())).await.expect(200);
    assert_eq!((&shown["trigger"], &shown["attempt"]), (&json!("retry"), &json!(1)));

    let cli = fixture.cli().await;
    let shown = cli.run(&["executions", "retry", second.id()]).await.expect(0);
    assert!(shown.contains(&format!("retries execution {}", second.id())), "{shown}");
    let third = eventually("the third has ended", async || {
        let page = fixture.api.get("/api/executions?trigger=retry&state=succeeded").await;
        page.expect(200).list("items").first().cloned()
    })
    .await;
    assert_eq!((&third["retry_of"], starts(&file)), (&second["id"], 3));
    let audit = fixture.api.get("/api/audit?action=command.submit").await.expect(200);
    let origins = audit.list("items").iter().filter(|entry| !entry["detail"]["retry_of"].is_null());
    assert_eq!(origins.count(), 2, "{audit}");

    // The execution of a job keeps its lock, and the new one belongs to no job.
    let job = submit(
        &fixture,
        json!({"script": "flaky", "parameters": {"STARTS": file, "NEEDED": "9"},
            "target": {"ids": [id]}, "lock": "flaky"}),
    )
    .await;
    over(&fixture, &job).await;
    let run = execution(&fixture, &job).await;
    let path = format!("/api/commands/{}/retry", run.id());
    let retried = fixture.api.post(&path, json!({})).await.expect(202);
    fixture.api.finished(retried.id()).await;
    let retried = fixture.api.get(&format!("/api/executions/{}", retried.id())).await.expect(200);
    assert_eq!((&retried["lock"], &retried["job_id"]), (&json!("flaky"), &Value::Null));

    let secret = json!({"script": "token", "secret_parameters": {"TOKEN": "swordfish"}});
    let secret = run_once(&fixture, &id, secret).await;
    let path = format!("/api/commands/{}/retry", secret.id());
    fixture.api.post(&path, json!({})).await.expect_problem(409, "secrets_gone");
}

async fn open_execution_is_not_run_again(fixture: Fixture) {
    let (mut agent, id) = fixture.agent(AgentOptions::with_scripts([flaky()])).await;
    agent.stop();
    let key_id = fixture.api.get(&format!("/api/agents/{id}")).await.expect(200);
    fixture.with_status(key_id.text("key_id"), "offline").await;
    let body = json!({"command": "execute", "data": {"script": "flaky",
        "parameters": {"STARTS": "x", "NEEDED": "1"}}});
    let sent = fixture.api.post(&format!("/api/agents/{id}/command"), body).await.expect(202);
    let path = format!("/api/commands/{}/retry", sent.id());
    fixture.api.post(&path, json!({})).await.expect_problem(409, "command_running");
    // Who may read it, and not send it, can't send it again.
    let key = json!({"name": "reader", "scopes": ["commands:read"]});
    let key = fixture.api.post("/api/keys", key).await.expect(201);
    let reader = fixture.api.with_key(key.text("key"));
    assert_eq!(reader.post(&path, json!({})).await.status, 403);
}
