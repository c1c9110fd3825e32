//! `muster-agent doctor`: its findings when everything is fine, and when something is not.

use std::collections::BTreeSet;
use std::path::Path;

use chrono::{SecondsFormat, TimeDelta, Utc};
use muster_tests::{
    AgentOptions, ClosedPort, Doctor, Fixture, Link, Script, eventually, fake_time, finding,
};
use serde_json::{Value, json};

const CHECKS: &str = "configuration state_directory disk manifest dns tcp proxy tls clock \
                      websocket key version";

fn checks() -> Vec<&'static str> {
    CHECKS.split(' ').collect()
}

fn text<'a>(finding: &'a Value, field: &str) -> &'a str {
    finding[field].as_str().unwrap_or_default()
}

fn statuses(findings: &[Value]) -> Vec<&str> {
    findings.iter().map(|finding| text(finding, "status")).collect()
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).expect("read the folder");
    entries.map(|entry| entry.expect("read").file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test]
async fn valid_key_passes_every_check_before_installation_and_creates_no_files() {
    let fixture = Fixture::on_sqlite().await;
    let (id, key) = fixture.api.agent_key(json!({})).await;
    let file = fixture.test_dir.path().join("key");
    std::fs::write(&file, format!("{key}\n")).expect("write the key");
    let doctor = Doctor::new(&fixture.test_dir, &fixture.server.url(), "")
        .with("MUSTER_API_KEY_FILE", file.display());
    let before = names_in(fixture.test_dir.path());
    let findings = doctor.findings(0).await;
    let names: Vec<&str> = findings.iter().map(|finding| text(finding, "check")).collect();
    assert_eq!(names, checks());
    let mut expected = vec!["ok"; checks().len()];
    expected[7] = "skipped";
    assert_eq!(statuses(&findings), expected, "{findings:#?}");
    assert!(text(finding(&findings, "state_directory"), "detail").contains("first start"));
    assert_eq!(names_in(fixture.test_dir.path()), before);
    assert_eq!(fixture.agents_of(&id).await, Vec::<Value>::new());

    let table = doctor.say(&[]).await.expect(0);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), checks().len(), "{table}");
    for (line, check) in lines.iter().zip(checks()) {
        assert_eq!(line[9..].split("  ").next(), Some(check), "{table}");
    }
    assert!(
        lines[10].starts_with("ok       key              the server accepts the key"),
        "{table}"
    );
    assert!(!table.contains(&key) && !fixture.server.log().contains(&key));
    assert_eq!(doctor.say(&["--brief"]).await.expect(0), "");
    let over_http = doctor.with("MUSTER_HTTP_FALLBACK", "only").findings(0).await;
    assert_eq!(finding(&over_http, "key")["detail"], "the server accepts the key over HTTP");
    assert_eq!(finding(&over_http, "websocket")["status"], "skipped");
    assert_eq!(fixture.agents_of(&id).await, Vec::<Value>::new());
    assert_eq!(names_in(fixture.test_dir.path()), before);
}

#[tokio::test]
async fn doctor_beside_a_running_agent_changes_nothing() {
    let fixture = Fixture::on_sqlite().await;
    let script = Script::new("hello", "echo hi");
    let (agent, id) = fixture.agent(AgentOptions::with_scripts([script])).await;
    let shown = fixture.api.get(&format!("/api/agents/{id}")).await.expect(200);
    let path = format!("/api/agents/keys/{}/regenerate", text(&shown, "key_id"));
    let answer = fixture.api.post(&path, json!({"grace_ms": 2_000})).await.expect(200);
    eventually("the agent keeps the new key", async || {
        agent.state_dir().join("key.json").is_file().then_some(())
    })
    .await;
    // The doctor presents the key that the server gave to the agent, as the agent would.
    let doctor = Doctor::new(&fixture.test_dir, &fixture.server.url(), text(&answer, "key"))
        .with_state(agent.state_dir());
    let before = names_in(agent.state_dir());
    let findings = doctor.findings(0).await;
    assert_eq!(text(finding(&findings, "manifest"), "detail"), "1 script");
    assert_eq!(finding(&findings, "key")["status"], "ok");
    assert_eq!(names_in(agent.state_dir()), before);
    assert_eq!(fixture.ask(&id, "ping", json!({})).await["success"], true);
    let again = fixture.api.get(&format!("/api/agents/{id}")).await.expect(200);
    assert_eq!(again["connected_at"], shown["connected_at"], "{again}");
}

