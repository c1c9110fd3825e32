//! Scripts until their results: output byte for byte, states, deadlines, cancellation.

use muster_tests::{
    AgentOptions, Fixture, JsonFields as _, Script, eventually, on_both_databases, sha256,
};
use reqwest::Method;
use serde_json::{Value, json};

on_both_databases!(
    output_of_a_script_is_stored_byte_for_byte,
    command_for_an_offline_agent_runs_when_it_connects,
    command_past_its_deadline_expires_and_never_runs,
    same_idempotency_key_starts_no_second_command,
    cancelled_command_ends_cancelled_in_every_open_state,
);

async fn output_of_a_script_is_stored_byte_for_byte(fixture: Fixture) {
    let lines = 20_000;
    let both = "printf 'out\\n'; printf 'err\\377' >&2; exit 7";
    let scripts = [Script::counting("count", lines, lines, "0"), Script::new("both", both)];
    let (_agent, agent) = fixture.agent(AgentOptions::with_scripts(scripts)).await;

    let id = fixture.api.execute(&agent, "count", json!({})).await;
    let command = fixture.api.finished(&id).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    let expected = Script::counted(lines);
    let result = &command["result"];
    assert_eq!(result["exit_code"], 0, "{result}");
    assert_eq!(result["output_bytes"], expected.len());
    assert_eq!(result["output_complete"], true);
    assert_eq!(result["output_sha256"], sha256(&expected));
    assert!(result["duration_ms"].is_u64());
    assert!(fixture.api.output(&id).await == expected, "the output differs");

    let path = format!("/api/commands/{id}/output");
    let range = [("range", "bytes=29-57")];
    let part = fixture.api.try_send(Method::GET, &path, &range, None).await;
    let part = part.expect("reach the server");
    assert_eq!((part.status, part.bytes.as_slice()), (206, &expected[29..58]));

    let id = fixture.api.execute(&agent, "both", json!({})).await;
    let command = fixture.api.finished(&id).await;
    assert_eq!((&command["state"], &command["result"]["exit_code"]), (&json!("failed"), &json!(7)));
    let path = format!("/api/commands/{id}/output");
    assert_eq!(fixture.api.get(&format!("{path}?stream=stdout")).await.bytes, b"out\n");
    assert_eq!(fixture.api.get(&format!("{path}?stream=stderr")).await.bytes, b"err\xff");
    let audit = fixture.api.get("/api/audit").await.expect(200).to_string();
    assert!(audit.contains(&id), "the command is in the audit: {audit}");
}

async fn command_for_an_offline_agent_runs_when_it_connects(fixture: Fixture) {
    let options = AgentOptions::with_scripts([Script::new("hi", "echo hi")]);
    let (mut agent, id) = fixture.agent(options).await;
    agent.stop();
    let command = fixture.api.execute(&id, "hi", json!({})).await;
    assert_eq!(fixture.api.command(&command).await["state"], "queued");
    agent.resume();
    assert_eq!(fixture.api.finished(&command).await["state"], "succeeded");
    assert_eq!(fixture.api.output(&command).await, b"hi\n");
}

async fn command_past_its_deadline_expires_and_never_runs(fixture: Fixture) {
    let options =
        AgentOptions::with_scripts([Script::new("mark", "touch \"$MARK\"").taking(["MARK"])]);
    let (mut agent, id) = fixture.agent(options).await;
    agent.stop();
    let mark = fixture.test_dir.path().join("mark");
    let body = json!({
        "command": "execute", "expires_in_ms": 300,
        "data": {"script": "mark", "parameters": {"MARK": mark}},
    });
    let made = fixture.api.post(&format!("/api/agents/{id}/command"), body).await.expect(202);
    let command = made.id();
    assert_eq!(fixture.api.finished(command).await["state"], "expired");
    agent.resume();
    let after =
        fixture.api.execute(&id, "mark", json!({"parameters": {"MARK": "/dev/null"}})).await;
    fixture.api.finished(&after).await;
    assert!(!mark.exists(), "an expired command ran");
    assert_eq!(fixture.api.command(command).await["state"], "expired");
}

