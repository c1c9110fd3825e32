//! Parameters of the type file: the script gets the path of a file with the bytes.

use std::fs;
use std::path::Path;

use muster_tests::{Fixture, JsonFields as _, sha256};
use serde_json::json;

use super::{agent_with_policy, output};

async fn save(fixture: &Fixture, name: &str, body: &str) {
    let script = json!({"name": name, "body": body, "interpreter": "sh", "parameters": [
        {"name": "CONFIG", "type": "file", "required": true}, {"name": "NAME"}]});
    fixture.api.post("/api/scripts", script).await.expect(201);
}

#[tokio::test]
async fn a_file_reaches_the_script_byte_for_byte_and_is_removed_after_the_run() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, id) = agent_with_policy(&fixture, json!({"allow": "library"})).await;
    let body = "echo \"$CONFIG\"; stat -c %a \"$CONFIG\"; sha256sum <\"$CONFIG\"; echo \"$NAME\"";
    save(&fixture, "reads", body).await;
    // All bytes, the largest that a parameter can have.
    let bytes: Vec<u8> = (0..48 * 1024).map(|n| (n % 256) as u8).collect();
    let path = fixture.test_dir.path().join("config");
    fs::write(&path, &bytes).expect("written");
    let cli = fixture.cli().await;
    let file = format!("CONFIG={}", path.display());
    let ran = cli.run(&["run", &id, "library:reads", "NAME=me", "--file", &file]).await.expect(0);
    let lines: Vec<&str> = ran.lines().collect();
    assert_eq!(lines[1..], ["600", &format!("{}  -", sha256(&bytes)), "me"]);
    assert!(!Path::new(lines[0]).exists(), "it is removed: {ran}");

    fs::write(&path, vec![0; 48 * 1024 + 1]).expect("written");
    let refused = cli.run(&["run", &id, "library:reads", "--file", &file]).await;
    assert_ne!(refused.code, Some(0), "{refused:?}");
}

#[tokio::test]
async fn a_value_that_is_no_file_is_refused_before_anything_is_stored() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, id) = agent_with_policy(&fixture, json!({"allow": "library"})).await;
    save(&fixture, "reads", "cat \"$CONFIG\"").await;
    let path = format!("/api/agents/{id}/command");
    for value in ["no base64", "aGk"] {
        let data = json!({"script": "library:reads", "parameters": {"CONFIG": value}});
        let refused = fixture.api.post(&path, json!({"command": "execute", "data": data})).await;
        let refused = refused.expect_problem(422, "invalid_parameters");
        assert!(refused.text("detail").contains("CONFIG"), "{refused}");
    }
    let command =
        fixture.api.execute(&id, "library:reads", json!({"parameters": {"CONFIG": "aGk="}})).await;
    assert_eq!(fixture.api.finished(&command).await["state"], "succeeded");
    assert_eq!(output(&fixture, &command).await, "hi");
    let script = json!({"name": "bad", "body": "true", "interpreter": "sh",
        "parameters": [{"name": "F", "type": "file", "default": "aGk="}]});
    fixture.api.post("/api/scripts", script).await.expect_problem(422, "invalid_field");
}
