//! The history of executions in the API and on the command line.

use muster_tests::{AgentOptions, Cli, Fixture, JsonFields as _, Script, on_both_databases};
use serde_json::{Value, json};

on_both_databases!(
    execution_shows_its_request_and_its_result,
    execution_filters_return_exactly_the_matches,
    execution_history_excludes_other_commands,
);

const NOBODY: &str = "01980000-0000-7000-8000-000000000000";

async fn agent(fixture: &Fixture) -> (muster_tests::Agent, String) {
    let scripts = [
        Script::new("hello", "echo \"hello $NAME\"; echo oh >&2").taking(["NAME"]),
        Script::new("fail", "exit 7").taking(["TOKEN"]),
    ];
    let (agent, id) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    let named = json!({"name": "front", "tags": ["web"]});
    fixture.api.patch(&format!("/api/agents/{id}"), named).await.expect(200);
    (agent, id)
}

async fn listed(fixture: &Fixture, query: &str) -> Vec<Value> {
    let page = fixture.api.get(&format!("/api/executions?{query}")).await.expect(200);
    page.list("items").clone()
}

async fn ids(fixture: &Fixture, query: &str) -> Vec<String> {
    let text = |item: &Value| item.id().to_owned();
    listed(fixture, query).await.iter().map(text).collect()
}

/// The same in every run: ids, times and instants are replaced by placeholders.
fn settled(view: &Value) -> Value {
    let mut view = view.clone();
    for (name, value) in view.as_object_mut().expect("an object") {
        let is_id = name == "id" || name.ends_with("_id") || name == "requested_by";
        if is_id && value.is_string() {
            *value = json!("[id]");
        } else if name.ends_with("_at") && value.is_string() {
            *value = json!("[instant]");
        } else if name == "duration_ms" && value.is_u64() {
            *value = json!("[ms]");
        } else if name == "attestation" && value["document"].is_string() {
            *value = json!("[signed]");
        }
    }
    view
}

/// An execution as lists show it.
fn in_list(view: &Value) -> Value {
    let mut view = view.clone();
    view["attestation"] = Value::Null;
    view
}

async fn execution_shows_its_request_and_its_result(fixture: Fixture) {
    let (_agent, agent) = agent(&fixture).await;
    let id = fixture.api.execute(&agent, "hello", json!({"parameters": {"NAME": "Ada"}})).await;
    let ended = fixture.api.get(&format!("/api/executions/{id}?wait_ms=60000")).await.expect(200);
    insta::assert_json_snapshot!("an_execution", settled(&ended));
    assert_eq!(listed(&fixture, "").await, [in_list(&ended)]);
    // An ended execution does not change.
    let cancel = format!("/api/executions/{id}/cancel");
    assert_eq!(fixture.api.post(&cancel, json!({})).await.expect(202), ended);

    let job = json!({"script": "fail", "secret_parameters": {"TOKEN": "hunter2-hunter2"},
                     "target": {"tags": ["web"]}});
    let job = fixture.api.post("/api/jobs", job).await.expect(202);
    let job = job.id();
    let of_job = format!("job_id={job}");
    let run = ids(&fixture, &of_job).await.pop().expect("one execution");
    let failed = fixture.api.get(&format!("/api/executions/{run}?wait_ms=60000")).await.expect(200);
    insta::assert_json_snapshot!("an_execution_of_a_job", settled(&failed));
    assert_eq!(failed["job_id"], job);
    let path = format!("/api/jobs/{job}/executions");
    let page = fixture.api.get(&format!("{path}?state=failed")).await.expect(200);
    assert_eq!(page["items"], json!([in_list(&failed)]));
    let page = fixture.api.get(&format!("{path}?state=succeeded,lost")).await.expect(200);
    assert_eq!(page, json!({"items": [], "next_cursor": null}));
    fixture.api.get(&format!("{path}?agent_id={agent}")).await.expect_problem(400, "invalid_query");
}

