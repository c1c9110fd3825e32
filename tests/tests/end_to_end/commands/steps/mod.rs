//! Executions of several steps.

mod progress;
mod rules;
mod versions;

use muster_tests::{
    ALL, Agent, AgentOptions, Api, FakeAgent, Fixture, JsonFields as _, Script, eventually_shown,
    on_both_databases, write_policy,
};
use serde_json::{Value, json};

on_both_databases!(
    steps_run_in_order_and_are_shown_apart,
    a_request_with_invalid_steps_is_refused_with_the_step,
    scripts_of_the_library_are_pinned_and_in_use_as_steps,
    an_agent_that_runs_no_steps_gets_none,
    secrets_of_steps_are_shown_nowhere,
    steps_wait_for_the_lock_of_their_job,
);

/// An agent with this policy and two scripts.
async fn agent(fixture: &Fixture, policy: Value) -> (Agent, String) {
    agent_named(fixture, "one", policy).await
}

async fn agent_named(fixture: &Fixture, name: &str, policy: Value) -> (Agent, String) {
    let scripts = [
        Script::new("deploy", "echo deployed $WHAT").taking(["WHAT"]),
        Script::new("other", "echo other; exit 3"),
    ];
    let options = AgentOptions { name: name.into(), ..AgentOptions::with_scripts(scripts) };
    write_policy(&fixture.test_dir.folder(&options.name), &policy.to_string());
    fixture.agent(options).await
}

fn shell() -> Value {
    json!({"allow": "shell"})
}

async fn execution(api: &Api, id: &str) -> Value {
    api.finished(id).await;
    api.get(&format!("/api/executions/{id}")).await.expect(200)
}

async fn run(fixture: &Fixture, agent: &str, data: Value) -> Value {
    let made = fixture.api.try_execute(agent, data).await.expect(202);
    execution(&fixture.api, made.id()).await
}

fn states(execution: &Value) -> Vec<&str> {
    let steps = execution["steps"].as_array().expect("steps");
    steps.iter().map(|step| step["state"].as_str().unwrap_or("-")).collect()
}

async fn made(api: &Api, fields: Value) -> (String, Api) {
    let made = api.post("/api/keys", fields).await.expect(201);
    (made.id().to_owned(), api.with_key(made.text("key")))
}

