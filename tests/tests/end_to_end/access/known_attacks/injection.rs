//! Texts that try to become code, markup or terminal control.

use muster_tests::{
    Agent, AgentOptions, Cli, FakeAgent, Fixture, JsonFields as _, Script, write_policy,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{HOSTILE, assert_no_mark};

/// An agent with a script that prints its parameter and its arguments.
async fn printing_agent(fixture: &Fixture) -> (Agent, String) {
    let body = "printf '%s' \"$VALUE\"; for word in \"$@\"; do printf '[%s]' \"$word\"; done";
    let options = AgentOptions::with_scripts([Script::new("print", body).taking(["VALUE"])]);
    write_policy(&fixture.test_dir.folder("agent"), r#"{"allow": "shell"}"#);
    fixture.agent(options).await
}

/// Salt's API passed fields of a request to a shell.
#[tokio::test]
async fn salt_cve_2020_16846_no_field_of_a_request_reaches_a_shell() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, id) = printing_agent(&fixture).await;
    // Words of an ad-hoc command, with the shell's help nowhere.
    let data = json!({"argv": ["printf", "%s", HOSTILE]});
    let run = fixture.api.try_execute(&id, data).await.expect(202).id().to_owned();
    assert_eq!(fixture.api.finished(&run).await["state"], "succeeded");
    assert_eq!(fixture.api.output(&run).await, HOSTILE.as_bytes());
    // The name of a script, of a parameter, of an agent, of a key, of a tag, of a target.
    let path = format!("/api/agents/{id}");
    for (method, path, body) in [
        (Method::POST, format!("{path}/command"), json!({"command": HOSTILE, "data": {}})),
        (
            Method::POST,
            format!("{path}/command"),
            json!({"command": "execute", "data": {"script": HOSTILE}}),
        ),
        (
            Method::POST,
            format!("{path}/command"),
            json!({"command": "execute", "data": {"script": "print", "parameters": {HOSTILE: "x"}}}),
        ),
        (Method::PATCH, path.clone(), json!({"tags": [HOSTILE]})),
        (Method::POST, "/api/agents/keys".into(), json!({"name": "k", "tags": [HOSTILE]})),
        (Method::POST, "/api/targets/preview".into(), json!({"expression": HOSTILE})),
        (
            Method::POST,
            "/api/jobs".into(),
            json!({"script": "print", "target": {"ids": [id]}, "webhook": {"url": HOSTILE}}),
        ),
        (Method::POST, "/api/releases".into(), json!({"manifest": HOSTILE, "signature": HOSTILE})),
    ] {
        let answer = fixture.api.send(method, &path, Some(body)).await;
        assert!((400..500).contains(&answer.status), "{path}: {}", answer.json());
    }
    assert_no_mark(&fixture);
}

