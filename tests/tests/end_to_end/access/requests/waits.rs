//! `wait_ms`: its bounds are the same everywhere, and so is what follows when the time is over.

use muster_tests::{Api, FakeAgent, Fixture, JsonFields as _};
use serde_json::{Value, json};

/// Requests of an API key that wait, for an agent, its key and a command of it.
fn waiting_paths(command: &str) -> Vec<String> {
    ["commands", "executions"]
        .into_iter()
        .flat_map(|kind| ["", "/output"].map(|part| format!("/api/{kind}/{command}{part}?")))
        .chain(["/api/agents/connected?name=nobody&".to_owned()])
        .collect()
}

/// A connected agent with a command that it does not answer.
struct Waiting {
    fixture: Fixture,
    agent: FakeAgent,
    agent_id: String,
    key_id: String,
    /// Calls the API of basic agents.
    basic: Api,
    command: String,
}

async fn waiting() -> Waiting {
    let fixture = Fixture::on_sqlite().await;
    let (key_id, key) = fixture.api.agent_key(json!({"permissions": muster_tests::ALL})).await;
    let mut agent = FakeAgent::registered(&fixture.server.address(), &key, "one").await;
    let agent_id = fixture.online(&key_id).await.id().to_owned();
    let command = fixture.api.execute_anyway(&agent_id, json!({"script": "deploy"})).await;
    agent.expect("command").await;
    let (_, basic) = fixture.api.agent_key(json!({})).await;
    let basic = fixture.api.with_key(&basic);
    Waiting { fixture, agent, agent_id, key_id, basic, command }
}

/// The refused field and its bound.
fn refused(problem: &Value) -> (&str, &str, &Value) {
    let error = &problem["errors"][0];
    (error.text("field"), error.text("code"), &error["limit"])
}

#[tokio::test]
async fn time_to_wait_out_of_bounds_is_refused_alike_everywhere() {
    let waiting = waiting().await;
    let api = &waiting.fixture.api;
    let mut queries: Vec<_> =
        waiting_paths(&waiting.command).into_iter().map(|path| (api, path, 60_000)).collect();
    queries.push((&waiting.basic, "/api/agents/poll?".to_owned(), 30_000));
    for (api, path, most) in queries {
        let answer = api.get(&format!("{path}wait_ms={}", most + 1)).await;
        let problem = answer.expect_problem(422, "invalid_field");
        assert_eq!(refused(&problem), ("wait_ms", "too_large", &json!(most)), "{path}");
        for wrong in ["-1", "x", "1.5", "", "1e3", "18446744073709551616"] {
            let answer = api.get(&format!("{path}wait_ms={wrong}")).await;
            answer.expect_problem(400, "invalid_query");
        }
    }
    let (agent, key) = (&waiting.agent_id, &waiting.key_id);
    for (path, command) in [
        (format!("/api/agents/{agent}/ping"), None),
        (format!("/api/agents/keys/{key}/ping"), None),
        (format!("/api/agents/{agent}/command"), Some("echo")),
        (format!("/api/agents/keys/{key}/command"), Some("restart")),
    ] {
        let body = |wait_ms: Value| match command {
            None => json!({"wait_ms": wait_ms}),
            Some(command) => json!({"command": command, "wait_ms": wait_ms}),
        };
        let answer = api.post(&path, body(json!(60_001))).await;
        let problem = answer.expect_problem(422, "invalid_field");
        assert_eq!(refused(&problem), ("wait_ms", "too_large", &json!(60_000)), "{path}");
        for wrong in [json!(-1), json!("1"), json!(1.5)] {
            api.post(&path, body(wrong)).await.expect_problem(422, "invalid_body");
        }
    }
}

#[tokio::test]
async fn request_that_waited_in_vain_gets_what_is_there_now() {
    let mut waiting = waiting().await;
    let api = waiting.fixture.api.clone();
    for path in waiting_paths(&waiting.command) {
        for wait_ms in [0, 1] {
            let answer = api.get(&format!("{path}wait_ms={wait_ms}")).await;
            if path.contains("/output") {
                let state = answer.header("muster-state").to_owned();
                let status = if wait_ms == 0 { 200 } else { 204 };
                assert_eq!((answer.status, &*state), (status, "delivered"), "{path}{wait_ms}");
                assert!(answer.bytes.is_empty());
                continue;
            }
            let answer = answer.expect(200);
            if path.contains("/connected") {
                assert_eq!(answer, json!({"items": [], "next_cursor": null}));
            } else {
                assert_eq!(answer["state"], "delivered", "{path}{wait_ms}");
            }
        }
    }
    let poll = waiting.basic.get("/api/agents/poll?wait_ms=1").await.expect(200);
    assert_eq!(poll, json!({"commands": []}));
    let ping = format!("/api/agents/{}/ping", waiting.agent_id);
    api.post(&ping, json!({"wait_ms": 1})).await.expect_problem(504, "agent_timeout");
    waiting.agent.expect("command").await;
    // What is there already is not waited for.
    let id = &waiting.command;
    waiting.agent.send(json!({"type": "response", "command_id": id, "success": true})).await;
    for path in waiting_paths(id).iter().filter(|path| !path.contains("/connected")) {
        let answer = api.get(&format!("{path}wait_ms=60000")).await;
        assert_eq!(answer.status, 200, "{path}");
    }
    let path = "/api/agents/connected?name=one&wait_ms=60000";
    let connected = api.get(path).await.expect(200);
    assert_eq!(connected.list("items").len(), 1, "{connected}");
}