async fn steps_run_in_order_and_are_shown_apart(fixture: Fixture) {
    let (_agent, id) = agent(&fixture, shell()).await;
    let steps = json!([
        {"name": "First", "script": "deploy", "parameters": {"WHAT": "it"}},
        {"argv": ["sh", "-c", "echo two; exit 4"], "on_failure": "continue"},
        {"script": "other", "timeout_ms": 60_000},
        {"script": "deploy"},
    ]);
    let shown = run(&fixture, &id, json!({ "steps": steps })).await;
    assert_eq!(states(&shown), ["succeeded", "failed", "failed", "skipped"], "{shown}");
    assert_eq!((&shown["state"], &shown["exit_code"]), (&json!("failed"), &json!(4)));
    assert_eq!(shown["error_code"], "step_failed");
    assert_eq!(shown["script"], "steps:deploy,(argv),other");
    let first = &shown["steps"][0];
    assert_eq!((&first["name"], &first["parameters"]), (&json!("First"), &json!({"WHAT": "it"})));
    assert!(first["started_at"].is_string() && first["duration_ms"].is_u64(), "{first}");
    let output = fixture.api.output(shown.id()).await;
    let part = |step: &Value| {
        let offset = |name: &str| step[name].as_u64().expect("an offset") as usize;
        let bytes = &output[offset("output_from_bytes")..offset("output_to_bytes")];
        String::from_utf8_lossy(bytes).into_owned()
    };
    let parts: Vec<_> = shown["steps"].as_array().expect("steps").iter().map(part).collect();
    assert_eq!(parts, ["deployed it\n", "two\n", "other\n", ""]);

    // The same work as a job, by the command line from a file, and again.
    let cli = fixture.cli().await;
    let file = fixture.test_dir.path().join("release.toml");
    let text = "[[steps]]\nname = 'Say'\nargv = ['echo', 'hi']\ntimeout = '1m'\n[[steps]]\nscript = 'deploy'\n";
    std::fs::write(&file, text).expect("written");
    let file = file.to_str().expect("text");
    let said = cli.run(&["run", &id, "--steps", file]).await.expect(0);
    assert_eq!(said, "hi\ndeployed\n");
    cli.run(&["run", "--on", &format!("id:{id}"), "--steps", file]).await.expect(0);
    cli.run(&["run", &id, "deploy", "--steps", file]).await.expect(2);
    let jobs = fixture.api.get("/api/jobs").await.expect(200);
    let job = &jobs["items"][0];
    assert_eq!((&job["steps"][0]["name"], &job["state"]), (&json!("Say"), &json!("succeeded")));
    let retry = format!("/api/jobs/{}/retry", job.id());
    let again = fixture.api.post(&retry, json!({"executions": "all"})).await.expect(202);
    assert_eq!(again["steps"], job["steps"], "{again}");
    let path = format!("/api/commands/{}/retry", shown.id());
    let retried = fixture.api.post(&path, json!({})).await.expect(202);
    assert_eq!(states(&execution(&fixture.api, retried.id()).await), states(&shown));
    let table = cli.run(&["executions", "show", shown.id()]).await.expect(0);
    assert!(
        table.contains("STEP") && table.contains("First") && table.contains("skipped"),
        "{table}"
    );
    // The receipt is about each step.
    let said = cli.run(&["verify", shown.id()]).await.expect(0);
    assert!(said.contains("verified: agent"), "{said}");
    let audit = fixture.api.get("/api/audit?limit=500").await.expect(200).to_string();
    assert!(audit.contains(r#""argv":["sh","-c","echo two; exit 4"]"#), "{audit}");
    assert!(audit.contains(r#"{"script":"other"}"#) && !audit.contains("\"WHAT\""), "{audit}");
    // A changed result of one step is found.
    let server = &fixture.server;
    server.query(
        "UPDATE command_reports SET data = replace(data, '\"state\":\"skipped\"', '\"state\":\"succeeded\"')",
    );
    let found = cli.run(&["verify", shown.id()]).await;
    found.expect(1);
    assert!(found.stderr.contains("`steps`"), "{}", found.stderr);
}

async fn a_request_with_invalid_steps_is_refused_with_the_step(fixture: Fixture) {
    let (_agent, id) = agent(&fixture, shell()).await;
    let good = || json!({"script": "deploy"});
    for (data, code, part) in [
        (json!({"steps": []}), "invalid_field", "must be 1 to 20"),
        (json!({"steps": vec![good(); 21]}), "invalid_field", "must be 1 to 20"),
        (json!({"steps": [good()], "script": "deploy"}), "invalid_field", "exclude each other"),
        (json!({"steps": [good()], "argv": ["true"]}), "invalid_field", "exclude each other"),
        (json!({"steps": [good()], "parameters": {"A": "1"}}), "invalid_field", "exclude"),
        (json!({"steps": [good()], "stdin": "aGk="}), "invalid_field", "exclude each other"),
        (json!({"steps": [good(), {}]}), "invalid_field", "steps[1].script"),
        (json!({"steps": [good(), {"script": "a/b"}]}), "invalid_field", "steps[1].script"),
        (json!({"steps": [{"script": "package:a"}]}), "invalid_field", "can't be a package"),
        (json!({"steps": [{"argv": ["./a"]}]}), "invalid_argv", "program"),
        (json!({"steps": [{"script": "deploy", "name": "a\u{1b}[2J"}]}), "invalid_field", "name"),
        (json!({"steps": [{"script": "deploy", "timeout_ms": 0}]}), "invalid_field", "timeout_ms"),
        (json!({"steps": [{"script": "deploy", "odd": 0}]}), "invalid_field", "odd"),
        (json!({"steps": [{"script": "deploy", "steps": []}]}), "invalid_field", "steps"),
        (json!({"steps": [{"script": "deploy", "secrets": ["A"]}]}), "invalid_field", "secrets"),
        (json!({"steps": [good()], "secret_parameters": {"A": "1"}}), "invalid_field", "no step"),
        (json!({"steps": [good(), {"script": "none"}]}), "unknown_script", "step 2"),
        (
            json!({"steps": [good(), {"script": "other", "parameters": {"A": "1"}}]}),
            "invalid_parameters",
            "step 2",
        ),
    ] {
        let refused = fixture.api.try_execute(&id, data.clone()).await;
        let problem = refused.expect_problem(422, code);
        assert!(problem.text("detail").contains(part), "{data}: {problem}");
        let mut job = data.clone();
        job["target"] = json!({"ids": [id]});
        let problem = fixture.api.post("/api/jobs", job.clone()).await.expect_problem(422, code);
        assert!(problem.text("detail").contains(part), "{job}: {problem}");
        if code == "invalid_field" {
            let schedule = json!({"name": "s", "rule": {"every_ms": 3_600_000}, "job": job});
            let refused = fixture.api.post("/api/schedules", schedule).await;
            assert_eq!(refused.status, 422, "{job}");
        }
    }
}

async fn scripts_of_the_library_are_pinned_and_in_use_as_steps(fixture: Fixture) {
    let (_agent, id) = agent(&fixture, json!({"allow": "library"})).await;
    let script = json!({"name": "report", "body": "echo report $WHO\n", "interpreter": "sh",
        "parameters": [{"name": "WHO", "required": true}]});
    let saved = fixture.api.post("/api/scripts", script).await.expect(201);
    let report = |who: Value| json!({"script": "library:report", "parameters": who});
    let steps =
        json!([report(json!({"WHO": "a"})), {"script": "deploy"}, report(json!({"WHO": "b"}))]);
    let ran = run(&fixture, &id, json!({ "steps": steps })).await;
    assert_eq!(ran["state"], "succeeded", "{ran}");
    assert_eq!(fixture.api.output(ran.id()).await, b"report a\ndeployed\nreport b\n");
    assert_eq!(ran["script"], "steps:library:report,deploy");
    let missing = fixture.api.try_execute(&id, json!({"steps": [report(json!({}))]})).await;
    missing.expect_problem(422, "invalid_parameters");
    let gone = json!({"steps": [{"script": "library:gone"}]});
    fixture.api.try_execute(&id, gone).await.expect_problem(422, "unknown_library_script");
    // A schedule is checked when it is saved, and keeps its scripts from being deleted.
    let schedule = |steps: Value| {
        json!({"name": "nightly", "rule": {"every_ms": 3_600_000},
            "job": {"steps": steps, "target": {"ids": [id]}}})
    };
    let bad = schedule(json!([{"script": "deploy"}, report(json!({}))]));
    fixture.api.post("/api/schedules", bad).await.expect_problem(422, "invalid_parameters");
    let kept = schedule(steps);
    let kept = fixture.api.post("/api/schedules", kept).await.expect(201);
    let path = format!("/api/scripts/{}", saved.id());
    fixture.api.delete(&path).await.expect_problem(409, "script_in_use");
    let fire = format!("/api/schedules/{}/run", kept.id());
    let fired = fixture.api.post(&fire, json!({})).await;
    assert!(fired.status < 300, "{}", fired.json());
    eventually_shown("the job of the schedule ends", async || {
        let jobs = fixture.api.get("/api/jobs").await.expect(200);
        if jobs["items"][0]["state"] == "succeeded" { Ok(()) } else { Err(jobs) }
    })
    .await;
    fixture.api.delete(&format!("/api/schedules/{}", kept.id())).await.expect(204);
    fixture.api.delete(&path).await.expect(204);
}

async fn an_agent_that_runs_no_steps_gets_none(fixture: Fixture) {
    let fields = json!({"permissions": ALL, "max_agents": 1});
    let (agent_key_id, agent_key) = fixture.api.agent_key(fields).await;
    let address = fixture.server.address();
    let old = json!({"policy": "shell"});
    let (_old, _) = FakeAgent::registered_full(&address, &agent_key, old).await;
    let id = fixture.online(&agent_key_id).await.id().to_owned();
    let data = json!({"steps": [{"argv": ["true"]}]});
    let refused = fixture.api.try_execute(&id, data.clone()).await;
    refused.expect_problem(409, "steps_unsupported");
    let sent = fixture.api.execute_anyway(&id, data).await;
    let ended = fixture.api.finished(&sent).await;
    let seen = (&ended["state"], &ended["error_code"], &ended["delivered_at"]);
    assert_eq!(seen, (&json!("rejected"), &json!("steps_undeliverable"), &Value::Null));
}

async fn secrets_of_steps_are_shown_nowhere(fixture: Fixture) {
    const SECRET: &str = "hunter2-hunter2";
    let (_agent, id) = agent(&fixture, shell()).await;
    let print = json!(["sh", "-c", "echo [$TOKEN]; echo $TOKEN > \"$TMPDIR/kept\" || true"]);
    let data = json!({
        "steps": [
            {"argv": print, "secrets": ["TOKEN"]},
            {"argv": ["sh", "-c", "echo [$TOKEN] hunter2-hunter2"]},
        ],
        "secret_parameters": {"TOKEN": SECRET},
    });
    let ran = run(&fixture, &id, data.clone()).await;
    let output = String::from_utf8(fixture.api.output(ran.id()).await).expect("text");
    assert!(output.contains("[***]\n") && output.ends_with("[] ***\n"), "{output}");
    assert_eq!(ran["steps"][0]["secrets"], json!(["TOKEN"]));
    let mut job = data;
    job["steps"][1]["argv"] = json!(["true"]);
    job["target"] = json!({"ids": [id]});
    let job = fixture.api.post("/api/jobs", job).await.expect(202);
    assert_eq!(job["secret_names"], json!(["TOKEN"]));
    for path in ["/api/jobs", "/api/audit?limit=500"] {
        let shown = fixture.api.get(path).await.expect(200).to_string();
        assert!(!shown.contains(SECRET) || path != "/api/jobs", "{path}: {shown}");
    }
    let retry = format!("/api/commands/{}/retry", ran.id());
    fixture.api.post(&retry, json!({})).await.expect_problem(409, "secrets_gone");
    // A value in a step itself is refused, and not repeated.
    let inner = json!({"steps": [{"argv": ["true"], "secret_parameters": {"TOKEN": SECRET}}]});
    let problem = fixture.api.try_execute(&id, inner).await.expect_problem(422, "invalid_field");
    assert!(!problem.to_string().contains(SECRET), "{problem}");
}

async fn steps_wait_for_the_lock_of_their_job(fixture: Fixture) {
    let (agent, id) = agent(&fixture, shell()).await;
    let gate = agent.state_dir().join("gate");
    let wait = format!("echo on; until [ -e {} ]; do sleep 0.02; done", gate.display());
    let job = |steps: Value| json!({"steps": steps, "lock": "db", "target": {"ids": [id]}});
    let first = job(json!([{"argv": ["sh", "-c", wait]}, {"argv": ["true"]}]));
    fixture.api.post("/api/jobs", first).await.expect(202);
    let second = fixture.api.post("/api/jobs", job(json!([{"argv": ["true"]}]))).await.expect(202);
    let list = format!("/api/jobs/{}/executions", second.id());
    let waiting = fixture.api.get(&list).await.expect(200);
    assert_eq!(waiting["items"][0]["state"], "queued", "{waiting}");
    std::fs::write(&gate, "").expect("written");
    fixture.api.finished(waiting["items"][0].id()).await;
}
