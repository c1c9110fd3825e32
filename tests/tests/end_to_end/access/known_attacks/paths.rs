//! Names and paths that try to leave their folder.

use muster_tests::{AgentOptions, FakeAgent, Fixture, JsonFields as _};
use serde_json::json;

use super::{ESCAPES, assert_no_mark, bearer, raw, secrets, status_of};

/// Salt's wheel module read and wrote files outside of its folders by their names.
#[tokio::test]
async fn salt_cve_2020_11652_no_id_or_name_leaves_its_folder() {
    let fixture = Fixture::on_sqlite().await;
    let secrets = secrets(&fixture);
    let description = fixture.api.get("/openapi.json").await.expect(200);
    let key = bearer(fixture.api.key());
    let (_, agent_key) = fixture.api.agent_key(json!({})).await;
    for (path, item) in description["paths"].as_object().expect("paths") {
        if !path.contains('{') || item.get("get").is_none() {
            continue;
        }
        for escape in ESCAPES {
            let target = ["{id}", "{version}", "{platform}", "{program}", "{sha256}"]
                .iter()
                .fold(path.clone(), |path, name| path.replace(name, escape));
            // Agents alone download packages and pushed files.
            let is_for_agents = ["/api/agents/packages/", "/api/agents/files/"]
                .iter()
                .any(|start| path.starts_with(start));
            let key = if is_for_agents { bearer(&agent_key) } else { key.clone() };
            let answer = raw(&fixture, &format!("GET {target}"), &key).await;
            assert!(matches!(status_of(&answer), "400" | "404"), "{target}: {answer}");
            assert!(!secrets.iter().any(|secret| answer.contains(secret)), "{target}: {answer}");
        }
    }
    // Names in bodies become text, never paths.
    let (_, agent_key) = fixture.api.agent_key(json!({})).await;
    let host = json!({"hostname": "../../../tmp/x", "machine_id": "../../MARK"});
    let (_agent, registered) =
        FakeAgent::registered_full(&fixture.server.address(), &agent_key, host).await;
    let id = registered.text("agent_id");
    let before = std::fs::read_dir(fixture.server.data_dir()).expect("read").count();
    for script in ["../../../bin/sh", "..sh"] {
        let refused = fixture.api.try_execute(id, json!({"script": script})).await;
        assert_eq!(refused.status, 422, "{}", refused.json());
    }
    let command = fixture.api.execute_anyway(id, json!({"script": "-x.sh"})).await;
    let output = format!("/api/executions/{command}/output?download=1");
    let name = fixture.api.get(&output).await.header("content-disposition").to_owned();
    assert!(!name.contains('/') && !name.contains(".."), "{name}");
    assert_eq!(std::fs::read_dir(fixture.server.data_dir()).expect("read").count(), before);
    assert_no_mark(&fixture);
}

/// Nomad read and wrote files of the host through paths of artifacts and templates.
#[tokio::test]
async fn nomad_path_traversal_no_program_output_or_script_is_taken_from_outside_its_folder() {
    let fixture = Fixture::on_sqlite().await;
    let secrets = secrets(&fixture);
    for escape in ESCAPES {
        for target in [
            format!("/install/{escape}"),
            format!("/install/linux-x86_64/{escape}"),
            format!("/install/{escape}/SHA256SUMS"),
            format!("/install/releases/{escape}/release.json"),
            format!("/install/releases/0.1.0/{escape}/muster-agent"),
            format!("/install/releases/0.1.0/linux-x86_64/{escape}"),
            format!("/docs/{escape}"),
        ] {
            let answer = raw(&fixture, &format!("GET {target}"), "").await;
            let is_refused = matches!(status_of(&answer), "400" | "404");
            assert!(is_refused, "{target}: {answer}");
            assert!(!secrets.iter().any(|secret| answer.contains(secret)), "{target}: {answer}");
        }
    }
    // On the host: a manifest can't name a file outside, nor a link that leads there.
    let (agent, id) = fixture.agent(AgentOptions::default()).await;
    let outside = fixture.test_dir.path().join("outside.sh");
    std::fs::write(&outside, "#!/bin/sh\ntouch MARK\n").expect("write");
    let scripts = agent.state_dir().join("scripts");
    std::fs::create_dir_all(&scripts).expect("make a folder");
    std::os::unix::fs::symlink(&outside, scripts.join("link.sh")).expect("link");
    for path in ["../outside.sh", "link.sh", outside.to_str().expect("text"), "x/../../outside.sh"]
    {
        let manifest = json!({"scripts": [{"name": "x", "path": path}]});
        agent.write_manifest(&manifest.to_string());
        let run = fixture.api.execute_anyway(&id, json!({"script": "x"})).await;
        let ended = fixture.api.finished(&run).await;
        assert_ne!(ended["state"], "succeeded", "{path}: {ended}");
    }
    assert_no_mark(&fixture);
}
