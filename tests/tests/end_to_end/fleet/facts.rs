//! Facts that hosts report about themselves: built-in ones, those of `facts.d`, and targets by them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use muster_tests::{
    AgentOptions, Cli, FakeAgent, Fixture, JsonFields as _, Script, agent_program, eventually,
    eventually_shown, full_registration, on_both_databases,
};
use serde_json::{Value, json};

on_both_databases!(
    broken_fact_is_an_error_of_its_own_and_leaves_no_process,
    facts_arrive_over_http_too,
    facts_of_a_host_arrive_change_without_restart_and_choose_agents,
    hostile_facts_are_bounded_and_cleaned_and_the_session_continues,
);

/// Writes a file into `facts.d`.
fn write(state: &Path, name: &str, mode: u32, text: &str) {
    let path = state.join("facts.d").join(name);
    // A program must never be open for writing when it is started.
    let new = state.join("new");
    fs::write(&new, text).expect("written");
    fs::set_permissions(&new, fs::Permissions::from_mode(mode)).expect("mode");
    fs::rename(new, path).expect("renamed");
}

/// Waits until what the server knows of an agent is as expected.
async fn reported(
    fixture: &Fixture,
    id: &str,
    what: &str,
    is_it: impl Fn(&Value) -> bool,
) -> Value {
    let path = format!("/api/agents/{id}/facts");
    eventually_shown(what, async || {
        let known = fixture.api.get(&path).await.expect(200);
        if is_it(&known) { Ok(known) } else { Err(known) }
    })
    .await
}

async fn matched(fixture: &Fixture, expression: &str) -> Vec<String> {
    let target = json!({"expression": expression});
    let preview = fixture.api.post("/api/targets/preview", target).await.expect(200);
    preview.list("agents").iter().map(|agent| agent.text("name").to_owned()).collect()
}