async fn same_idempotency_key_starts_no_second_command(fixture: Fixture) {
    let options = AgentOptions::with_scripts([Script::new("hi", "echo hi")]);
    let (_agent, agent) = fixture.agent(options).await;
    let path = format!("/api/agents/{agent}/command");
    let body = json!({"command": "execute", "data": {"script": "hi"}});
    let first = fixture.api.post_once(&path, "deploy-1", body.clone()).await.expect(202);
    let again = fixture.api.post_once(&path, "deploy-1", body.clone()).await.expect(202);
    assert_eq!(first["id"], again["id"]);
    let other = json!({"command": "execute", "data": {"script": "hello"}});
    let answer = fixture.api.post_once(&path, "deploy-1", other).await;
    answer.expect_problem(422, "idempotency_key_reused");
    // Sent at the same time by callers that do not know each other.
    let racing = (0..8).map(|_| fixture.api.post_once(&path, "deploy-2", body.clone()));
    let answers = futures_util::future::join_all(racing).await;
    let mut ids: Vec<Value> = answers
        .into_iter()
        .filter(|answer| answer.status == 202)
        .map(|answer| answer.json()["id"].clone())
        .collect();
    assert!(!ids.is_empty());
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let listed = fixture.api.get("/api/commands").await.expect(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(2), "{listed}");
    let id = ids[0].as_str().expect("an id");
    assert_eq!(fixture.api.finished(id).await["state"], "succeeded");
}

async fn cancelled_command_ends_cancelled_in_every_open_state(fixture: Fixture) {
    let scripts = [Script::new("sleep", "echo started; sleep 600")];
    let (mut agent, id) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    let cancel = async |command: &str| {
        let path = format!("/api/commands/{command}/cancel");
        let answer = fixture.api.post(&path, json!({})).await;
        assert!(matches!(answer.status, 200 | 202), "{}", answer.json());
    };
    let running = fixture.api.execute(&id, "sleep", json!({})).await;
    fixture.api.output_reaches(&running, 8).await;
    cancel(&running).await;
    let command = fixture.api.finished(&running).await;
    assert_eq!(command["state"], "cancelled", "{command}");
    assert!(command["cancel_requested_at"].is_string());
    assert_eq!(fixture.api.output(&running).await, b"started\n");

    agent.stop();
    let queued = fixture.api.execute(&id, "sleep", json!({})).await;
    cancel(&queued).await;
    assert_eq!(fixture.api.command(&queued).await["state"], "cancelled");
    // Terminal states never change, and a second request is no error.
    cancel(&queued).await;
    assert_eq!(fixture.api.command(&queued).await["state"], "cancelled");
}

#[tokio::test]
async fn output_can_be_followed_while_the_script_runs() {
    let fixture = Fixture::on_sqlite().await;
    let body = "echo first; while [ ! -e \"$GATE\" ]; do sleep 0.05; done; echo second";
    let options = AgentOptions::with_scripts([Script::new("gate", body).taking(["GATE"])]);
    let (_agent, agent) = fixture.agent(options).await;
    let gate = fixture.test_dir.path().join("gate");
    let id = fixture.api.execute(&agent, "gate", json!({"parameters": {"GATE": gate}})).await;
    let path = format!("/api/commands/{id}/output?wait_ms=30000");
    let follow = async |from: usize| {
        let range = format!("bytes={from}-");
        let headers = [("range", range.as_str())];
        fixture.api.try_send(Method::GET, &path, &headers, None).await.expect("an answer")
    };
    assert_eq!(follow(0).await.bytes, b"first\n");
    assert_eq!(fixture.api.command(&id).await["state"], "running");
    std::fs::write(&gate, "").expect("open the gate");
    assert_eq!(follow(6).await.bytes, b"second\n");
    let end = eventually("the end of the output", async || {
        let answer = follow(13).await;
        (answer.header("muster-state") == "succeeded").then_some(answer)
    })
    .await;
    // There will never be bytes at this offset, which is different from "not yet".
    end.expect_problem(416, "range_not_satisfiable");
}

#[tokio::test]
async fn commands_beyond_the_execution_limit_of_an_agent_all_run_once() {
    let fixture = Fixture::on_sqlite().await;
    let starts_file = fixture.test_dir.path().join("starts_file");
    let script = Script::new("count", "echo \"$N\" >> \"$TALLY\"").taking(["N", "TALLY"]);
    let options = AgentOptions::with_scripts([script]).with("MUSTER_MAX_EXECUTIONS", 3);
    let (mut agent, id) = fixture.agent(options).await;
    agent.stop();
    let mut commands = Vec::new();
    for n in 0..60 {
        let data = json!({"parameters": {"N": n.to_string(), "TALLY": starts_file}});
        commands.push(fixture.api.execute(&id, "count", data).await);
    }
    agent.resume();
    for command in &commands {
        assert_eq!(fixture.api.finished(command).await["state"], "succeeded");
    }
    let starts_file = std::fs::read_to_string(&starts_file).expect("the file of starts");
    let mut starts: Vec<u32> =
        starts_file.lines().map(|line| line.parse().expect("a number")).collect();
    starts.sort_unstable();
    assert_eq!(starts, (0..60).collect::<Vec<_>>(), "each was started once");
}