#[tokio::test]
async fn each_refusal_of_a_key_explains_the_fix() {
    let fixture = Fixture::on_sqlite().await;
    let url = fixture.server.url();
    let refusal = async |key: &str, fallback: &str| {
        let doctor =
            Doctor::new(&fixture.test_dir, &url, key).with("MUSTER_HTTP_FALLBACK", fallback);
        let findings = doctor.findings(1).await;
        assert_eq!(finding(&findings, "version")["status"], "ok", "{findings:#?}");
        finding(&findings, "key").clone()
    };
    let stranger = format!("mst_agent_{}", "x".repeat(43));
    let unknown = refusal(&stranger, "1").await;
    assert_eq!(unknown["detail"], "the server does not know the key");
    assert!(text(&unknown, "hint").contains("MUSTER_SERVER_URL"), "{unknown}");

    let (id, key) = fixture.api.agent_key(json!({})).await;
    let path = format!("/api/agents/keys/{id}");
    fixture.api.patch(&path, json!({"status": "disabled"})).await.expect(200);
    for fallback in ["1", "0", "only"] {
        let disabled = refusal(&key, fallback).await;
        assert_eq!(disabled["detail"], "the key is disabled", "{fallback}");
    }
    fixture.api.patch(&path, json!({"status": "active"})).await.expect(200);
    fixture.api.post(&format!("{path}/regenerate"), json!({})).await.expect(200);
    let replaced = refusal(&key, "1").await;
    assert_eq!(replaced["detail"], "the key was replaced by a newer one on the server");

    let (id, key) = fixture.api.agent_key(json!({})).await;
    fixture.api.delete(&format!("/api/agents/keys/{id}")).await.expect(204);
    assert_eq!(refusal(&key, "1").await["detail"], "the key was deleted on the server");

    let soon = (Utc::now() + TimeDelta::seconds(2)).to_rfc3339_opts(SecondsFormat::Millis, true);
    let (_, key) = fixture.api.agent_key(json!({"expires_at": soon})).await;
    eventually("the key expires", async || {
        let findings = Doctor::new(&fixture.test_dir, &url, &key).say(&["--json"]).await;
        let findings: Vec<Value> = serde_json::from_slice(&findings.stdout).expect("findings");
        (finding(&findings, "key")["detail"] == "the key has expired").then_some(())
    })
    .await;
}

#[tokio::test]
async fn unreachable_server_is_one_failure_and_the_other_checks_are_skipped() {
    let fixture = Fixture::on_sqlite().await;
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let closed = ClosedPort::new();
    let port = closed.number();
    let doctor = Doctor::new(&fixture.test_dir, &format!("http://localhost:{port}"), &key);
    let findings = doctor.findings(1).await;
    let dns = finding(&findings, "dns");
    assert!(text(dns, "detail").contains("A 127.0.0.1; AAAA "), "{dns}");
    let tcp = finding(&findings, "tcp");
    assert_eq!(tcp["status"], "fail", "{tcp}");
    assert!(text(tcp, "detail").contains("IPv4 fails (Connection refused"), "{tcp}");
    for check in &checks()[6..] {
        let skipped = finding(&findings, check);
        assert_eq!(skipped["status"], "skipped", "{skipped}");
        assert_eq!(skipped["detail"], "not checked, because tcp failed");
    }
    let brief = doctor.brief().await;
    assert!(brief.starts_with(&format!("tcp: port {port} of the server: ")), "{brief}");
    assert!(brief.ends_with("that firewalls permit the connection\n"), "{brief}");

    let elsewhere = format!("{}/elsewhere", fixture.server.url());
    let brief = Doctor::new(&fixture.test_dir, &elsewhere, &key).brief().await;
    let sentence = "WebSockets fail: the server answered 404 to the WebSocket upgrade";
    assert!(brief.starts_with(&format!("websocket: {sentence}; HTTP fails too: ")), "{brief}");
    assert!(brief.ends_with("check that the address is that of a Muster server\n"), "{brief}");

    let secure = fixture.server.url().replace("http:", "https:");
    let brief = Doctor::new(&fixture.test_dir, &secure, &key).brief().await;
    let sentence =
        "tls: 127.0.0.1 does not answer in TLS: this server speaks plain http; use http://";
    assert!(brief.starts_with(sentence), "{brief}");

    let brief = Doctor::new(&fixture.test_dir, "wss://muster.invalid", &key).brief().await;
    let sentence = "dns: failed to resolve the name muster.invalid of the server";
    assert!(brief.starts_with(sentence), "{brief}");
}

