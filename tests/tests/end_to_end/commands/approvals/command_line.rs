//! Approvals from the command line, and their explanation.

use muster_tests::{Fixture, JsonFields as _, ended, eventually_shown};
use serde_json::json;

use super::{agent, another_person, made, pending, rule};

#[tokio::test]
async fn requests_are_listed_and_decided_from_the_command_line() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, id) = agent(&fixture).await;
    let grace = another_person(&fixture).await;
    let cli = fixture.cli().await;
    let add =
        ["approvals", "rules", "add", "production", "--target", "tag:prod", "--script", "deploy"];
    cli.run(&add).await.expect(0);
    let rules = cli.run(&["approvals", "rules"]).await.expect(0);
    assert!(rules.contains("production") && rules.contains("tag:prod"), "{rules}");
    let command = fixture.api.execute(&id, "deploy", json!({})).await;
    let listed = cli.run(&["approvals"]).await.expect(0);
    assert!(listed.contains("pending") && listed.contains("deploy"), "{listed}");
    let request = pending(&grace).await.id().to_owned();
    let own = cli.run(&["approvals", "approve", &request]).await;
    own.expect(1);
    assert!(own.stderr.contains("another person must decide"), "{}", own.stderr);

    let explain = |who: &'static str, operation: &'static str, target: &'static str| {
        let cli = cli.clone();
        async move { cli.run(&["access", "explain", who, operation, target]).await }
    };
    let waits = explain("me", "run:deploy", "tag:prod").await.expect(1);
    assert!(waits.contains("needs_approval") && waits.contains("production"), "{waits}");
    let free = explain("me", "run:status", "tag:prod").await.expect(0);
    assert!(free.contains("allowed"), "{free}");
    made(&fixture.api, json!({"name": "ci", "target": "tag:web", "scripts": ["status"]})).await;
    let refused = explain("ci", "run:deploy", "tag:prod").await.expect(1);
    assert!(refused.contains("script_not_in_key"), "{refused}");
    let refused = explain("ci", "restart", "tag:prod").await.expect(1);
    assert!(refused.contains("agents:manage") && refused.contains("missing_scope"), "{refused}");
    let refused = explain("ci", "run:status", "tag:prod").await.expect(1);
    assert!(refused.contains("outside_key_target") && refused.contains("tag:web"), "{refused}");
    let unknown = explain("ci", "fly", "tag:prod").await;
    unknown.expect(1);
    assert!(unknown.stderr.contains("OPERATION"), "{}", unknown.stderr);

    // Grace decides, with her own login.
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, grace.key()).await.expect(0);
    let yes = cli.run(&["approvals", "approve", &request, "--reason", "fine"]).await.expect(0);
    assert_eq!(yes.trim(), "approved: 1 agent");
    assert_eq!(fixture.api.finished(&command).await["state"], "succeeded");
    let shown = cli.run(&["approvals", "show", &request, "--json"]).await.json();
    assert_eq!((&shown["state"], &shown["reason"]), (&json!("approved"), &json!("fine")));
    let other = fixture.other_tenant().await;
    let foreign =
        format!("/api/access/explain?operation=ping&principal={}", shown.text("decided_by"));
    other.get(&foreign).await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn run_waits_for_an_approval_and_names_it_in_both_forms() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, id) = agent(&fixture).await;
    let grace = another_person(&fixture).await;
    let cli = fixture.cli().await;
    rule(&fixture, json!({"name": "prod-deploy", "target": "tag:prod", "scripts": ["deploy"]}))
        .await;
    let waiting = async |kind: &str| {
        let page = eventually_shown("a request is pending", async || {
            let page = grace.get("/api/approvals?state=pending").await.expect(200);
            if page.list("items").is_empty() { Err(page) } else { Ok(page) }
        })
        .await;
        let request = page["items"][0].clone();
        assert!(request[kind].is_string(), "{request}");
        assert_eq!(request["requested_by_name"], "bootstrap", "{request}");
        request.id().to_owned()
    };
    let note = |id: &str, interrupt: &str| {
        format!("another person runs \"muster approvals approve {id}\"; ^C {interrupt}")
    };

    let job = cli.start(&["run", "--tag", "prod", "deploy"]);
    let request = waiting("job_id").await;
    let shown = fixture.api.get("/api/jobs").await.expect(200);
    assert_eq!(shown["items"][0]["approval"]["id"], request, "{shown}");
    assert_eq!(shown["items"][0]["approval"]["rules"], json!(["prod-deploy"]));
    grace.post(&format!("/api/approvals/{request}/approve"), json!({})).await.expect(200);
    let job = ended(job).await;
    job.expect(0);
    assert!(job.stderr.contains("waiting for an approval (rule prod-deploy, until"), "{job:?}");
    assert!(job.stderr.contains(&note(&request, "detaches")), "{job:?}");

    let command = cli.start(&["run", &id, "deploy"]);
    let request = waiting("command_id").await;
    let refusal = json!({"reason": "not today"});
    grace.post(&format!("/api/approvals/{request}/refuse"), refusal).await.expect(200);
    let command = ended(command).await;
    command.expect(1);
    assert!(command.stderr.contains(&note(&request, "withdraws it")), "{command:?}");
    let why = "grace refused to approve it: not today. It was never sent";
    assert!(command.stderr.contains(why), "{command:?}");
    assert!(!command.stderr.contains("the host refused"), "{command:?}");
    let page = fixture.api.get("/api/executions?limit=1").await.expect(200);
    let execution = &page["items"][0];
    assert_eq!(
        (&execution["approval"]["state"], &execution["error"]),
        (&json!("refused"), &json!(why))
    );
    let listed = cli.run(&["approvals", "--state", "refused"]).await.expect(0);
    assert!(listed.contains("refused") && listed.contains("bootstrap"), "{listed}");
    let shown = cli.run(&["approvals", "show", &request[..18], "--json"]).await.json();
    assert_eq!((shown.id(), &shown["decided_by_name"]), (request.as_str(), &json!("grace")));
    assert_eq!(shown["agent_names"].as_array().map(Vec::len), Some(1), "{shown}");

    let job = cli.start(&["run", "--tag", "prod", "deploy"]);
    let request = waiting("job_id").await;
    let refusal = json!({"reason": "not today"});
    grace.post(&format!("/api/approvals/{request}/refuse"), refusal).await.expect(200);
    let job = ended(job).await;
    job.expect(1);
    assert!(job.stderr.contains(why), "{job:?}");
    cli.run(&["approvals", "rules", "delete", "prod-deploy"]).await.expect(0);
}

