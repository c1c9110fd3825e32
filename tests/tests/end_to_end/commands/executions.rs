//! The history of executions, as callers and people read it.

use muster_tests::{AgentOptions, Cli, Script, World, on_both_databases};
use serde_json::{Value, json};

on_both_databases!(
    an_execution_shows_what_was_asked_and_what_came_of_it,
    filters_find_what_they_name_and_nothing_else,
    commands_of_other_kinds_are_no_executions,
);

const NOBODY: &str = "01980000-0000-7000-8000-000000000000";

async fn agent(world: &World) -> (muster_tests::Agent, String) {
    let scripts = [
        Script::new("hello", "echo \"hello $NAME\"; echo oh >&2").taking(["NAME"]),
        Script::new("fail", "exit 7").taking(["TOKEN"]),
    ];
    let (agent, id) = world.agent(AgentOptions::with_scripts(scripts)).await;
    let named = json!({"name": "front", "tags": ["web"]});
    world.api.patch(&format!("/api/agents/{id}"), named).await.expect(200);
    (agent, id)
}

async fn listed(world: &World, query: &str) -> Vec<Value> {
    let page = world.api.get(&format!("/api/executions?{query}")).await.expect(200);
    page["items"].as_array().expect("items").clone()
}

async fn ids(world: &World, query: &str) -> Vec<String> {
    let text = |item: &Value| item["id"].as_str().expect("an id").to_owned();
    listed(world, query).await.iter().map(text).collect()
}

/// The same at every run: ids, instants and times are replaced by what they are.
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
        }
    }
    view
}

async fn an_execution_shows_what_was_asked_and_what_came_of_it(world: World) {
    let (_agent, agent) = agent(&world).await;
    let id = world.api.execute(&agent, "hello", json!({"parameters": {"NAME": "Ada"}})).await;
    let ended = world.api.get(&format!("/api/executions/{id}?wait_ms=60000")).await.expect(200);
    insta::assert_json_snapshot!("an_execution", settled(&ended));
    assert_eq!(listed(&world, "").await, std::slice::from_ref(&ended));
    // What has ended stays as it is.
    let cancel = format!("/api/executions/{id}/cancel");
    assert_eq!(world.api.post(&cancel, json!({})).await.expect(202), ended);

    let job = json!({"script": "fail", "secret_parameters": {"TOKEN": "hunter2-hunter2"},
                     "target": {"tags": ["web"]}});
    let job = world.api.post("/api/jobs", job).await.expect(202);
    let job = job["id"].as_str().expect("an id");
    let of_job = format!("job_id={job}");
    let run = ids(&world, &of_job).await.pop().expect("one execution");
    let failed = world.api.get(&format!("/api/executions/{run}?wait_ms=60000")).await.expect(200);
    insta::assert_json_snapshot!("an_execution_of_a_job", settled(&failed));
    assert_eq!(failed["job_id"], job);
    let path = format!("/api/jobs/{job}/executions");
    let page = world.api.get(&format!("{path}?state=failed")).await.expect(200);
    assert_eq!(page["items"], json!([failed]));
    let page = world.api.get(&format!("{path}?state=succeeded,lost")).await.expect(200);
    assert_eq!(page, json!({"items": [], "next_cursor": null}));
    world.api.get(&format!("{path}?agent_id={agent}")).await.expect_problem(400, "invalid_query");
}

async fn filters_find_what_they_name_and_nothing_else(world: World) {
    let (_agent, agent) = agent(&world).await;
    let good = world.api.execute(&agent, "hello", json!({})).await;
    world.api.finished(&good).await;
    let body = json!({"script": "fail", "target": {"tags": ["web"]}});
    let job = world.api.post("/api/jobs", body).await.expect(202);
    let job = job["id"].as_str().expect("an id").to_owned();
    let bad = ids(&world, &format!("job_id={job}")).await.pop().expect("one");
    let bad_view = world.api.finished(&bad).await;
    let again = world.api.post(&format!("/api/jobs/{job}/retry"), json!({})).await.expect(202);
    let again = again["id"].as_str().expect("an id");
    let retried = ids(&world, &format!("job_id={again}")).await.pop().expect("one");
    world.api.finished(&retried).await;

    let (good, bad, retried) = (good.as_str(), bad.as_str(), retried.as_str());
    let by = bad_view["requested_by"].as_str().expect("an id");
    let at = bad_view["created_at"].as_str().expect("an instant");
    for (query, expected) in [
        (String::new(), vec![retried, bad, good]),
        (format!("agent_id={agent}"), vec![retried, bad, good]),
        (format!("agent_id={NOBODY}"), vec![]),
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
        assert_eq!(ids(&world, &query).await, expected, "{query}");
    }
    let page = world.api.get("/api/executions?limit=2").await.expect(200);
    let cursor = page["next_cursor"].as_str().expect("a cursor");
    assert_eq!(ids(&world, &format!("limit=2&cursor={cursor}")).await, [good]);

    for (query, word) in [
        ("state=flying", "flying"),
        ("state=", "state"),
        ("state=failed,,lost", "state"),
        ("trigger=cat", "cat"),
        ("cursor=nonsense", "cursor"),
        ("limit=0", "limit"),
        ("limit=501", "limit"),
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
        let refused = world.api.get(&format!("/api/executions?{query}")).await;
        let problem = refused.expect_problem(400, "invalid_query");
        let detail = problem["detail"].as_str().expect("a sentence");
        assert!(detail.contains(word), "{query}: {detail}");
    }
}