#[tokio::test]
async fn invalid_settings_are_the_first_failure() {
    let fixture = Fixture::on_sqlite().await;
    let doctor = Doctor::new(&fixture.test_dir, &fixture.server.url(), "");
    let none = doctor.brief().await;
    assert!(
        none.starts_with("configuration: no agent key is configured; set MUSTER_API_KEY"),
        "{none}"
    );
    let doctor = doctor.with("MUSTER_API_KEY", "mst_agent_x");
    let empty = fixture.test_dir.path().join("empty.pem");
    std::fs::write(&empty, "").expect("write the file");
    for (file, sentence) in [
        ("/no/such.pem", "read the CA file"),
        (empty.to_str().expect("plain text"), "contains no certificate"),
    ] {
        let findings = doctor.clone().with("MUSTER_CA_FILE", file).findings(1).await;
        let configuration = finding(&findings, "configuration");
        assert!(text(configuration, "detail").contains(sentence), "{configuration}");
        assert!(!text(configuration, "hint").is_empty(), "{configuration}");
        assert_eq!(statuses(&findings)[1..], vec!["skipped"; checks().len() - 1]);
    }
    let nobody = doctor.clone().with("MUSTER_SERVER_URL", "wss://127.0.0.1:9");
    let brief = nobody.with("SSL_CERT_FILE", "/no/such.pem").brief().await;
    assert!(brief.starts_with("tls: ") && brief.contains("ca-certificates"), "{brief}");
    assert_eq!(doctor.say(&["--colour"]).await.code, Some(2));
    assert_eq!(doctor.say(&["--json", "--brief"]).await.code, Some(2));
}

#[tokio::test]
async fn wrong_clock_is_reported_relative_to_the_server() {
    let fixture = Fixture::on_sqlite().await;
    let (_, key) = fixture.api.agent_key(json!({})).await;
    for (offset, code, status) in [("-3m", 0, "warn"), ("+20m", 1, "fail")] {
        let doctor = Doctor::new(&fixture.test_dir, &fixture.server.url(), &key);
        let moved = fake_time(offset);
        let doctor = moved.iter().fold(doctor, |doctor, (name, value)| doctor.with(name, value));
        let findings = doctor.findings(code).await;
        let clock = finding(&findings, "clock");
        assert_eq!(clock["status"], status, "{clock}");
        assert!(text(clock, "hint").contains("NTP"), "{clock}");
        assert_eq!(finding(&findings, "key")["status"], "ok");
    }
}

#[tokio::test]
async fn scripts_that_cannot_run_are_named() {
    let fixture = Fixture::on_sqlite().await;
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let state = fixture.test_dir.folder("state");
    let good = Script::new("good", "true");
    let changed = Script::new("changed", "true").with("sha256", json!("0".repeat(64)));
    muster_tests::install(&state, &[good, changed, Script::new("gone", "true")]);
    std::fs::remove_file(state.join("scripts/gone.sh")).expect("remove a script");
    let doctor = Doctor::new(&fixture.test_dir, &fixture.server.url(), &key).with_state(&state);
    let findings = doctor.findings(1).await;
    let manifest = finding(&findings, "manifest");
    let detail = text(manifest, "detail");
    assert!(detail.starts_with("2 of 3 scripts can't run: "), "{manifest}");
    assert!(detail.contains("`changed`: ") && detail.contains("`gone`: "), "{manifest}");
    // This is the host's own configuration: the connection to the server is checked all the same.
    assert_eq!(finding(&findings, "key")["status"], "ok");

    std::fs::write(state.join("script_manifest.json"), "{\n\"scripts\": 7}").expect("write");
    let findings = doctor.findings(1).await;
    assert!(text(finding(&findings, "manifest"), "detail").contains("line 2"));
}

#[tokio::test]
async fn blocked_websockets_are_a_warning_if_http_works() {
    let fixture = Fixture::on_sqlite().await;
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let link = Link::to(&fixture.server.address()).await;
    link.block_upgrades(true);
    let doctor = Doctor::new(&fixture.test_dir, &link.url(), &key);
    let findings = doctor.findings(0).await;
    let websocket = finding(&findings, "websocket");
    assert_eq!(websocket["status"], "warn", "{websocket}");
    assert!(text(websocket, "detail").contains("403"), "{websocket}");
    assert_eq!(finding(&findings, "key")["detail"], "the server accepts the key over HTTP");
    let findings = doctor.with("MUSTER_HTTP_FALLBACK", "0").findings(1).await;
    assert_eq!(finding(&findings, "websocket")["status"], "fail");
    assert_eq!(finding(&findings, "key")["detail"], "not checked, because websocket failed");
}