#[tokio::test]
async fn what_the_preflight_refuses_is_refused_in_the_explanation() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, id) = agent(&fixture).await;
    for (operation, target, job) in [
        ("run:nope", format!("id:{id}"), json!({"script": "nope"})),
        ("run:deplyo", "tag:prod".to_owned(), json!({"script": "deplyo"})),
        ("shell", format!("id:{id}"), json!({"argv": ["true"]})),
        ("run:deploy", "tag:nowhere".to_owned(), json!({"script": "deploy"})),
    ] {
        let mut job = job;
        job["target"] = json!({"expression": target});
        let refused = fixture.api.post("/api/jobs", job).await;
        assert!(refused.status >= 400, "{operation}: {refused:?}");
        let refused = refused.json();
        let path = format!("/api/access/explain?operation={operation}&target={target}");
        let explained = fixture.api.get(&path).await.expect(200);
        assert_eq!(explained["outcome"], "refused", "{explained}");
        let rules = explained.list("rules");
        let rule = rules.iter().find(|rule| rule["outcome"] == "refused").expect("a refusal");
        assert_eq!(rule["code"], refused["code"], "{explained}");
        if refused["code"] != "no_agents" {
            assert_eq!(rule["detail"], refused["detail"], "{explained}");
        }
    }
    let allowed = format!("/api/access/explain?operation=run:deploy&target=id:{id}");
    assert_eq!(fixture.api.get(&allowed).await.expect(200)["outcome"], "allowed");

    rule(&fixture, json!({"name": "prod-deploy", "target": "tag:prod"})).await;
    let cli = fixture.cli().await;
    let depends = cli.run(&["access", "explain", "me", "run:deploy"]).await.expect(1);
    let rule = "depends on the agents: prod-deploy asks for tag:prod; add a target";
    assert!(depends.contains(rule) && !depends.contains("allowed      agent"), "{depends}");
}