async fn commands_of_other_kinds_are_no_executions(world: World) {
    let (mut running, agent) = agent(&world).await;
    running.stop();
    let execution = world.api.execute(&agent, "hello", json!({})).await;
    let restart = json!({"command": "restart"});
    let restart = world.api.post(&format!("/api/agents/{agent}/command"), restart).await;
    let restart = restart.expect(202)["id"].as_str().expect("an id").to_owned();
    assert_eq!(ids(&world, "state=queued").await, std::slice::from_ref(&execution));
    for id in [restart.as_str(), NOBODY, "nonsense"] {
        let path = format!("/api/executions/{id}");
        world.api.get(&path).await.expect_problem(404, "not_found");
        let cancel = world.api.post(&format!("{path}/cancel"), json!({})).await;
        cancel.expect_problem(404, "not_found");
    }
    assert_eq!(world.api.command(&restart).await["state"], "queued");
    let cancel = format!("/api/executions/{execution}/cancel");
    for _ in 0..2 {
        let cancelled = world.api.post(&cancel, json!({})).await.expect(202);
        assert_eq!(cancelled["state"], "cancelled");
        assert_eq!(cancelled["error_code"], "cancelled_in_queue");
    }
    assert_eq!(world.api.command(&execution).await["state"], "cancelled");
}

#[tokio::test]
async fn the_history_is_read_and_cancelled_at_the_terminal() {
    let world = World::on_sqlite().await;
    let cli = Cli::new(&world.site);
    let login = ["login", "--server", &world.server.url()];
    cli.run_with_input(&login, world.api.key()).await.expect(0);
    assert_eq!(cli.run(&["executions"]).await.expect(0).trim(), "No executions.");
    let (mut running, agent) = agent(&world).await;
    let bad = world.api.execute(&agent, "fail", json!({})).await;
    world.api.finished(&bad).await;
    running.stop();
    let waiting = world.api.execute(&agent, "hello", json!({})).await;

    let shown = cli.run(&["history"]).await.expect(0);
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[1].contains(&waiting) && lines[2].contains(&bad), "{shown}");
    assert!(lines[2].contains("front") && lines[2].contains("failed"), "{shown}");
    for filter in [
        vec!["--state", "queued"],
        vec!["--script", "hello", "--agent", "fro"],
        vec!["--limit", "1"],
        vec!["--since", "1h", "--trigger", "api", "--state", "queued,running"],
    ] {
        let line = [vec!["executions", "list", "--json"], filter].concat();
        let found = cli.run(&line).await.json();
        let ids: Vec<_> =
            found["items"].as_array().expect("items").iter().map(|i| &i["id"]).collect();
        assert_eq!(ids, [&json!(waiting)], "{line:?}");
    }
    let none = ["executions", "list", "--until", "1h"];
    assert_eq!(cli.run(&none).await.expect(0).trim(), "No executions.");
    cli.run(&["executions", "list", "--since", "yesterday"]).await.expect(2);
    cli.run(&["executions", "list", "--state", "flying"]).await.expect(1);
    let cancelled = cli.run(&["executions", "cancel", &waiting, "--json"]).await.json();
    assert_eq!(cancelled["state"], "cancelled");
    let shown = cli.run(&["executions", "show", &waiting]).await.expect(0);
    assert!(shown.contains("cancelled_in_queue"), "{shown}");
    cli.run(&["executions", "show", NOBODY]).await.expect(1);
}