/// MeshCentral showed what agents reported as markup.
#[tokio::test]
async fn meshcentral_stored_xss_no_text_of_a_host_is_markup_or_a_terminal_escape() {
    let fixture = Fixture::on_sqlite().await;
    let name = "<script>alert(1)</script>";
    let (key_id, key) = fixture.api.agent_key(json!({"name": name})).await;
    let host = json!({"hostname": HOSTILE, "os": HOSTILE, "arch": HOSTILE, "version": HOSTILE,
        "ip": HOSTILE, "policy": HOSTILE});
    let address = fixture.server.address();
    let (mut agent, registered) = FakeAgent::registered_full(&address, &key, host).await;
    let manifest = json!({"scripts": [{"name": "hi", "path": "hi.sh", "description": HOSTILE}]});
    agent.send(json!({"type": "manifest", "manifest": manifest, "error": HOSTILE})).await;
    let id = registered.text("agent_id").to_owned();
    let command = fixture.api.execute_anyway(&id, json!({"script": "hi"})).await;
    agent.expect("command").await;
    agent.send(json!({"type": "accepted", "command_id": command, "acceptance_count": 1})).await;
    agent
        .send(json!({"type": "response", "command_id": command, "success": false,
            "error": HOSTILE, "error_code": HOSTILE, "data": {"exit_code": 1, HOSTILE: HOSTILE}}))
        .await;
    fixture.api.finished(&command).await;
    fixture.online(&key_id).await;
    for path in [
        "/api/agents".to_owned(),
        format!("/api/agents/{id}"),
        format!("/api/agents/{id}/events"),
        format!("/api/agents/{id}/scripts"),
        format!("/api/commands/{command}"),
        "/api/agents/keys".to_owned(),
        "/api/audit".to_owned(),
        format!("/api/agents/resolve?name={}", "%3Cscript%3Ealert(1)%3C%2Fscript%3E"),
    ] {
        let answer = fixture.api.get(&path).await;
        let kind = answer.header("content-type");
        assert!(matches!(kind, "application/json" | "application/problem+json"), "{path}: {kind}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        let policy = answer.header("content-security-policy").to_owned();
        assert!(policy.contains("default-src 'none'"), "{path}: {policy}");
        assert!(!answer.bytes.contains(&0x1b), "{path} contains an escape");
    }
    // Pages that browsers show contain nothing of a host, and no script in themselves.
    for path in ["/install", "/docs/"] {
        let page = fixture.api.get(path).await;
        let text = String::from_utf8_lossy(&page.bytes).into_owned();
        assert!(page.status == 200 && !text.contains("alert(1)"), "{path}");
        assert!(!page.header("content-security-policy").contains("script-src 'unsafe"), "{path}");
    }
    let cli = Cli::new(&fixture.test_dir);
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, fixture.api.key()).await.expect(0);
    for words in [
        &["agents", "list"][..],
        &["agents", "show", &id],
        &["agents", "scripts", &id],
        &["commands", "list"],
        &["commands", "show", &command],
        &["executions", "list"],
        &["keys", "list"],
    ] {
        let said = cli.run_on_a_terminal(words).await;
        let text = [said.stdout.as_slice(), said.stderr.as_bytes()].concat();
        let text = String::from_utf8_lossy(&text);
        // The command line's own colours are escapes that end with `m`.
        for escape in text.split('\u{1b}').skip(1) {
            let rest = escape
                .strip_prefix('[')
                .map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';'));
            assert!(rest.is_some_and(|rest| rest.starts_with('m')), "{words:?}: {text:?}");
        }
        assert!(!text.contains('\u{7}'), "{words:?}: {text:?}");
    }
}

/// Rundeck put values of options into commands, logs and documents.
#[tokio::test]
async fn rundeck_injection_a_parameter_is_a_value_wherever_it_goes() {
    let fixture = Fixture::on_sqlite().await;
    let (agent, id) = printing_agent(&fixture).await;
    let data = json!({"parameters": {"VALUE": HOSTILE}});
    let run = fixture.api.execute(&id, "print", data).await;
    assert_eq!(fixture.api.finished(&run).await["state"], "succeeded");
    // As it was sent, once, and no word of it as an argument.
    assert_eq!(fixture.api.output(&run).await, HOSTILE.as_bytes());
    let stored = fixture.api.command(&run).await;
    assert_eq!(stored["data"]["parameters"]["VALUE"], HOSTILE, "{stored}");
    for log in [fixture.server.log(), agent.log()] {
        assert!(!log.contains("touch MARK"), "a value is in a log: {log}");
    }
    let log = fixture.api.get("/api/audit").await.expect(200).to_string();
    assert!(!log.contains("touch MARK"), "a value is in the audit log: {log}");
    // What programs read instead of people stays one document.
    let cli = Cli::new(&fixture.test_dir);
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, fixture.api.key()).await.expect(0);
    let shown: Value = cli.run(&["commands", "show", &run, "--json"]).await.json();
    assert_eq!(shown["data"]["parameters"]["VALUE"], HOSTILE);
    // Variables that make programs run others are no parameters.
    for name in ["LD_PRELOAD", "BASH_ENV", "PATH", "IFS", "A=B", "TAR_OPTIONS", "x;y", ""] {
        let data = json!({"script": "print", "parameters": {name: "x"}});
        let refused = fixture.api.try_execute(&id, data).await;
        assert_eq!(refused.status, 422, "{name}: {}", refused.json());
    }
    assert_no_mark(&fixture);
}
