//! Scripts through to their result: output byte for byte, states, deadlines, cancellation.

use muster_tests::{AgentOptions, Script, World, eventually, on_both_databases, sha256};
use reqwest::Method;
use serde_json::{Value, json};

on_both_databases!(
    a_script_runs_and_its_output_is_kept_byte_for_byte,
    a_command_waits_for_its_agent_and_runs_when_it_comes,
    a_command_past_its_deadline_expires_and_never_runs,
    the_same_idempotency_key_starts_nothing_twice,
    a_cancelled_command_ends_cancelled_wherever_it_was,
);

async fn a_script_runs_and_its_output_is_kept_byte_for_byte(world: World) {
    let lines = 20_000;
    let both = "printf 'out\\n'; printf 'err\\377' >&2; exit 7";
    let scripts = [Script::counting("count", lines, lines, "0"), Script::new("both", both)];
    let (_agent, agent) = world.agent(AgentOptions::with_scripts(scripts)).await;

    let id = world.api.execute(&agent, "count", json!({})).await;
    let command = world.api.finished(&id).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    let expected = Script::counted(lines);
    let result = &command["result"];
    assert_eq!(result["exit_code"], 0, "{result}");
    assert_eq!(result["output_bytes"], expected.len());
    assert_eq!(result["output_complete"], true);
    assert_eq!(result["output_sha256"], sha256(&expected));
    assert!(result["duration_ms"].is_u64());
    assert!(world.api.output(&id).await == expected, "the output differs");

    let path = format!("/api/commands/{id}/output");
    let range = [("range", "bytes=29-57")];
    let part = world.api.try_send(Method::GET, &path, &range, None).await;
    let part = part.expect("reach the server");
    assert_eq!((part.status, part.bytes.as_slice()), (206, &expected[29..58]));

    let id = world.api.execute(&agent, "both", json!({})).await;
    let command = world.api.finished(&id).await;
    assert_eq!((&command["state"], &command["result"]["exit_code"]), (&json!("failed"), &json!(7)));
    let path = format!("/api/commands/{id}/output");
    assert_eq!(world.api.get(&format!("{path}?stream=stdout")).await.bytes, b"out\n");
    assert_eq!(world.api.get(&format!("{path}?stream=stderr")).await.bytes, b"err\xff");
    let audit = world.api.get("/api/audit").await.expect(200).to_string();
    assert!(audit.contains(&id), "the command is in the audit: {audit}");
}

async fn a_command_waits_for_its_agent_and_runs_when_it_comes(world: World) {
    let options = AgentOptions::with_scripts([Script::new("hi", "echo hi")]);
    let (mut agent, id) = world.agent(options).await;
    agent.stop();
    let command = world.api.execute(&id, "hi", json!({})).await;
    assert_eq!(world.api.command(&command).await["state"], "queued");
    agent.resume();
    assert_eq!(world.api.finished(&command).await["state"], "succeeded");
    assert_eq!(world.api.output(&command).await, b"hi\n");
}

async fn a_command_past_its_deadline_expires_and_never_runs(world: World) {
    let options =
        AgentOptions::with_scripts([Script::new("mark", "touch \"$MARK\"").taking(["MARK"])]);
    let (mut agent, id) = world.agent(options).await;
    agent.stop();
    let mark = world.site.path().join("mark");
    let body = json!({
        "command": "execute", "expires_in_ms": 300,
        "data": {"script": "mark", "parameters": {"MARK": mark}},
    });
    let made = world.api.post(&format!("/api/agents/{id}/command"), body).await.expect(202);
    let command = made["id"].as_str().expect("an id");
    assert_eq!(world.api.finished(command).await["state"], "expired");
    agent.resume();
    let after = world.api.execute(&id, "mark", json!({"parameters": {"MARK": "/dev/null"}})).await;
    world.api.finished(&after).await;
    assert!(!mark.exists(), "an expired command ran");
    assert_eq!(world.api.command(command).await["state"], "expired");
}

