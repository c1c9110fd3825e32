//! What a host allows: its manifest, parameters, and how its children may end.

use muster_tests::{AgentOptions, Script, ServerOptions, World, eventually, sha256};
use serde_json::{Value, json};

#[tokio::test]
async fn parameters_are_variables_and_the_agents_key_is_not() {
    let world = World::on_sqlite().await;
    let declared = json!([{"name": "COLOUR", "required": true, "choices": ["red", "blue"]}]);
    let scripts = [
        Script::new("env", "env").with("parameters", json!("any")),
        Script::new("strict", "echo \"$COLOUR\"").with("parameters", declared),
    ];
    let (_agent, agent) = world.agent(AgentOptions::with_scripts(scripts)).await;
    world.ask(&agent, "scripts", json!({})).await;
    let run = async |script: &str, parameters: Value| {
        let id = world.api.execute(&agent, script, json!({"parameters": parameters})).await;
        world.api.finished(&id).await
    };
    let command = run("env", json!({"GREETING": "a b $(c) ;"})).await;
    let output = world.api.output(command["id"].as_str().expect("an id")).await;
    let output = String::from_utf8(output).expect("text");
    assert!(output.lines().any(|line| line == "GREETING=a b $(c) ;"), "{output}");
    assert!(!output.contains("mst_agent_") && !output.contains("MUSTER_API_KEY"), "{output}");

    assert_eq!(run("strict", json!({"COLOUR": "red"})).await["state"], "succeeded");
    for parameters in [json!({}), json!({"COLOUR": "green"}), json!({"COLOUR": "red", "X": "1"})] {
        let data = json!({"script": "strict", "parameters": parameters});
        let refused = world.api.try_execute(&agent, data.clone()).await;
        let refused = refused.expect_problem(422, "invalid_parameters");
        // The host has the last word, and the same rule.
        let id = world.api.execute_anyway(&agent, data).await;
        let command = world.api.finished(&id).await;
        assert_eq!(command["state"], "rejected", "{command}");
        assert_eq!(command["error_code"], "invalid_parameters");
        let told = command["error"].as_str().expect("a sentence");
        assert!(refused["detail"].as_str().is_some_and(|text| text.contains(told)), "{refused}");
    }
}

#[tokio::test]
async fn parameter_names_that_change_how_programs_start_are_refused_by_name() {
    let world = World::on_sqlite().await;
    let (_agent, agent) = world.agent(AgentOptions::named("agent")).await;
    for name in ["PATH", "LD_PRELOAD", "BASH_ENV", "MUSTER_API_KEY", "1x", "a=b"] {
        let data = json!({"script": "hello", "parameters": {name: "x"}});
        let body = json!({"command": "execute", "data": data});
        let answer = world.api.post(&format!("/api/agents/{agent}/command"), body).await;
        assert!(matches!(answer.status, 400 | 422), "{name}: {}", answer.status);
        let problem = answer.json();
        assert!(problem["detail"].as_str().is_some_and(|text| text.contains(name)), "{problem}");
    }
}

