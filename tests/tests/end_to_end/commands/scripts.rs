//! What a host allows: its manifest, parameters, and how its children may end.

use muster_tests::{
    AgentOptions, Fixture, JsonFields as _, LiveStream, Script, ServerOptions, eventually, sha256,
};
use serde_json::{Value, json};

#[tokio::test]
async fn parameters_become_variables_and_the_agent_key_does_not() {
    let fixture = Fixture::on_sqlite().await;
    let declared = json!([{"name": "COLOUR", "required": true, "choices": ["red", "blue"]}]);
    let scripts = [
        Script::new("env", "env").with("parameters", json!("any")),
        Script::new("strict", "echo \"$COLOUR\"").with("parameters", declared),
    ];
    let (_agent, agent) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    fixture.ask(&agent, "scripts", json!({})).await;
    let run = async |script: &str, parameters: Value| {
        let id = fixture.api.execute(&agent, script, json!({"parameters": parameters})).await;
        fixture.api.finished(&id).await
    };
    let command = run("env", json!({"GREETING": "a b $(c) ;"})).await;
    let output = fixture.api.output(command.id()).await;
    let output = String::from_utf8(output).expect("text");
    assert!(output.lines().any(|line| line == "GREETING=a b $(c) ;"), "{output}");
    assert!(!output.contains("mst_agent_") && !output.contains("MUSTER_API_KEY"), "{output}");

    assert_eq!(run("strict", json!({"COLOUR": "red"})).await["state"], "succeeded");
    for parameters in [json!({}), json!({"COLOUR": "green"}), json!({"COLOUR": "red", "X": "1"})] {
        let data = json!({"script": "strict", "parameters": parameters});
        let refused = fixture.api.try_execute(&agent, data.clone()).await;
        let refused = refused.expect_problem(422, "invalid_parameters");
        // The host decides, with the same rule.
        let id = fixture.api.execute_anyway(&agent, data).await;
        let command = fixture.api.finished(&id).await;
        assert_eq!(command["state"], "rejected", "{command}");
        assert_eq!(command["error_code"], "invalid_parameters");
        let told = command.text("error");
        assert!(refused["detail"].as_str().is_some_and(|text| text.contains(told)), "{refused}");
    }
}

#[tokio::test]
async fn parameter_names_that_affect_the_loader_or_shell_are_refused() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, agent) = fixture.agent(AgentOptions::named("agent")).await;
    for name in ["PATH", "LD_PRELOAD", "BASH_ENV", "MUSTER_API_KEY", "1x", "a=b"] {
        let data = json!({"script": "hello", "parameters": {name: "x"}});
        let body = json!({"command": "execute", "data": data});
        let answer = fixture.api.post(&format!("/api/agents/{agent}/command"), body).await;
        assert!(matches!(answer.status, 400 | 422), "{name}: {}", answer.status);
        let problem = answer.json();
        assert!(problem["detail"].as_str().is_some_and(|text| text.contains(name)), "{problem}");
    }
}

