//! The keys of the server are replaced while it runs, by the control socket.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

use muster_tests::{
    AgentOptions, Cli, Fixture, JsonFields as _, Script, eventually, on_both_databases,
};
use serde_json::{Value, json};

use super::{copy_rows, printed, sealed_under, webhook_secret};

on_both_databases!(
    the_master_key_is_replaced_while_the_server_runs_and_secrets_stay_readable,
    a_replaced_audit_key_is_trusted_through_the_one_before,
);

async fn the_master_key_is_replaced_while_the_server_runs_and_secrets_stay_readable(
    fixture: Fixture,
) {
    let socket = fixture.server.data_dir().join("control.sock");
    let mode = std::fs::metadata(&socket).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let script = Script::new("tell", "[ \"$TOKEN\" = hunter2-hunter2 ]").taking(["TOKEN"]);
    let (mut agent, id) = fixture.agent(AgentOptions::with_scripts([script])).await;
    let owner = fixture.owner().await;
    let secret = webhook_secret(&fixture).await;
    agent.stop();
    let data = json!({"secret_parameters": {"TOKEN": "hunter2-hunter2"}});
    let queued = fixture.api.execute(&id, "tell", data.clone()).await;
    copy_rows(&fixture, 500);
    let before = sealed_under(&fixture);
    assert_eq!(before.len(), 1, "{before:?}");

    let mut rotation = fixture.server.start_command(&["rotate-master-key"]);
    // Commands are accepted meanwhile.
    let mut during = Vec::new();
    eventually("the rotation ends", async || {
        let path = format!("/api/agents/{id}/command");
        let body = json!({"command": "execute", "data": {"script": "tell",
            "secret_parameters": {"TOKEN": "hunter2-hunter2"}}, "offline": "queue"});
        let sent = fixture.api.post(&path, body).await;
        if let Some(id) = sent.json().get("id").and_then(Value::as_str) {
            during.push(id.to_owned());
        }
        rotation.try_wait().expect("wait").map(|status| assert!(status.success()))
    })
    .await;
    assert_eq!(webhook_secret(&fixture).await, secret);
    let after = sealed_under(&fixture);
    assert_eq!(after.len(), 1, "{after:?}");
    assert_ne!(after[0].0, before[0].0);
    owner.api.get("/api/me").await.expect_problem(401, "invalid_access_token");
    let refreshed = json!({"refresh_token": owner.refresh_token});
    let refreshed = owner.api.with_key("").post("/api/auth/refresh", refreshed).await.expect(200);
    owner.api.with_key(refreshed.text("access_token")).get("/api/me").await.expect(200);
    let log = fixture.api.get("/api/audit?log=server&action=master_key.rotate").await.expect(200);
    assert_eq!(log.list("items").len(), 1, "{log}");

    // Again, and with the key in use after a start.
    let said = printed(&fixture.server.run(&["rotate-master-key"]));
    assert!(said.contains("master.key.previous-2"), "{said}");
    let mut fixture = fixture;
    fixture.server.stop();
    assert!(!socket.exists());
    fixture.server.resume();
    fixture.server.ready().await;
    assert_eq!(webhook_secret(&fixture).await, secret);
    agent.resume();
    for command in during.iter().chain([&queued]) {
        let command = fixture.api.finished(command).await;
        assert_eq!(command["state"], "succeeded", "{command}");
    }
    malformed_requests_are_closed(&fixture);
}

/// What is no request gets no reply, and the next request is served.
fn malformed_requests_are_closed(fixture: &Fixture) {
    let socket = fixture.server.data_dir().join("control.sock");
    let long = [b"{\"operation\":\"".as_slice(), &[b'a'; 8_192], b"\"}\n"].concat();
    for bytes in [b"stop\n".as_slice(), b"{\"operation\":\"erase\"}\n", &long] {
        let mut stream = UnixStream::connect(&socket).expect("connected");
        // The server may close it before everything is written.
        let _ = stream.write_all(bytes);
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        assert!(reply.is_empty(), "{}", String::from_utf8_lossy(&reply));
    }
    printed(&fixture.server.run(&["rotate-audit-key"]));
}

async fn a_replaced_audit_key_is_trusted_through_the_one_before(mut fixture: Fixture) {
    let cli = Cli::new(&fixture.test_dir);
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, fixture.api.key()).await.expect(0);
    let made = json!({"name": "before"});
    fixture.api.post("/api/agents/keys", made).await.expect(201);
    let old = fixture.api.get("/api/audit/head").await.expect(200);
    let path = |name: &str| cli.home().join(name).to_str().expect("a path").to_owned();
    let (kept, exported, forged) = (path("head.json"), path("audit.ndjson"), path("forged.ndjson"));
    cli.run(&["audit", "verify", "--save-head", &kept]).await.expect(0);

    let said = printed(&fixture.server.run(&["rotate-audit-key"]));
    let present = said.split_whitespace().nth(2).expect("a fingerprint").to_owned();
    let new = fixture.api.get("/api/audit/head").await.expect(200);
    assert_ne!(new["public_key"], old["public_key"]);
    // The head that was kept names the key that named the next one.
    cli.run(&["audit", "verify", "--head", &kept]).await.expect(0);
    cli.run(&["audit", "verify", "--public-key", old.text("public_key")]).await.expect(0);
    cli.run(&["audit", "verify", "--public-key", &present]).await.expect(0);
    cli.run(&["audit", "export", "--output", &exported]).await.expect(0);
    cli.run(&["audit", "verify", "--from", &exported, "--head", &kept]).await.expect(0);

    // Once more, and while the server is stopped.
    printed(&fixture.server.run(&["rotate-audit-key"]));
    fixture.server.stop();
    printed(&fixture.server.run(&["rotate-audit-key"]));
    fixture.server.resume();
    fixture.server.ready().await;
    cli.run(&["audit", "verify", "--head", &kept]).await.expect(0);
    let log = fixture.api.get("/api/audit?action=audit.change_key").await.expect(200);
    let signatures: Vec<String> = log
        .list("items")
        .iter()
        .map(|entry| entry["detail"].text("signature").to_owned())
        .collect();
    assert_eq!(signatures.len(), 3, "{log}");
    assert_eq!(log["items"][0]["actor_kind"], "operator");

    // Without the signature of the key before, the new key is another one.
    let text = std::fs::read_to_string(&exported).expect("the file");
    let first = signatures.last().expect("the oldest");
    assert!(text.contains(first.as_str()));
    std::fs::write(&forged, text.replace(first.as_str(), &signatures[0])).expect("write");
    let refused = cli.run(&["audit", "verify", "--from", &forged, "--head", &kept]).await;
    refused.expect(1);
    assert!(refused.stderr.contains("is signed with another key"), "{}", refused.stderr);

    // The old key signs nothing any more: its head in place of the present one is found.
    let hash = match fixture.server.is_postgres() {
        true => format!("'\\x{}'", old.text("hash")),
        false => format!("X'{}'", old.text("hash")),
    };
    fixture.server.stop();
    fixture.server.query(&format!(
        "UPDATE audit_heads SET number = {}, hash = {hash}, signature = '{}'",
        old["number"],
        old.text("signature")
    ));
    fixture.server.resume();
    fixture.server.ready().await;
    let found = fixture.api.get("/api/audit/verify").await.expect(200);
    assert_eq!(found["is_intact"], false, "{found}");
    assert!(found.to_string().contains("signature_invalid"), "{found}");
}
