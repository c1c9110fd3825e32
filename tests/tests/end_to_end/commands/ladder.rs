//! The ladder: what work needs by the number and the tags of its agents, on every path.

use muster_tests::{
    Agent, AgentOptions, Fixture, JsonFields as _, Script, eventually, on_both_databases,
};
use reqwest::Method;
use serde_json::{Value, json};

on_both_databases!(
    every_path_asks_for_the_number_and_an_approval_and_refuses,
    a_schedule_never_reaches_more_agents_than_were_confirmed,
);

async fn agent(fixture: &Fixture, name: &str, tags: Value) -> (Agent, String) {
    let scripts = [Script::new("status", "true")];
    let options = AgentOptions { name: name.to_owned(), ..AgentOptions::with_scripts(scripts) };
    let (agent, id) = fixture.agent(options).await;
    fixture.api.patch(&format!("/api/agents/{id}"), json!({ "tags": tags })).await.expect(200);
    (agent, id)
}

async fn set(fixture: &Fixture, steps: Value) {
    let body = json!({ "steps": steps });
    let set = fixture.api.send(Method::PUT, "/api/access/ladder", Some(body)).await.expect(200);
    let read = fixture.api.get("/api/access/ladder").await.expect(200);
    assert_eq!(set, read);
}

async fn every_path_asks_for_the_number_and_an_approval_and_refuses(fixture: Fixture) {
    let (_one, first) = agent(&fixture, "one", json!(["web"])).await;
    let (_two, second) = agent(&fixture, "two", json!(["web", "critical"])).await;
    let api = &fixture.api;
    let ids = json!([first, second]);
    let body = |extra: Value| {
        let mut body = json!({"script": "status", "target": {"ids": ids}});
        body.as_object_mut()
            .expect("an object")
            .extend(extra.as_object().cloned().expect("fields"));
        body
    };
    set(&fixture, json!([{"from_agents": 2, "demand": "confirm"}])).await;

    // Another number than that of the agents is always refused.
    let asked = api.post("/api/jobs", body(json!({}))).await;
    let problem = asked.expect_problem(409, "agent_count_unconfirmed");
    let error = json!([{"field": "confirm_agent_count", "code": "required", "limit": 2}]);
    assert_eq!(problem["errors"], error, "{problem}");
    for count in [0, 1, 3] {
        let wrong = api.post("/api/jobs", body(json!({"confirm_agent_count": count}))).await;
        wrong.expect_problem(409, "agent_count_unconfirmed");
    }
    let confirmed = body(json!({"confirm_agent_count": 2}));
    let job = api.post("/api/jobs", confirmed).await.expect(202).id().to_owned();
    eventually("the job ends", async || {
        let job = api.get(&format!("/api/jobs/{job}")).await.expect(200);
        (job["state"] == "succeeded").then_some(())
    })
    .await;
    // One agent needs nothing, but a number that was given must be right.
    let command = format!("/api/agents/{first}/command");
    let one = json!({"command": "execute", "data": {"script": "status"}});
    api.post(&command, one.clone()).await.expect(202);
    let wrong =
        json!({"command": "execute", "data": {"script": "status"}, "confirm_agent_count": 7});
    api.post(&command, wrong).await.expect_problem(409, "agent_count_unconfirmed");
    // A retry, a rollout and a group ask too.
    let retry = format!("/api/jobs/{job}/retry");
    let all = json!({"executions": "all"});
    api.post(&retry, all).await.expect_problem(409, "agent_count_unconfirmed");
    let all = json!({"executions": "all", "confirm_agent_count": 2});
    api.post(&retry, all).await.expect(202);
    let waves = api.post("/api/jobs", body(json!({"rollout": {"wave_size": 1}}))).await;
    waves.expect_problem(409, "agent_count_unconfirmed");

    set(
        &fixture,
        json!([{"from_agents": 2, "demand": "refuse"},
            {"tag": "critical", "from_agents": 1, "demand": "approve"}]),
    )
    .await;
    let refused = api.post("/api/jobs", body(json!({"confirm_agent_count": 2}))).await;
    refused.expect_problem(403, "refused_by_ladder");
    api.post(&retry, json!({"executions": "all", "confirm_agent_count": 2}))
        .await
        .expect_problem(403, "refused_by_ladder");
    api.post(&command, one.clone()).await.expect(202);
    for command in [one, json!({"command": "restart"})] {
        let held = api.post(&format!("/api/agents/{second}/command"), command).await.expect(202);
        assert_eq!(held["is_held"], true, "{held}");
    }
    let pending = api.get("/api/approvals?state=pending").await.expect(200);
    let rules = &pending["items"][0]["rules"];
    assert_eq!(*rules, json!(["ladder: 1 or more agents with the tag `critical`"]), "{pending}");

    let explained = |target: &'static str| async move {
        let path = format!("/api/access/explain?operation=run:status&target={target}");
        let answer = api.get(&path).await.expect(200);
        answer.text("outcome").to_owned()
    };
    assert_eq!(explained("tag:web").await, "refused");
    assert_eq!(explained("tag:critical").await, "needs_approval");
    set(&fixture, json!([{"from_agents": 1, "demand": "confirm"}])).await;
    assert_eq!(explained("tag:web").await, "needs_confirmation");

    // Only owners change it, and no other tenant sees it.
    let admin = json!({"name": "admin", "role": "admin"});
    let admin = api.post("/api/keys", admin).await.expect(201);
    let admin = api.with_key(admin.text("key"));
    let none = json!({"steps": []});
    let denied = admin.send(Method::PUT, "/api/access/ladder", Some(none)).await;
    denied.expect_problem(403, "missing_scope");
    let other = fixture.other_tenant().await;
    assert_eq!(other.get("/api/access/ladder").await.expect(200), json!({"steps": []}));
    for steps in [
        json!([{"from_agents": 0, "demand": "confirm"}]),
        json!([{"from_agents": 1, "demand": "confirm", "tag": "no tag"}]),
        json!([{"from_agents": 1, "demand": "confirm"}, {"from_agents": 1, "demand": "refuse"}]),
        json!((1..=21).map(|n| json!({"from_agents": n, "demand": "confirm"})).collect::<Vec<_>>()),
    ] {
        let body = json!({ "steps": steps });
        let invalid = api.send(Method::PUT, "/api/access/ladder", Some(body)).await;
        invalid.expect_problem(422, "invalid_field");
    }
}