#[tokio::test]
async fn undeclared_parameter_cannot_make_a_program_of_a_script_run_another_one() {
    let world = World::on_sqlite().await;
    let site = world.site.folder("archive");
    let (packed, proof) = (site.join("packed.tar"), site.join("proof"));
    let body = format!("tar -cf {} /etc/hostname 2>/dev/null; exit 0", packed.display());
    let scripts = [
        Script::new("pack", &body),
        Script::new("pack-any", &body).with("parameters", json!("any")),
    ];
    let (_agent, agent) = world.agent(AgentOptions::with_scripts(scripts)).await;
    world.ask(&agent, "scripts", json!({})).await;
    let action = format!("--checkpoint=1 --checkpoint-action=exec=id>{}", proof.display());
    for script in ["pack", "pack-any"] {
        for field in ["parameters", "secret_parameters"] {
            let data = json!({"script": script, field: {"TAR_OPTIONS": action}});
            let refused = world.api.try_execute(&agent, data.clone()).await;
            refused.expect_problem(422, "invalid_parameters");
        }
    }
    // The server refuses these by the manifest, and the host decides the same without it.
    for (script, hint) in
        [("pack", r#""parameters": [{"name": "GIT_DIR"}]"#), ("pack-any", "GIT_DIR")]
    {
        let data = json!({"script": script, "parameters": {"GIT_DIR": "/tmp"}});
        let refused = world.api.try_execute(&agent, data.clone()).await;
        let refused = refused.expect_problem(422, "invalid_parameters");
        assert!(refused["detail"].as_str().is_some_and(|text| text.contains(hint)), "{refused}");
        let command = world.api.finished(&world.api.execute_anyway(&agent, data).await).await;
        assert_eq!(command["state"], "rejected", "{command}");
        assert!(command["error"].as_str().is_some_and(|text| text.contains(hint)), "{command}");
    }
    assert!(!proof.exists(), "a parameter ran a program");
    let shown = world.api.get(&format!("/api/agents/{agent}/scripts")).await.expect(200);
    assert_eq!(shown["scripts_with_any_parameters"], json!(["pack-any"]));
}

#[tokio::test]
async fn scripts_that_are_not_listed_or_changed_are_rejected_and_never_started() {
    let world = World::on_sqlite().await;
    let wrong = Script::new("changed", "echo ran").with("sha256", json!("0".repeat(64)));
    let right = json!(sha256(b"#!/bin/sh\necho ran"));
    let right = Script::new("pinned", "echo ran").with("sha256", right);
    let (_agent, agent) = world.agent(AgentOptions::with_scripts([wrong, right])).await;
    for (script, state) in
        [("nowhere", "rejected"), ("changed", "rejected"), ("pinned", "succeeded")]
    {
        let id = world.api.execute_anyway(&agent, json!({"script": script})).await;
        let command = world.api.finished(&id).await;
        assert_eq!(command["state"], state, "{command}");
        if state == "rejected" {
            assert!(command["error_code"].is_string(), "{command}");
            assert!(command["error"].is_string(), "{command}");
            assert!(world.api.output(&id).await.is_empty());
        }
    }
}

#[tokio::test]
async fn a_script_whose_path_is_a_link_out_of_the_folder_is_refused() {
    let world = World::on_sqlite().await;
    let outside = world.site.path().join("outside.sh");
    std::fs::write(&outside, "#!/bin/sh\necho outside").expect("write");
    let options = AgentOptions::with_scripts([Script::new("leaves", "echo inside")]);
    let (agent, id) = world.agent(options).await;
    let link = agent.state_dir().join("scripts/leaves.sh");
    std::fs::remove_file(&link).expect("remove");
    std::os::unix::fs::symlink(&outside, &link).expect("link");
    let command = world.api.execute(&id, "leaves", json!({})).await;
    let command = world.api.finished(&command).await;
    assert_eq!(command["state"], "rejected", "{command}");
}

#[tokio::test]
async fn a_manifest_is_read_again_when_it_changes_and_a_broken_one_is_refused_with_its_line() {
    // The agent looks at its manifest with each heartbeat.
    let often = ServerOptions::default().with("MUSTER_HEARTBEAT_INTERVAL_MS", 300);
    let world = World::with(often).await;
    let (agent, id) = world.agent(AgentOptions::with_scripts([Script::new("one", "echo 1")])).await;
    agent.allow(&[Script::new("one", "echo 1"), Script::new("two", "echo 2")]);
    let path = format!("/api/agents/{id}/scripts");
    let listed = async |what: &str| {
        eventually(&format!("the scripts mention {what}"), async || {
            let listed = world.api.get(&path).await.expect(200).to_string();
            listed.contains(what).then_some(listed)
        })
        .await
    };
    listed("\"two\"").await;
    agent.write_manifest("{\n  \"scripts\": [\n    {\"name\": 7}\n  ]\n}");
    let shown = listed("line 3").await;
    assert!(shown.contains("\"two\""), "the last good one stays: {shown}");
    let command = world.api.execute(&id, "two", json!({})).await;
    assert_eq!(world.api.finished(&command).await["state"], "succeeded");
}

#[tokio::test]
async fn a_run_past_its_time_is_ended_with_everything_it_started() {
    let world = World::on_sqlite().await;
    let scripts = [Script::new("late", "sleep 600 & echo begun; sleep 600")];
    let (_agent, agent) = world.agent(AgentOptions::with_scripts(scripts)).await;
    let id = world.api.execute(&agent, "late", json!({"timeout_ms": 700})).await;
    let command = world.api.finished(&id).await;
    assert_eq!(command["state"], "timed_out", "{command}");
    assert_eq!(world.api.output(&id).await, b"begun\n");
}

#[tokio::test]
async fn a_child_that_dies_by_a_signal_failed_by_that_signal() {
    let world = World::on_sqlite().await;
    let scripts = [Script::new("crash", "kill -SEGV $$")];
    let (_agent, agent) = world.agent(AgentOptions::with_scripts(scripts)).await;
    let id = world.api.execute(&agent, "crash", json!({})).await;
    let command = world.api.finished(&id).await;
    assert_eq!((&command["state"], &command["result"]["signal"]), (&json!("failed"), &json!(11)));
    assert!(command["result"].get("exit_code").is_none_or(Value::is_null), "{command}");
}
