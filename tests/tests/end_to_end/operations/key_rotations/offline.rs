//! The master key is replaced while the server is stopped.

use muster_tests::{Fixture, JsonFields as _, TestDir, binary, on_both_databases};
use serde_json::json;

use super::kills::Secrets;
use super::{copy_rows, printed, sealed_under, webhook_secret};

on_both_databases!(a_rotation_while_the_server_is_stopped_leaves_one_key_that_opens_everything);

async fn a_rotation_while_the_server_is_stopped_leaves_one_key_that_opens_everything(
    mut fixture: Fixture,
) {
    let secrets = Secrets::of(&fixture).await;
    let audit_head = fixture.api.get("/api/audit/head").await.expect(200);
    secrets.owner.api.get("/api/me").await.expect(200);
    copy_rows(&fixture, 500);
    let before = sealed_under(&fixture);
    assert_eq!(before.len(), 1, "{before:?}");
    fixture.server.stop();
    let said = printed(&fixture.server.run(&["rotate-master-key"]));
    assert!(said.contains("keep it with the backups"), "{said}");
    let after = sealed_under(&fixture);
    assert!(after.len() == 1 && after[0].0 != before[0].0, "{after:?}");
    assert!(fixture.server.data_dir().join("master.key.previous-1").exists());

    fixture.server.resume();
    fixture.server.ready().await;
    secrets.can_be_used(&fixture).await;
    let now = fixture.api.get("/api/audit/head").await.expect(200);
    assert_eq!(now["public_key"], audit_head["public_key"]);
    // Whoever has the old key could sign access tokens, so none from before is valid; sessions go on.
    let owner = &secrets.owner;
    owner.api.get("/api/me").await.expect_problem(401, "invalid_access_token");
    let refreshed = json!({"refresh_token": owner.refresh_token});
    let refreshed = owner.api.with_key("").post("/api/auth/refresh", refreshed).await.expect(200);
    owner.api.with_key(refreshed.text("access_token")).get("/api/me").await.expect(200);

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
    assert_eq!(webhook_secret(&fixture).await, secrets.webhook);
    secrets.are_delivered(&fixture).await;
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
