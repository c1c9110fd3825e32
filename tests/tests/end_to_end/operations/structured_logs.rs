//! Log lines as JSON, and the id of a request in the logs of all programs that work on it.

use muster_tests::{
    AgentOptions, Database, Fixture, JsonFields as _, Script, ServerOptions, TestDir, eventually,
};
use serde_json::{Value, json};

/// The lines of a log, each one object.
fn events(log: &str) -> Vec<Value> {
    let read = |line: &str| {
        let event: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for field in ["timestamp", "level", "message", "target"] {
            assert!(event[field].is_string(), "{field}: {line}");
        }
        event
    };
    // The last line may be incomplete.
    log.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(read).collect()
}

#[tokio::test]
async fn id_of_a_request_is_in_the_lines_of_the_server_and_of_the_agent() {
    let options = ServerOptions::default()
        .with("MUSTER_LOG", "info,muster_server=debug")
        .with("MUSTER_LOG_FORMAT", "json");
    let fixture = Fixture::on(TestDir::new(), Database::Sqlite, options).await;
    let options = AgentOptions::with_scripts([Script::new("hello", "echo hello")])
        .with("MUSTER_LOG_FORMAT", "json")
        .supervised();
    let (agent, id) = fixture.agent(options).await;
    let body = json!({"command": "execute", "data": {"script": "hello"}});
    let answer = fixture.api.post(&format!("/api/agents/{id}/command"), body).await;
    let request_id = answer.header("x-request-id").to_owned();
    let command = answer.expect(202).id().to_owned();
    fixture.api.finished(&command).await;
    let execution = fixture.api.get(&format!("/api/executions/{command}")).await.expect(200);
    assert_eq!(execution["request_id"], request_id.as_str());

    let line = eventually("the agent has logged the command", async || {
        let is_it = |event: &Value| {
            event["command_id"] == command.as_str() && event["message"] == "accepted"
        };
        events(&agent.log()).into_iter().find(is_it)
    })
    .await;
    assert_eq!(line["request_id"], request_id.as_str(), "{line}");
    let of_supervisor = |event: &Value| event["target"] == "muster_supervisor";
    assert!(events(&agent.log()).iter().any(of_supervisor), "{}", agent.log());
    let answered = |event: &Value| {
        event["message"] == "answered" && event["span"]["request_id"] == request_id.as_str()
    };
    let lines = events(&fixture.server.log());
    assert!(lines.iter().any(answered), "{}", fixture.server.log());
}

#[tokio::test]
async fn jobs_pass_the_id_of_their_request_on() {
    let fixture = Fixture::on(TestDir::new(), Database::Sqlite, ServerOptions::default()).await;
    let options = AgentOptions::with_scripts([Script::new("hello", "echo hello")]);
    let (agent, id) = fixture.agent(options).await;
    let body = json!({"script": "hello", "target": {"ids": [id]}});
    let answer = fixture.api.post("/api/jobs", body).await;
    let request_id = answer.header("x-request-id").to_owned();
    answer.expect(202);
    eventually("the agent has logged the id", async || {
        agent.log().contains(&format!("request_id=\"{request_id}\"")).then_some(())
    })
    .await;
}
