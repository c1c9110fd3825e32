//! `muster-server rotate-master-key`, also killed while it works.

use muster_tests::{
    AgentOptions, Fixture, JsonFields as _, Script, TestDir, binary, eventually, on_both_databases,
};
use serde_json::json;

on_both_databases!(a_rotation_that_is_killed_leaves_every_secret_readable_and_can_be_finished);

/// Rows with sealed values, besides the one of the job.
const COPIES: usize = 1_000;
const URL: &str = "https://hooks.example/x";

/// Rows whose secrets are sealed under the key that `sealed_with` starts with.
fn count(fixture: &Fixture, sealed_with: &str) -> usize {
    let head = match fixture.server.is_postgres() {
        true => format!("'\\x{sealed_with}'::bytea"),
        false => format!("X'{sealed_with}'"),
    };
    let rows = fixture.server.query(&format!(
        "SELECT COUNT(*) FROM commands WHERE substr(sealed_parameters, 1, 9) = {head}"
    ));
    rows.concat().parse().expect("a number")
}

/// The version and the key of a sealed value, in hex.
fn head(fixture: &Fixture) -> String {
    let column = match fixture.server.is_postgres() {
        true => "encode(substr(sealed_parameters, 1, 9), 'hex')",
        false => "lower(hex(substr(sealed_parameters, 1, 9)))",
    };
    let statement =
        format!("SELECT {column} FROM commands WHERE sealed_parameters IS NOT NULL LIMIT 1");
    fixture.server.query(&statement).concat()
}

fn copy_rows(fixture: &Fixture) {
    let id = match fixture.server.is_postgres() {
        true => "gen_random_uuid()",
        false => "randomblob(16)",
    };
    let numbers = format!(
        "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {COPIES})"
    );
    // Of agents that do not exist, so that they are not sent.
    fixture.server.query(&format!(
        "{numbers} INSERT INTO commands (id, tenant_id, agent_id, command, data, sealed_parameters, state, \
         requested_by, created_at, expires_at, timeout_ms, lost_after_ms) SELECT {id}, tenant_id, {id}, command, \
         data, sealed_parameters, state, requested_by, created_at, expires_at, timeout_ms, lost_after_ms \
         FROM commands, numbers WHERE sealed_parameters IS NOT NULL"
    ));
}

/// The secret that signs webhooks, which is sealed too.
async fn webhook_secret(fixture: &Fixture) -> String {
    let shown = fixture.api.post("/api/webhooks/secret", json!({"url": URL})).await.expect(200);
    shown.text("secret").to_owned()
}

async fn a_rotation_that_is_killed_leaves_every_secret_readable_and_can_be_finished(
    mut fixture: Fixture,
) {
    let script = Script::new("tell", "[ \"$TOKEN\" = hunter2-hunter2 ]").taking(["TOKEN"]);
    let (mut agent, id) = fixture.agent(AgentOptions::with_scripts([script])).await;
    let secret = webhook_secret(&fixture).await;
    let audit_head = fixture.api.get("/api/audit/head").await.expect(200);
    let owner = fixture.owner().await;
    owner.api.get("/api/me").await.expect(200);
    agent.stop();
    let data = json!({"secret_parameters": {"TOKEN": "hunter2-hunter2"}});
    let run = fixture.api.execute(&id, "tell", data).await;
    copy_rows(&fixture);
    let old = head(&fixture);
    assert_eq!(count(&fixture, &old), COPIES + 1);
    fixture.server.stop();

    for most_left in [COPIES, COPIES / 2, 1] {
        let mut rotation = fixture.server.start_command(&["rotate-master-key"]);
        eventually("a part is sealed again", async || {
            let is_over = rotation.try_wait().expect("wait").is_some();
            (is_over || count(&fixture, &old) <= most_left).then_some(())
        })
        .await;
        let _ = rotation.kill();
        rotation.wait().expect("it ends");
        // A server starts with both keys.
        fixture.server.resume();
        fixture.server.ready().await;
        assert_eq!(webhook_secret(&fixture).await, secret);
        fixture.server.stop();
    }
    let done = fixture.server.run(&["rotate-master-key"]);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    assert!(said.contains("keep it with the backups"), "{said}");
    assert_eq!(count(&fixture, &old), 0, "everything is sealed with the new key");
    assert!(fixture.server.data_dir().join("master.key.previous-1").exists());

    fixture.server.resume();
    fixture.server.ready().await;
    assert_eq!(webhook_secret(&fixture).await, secret);
    let now = fixture.api.get("/api/audit/head").await.expect(200);
    assert_eq!(now["public_key"], audit_head["public_key"]);
    // A holder of the old key could sign access tokens, so none from before is valid; sessions go on.
    owner.api.get("/api/me").await.expect_problem(401, "invalid_access_token");
    let refreshed = json!({"refresh_token": owner.refresh_token});
    let refreshed = owner.api.with_key("").post("/api/auth/refresh", refreshed).await.expect(200);
    owner.api.with_key(refreshed.text("access_token")).get("/api/me").await.expect(200);
    agent.resume();
    let command = fixture.api.finished(&run).await;
    assert_eq!(command["state"], "succeeded", "{command}");

    // Neither the old key alone nor another one opens the database.
    fixture.server.stop();
    let folder = fixture.server.data_dir().to_owned();
    let (present, previous) = (folder.join("master.key"), folder.join("master.key.previous-1"));
    let key = std::fs::read(&present).expect("read");
    std::fs::copy(&previous, &present).expect("copy");
    let refused = fixture.server.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(!refused.status.success());
    std::fs::write(&present, key).expect("write");
    fixture.server.resume();
    fixture.server.ready().await;
}

#[test]
fn rotation_without_the_data_of_a_server_is_refused_and_creates_nothing() {
    let test_dir = TestDir::new();
    let folder = test_dir.path().join("nowhere");
    for what in ["rotate-master-key", "rotate-audit-key"] {
        let mut command = std::process::Command::new(binary("muster-server"));
        let ended = command.args([what, "--data-dir"]).arg(&folder).output().expect("run it");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(!ended.status.success() && said.contains("set --data-dir"), "{what}: {said}");
        assert!(!folder.exists(), "{what} created {}", folder.display());
    }
}
