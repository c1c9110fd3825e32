//! `muster-agent explain`: what the owner of a host learns about its server.

use std::fs;
use std::process::Command;

use crate::played_server::{Server, open_agent};
use crate::support::{Host, program};
use muster_protocol::frame::ServerFrame;
use serde_json::{Value, json};
use uuid::Uuid;

const SECRET: &str = "hunter2-and-more";

fn explain(host: &Host, more: &[&str]) -> String {
    let mut command = Command::new(program());
    command.env_clear().arg("explain").arg("--state-dir").arg(host.state.path()).args(more);
    let output = command.output().expect("explain runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// A program folder with pins.
fn program_dir(host: &Host) -> String {
    let folder = host.state.path().join("programs");
    fs::create_dir(&folder).expect("created");
    fs::write(folder.join("release_key"), format!("{}\n", "ab".repeat(32))).expect("written");
    fs::write(folder.join("release_floor"), "0.2.0\n").expect("written");
    folder.to_str().expect("plain text").to_owned()
}

#[tokio::test]
async fn explain_shows_what_the_server_can_do_and_asked_for_without_agent_or_secrets() {
    let host = Host::new();
    host.script("a.sh", "true");
    let token = json!({"name": "TOKEN", "secret": true, "required": true});
    let stage = json!({"name": "STAGE", "choices": ["test", "live"]});
    let manifest = json!({"scripts": [
        {"name": "deploy", "path": "a.sh", "secrets": "file", "timeout_ms": 60_000,
         "parameters": [token, stage]},
        {"name": "debug", "path": "a.sh", "parameters": "any"},
        {"name": "gone", "path": "b.sh"},
    ]});
    fs::write(host.state.manifest(), manifest.to_string()).expect("written");
    fs::write(host.state.policy(), r#"{"forbid": ["shutdown", "rekey"]}"#).expect("written");
    let programs = program_dir(&host);

    let mut server = Server::meet(open_agent(&host));
    server.greet().await;
    let (done, unlisted) = (Uuid::now_v7(), Uuid::now_v7());
    host.note(done);
    let data = json!({"script": "deploy", "parameters": {"STAGE": "test"},
                      "secret_parameters": {"TOKEN": SECRET}});
    server.command(done, "execute", data).await;
    while server.response().await.command_id != done {}
    let hostile = "\u{1b}[2J\u{202e}evil";
    let data = json!({"script": hostile, "secret_parameters": {"TOKEN": SECRET}});
    server.command(unlisted, "execute", data).await;
    server.response().await;
    server
        .command(Uuid::now_v7(), "execute", json!({"script": "deploy", "parameters": SECRET}))
        .await;
    server.response().await;
    server.command(Uuid::now_v7(), "shutdown", json!({})).await;
    server.response().await;
    server.send(ServerFrame::Rekey { key: "mst_agent_new".into(), grace_ms: 1 }).await;
    server.command(Uuid::now_v7(), "ping", json!({})).await;
    server.response().await;
    server.end().await;

    let text = explain(&host, &["--json", "--dir", &programs]);
    let json: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&json["format"], &json["agent_state"]), (&json!(1), &json!("stopped")));
    assert_eq!(json["scripts"][0]["secrets"], "file");
    assert_eq!(json["scripts"][0]["parameters"][0]["name"], "TOKEN");
    assert_eq!(json["scripts"][1]["any_parameters"], true);
    assert!(json["scripts"][2]["problem"].is_string());
    assert_eq!((&json["ad_hoc_commands"], &json["runs_as"]), (&json!(false), &json!("root")));
    let allowed: Vec<_> = json["life_cycle"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|entry| entry["is_allowed"] == true)
        .map(|entry| entry["name"].clone())
        .collect();
    assert_eq!(allowed, ["restart", "update", "redeploy", "services"]);
    let releases = &json["releases"];
    assert_eq!(
        (&releases["key"], &releases["lowest_version"]),
        (&json!("ab".repeat(32)), &json!("0.2.0"))
    );
    let requests: Vec<_> = json["requests"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| (entry["request"].as_str(), entry["code"].as_str(), entry["outcome"].as_str()))
        .collect();
    assert_eq!(
        requests,
        [
            (Some("rekey"), Some("forbidden_by_policy"), None),
            (Some("shutdown"), Some("forbidden_by_policy"), Some("rejected")),
            (Some("execute"), Some("invalid_data"), Some("rejected")),
            (Some("execute"), Some("unknown_script"), Some("rejected")),
            (Some("execute"), None, Some("succeeded")),
        ]
    );

    let words = explain(&host, &["--dir", &programs]);
    for expected in [
        "deploy: parameters TOKEN (required; secret, as a file), STAGE (one of test | live); at most 60 s",
        "debug: ANY parameter",
        "can't start",
        "Run other programs: no",
        "Manage the agent: restart, update, redeploy, services. Forbidden: shutdown, rekey.",
        "version 0.2.0 or later",
        "execute deploy (STAGE, secret TOKEN): accepted, succeeded",
        "shutdown: REFUSED forbidden_by_policy",
        "execute \\u{1b}[2J\\u{202e}evil (secret TOKEN): REFUSED unknown_script",
    ] {
        assert!(words.contains(expected), "{expected:?} is missing:\n{words}");
    }
    let logs = host.state.requests().map(|log| fs::read_to_string(log).expect("the log"));
    for shown in [&text, &words].into_iter().chain(&logs) {
        assert!(!shown.contains("hunter2") && !shown.contains("mst_agent_"), "{shown}");
        assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown}");
    }
}

#[test]
fn explain_says_that_nothing_can_run_if_the_policy_is_invalid() {
    let host = Host::new();
    fs::write(host.state.manifest(), "{").expect("written");
    fs::write(host.state.policy(), "{").expect("written");
    let words = explain(&host, &[]);
    assert!(words.contains("Nothing at the moment: the host's policy is invalid"), "{words}");
    assert!(words.contains("The manifest is not in force"), "{words}");
    assert!(words.contains("Manage the agent: nothing."), "{words}");
}