async fn a_schedule_never_reaches_more_agents_than_were_confirmed(fixture: Fixture) {
    let (_one, _) = agent(&fixture, "one", json!(["web"])).await;
    set(&fixture, json!([{"from_agents": 1, "demand": "confirm"}])).await;
    let schedule = |count: Option<u32>| {
        let mut job = json!({"script": "status", "target": {"expression": "tag:web"}});
        if let Some(count) = count {
            job["confirm_agent_count"] = count.into();
        }
        json!({"name": "nightly", "rule": {"every_ms": 86_400_000}, "job": job})
    };
    let unconfirmed = fixture.api.post("/api/schedules", schedule(None)).await;
    unconfirmed.expect_problem(409, "agent_count_unconfirmed");
    let made = fixture.api.post("/api/schedules", schedule(Some(1))).await.expect(201);
    let run = format!("/api/schedules/{}/run", made.id());
    fixture.api.post(&run, json!({})).await.expect(202);
    // The target matches more agents by now than were confirmed.
    let (_two, _) = agent(&fixture, "two", json!(["web"])).await;
    fixture.api.post(&run, json!({})).await.expect_problem(409, "agent_count_unconfirmed");
    let jobs = fixture.api.get("/api/jobs").await.expect(200);
    assert_eq!(jobs.list("items").len(), 1, "{jobs}");
}

#[tokio::test]
async fn the_command_line_shows_changes_and_confirms() {
    let fixture = Fixture::on_sqlite().await;
    let (_one, id) = agent(&fixture, "one", json!(["web", "critical"])).await;
    let cli = fixture.cli().await;
    let empty = cli.run(&["access", "ladder"]).await.expect(0);
    assert!(empty.contains("No steps"), "{empty}");
    let set = cli.run(&["access", "ladder", "set", "1=confirm", "critical:5=refuse"]).await;
    let set = set.expect(0);
    assert!(set.contains("5 or more agents with the tag critical: refuse"), "{set}");
    // Without a terminal there is no question: the message says what to type.
    let refused = cli.run(&["run", &id, "status"]).await;
    refused.expect(1);
    assert!(refused.stderr.contains("--confirm-agents 1"), "{}", refused.stderr);
    cli.run(&["run", &id, "status", "--confirm-agents", "1"]).await.expect(0);
    cli.run(&["run", "--on", "tag:web", "status", "--confirm-agents", "1"]).await.expect(0);
    let explained = cli.run(&["access", "explain", "me", "run:status", "tag:web"]).await.expect(1);
    assert!(
        explained.contains("needs_confirmation") && explained.contains("ladder"),
        "{explained}"
    );
    let wrong = cli.run(&["access", "ladder", "set", "10=maybe"]).await;
    wrong.expect(2);
    cli.run(&["access", "ladder", "clear"]).await.expect(0);
    cli.run(&["run", &id, "status"]).await.expect(0);
}
