//! Standard input of scripts: byte-exact, durable, and only for scripts that read it.

use data_encoding::BASE64;
use muster_tests::{AgentOptions, Fixture, JsonFields as _, Script, eventually, on_both_databases};
use serde_json::{Value, json};

on_both_databases!(
    input_reaches_the_script_byte_by_byte_and_is_never_shown,
    input_waits_for_an_agent_that_is_offline,
    script_that_reads_no_input_gets_none,
    command_line_passes_input_on_or_refuses_it,
);

fn reads() -> Script {
    Script::new("reads", "cat").with("stdin", json!(true))
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
    page.list("items")[0].clone()
}

async fn input_reaches_the_script_byte_by_byte_and_is_never_shown(fixture: Fixture) {
    let (_agent, id) = fixture.agent(AgentOptions::with_scripts([reads()])).await;
    let bytes: Vec<u8> = (0..=255).cycle().take(256 * 1024).collect();
    let text = BASE64.encode(&bytes);
    let body = json!({"script": "reads", "target": {"ids": [id]}, "stdin": text});
    let job = fixture.api.post("/api/jobs", body).await.expect(202);
    assert_eq!(job["stdin_bytes"], 262_144);
    let ended = over(&fixture, job.id()).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    let run = execution(&fixture, job.id()).await;
    assert_eq!(run["stdin_bytes"], 262_144);
    let output = fixture.api.output(run.id()).await;
    assert!(output == bytes, "{} bytes of output", output.len());
    let command = fixture.api.command(run.id()).await;
    assert_eq!(command["data"], json!({"script": "reads", "stdin_bytes": 262_144}));
    for shown in [&ended, &run, &command] {
        assert!(!shown.to_string().contains(&text[..100]), "input is not shown");
    }
    let again = fixture.api.post(&format!("/api/jobs/{}/retry", job.id()), json!({})).await;
    again.expect_problem(409, "nothing_to_retry");
    let all = json!({"executions": "all"});
    let again = fixture.api.post(&format!("/api/jobs/{}/retry", job.id()), all).await.expect(202);
    over(&fixture, again.id()).await;
    let run = execution(&fixture, again.id()).await;
    assert!(fixture.api.output(run.id()).await == bytes, "a retry has the same input");
}

async fn input_waits_for_an_agent_that_is_offline(mut fixture: Fixture) {
    let (mut agent, id) = fixture.agent(AgentOptions::with_scripts([reads()])).await;
    agent.stop();
    let text = BASE64.encode(b"late\n");
    let body = json!({"script": "reads", "target": {"ids": [id]}, "stdin": text});
    let job = fixture.api.post("/api/jobs", body).await.expect(202);
    fixture.server.kill_9();
    fixture.server.resume();
    fixture.server.ready().await;
    agent.resume();
    assert_eq!(over(&fixture, job.id()).await["state"], "succeeded");
    let run = execution(&fixture, job.id()).await;
    assert_eq!(fixture.api.output(run.id()).await, b"late\n");
}

async fn script_that_reads_no_input_gets_none(fixture: Fixture) {
    let plain = Script::new("plain", "cat; echo end");
    let (_agent, id) = fixture.agent(AgentOptions::with_scripts([plain, reads()])).await;
    let body = |script: &str, stdin: &str| json!({"script": script, "target": {"ids": [id]}, "stdin": stdin});
    let refused = fixture.api.post("/api/jobs", body("plain", "aGk=")).await;
    refused.expect_problem(422, "stdin_not_allowed");
    for wrong in ["no base64", &BASE64.encode(&[0; 256 * 1024 + 1])] {
        let refused = fixture.api.post("/api/jobs", body("reads", wrong)).await;
        refused.expect_problem(422, "invalid_field");
    }
    let mut anyway = body("plain", "aGk=");
    anyway["on_mismatch"] = json!("send");
    let job = fixture.api.post("/api/jobs", anyway).await.expect(202);
    over(&fixture, job.id()).await;
    let run = execution(&fixture, job.id()).await;
    assert_eq!(
        (&run["state"], &run["error_code"]),
        (&json!("rejected"), &json!("stdin_not_allowed"))
    );
    let mut skipped = body("plain", "aGk=");
    skipped["on_mismatch"] = json!("skip");
    let refused = fixture.api.post("/api/jobs", skipped).await;
    refused.expect_problem(422, "all_agents_skipped");
    let run = fixture.api.execute(&id, "plain", json!({})).await;
    assert_eq!(fixture.api.finished(&run).await["state"], "succeeded");
    assert_eq!(fixture.api.output(&run).await, b"end\n", "without input it is empty");
}

async fn command_line_passes_input_on_or_refuses_it(fixture: Fixture) {
    let (_agent, id) = fixture.agent(AgentOptions::with_scripts([reads()])).await;
    let cli = fixture.cli().await;
    let passed = cli.run_with_input(&["run", &id, "reads", "--stdin"], "two\nlines\n").await;
    assert_eq!(passed.expect(0), "two\nlines\n");
    let target = format!("id:{id}");
    let on_many = ["run", "--on", &target, "reads", "--stdin"];
    let passed = cli.run_with_input(&on_many, "of a job\n").await.expect(0);
    assert!(passed.contains("of a job"), "{passed}");
    let refused = cli.run_with_input(&["run", &id, "reads"], "lost\n").await;
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("pass it on with --stdin"), "{}", refused.stderr);
    let without = cli.run(&["run", &id, "reads"]).await;
    assert_eq!(without.expect(0), "", "a device is no input");
}