async fn execution_filters_return_exactly_the_matches(fixture: Fixture) {
    let (_agent, agent) = agent(&fixture).await;
    let good = fixture.api.execute(&agent, "hello", json!({})).await;
    fixture.api.finished(&good).await;
    let body = json!({"script": "fail", "target": {"tags": ["web"]}});
    let job = fixture.api.post("/api/jobs", body).await.expect(202);
    let job = job.id().to_owned();
    let bad = ids(&fixture, &format!("job_id={job}")).await.pop().expect("one");
    let bad_view = fixture.api.finished(&bad).await;
    let again = fixture.api.post(&format!("/api/jobs/{job}/retry"), json!({})).await.expect(202);
    let again = again.id();
    let retried = ids(&fixture, &format!("job_id={again}")).await.pop().expect("one");
    fixture.api.finished(&retried).await;

    let (good, bad, retried) = (good.as_str(), bad.as_str(), retried.as_str());
    let by = bad_view.text("requested_by");
    let at = bad_view.text("created_at");
    for (query, expected) in [
        (String::new(), vec![retried, bad, good]),
        (format!("agent_id={agent}"), vec![retried, bad, good]),
        (format!("agent_id={NOBODY}"), vec![]),
        ("expression=tag:web".into(), vec![retried, bad, good]),
        ("expression=tag:web%20%26%20os:linux&state=failed".into(), vec![retried, bad]),
        ("expression=tag:db".into(), vec![]),
        (format!("expression=all&agent_id={NOBODY}"), vec![]),
        ("script=hello".into(), vec![good]),
        ("script=nothing".into(), vec![]),
        ("state=failed".into(), vec![retried, bad]),
        ("state=failed,succeeded".into(), vec![retried, bad, good]),
        ("state=lost&state=succeeded".into(), vec![good]),
        ("trigger=retry".into(), vec![retried]),
        ("trigger=api&script=fail".into(), vec![bad]),
        (format!("requested_by={by}"), vec![retried, bad, good]),
        (format!("requested_by={NOBODY}"), vec![]),
        (format!("job_id={job}"), vec![bad]),
        (format!("job_id={NOBODY}"), vec![]),
        (format!("created_after={at}"), vec![retried, bad]),
        (format!("created_before={at}"), vec![good]),
        (format!("created_after={at}&state=failed&trigger=api&agent_id={agent}"), vec![bad]),
    ] {
        assert_eq!(ids(&fixture, &query).await, expected, "{query}");
    }
    // Of several agents, some have none.
    let (_other, other) = fixture.agent(AgentOptions::named("other")).await;
    assert_eq!(ids(&fixture, "expression=all").await, [retried, bad, good]);
    assert_eq!(ids(&fixture, &format!("expression=all&agent_id={other}")).await, [""; 0]);
    let refused = fixture.api.get("/api/executions?expression=tag:").await;
    assert_eq!(
        refused.expect_problem(422, "invalid_target")["errors"][0]["field"],
        "target.expression"
    );
    let page = fixture.api.get("/api/executions?limit=2").await.expect(200);
    let cursor = page.text("next_cursor");
    assert_eq!(ids(&fixture, &format!("limit=2&cursor={cursor}")).await, [good]);

    for (query, word) in [
        ("state=flying", "flying"),
        ("state=", "state"),
        ("state=failed,,lost", "state"),
        ("trigger=cat", "cat"),
        ("cursor=nonsense", "cursor"),
        ("limit=many", "limit"),
        ("agent_id=front", "agent_id"),
        ("job_id=1", "job_id"),
        ("requested_by=me", "requested_by"),
        ("created_after=yesterday", "created_after"),
        ("created_before=2026-02-30T00:00:00Z", "created_before"),
        ("created_after=2026-02-02T00:00:00Z&created_before=2026-02-01T00:00:00Z", "before"),
        ("agent=x", "agent"),
        ("script=a&script=b", "script"),
        ("script=%00", "script"),
        ("script=", "script"),
        ("%00=1", "unknown field"),
    ] {
        let refused = fixture.api.get(&format!("/api/executions?{query}")).await;
        let problem = refused.expect_problem(400, "invalid_query");
        let detail = problem.text("detail");
        assert!(detail.contains(word), "{query}: {detail}");
    }
}

