//! Scripts of the library on hosts.

use std::fs;

use muster_tests::{AgentOptions, Fixture, JsonFields as _, on_both_databases, sha256};
use serde_json::{Value, json};

use super::{agent_with_policy, create, output, save};

on_both_databases!(a_host_runs_the_pinned_version_with_its_parameters);

async fn a_host_runs_the_pinned_version_with_its_parameters(fixture: Fixture) {
    let (_agent, agent) = agent_with_policy(&fixture, json!({"allow": "library"})).await;
    let body = "echo \"$WHO $LINES $TOKEN\"\n";
    let script = json!({"name": "greet", "body": body, "interpreter": "sh", "timeout_ms": 60_000,
    "parameters": [
        {"name": "WHO", "required": true, "pattern": "[a-z]+"},
        {"name": "LINES", "type": "integer", "default": "3"},
        {"name": "TOKEN", "type": "secret"},
    ]});
    let script = fixture.api.post("/api/scripts", script).await.expect(201).id().to_owned();
    let data =
        json!({"parameters": {"WHO": "world"}, "secret_parameters": {"TOKEN": "hunter2222"}});
    let command = fixture.api.execute(&agent, "library:greet", data).await;
    let ended = fixture.api.finished(&command).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    let output_of = output(&fixture, &command).await;
    assert!(output_of.starts_with("world 3 ") && !output_of.contains("hunter"), "{output_of}");
    // Execution and attestation name number and hash.
    assert_eq!(
        (&ended["data"]["script"], &ended["data"]["library"]["version"]),
        (&json!("library:greet"), &json!(1))
    );
    assert_eq!(ended["data"]["library"]["sha256"], sha256(body.as_bytes()));
    let execution = fixture.api.get(&format!("/api/executions/{command}")).await.expect(200);
    let attested: Value =
        serde_json::from_str(execution["attestation"]["document"].as_str().expect("attested"))
            .expect("JSON");
    assert_eq!(attested["run"]["library_version"], 1);
    assert_eq!(attested["run"]["program_sha256"], sha256(body.as_bytes()));

    // Values are checked before anything is stored.
    for (parameters, named) in [
        (json!({}), "WHO"),
        (json!({"WHO": "WORLD"}), "WHO"),
        (json!({"WHO": "me", "LINES": "x"}), "LINES"),
        (json!({"WHO": "me", "OTHER": "x"}), "OTHER"),
    ] {
        let data = json!({"script": "library:greet", "parameters": parameters});
        let refused = fixture.api.try_execute(&agent, data).await;
        let refused = refused.expect_problem(422, "invalid_parameters");
        assert!(refused.text("detail").contains(named), "{refused}");
    }

    // A job runs the current version; a request can name another one.
    save(&fixture, &script, "echo second\n").await;
    let job = json!({"script": "library:greet", "target": {"expression": "all"}});
    let job = fixture.api.post("/api/jobs", job).await.expect(202).id().to_owned();
    let page = format!("/api/jobs/{job}/executions");
    let execution = fixture.api.get(&page).await.expect(200)["items"][0].id().to_owned();
    fixture.api.in_state(&execution, "succeeded").await;
    assert_eq!(output(&fixture, &execution).await, "second\n");
    let data = json!({"parameters": {"WHO": "again"}});
    let command = fixture.api.execute(&agent, "library:greet@1", data).await;
    fixture.api.in_state(&command, "succeeded").await;
    assert!(output(&fixture, &command).await.starts_with("again 3"));
    for (name, code) in
        [("library:greet@9", "unknown_version"), ("library:none", "unknown_library_script")]
    {
        let refused = fixture.api.try_execute(&agent, json!({"script": name})).await;
        refused.expect_problem(422, code);
    }
    let refused = fixture.api.try_execute(&agent, json!({"script": "library:a/b"})).await;
    refused.expect_problem(422, "invalid_field");
}

#[tokio::test]
async fn a_host_that_does_not_allow_the_library_refuses_it() {
    let fixture = Fixture::on_sqlite().await;
    let (agent, id) = agent_with_policy(&fixture, json!({})).await;
    create(&fixture, "touch", "touch ran\n").await;
    let refused = fixture.api.try_execute(&id, json!({"script": "library:touch"})).await;
    let refused = refused.expect_problem(409, "library_not_allowed");
    assert!(refused.text("detail").contains("policy.json"), "{refused}");
    // The host decides by itself.
    let command = fixture.api.execute_anyway(&id, json!({"script": "library:touch"})).await;
    let ended = fixture.api.finished(&command).await;
    assert_eq!(
        (&ended["state"], &ended["error_code"]),
        (&json!("rejected"), &json!("library_not_allowed"))
    );
    assert!(!agent.state_dir().join("library").exists());
}

