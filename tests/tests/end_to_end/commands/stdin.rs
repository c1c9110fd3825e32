//! Standard input of scripts: byte-exact, durable, and only for scripts that read it.

use data_encoding::BASE64;
use muster_tests::{
    Agent, AgentOptions, Fixture, JsonFields as _, Script, eventually, on_both_databases,
};
use serde_json::{Value, json};

on_both_databases!(
    input_reaches_the_script_byte_by_byte_and_is_never_shown,
    input_waits_for_an_agent_that_is_offline,
    script_that_reads_no_input_gets_none,
    command_line_passes_input_on_or_refuses_it,
    input_is_pinned_by_its_approval_and_shown_to_approvers_only,
    input_of_all_executions_of_a_job_is_bounded,
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

/// Everything that the host and the server write down about requests.
fn logs(fixture: &Fixture, agent: &Agent) -> String {
    let of_host = ["requests.log", "requests-refused.log", "requests-life-cycle.log"]
        .map(|name| std::fs::read_to_string(agent.state_dir().join(name)).unwrap_or_default());
    assert!(of_host[0].contains("reads"), "the host has a line about it");
    [fixture.server.log(), agent.log(), of_host.concat()].concat()
}

async fn input_is_pinned_by_its_approval_and_shown_to_approvers_only(fixture: Fixture) {
    let (agent, id) = fixture.agent(AgentOptions::with_scripts([reads()])).await;
    let grace = fixture.owner().await.add("grace@example.com", "owner").await;
    let made = json!({"name": "grace", "role": "owner"});
    let made = grace.api.post("/api/keys", made).await.expect(201);
    let grace = fixture.api.with_key(made.text("key"));
    fixture.api.post("/api/approvals/rules", json!({"name": "all"})).await.expect(201);
    let words = ["the first input", "another input"];
    let mut pins = Vec::new();
    for (number, words) in words.into_iter().enumerate() {
        let text = BASE64.encode(words.as_bytes());
        let body = json!({"script": "reads", "target": {"ids": [id]}, "stdin": text});
        let job = fixture.api.post("/api/jobs", body).await.expect(202).id().to_owned();
        let page = grace.get("/api/approvals?state=pending").await.expect(200);
        let data = json!({"script": "reads", "stdin_bytes": words.len()});
        assert_eq!(page["items"][0]["data"], data);
        let path = format!("/api/approvals/{}", page["items"][0].id());
        let shown = grace.get(&path).await.expect(200);
        assert_eq!(shown["data"]["stdin"], text.as_str(), "an approver sees what runs");
        let reader = json!({"name": format!("reader {number}"), "role": "auditor"});
        let reader = grace.post("/api/keys", reader).await.expect(201);
        let by_reader = fixture.api.with_key(reader.text("key")).get(&path).await.expect(200);
        assert_eq!(by_reader["data"], data);
        pins.push(shown.text("parameters_sha256").to_owned());
        let decided = grace.post(&format!("{path}/approve"), json!({})).await.expect(200);
        assert_eq!(decided["data"], data);
        assert_eq!(grace.get(&path).await.expect(200)["data"], data, "it was decided");
        assert_eq!(over(&fixture, &job).await["state"], "succeeded");
        let run = execution(&fixture, &job).await;
        assert_eq!(fixture.api.output(run.id()).await, words.as_bytes());
    }
    assert_ne!(pins[0], pins[1], "an approval is for one input");
    let audit = fixture.api.get("/api/audit?limit=500").await.expect(200).to_string();
    let written = logs(&fixture, &agent);
    for words in words {
        for text in [words.to_owned(), BASE64.encode(words.as_bytes())] {
            assert!(!audit.contains(&text) && !written.contains(&text), "{text} is written");
        }
    }
}

async fn input_of_all_executions_of_a_job_is_bounded(fixture: Fixture) {
    let (mut agent, id) = fixture.agent(AgentOptions::with_scripts([reads()])).await;
    agent.stop();
    let new_id = match fixture.server.is_postgres() {
        true => "gen_random_uuid()",
        false => "randomblob(16)",
    };
    let copied = "tenant_id, key_id, level, identity, name, name_source, hostname, ip, version, os, arch, \
        service_manager, capabilities, tags, max_executions, epoch, transport, is_online, connected_at, last_seen_at, created_at";
    fixture.server.query(&format!(
        "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 256) \
         INSERT INTO agents (id, {copied}) SELECT {new_id}, {copied} FROM agents, numbers"
    ));
    let text = BASE64.encode(&[0; 256 * 1024]);
    let body = |target: Value| json!({"script": "reads", "target": target, "stdin": text, "on_mismatch": "send"});
    let refused = fixture.api.post("/api/jobs", body(json!({"expression": "all"}))).await;
    let refused = refused.expect_problem(422, "invalid_field");
    assert!(refused.text("detail").contains("64 MiB"), "{refused}");
    assert_eq!(fixture.server.query("SELECT COUNT(*) FROM jobs"), ["0"]);
    fixture.api.post("/api/jobs", body(json!({"ids": [id]}))).await.expect(202);
}