#[tokio::test]
async fn undeclared_parameter_cannot_make_a_program_of_a_script_run_another_one() {
    let fixture = Fixture::on_sqlite().await;
    let test_dir = fixture.test_dir.folder("archive");
    let (packed, proof) = (test_dir.join("packed.tar"), test_dir.join("proof"));
    let body = format!("tar -cf {} /etc/hostname 2>/dev/null; exit 0", packed.display());
    let scripts = [
        Script::new("pack", &body),
        Script::new("pack-any", &body).with("parameters", json!("any")),
    ];
    let (_agent, agent) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    fixture.ask(&agent, "scripts", json!({})).await;
    let action = format!("--checkpoint=1 --checkpoint-action=exec=id>{}", proof.display());
    for script in ["pack", "pack-any"] {
        for field in ["parameters", "secret_parameters"] {
            let data = json!({"script": script, field: {"TAR_OPTIONS": action}});
            let refused = fixture.api.try_execute(&agent, data.clone()).await;
            refused.expect_problem(422, "invalid_parameters");
        }
    }
    // The server refuses these by the manifest. Without it, the host refuses them too.
    for (script, hint) in
        [("pack", r#""parameters": [{"name": "GIT_DIR"}]"#), ("pack-any", "GIT_DIR")]
    {
        let data = json!({"script": script, "parameters": {"GIT_DIR": "/tmp"}});
        let refused = fixture.api.try_execute(&agent, data.clone()).await;
        let refused = refused.expect_problem(422, "invalid_parameters");
        assert!(refused["detail"].as_str().is_some_and(|text| text.contains(hint)), "{refused}");
        let command = fixture.api.finished(&fixture.api.execute_anyway(&agent, data).await).await;
        assert_eq!(command["state"], "rejected", "{command}");
        assert!(command["error"].as_str().is_some_and(|text| text.contains(hint)), "{command}");
    }
    assert!(!proof.exists(), "a parameter ran a program");
    let shown = fixture.api.get(&format!("/api/agents/{agent}/scripts")).await.expect(200);
    assert_eq!(shown["scripts_with_any_parameters"], json!(["pack-any"]));
}

#[tokio::test]
async fn scripts_that_are_not_listed_or_changed_are_rejected_and_never_started() {
    let fixture = Fixture::on_sqlite().await;
    let wrong = Script::new("changed", "echo ran").with("sha256", json!("0".repeat(64)));
    let right = json!(sha256(b"#!/bin/sh\necho ran"));
    let right = Script::new("pinned", "echo ran").with("sha256", right);
    let (_agent, agent) = fixture.agent(AgentOptions::with_scripts([wrong, right])).await;
    for (script, state) in
        [("nowhere", "rejected"), ("changed", "rejected"), ("pinned", "succeeded")]
    {
        let id = fixture.api.execute_anyway(&agent, json!({"script": script})).await;
        let command = fixture.api.finished(&id).await;
        assert_eq!(command["state"], state, "{command}");
        if state == "rejected" {
            assert!(command["error_code"].is_string(), "{command}");
            assert!(command["error"].is_string(), "{command}");
            assert!(fixture.api.output(&id).await.is_empty());
        }
    }
}

#[tokio::test]
async fn script_that_links_out_of_the_folder_is_refused() {
    let fixture = Fixture::on_sqlite().await;
    let outside = fixture.test_dir.path().join("outside.sh");
    std::fs::write(&outside, "#!/bin/sh\necho outside").expect("write");
    let options = AgentOptions::with_scripts([Script::new("leaves", "echo inside")]);
    let (agent, id) = fixture.agent(options).await;
    let link = agent.state_dir().join("scripts/leaves.sh");
    std::fs::remove_file(&link).expect("remove");
    std::os::unix::fs::symlink(&outside, &link).expect("link");
    let command = fixture.api.execute(&id, "leaves", json!({})).await;
    let command = fixture.api.finished(&command).await;
    assert_eq!(command["state"], "rejected", "{command}");
}

#[tokio::test]
async fn changed_manifest_is_reloaded_and_an_invalid_one_refused_with_its_line() {
    // The agent reads its manifest with each heartbeat.
    let often = ServerOptions::default().with("MUSTER_HEARTBEAT_INTERVAL_MS", 300);
    let fixture = Fixture::with(often).await;
    let (agent, id) =
        fixture.agent(AgentOptions::with_scripts([Script::new("one", "echo 1")])).await;
    agent.allow(&[Script::new("one", "echo 1"), Script::new("two", "echo 2")]);
    let path = format!("/api/agents/{id}/scripts");
    let listed = async |what: &str| {
        eventually(&format!("the scripts mention {what}"), async || {
            let listed = fixture.api.get(&path).await.expect(200).to_string();
            listed.contains(what).then_some(listed)
        })
        .await
    };
    listed("\"two\"").await;
    agent.write_manifest("{\n  \"scripts\": [\n    {\"name\": 7}\n  ]\n}");
    let shown = listed("line 3").await;
    assert!(shown.contains("\"two\""), "the last good one stays: {shown}");
    let before = fixture.api.get(&path).await.expect(200);
    assert_eq!(before["in_force"], "previous", "{before}");
    let mut feed =
        LiveStream::open(&fixture.api, "/api/events?types=agent", "").await.expect("open");
    feed.expect("ready").await;
    let command = fixture.api.execute(&id, "two", json!({})).await;
    assert_eq!(fixture.api.finished(&command).await["state"], "succeeded");

    std::fs::remove_file(agent.state_dir().join("script_manifest.json")).expect("delete");
    listed("was deleted").await;
    let after = fixture.api.get(&path).await.expect(200);
    assert_eq!((&after["in_force"], &after["items"]), (&json!("none"), &json!([])), "{after}");
    assert!(after["in_force_since"].as_str() > before["in_force_since"].as_str(), "{after}");
    // With so short an interval, a busy machine may report the agent as offline meanwhile.
    while feed.expect("agent").await.data
        != json!({"id": id, "status": "online", "manifest": "none"})
    {}
    let events = fixture.api.get(&format!("/api/agents/{id}/events")).await.expect(200);
    let items = events["items"].as_array().expect("items").iter();
    let items: Vec<_> = items.filter(|event| event.text("kind").starts_with("manifest_")).collect();
    let kinds: Vec<_> = items.iter().map(|event| event.text("kind")).collect();
    assert_eq!(kinds, ["manifest_rejected"; 2]);
    assert!(items[0].text("detail").contains("was deleted"), "{events}");
    assert!(items[1].text("detail").contains("line 3"), "{events}");
    let shown = fixture.cli().await.run(&["agents", "scripts", &id]).await;
    shown.expect(0);
    let words = "No manifest is in force, since ";
    assert!(shown.stderr.starts_with(words) && shown.stderr.contains("was deleted"), "{shown:?}");
}

#[tokio::test]
async fn execution_past_its_timeout_is_killed_with_its_children() {
    let fixture = Fixture::on_sqlite().await;
    let scripts = [Script::new("late", "sleep 600 & echo begun; sleep 600")];
    let (_agent, agent) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    let id = fixture.api.execute(&agent, "late", json!({"timeout_ms": 700})).await;
    let command = fixture.api.finished(&id).await;
    assert_eq!(command["state"], "timed_out", "{command}");
    assert_eq!(fixture.api.output(&id).await, b"begun\n");
}

#[tokio::test]
async fn child_killed_by_a_signal_fails_with_that_signal() {
    let fixture = Fixture::on_sqlite().await;
    let scripts = [Script::new("crash", "kill -SEGV $$")];
    let (_agent, agent) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    let id = fixture.api.execute(&agent, "crash", json!({})).await;
    let command = fixture.api.finished(&id).await;
    assert_eq!((&command["state"], &command["result"]["signal"]), (&json!("failed"), &json!(11)));
    assert!(command["result"].get("exit_code").is_none_or(Value::is_null), "{command}");
}