#[tokio::test]
async fn an_execution_that_waits_runs_the_version_that_was_pinned() {
    let fixture = Fixture::on_sqlite().await;
    let (mut agent, id) = agent_with_policy(&fixture, json!({"allow": "shell"})).await;
    let script = create(&fixture, "say", "echo first\n").await;
    let gone = create(&fixture, "gone", "echo gone\n").await;
    agent.stop();
    let waiting = fixture.api.execute(&id, "library:say", json!({})).await;
    let deleted = fixture.api.execute(&id, "library:gone", json!({})).await;
    save(&fixture, &script, "echo second\n").await;
    fixture.api.delete(&format!("/api/scripts/{gone}")).await.expect(204);
    agent.resume();
    fixture.api.in_state(&waiting, "succeeded").await;
    assert_eq!(output(&fixture, &waiting).await, "first\n");
    let ended = fixture.api.finished(&deleted).await;
    assert_eq!(
        (&ended["state"], &ended["error_code"]),
        (&json!("rejected"), &json!("script_missing"))
    );
}

#[tokio::test]
async fn a_body_that_was_changed_in_the_database_never_runs() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, id) = agent_with_policy(&fixture, json!({"allow": "library"})).await;
    create(&fixture, "say", "echo good\n").await;
    fixture.server.query("UPDATE script_bodies SET body = 'echo evil'");
    let command = fixture.api.execute(&id, "library:say", json!({})).await;
    let ended = fixture.api.finished(&command).await;
    assert_eq!(
        (&ended["state"], &ended["error_code"]),
        (&json!("rejected"), &json!("hash_mismatch"))
    );
}

#[tokio::test]
async fn a_cached_body_that_was_changed_on_the_host_never_runs() {
    let fixture = Fixture::on_sqlite().await;
    let (agent, id) = agent_with_policy(&fixture, json!({"allow": "library"})).await;
    let body = "sleep 0.1; echo good\n";
    create(&fixture, "say", body).await;
    let command = fixture.api.execute(&id, "library:say", json!({})).await;
    fixture.api.in_state(&command, "succeeded").await;
    let cached = agent.state_dir().join(format!("library/{}.sh", sha256(body.as_bytes())));
    fs::write(&cached, "echo evil").expect("written");
    // The next execution brings its body again, which replaces the changed copy.
    let command = fixture.api.execute(&id, "library:say", json!({})).await;
    fixture.api.in_state(&command, "succeeded").await;
    assert_eq!(output(&fixture, &command).await, "good\n");
}

#[tokio::test]
async fn a_key_with_a_list_of_scripts_runs_the_listed_one_in_any_version() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, id) = agent_with_policy(&fixture, json!({"allow": "library"})).await;
    create(&fixture, "mine", "echo mine\n").await;
    create(&fixture, "other", "echo other\n").await;
    let key = json!({"name": "narrow", "role": "member", "scripts": ["library:mine"]});
    let key = fixture.api.post("/api/keys", key).await.expect(201);
    let narrow = fixture.api.with_key(key.text("key"));
    let command = narrow.execute(&id, "library:mine@1", json!({})).await;
    assert_eq!(narrow.finished(&command).await["state"], "succeeded");
    let refused = narrow.try_execute(&id, json!({"script": "library:other"})).await;
    refused.expect_problem(403, "script_not_in_key");
    // A member reads the library and does not change it.
    let body = json!({"name": "new", "body": "true\n", "interpreter": "sh"});
    narrow.get("/api/scripts").await.expect(200);
    narrow.post("/api/scripts", body).await.expect_problem(403, "missing_scope");
}

#[tokio::test]
async fn other_interpreters_run_too_and_a_missing_one_is_named() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, id) = agent_with_policy(&fixture, json!({"allow": "library"})).await;
    for (name, interpreter, body) in [
        ("py", "python", "import sys\nprint('from python')\n"),
        ("awk", "/bin/bash", "echo from bash $BASH_VERSION | cut -c1-9\n"),
        ("none", "no-such-program", "x\n"),
    ] {
        let script = json!({"name": name, "body": body, "interpreter": interpreter});
        fixture.api.post("/api/scripts", script).await.expect(201);
    }
    for (name, expected) in [("py", "from python\n"), ("awk", "from bash\n")] {
        let command = fixture.api.execute(&id, &format!("library:{name}"), json!({})).await;
        let ended = fixture.api.finished(&command).await;
        assert_eq!(ended["state"], "succeeded", "{ended}");
        assert_eq!(output(&fixture, &command).await, expected);
    }
    let command = fixture.api.execute(&id, "library:none", json!({})).await;
    let ended = fixture.api.finished(&command).await;
    assert_eq!(ended["error_code"], "program_missing", "{ended}");
}

#[tokio::test]
async fn a_script_runs_as_the_user_of_the_policy() {
    muster_tests::needs_root();
    let fixture = Fixture::on_sqlite().await;
    let options = AgentOptions::named("agent");
    let state = fixture.test_dir.folder(&options.name);
    muster_tests::write_policy(&state, r#"{"allow": "library", "run_as": "nobody"}"#);
    let (_agent, id) = fixture.agent(options).await;
    create(
        &fixture,
        "who",
        "id -un; ls ../library 2>/dev/null; touch \"$0\" 2>/dev/null || echo closed\n",
    )
    .await;
    let command = fixture.api.execute(&id, "library:who", json!({})).await;
    let ended = fixture.api.finished(&command).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert_eq!(output(&fixture, &command).await, "nobody\nclosed\n");
}
