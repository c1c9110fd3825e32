//! What the owner of a host decides, regardless of the server's requests.

use std::fs;

use crate::played_server::{Server, open_agent};
use crate::support::Host;
use muster_protocol::frame::{AgentFrame, Outcome, ServerFrame};
use secrecy::ExposeSecret as _;
use serde_json::json;
use uuid::Uuid;

#[tokio::test]
async fn what_the_policy_forbids_is_refused_and_the_agent_keeps_running_with_its_key() {
    let host = Host::new();
    let forbidden = ["restart", "update", "redeploy", "shutdown", "rekey"];
    let policy = json!({ "forbid": forbidden });
    fs::write(host.state.policy(), policy.to_string()).expect("written");
    let mut server = Server::meet(open_agent(&host));
    server.greet().await;
    server.send(ServerFrame::Rekey { key: "mst_agent_new".into(), grace_ms: 1 }).await;
    for command in &forbidden[..4] {
        let id = Uuid::now_v7();
        server.command(id, command, json!({"version": "9.9.9"})).await;
        let response = server.response().await;
        assert_eq!((response.command_id, response.outcome), (id, Some(Outcome::Rejected)));
        assert_eq!(response.error_code.as_deref(), Some("forbidden_by_policy"), "{command}");
        assert!(response.error.is_some_and(|text| text.contains("policy.json")));
    }
    fs::write(host.state.policy(), "{}").expect("written");
    server.command(Uuid::now_v7(), "ping", json!({})).await;
    let AgentFrame::Manifest { forbidden_commands, .. } = server.frame().await else {
        panic!("the change is reported first")
    };
    assert!(forbidden_commands.is_empty());
    server.response().await;
    let (agent, _) = server.end().await;
    assert_eq!(agent.keys.current().expose_secret(), "mst_agent_test");
}

/// The example of the first agents, with a file as it is copied there: not executable, and
/// without `#!`.
#[tokio::test]
async fn a_manifest_of_the_first_agents_runs_unchanged() {
    let host = Host::new();
    let manifest = r#"{
  "scripts": [
    {
      "name": "hello",
      "path": "hello_world.py"
    }
  ]
}"#;
    fs::write(host.state.manifest(), manifest).expect("written");
    fs::write(host.state.scripts().join("hello_world.py"), "print('Hello, World!')\n")
        .expect("written");
    let mut server = Server::meet(open_agent(&host));
    server.greet().await;
    let id = Uuid::now_v7();
    host.note(id);
    server.command(id, "execute", json!({"script": "hello"})).await;
    let response = server.response().await;
    assert_eq!(response.outcome, Some(Outcome::Succeeded), "{response:?}");
    assert_eq!(host.output(id).stdout, b"Hello, World!\n");
    server.end().await;
}
