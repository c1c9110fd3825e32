//! Rehearsals: runs with dummy secrets, after which the host reports where they came out.

use std::fs;

use muster_tests::{ApiResponse, Fixture, JsonFields as _};
use serde_json::{Value, json};

use super::{agent_with_policy, output};

/// Saves a script with two secret parameters.
async fn save(fixture: &Fixture, name: &str, body: &str) {
    let script = json!({"name": name, "body": body, "interpreter": "sh", "parameters": [
        {"name": "TOKEN", "type": "secret", "required": true},
        {"name": "OTHER", "type": "secret"},
        {"name": "WHO", "default": "world"},
    ]});
    fixture.api.post("/api/scripts", script).await.expect(201);
}

async fn request(fixture: &Fixture, agent: &str, data: Value) -> ApiResponse {
    let body = json!({"command": "execute", "data": data});
    fixture.api.post(&format!("/api/agents/{agent}/command"), body).await
}

/// Rehearses a script, and returns its command.
async fn rehearse(fixture: &Fixture, agent: &str, name: &str) -> Value {
    let data = json!({"script": format!("library:{name}"), "rehearsal": true});
    let command = request(fixture, agent, data).await.expect(202);
    fixture.api.finished(command.id()).await
}

/// The leaks as `PARAMETER place detail`.
fn leaks(command: &Value) -> Vec<String> {
    let report = &command["result"]["rehearsal"];
    assert_eq!(report["is_complete"], true, "{command}");
    let leaks = report["leaks"].as_array().expect("a list");
    let text = |leak: &Value, field: &str| leak[field].as_str().unwrap_or_default().to_owned();
    let line = |leak| ["parameter", "place", "detail"].map(|field| text(leak, field)).join(" ");
    leaks.iter().map(|leak| line(leak).trim_end().to_owned()).collect()
}

#[tokio::test]
async fn a_rehearsal_reports_each_place_where_a_dummy_secret_came_out() {
    let fixture = Fixture::on_sqlite().await;
    let (agent, id) = agent_with_policy(&fixture, json!({"allow": "library"})).await;

    // Children get the secret in their environment, which is how it is meant to be.
    save(&fixture, "quiet", "sh -c 'test -n \"$TOKEN\"' && echo \"hello $WHO\" >note; rm note")
        .await;
    let command = rehearse(&fixture, &id, "quiet").await;
    assert_eq!(command["state"], "succeeded", "{command}");
    assert_eq!(leaks(&command), Vec::<String>::new());

    save(&fixture, "prints", "echo \"$TOKEN\"; printf %s \"$OTHER\" | base64 -w 0 >&2").await;
    let command = rehearse(&fixture, &id, "prints").await;
    assert_eq!(leaks(&command), ["TOKEN stdout", "OTHER stderr"]);
    let stored = output(&fixture, command.id()).await;
    assert_eq!(stored, "***\n***==", "what is stored is masked");

    save(&fixture, "passes", "sh -c 'sleep 1' helper --token=\"$TOKEN\"").await;
    let command = rehearse(&fixture, &id, "passes").await;
    assert_eq!(leaks(&command), ["TOKEN arguments sh"]);

    let body =
        "mkdir -p a; echo \"x$TOKEN\" >a/log; echo $OTHER >\"$TMPDIR/cache\"; echo \"$WHO\" >b";
    save(&fixture, "leaves", body).await;
    let command = rehearse(&fixture, &id, "leaves").await;
    assert_eq!(leaks(&command), ["TOKEN file a/log (working folder)", "OTHER file cache (TMPDIR)"]);

    let shared = format!("/tmp/muster-test-leak-{}", std::process::id());
    save(&fixture, "shares", &format!("echo \"$TOKEN\" >{shared}")).await;
    let command = rehearse(&fixture, &id, "shares").await;
    fs::remove_file(&shared).expect("the script wrote it");
    assert_eq!(leaks(&command), [format!("TOKEN file {shared}")]);

    // Nothing of the run is left, and each one has its own values.
    let left = fs::read_dir(std::env::temp_dir()).expect("listed").flatten();
    let prefix = format!("muster-rehearsal-{}", command.id());
    assert!(!left.into_iter().any(|entry| entry.file_name().to_string_lossy() == prefix));
    save(&fixture, "hashes", "printf %s \"$TOKEN\" | sha256sum").await;
    let hash = async || output(&fixture, rehearse(&fixture, &id, "hashes").await.id()).await;
    assert_ne!(hash().await, hash().await, "the values are random");
    drop(agent);
}

#[tokio::test]
async fn a_rehearsal_needs_a_script_of_the_library_and_values_that_fit_its_patterns() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, id) = agent_with_policy(&fixture, json!({"allow": "shell"})).await;
    let refused = request(&fixture, &id, json!({"argv": ["true"], "rehearsal": true})).await;
    let refused = refused.expect_problem(422, "invalid_field");
    assert!(refused.text("detail").contains("rehearsal"), "{refused}");

    let script = json!({"name": "pin", "body": "echo $PIN", "interpreter": "sh",
        "parameters": [{"name": "PIN", "type": "secret", "pattern": "[0-9]{8}"}]});
    fixture.api.post("/api/scripts", script).await.expect(201);
    let mut data = json!({"script": "library:pin", "rehearsal": true});
    request(&fixture, &id, data.clone()).await.expect_problem(422, "invalid_parameters");
    data["secret_parameters"] = json!({"PIN": "12345678"});
    let command = request(&fixture, &id, data).await.expect(202);
    let command = fixture.api.finished(command.id()).await;
    assert_eq!(leaks(&command), ["PIN stdout"]);

    // An ordinary run reports nothing of the kind.
    let secrets = json!({"PIN": "12345678"});
    let data = json!({"script": "library:pin", "secret_parameters": secrets});
    let command = request(&fixture, &id, data).await.expect(202);
    let command = fixture.api.finished(command.id()).await;
    assert!(command["result"].get("rehearsal").is_none(), "{command}");
}

#[tokio::test]
async fn the_command_line_shows_leaks_and_ends_with_1() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, id) = agent_with_policy(&fixture, json!({"allow": "library"})).await;
    let cli = fixture.cli().await;
    save(&fixture, "prints", "echo \"$TOKEN$WHO\"").await;
    save(&fixture, "quiet", "test -n \"$TOKEN\"").await;
    let shown = cli.run(&["scripts", "rehearse", "prints", "-p", "WHO=me"]).await.expect(1);
    assert!(shown.contains("TOKEN is in standard output"), "{shown}");
    let shown = cli.run(&["scripts", "rehearse", "quiet@1", "--on", &id]).await;
    assert!(shown.expect(0).contains("no secret came out"));
}
