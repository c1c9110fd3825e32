//! What the owner of a host decides, regardless of the server's requests.

use std::fs;

use crate::played_server::{Server, connected, open_agent, registered};
use crate::support::Host;
use muster_agent::agent::Agent;
use muster_agent::agent::request_log::{Answer, read_newest};
use muster_agent::releases::update_requests::{Supervision, UpdateRequests};
use muster_agent::sessions::SessionEnd;
use muster_protocol::frame::{AgentFrame, Outcome, ServerFrame};
use muster_protocol::{CommandName, ExitCode, Permissions};
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

/// An agent under a supervisor that installs other versions.
fn updatable_agent(host: &Host) -> Agent {
    let mut agent = open_agent(host);
    let supervision = Supervision::Updates { is_on_trial: false };
    agent.update_requests = UpdateRequests::open(&host.state, supervision, true);
    agent
}

/// Starts a session in which the server desires another version.
async fn desire_version(server: &mut Server) {
    server.send(connected(Permissions::new(CommandName::ALL))).await;
    assert!(matches!(server.frame().await, AgentFrame::Register { .. }));
    let ServerFrame::Registered(mut answer) = registered(1) else { unreachable!("as made") };
    answer.desired_version = Some("9.9.9".into());
    server.send(ServerFrame::Registered(answer)).await;
}

#[tokio::test]
async fn desired_version_is_not_installed_if_the_policy_forbids_updates_and_the_owner_sees_it() {
    let host = Host::new();
    fs::write(host.state.policy(), r#"{"forbid": ["update"]}"#).expect("written");
    let mut server = Server::meet(updatable_agent(&host));
    desire_version(&mut server).await;
    // The session goes on.
    server.command(Uuid::now_v7(), "ping", json!({})).await;
    server.response().await;
    let (_agent, ended) = server.end().await;
    assert!(!matches!(ended.end, SessionEnd::Exit(ExitCode::Update)));
    let requests = read_newest(&host.state, 9).expect("readable");
    let [request] = &requests[..] else { panic!("one request: {requests:?}") };
    assert_eq!(
        (request.request.as_str(), request.answer),
        ("update (desired version)", Answer::Refused)
    );
    assert_eq!(request.code.as_deref(), Some("forbidden_by_policy"));
    assert_eq!(request.version.as_deref(), Some("9.9.9"));

    // The same server, once the owner permits it.
    fs::write(host.state.policy(), "{}").expect("written");
    let mut server = Server::meet(updatable_agent(&host));
    desire_version(&mut server).await;
    let (_agent, ended) = server.ended().await;
    assert!(matches!(ended.end, SessionEnd::Exit(ExitCode::Update)));
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