async fn facts_of_a_host_arrive_change_without_restart_and_choose_agents(fixture: Fixture) {
    let script = Script::new("login", "true").taking(["TOKEN"]);
    let mut options = AgentOptions::with_scripts([script]);
    options = options.with("MUSTER_AGENT_NAME", "db-1");
    let (agent, id) = fixture.agent(options).await;
    let state = agent.state_dir().to_owned();
    let known = reported(&fixture, &id, "built-in facts arrive", |known| {
        known["facts"]["kernel"].is_string()
    })
    .await;
    for name in ["architecture", "boot_time", "container", "cpus", "memory_bytes"] {
        assert!(known["facts"][name].is_string(), "{name}: {known}");
    }
    assert_eq!(known["errors"], json!([]), "{known}");
    assert!(known["changed_at"].is_string(), "{known}");

    write(&state, "place.txt", 0o600, "rack = A 7\n# none\nzone=eu\n");
    write(&state, "app.json", 0o600, r#"{"app":{"version":"1.2","ports":[80,443]}}"#);
    write(&state, "role", 0o700, "#!/bin/sh\necho '{\"role\":\"db\"}'\n");
    let known = reported(&fixture, &id, "custom facts arrive without a restart", |known| {
        known["facts"]["role"] == "db"
    })
    .await;
    assert_eq!(known["facts"]["rack"], "A 7", "{known}");
    assert_eq!(known["facts"]["app.version"], "1.2", "{known}");
    assert_eq!(known["facts"]["app.ports"], json!(["80", "443"]), "{known}");
    for (expression, is_it) in [
        ("fact:role=db & fact:zone!=us", true),
        ("fact:app.ports=443 & fact:rack=\"a 7\"", true),
        ("fact:role!=db", false),
        ("fact:role=web", false),
    ] {
        let names = matched(&fixture, expression).await;
        assert_eq!(names.contains(&"db-1".to_owned()), is_it, "{expression}: {names:?}");
    }
    let page = fixture.api.get("/api/agents?expression=fact:role%3Ddb&facts=role,none").await;
    let page = page.expect(200);
    assert_eq!(page["items"][0]["facts"], json!({"role": "db"}), "{page}");
    let names = fixture.api.get("/api/facts").await.expect(200);
    let is_role = |item: &Value| *item == json!({"name": "role", "agent_count": 1});
    assert!(names.list("items").iter().any(is_role), "{names}");

    // Work reaches the agent by its facts, and secrets do not.
    let job = |with: Value| {
        let mut job = json!({"script": "login", "target": {"expression": "fact:role=db"}});
        if let (Some(job), Some(with)) = (job.as_object_mut(), with.as_object()) {
            job.extend(with.clone());
        }
        job
    };
    let started = fixture.api.post("/api/jobs", job(json!({}))).await.expect(202);
    assert_eq!(started["counts"].as_object().map(|it| it.len()), Some(1), "{started}");
    let secret = job(json!({"secret_parameters": {"TOKEN": "hunter2-hunter2"}}));
    let refused = fixture.api.post("/api/jobs", secret).await;
    refused.expect_problem(422, "secrets_need_ids_or_tags");
    // A key can't be limited by what hosts report, so no host can move itself into its limits.
    let limited = json!({"name": "limited", "role": "member", "target": "fact:role=db"});
    fixture.api.post("/api/keys", limited).await.expect_problem(422, "invalid_field");

    let cli = Cli::new(&fixture.test_dir);
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, fixture.api.key()).await.expect(0);
    let shown = cli.run(&["agents", "facts", "db-1"]).await.expect(0);
    assert!(shown.contains("app.ports") && shown.contains("80, 443"), "{shown}");
    let local = agent_program(&state, &["facts"], &[]).await.expect(0);
    assert!(local.contains("role = db\n"), "{local}");

    write(&state, "role", 0o700, "#!/bin/sh\necho '{\"role\":\"web\"}'\n");
    reported(&fixture, &id, "a changed fact arrives", |known| known["facts"]["role"] == "web")
        .await;
    assert!(matched(&fixture, "fact:role=db").await.is_empty());
    agent.write_policy(r#"{"withheld_facts": ["app", "boot_time"]}"#);
    let known = reported(&fixture, &id, "withheld facts are gone", |known| {
        known["facts"]["app.version"].is_null()
    })
    .await;
    assert!(known["facts"]["app.ports"].is_null() && known["facts"]["boot_time"].is_null());
    assert_eq!(known["facts"]["role"], "web", "{known}");
    agent.write_policy(r#"{"withheld_facts": ["*"]}"#);
    reported(&fixture, &id, "nothing is reported", |known| known["facts"] == json!({})).await;
}

async fn broken_fact_is_an_error_of_its_own_and_leaves_no_process(fixture: Fixture) {
    let (mut agent, id) = fixture.agent(AgentOptions::named("web-1")).await;
    let state = agent.state_dir().to_owned();
    reported(&fixture, &id, "built-in facts arrive", |known| known["facts"]["kernel"].is_string())
        .await;
    // What it leaves has the path of the program in its command line, so that the harness finds it.
    let hangs =
        "#!/bin/sh\nsetsid sh -c 'sleep 600; :' \"$0\" &\n: >>\"${0%/*}/.hangs\"\nsleep 600\n";
    write(&state, "b-much", 0o700, "#!/bin/sh\nyes '{}'\n");
    write(&state, "c-invalid", 0o700, "#!/bin/sh\necho '{'\n");
    write(&state, "d-fails", 0o700, "#!/bin/sh\necho '{}'; exit 3\n");
    write(&state, "e-open", 0o722, "#!/bin/sh\necho '{\"open\":1}'\n");
    write(&state, "f-kind", 0o600, "x=1\n");
    write(&state, "g.txt", 0o600, "kernel=mine\n");
    let shows = "#!/bin/sh\nprintf '{\"good\":\"%s\"}' \"${MUSTER_API_KEY:-clean}\"\n";
    write(&state, "z-good", 0o700, shows);
    std::os::unix::fs::symlink("/etc/passwd", state.join("facts.d/h.txt")).expect("linked");
    // The last one, because it makes a collection long.
    write(&state, "a-hangs", 0o700, hangs);
    let known = reported(&fixture, &id, "all files were tried", |known| {
        known["errors"].as_array().is_some_and(|errors| errors.len() == 8)
    })
    .await;
    assert_eq!(known["facts"]["good"], "clean", "{known}");
    assert!(known["facts"]["open"].is_null() && known["facts"]["x"].is_null(), "{known}");
    assert_ne!(known["facts"]["kernel"], "mine", "{known}");
    let errors = known["errors"].to_string();
    for said in [
        "longer than 10 s",
        "more than 65536 bytes",
        "not valid JSON",
        "exit status: 3",
        "chmod go-w",
        "neither in .json nor in .txt",
        "`kernel` is reported already",
        "links and folders are not followed",
    ] {
        assert!(errors.contains(said), "{said}: {errors}");
    }
    let explained = agent_program(&state, &["explain"], &[]).await.expect(0);
    assert!(explained.contains("z-good") && explained.contains("not used"), "{explained}");
    // An agent that is killed takes its collector and the hanging program with it: the harness fails if a
    // process is left, also one that left its group.
    let hanging = state.join("facts.d/.hangs");
    fs::remove_file(&hanging).expect("it was run");
    write(&state, "z-good", 0o700, "#!/bin/sh\necho '{}'\n");
    eventually("it is run again", async || hanging.exists().then_some(())).await;
    agent.kill_9();
}

async fn hostile_facts_are_bounded_and_cleaned_and_the_session_continues(fixture: Fixture) {
    let (key_id, key) = fixture.api.agent_key(json!({})).await;
    let data = json!({"hostname": "evil", "capabilities": ["facts"]});
    let address = fixture.server.address();
    let (mut agent, registered) =
        FakeAgent::registered_full(&address, &key, full_registration(data)).await;
    assert_eq!(registered["accepts_facts"], true, "{registered}");
    let id = fixture.online(&key_id).await.id().to_owned();
    let many: serde_json::Map<String, Value> =
        (0..5_000).map(|number| (format!("f{number}"), json!("x".repeat(100)))).collect();
    agent.send(json!({"type": "facts", "facts": many})).await;
    let known = reported(&fixture, &id, "some of many are kept", |known| {
        known["facts"].as_object().is_some_and(|facts| !facts.is_empty())
    })
    .await;
    assert_eq!(known["facts"].as_object().map(serde_json::Map::len), Some(256), "{known}");
    let error = known["errors"][0].text("error").to_owned();
    assert!(error.contains("left out 4744 facts"), "{error}");
    let odd = json!({"<img>": "x", "a\u{202e}b": "x", "n": 7, "long": "x".repeat(2_000)});
    agent.send(json!({"type": "facts", "facts": odd})).await;
    // A number is no text: the frame is refused, and the session continues.
    agent
        .send(json!({"type": "facts", "facts": {"bad name": "x", "long": "x".repeat(2_000),
            "ok": "a\u{1b}[2J\u{202e}b", "list": ["1", "\u{0}2"]},
            "errors": [{"source": "\u{7}s", "error": "\u{200b}e"}]}))
        .await;
    let known =
        reported(&fixture, &id, "the rest is kept", |known| known["facts"]["ok"].is_string()).await;
    assert_eq!(known["facts"], json!({"ok": "a[2Jb", "list": ["1", "2"]}), "{known}");
    assert_eq!(known["errors"][1], json!({"source": "s", "error": "e"}), "{known}");
    assert_eq!(fixture.api.get(&format!("/api/agents/{id}")).await.expect(200)["status"], "online");
}

async fn facts_arrive_over_http_too(fixture: Fixture) {
    let options = AgentOptions::named("web-1").with("MUSTER_HTTP_FALLBACK", "only");
    let (_agent, id) = fixture.agent(options).await;
    reported(&fixture, &id, "facts arrive", |known| known["facts"]["kernel"].is_string()).await;
}