async fn execution_history_excludes_other_commands(fixture: Fixture) {
    let (mut running, agent) = agent(&fixture).await;
    running.stop();
    let execution = fixture.api.execute(&agent, "hello", json!({})).await;
    let restart = json!({"command": "restart"});
    let restart = fixture.api.post(&format!("/api/agents/{agent}/command"), restart).await;
    let restart = restart.expect(202).id().to_owned();
    assert_eq!(ids(&fixture, "state=queued").await, std::slice::from_ref(&execution));
    for id in [restart.as_str(), NOBODY, "nonsense"] {
        let path = format!("/api/executions/{id}");
        fixture.api.get(&path).await.expect_problem(404, "not_found");
        let cancel = fixture.api.post(&format!("{path}/cancel"), json!({})).await;
        cancel.expect_problem(404, "not_found");
    }
    assert_eq!(fixture.api.command(&restart).await["state"], "queued");
    let cancel = format!("/api/executions/{execution}/cancel");
    for _ in 0..2 {
        let cancelled = fixture.api.post(&cancel, json!({})).await.expect(202);
        assert_eq!(cancelled["state"], "cancelled");
        assert_eq!(cancelled["error_code"], "cancelled_in_queue");
    }
    assert_eq!(fixture.api.command(&execution).await["state"], "cancelled");
}

#[tokio::test]
async fn command_line_lists_and_cancels_executions() {
    let fixture = Fixture::on_sqlite().await;
    let cli = Cli::new(&fixture.test_dir);
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, fixture.api.key()).await.expect(0);
    assert_eq!(cli.run(&["executions"]).await.expect(0).trim(), "No executions.");
    let (mut running, agent) = agent(&fixture).await;
    let bad = fixture.api.execute(&agent, "fail", json!({})).await;
    fixture.api.finished(&bad).await;
    running.stop();
    let waiting = fixture.api.execute(&agent, "hello", json!({})).await;

    let shown = cli.run(&["history"]).await.expect(0);
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[1].contains(&waiting) && lines[2].contains(&bad), "{shown}");
    assert!(lines[2].contains("front") && lines[2].contains("failed"), "{shown}");
    for filter in [
        vec!["--state", "queued"],
        vec!["--script", "hello", "--agent", "front"],
        vec!["--on", "tag:web & name:front", "--state", "queued"],
        vec!["--limit", "1"],
        vec!["--since", "1h", "--trigger", "api", "--state", "queued,running"],
    ] {
        let line = [vec!["executions", "list", "--json"], filter].concat();
        let found = cli.run(&line).await.json();
        let ids: Vec<_> = found.list("items").iter().map(|i| &i["id"]).collect();
        assert_eq!(ids, [&json!(waiting)], "{line:?}");
    }
    let none = ["executions", "list", "--until", "1h"];
    assert_eq!(cli.run(&none).await.expect(0).trim(), "No executions.");
    cli.run(&["executions", "list", "--since", "yesterday"]).await.expect(2);
    cli.run(&["executions", "list", "--state", "flying"]).await.expect(1);
    let wrong = cli.run(&["executions", "list", "--on", "tag:web &"]).await;
    assert_eq!(wrong.code, Some(2), "{}", wrong.stderr);
    assert!(wrong.stderr.contains('^'), "{}", wrong.stderr);
    let cancelled = cli.run(&["executions", "cancel", &waiting, "--json"]).await.json();
    assert_eq!(cancelled["state"], "cancelled");
    let shown = cli.run(&["executions", "show", &waiting]).await.expect(0);
    assert!(shown.contains("cancelled_in_queue"), "{shown}");
    cli.run(&["executions", "show", NOBODY]).await.expect(1);
}