async fn the_same_idempotency_key_starts_nothing_twice(world: World) {
    let options = AgentOptions::with_scripts([Script::new("hi", "echo hi")]);
    let (_agent, agent) = world.agent(options).await;
    let path = format!("/api/agents/{agent}/command");
    let body = json!({"command": "execute", "data": {"script": "hi"}});
    let first = world.api.post_once(&path, "deploy-1", body.clone()).await.expect(202);
    let again = world.api.post_once(&path, "deploy-1", body.clone()).await.expect(202);
    assert_eq!(first["id"], again["id"]);
    let other = json!({"command": "execute", "data": {"script": "hello"}});
    let answer = world.api.post_once(&path, "deploy-1", other).await;
    answer.expect_problem(422, "idempotency_key_reused");
    // Sent at the same moment, by callers that do not know of each other.
    let racing = (0..8).map(|_| world.api.post_once(&path, "deploy-2", body.clone()));
    let answers = futures_util::future::join_all(racing).await;
    let mut ids: Vec<Value> = answers
        .into_iter()
        .filter(|answer| answer.status == 202)
        .map(|answer| answer.json()["id"].clone())
        .collect();
    assert!(!ids.is_empty());
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let listed = world.api.get("/api/commands").await.expect(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(2), "{listed}");
    let id = ids[0].as_str().expect("an id");
    assert_eq!(world.api.finished(id).await["state"], "succeeded");
}

async fn a_cancelled_command_ends_cancelled_wherever_it_was(world: World) {
    let scripts = [Script::new("sleep", "echo started; sleep 600")];
    let (mut agent, id) = world.agent(AgentOptions::with_scripts(scripts)).await;
    let cancel = async |command: &str| {
        let path = format!("/api/commands/{command}/cancel");
        let answer = world.api.post(&path, json!({})).await;
        assert!(matches!(answer.status, 200 | 202), "{}", answer.json());
    };
    let running = world.api.execute(&id, "sleep", json!({})).await;
    world.api.output_reaches(&running, 8).await;
    cancel(&running).await;
    let command = world.api.finished(&running).await;
    assert_eq!(command["state"], "cancelled", "{command}");
    assert!(command["cancel_requested_at"].is_string());
    assert_eq!(world.api.output(&running).await, b"started\n");

    agent.stop();
    let queued = world.api.execute(&id, "sleep", json!({})).await;
    cancel(&queued).await;
    assert_eq!(world.api.command(&queued).await["state"], "cancelled");
    // Terminal states never change, and asking again is no error.
    cancel(&queued).await;
    assert_eq!(world.api.command(&queued).await["state"], "cancelled");
}

#[tokio::test]
async fn output_can_be_followed_while_the_script_runs() {
    let world = World::on_sqlite().await;
    let body = "echo first; while [ ! -e \"$GATE\" ]; do sleep 0.05; done; echo second";
    let options = AgentOptions::with_scripts([Script::new("gate", body).taking(["GATE"])]);
    let (_agent, agent) = world.agent(options).await;
    let gate = world.site.path().join("gate");
    let id = world.api.execute(&agent, "gate", json!({"parameters": {"GATE": gate}})).await;
    let path = format!("/api/commands/{id}/output?wait_ms=30000");
    let follow = async |from: usize| {
        let range = format!("bytes={from}-");
        let headers = [("range", range.as_str())];
        world.api.try_send(Method::GET, &path, &headers, None).await.expect("an answer")
    };
    assert_eq!(follow(0).await.bytes, b"first\n");
    assert_eq!(world.api.command(&id).await["state"], "running");
    std::fs::write(&gate, "").expect("open the gate");
    assert_eq!(follow(6).await.bytes, b"second\n");
    let end = eventually("the end of the output", async || {
        let answer = follow(13).await;
        (answer.header("muster-state") == "succeeded").then_some(answer)
    })
    .await;
    // Nothing will ever stand there, which is no longer "nothing yet".
    end.expect_problem(416, "range_not_satisfiable");
}

#[tokio::test]
async fn more_commands_than_an_agent_takes_at_once_all_run_each_once() {
    let world = World::on_sqlite().await;
    let tally = world.site.path().join("tally");
    let script = Script::new("tally", "echo \"$N\" >> \"$TALLY\"").taking(["N", "TALLY"]);
    let options = AgentOptions::with_scripts([script]).with("MUSTER_MAX_EXECUTIONS", 3);
    let (mut agent, id) = world.agent(options).await;
    agent.stop();
    let mut commands = Vec::new();
    for n in 0..60 {
        let data = json!({"parameters": {"N": n.to_string(), "TALLY": tally}});
        commands.push(world.api.execute(&id, "tally", data).await);
    }
    agent.resume();
    for command in &commands {
        assert_eq!(world.api.finished(command).await["state"], "succeeded");
    }
    let tally = std::fs::read_to_string(&tally).expect("the tally");
    let mut starts: Vec<u32> = tally.lines().map(|line| line.parse().expect("a number")).collect();
    starts.sort_unstable();
    assert_eq!(starts, (0..60).collect::<Vec<_>>(), "each was started once");
}
