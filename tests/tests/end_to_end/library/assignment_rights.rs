//! An assignment lasts no longer than the rights of its maker, and than the rules let it.

use muster_tests::{
    Agent, AgentOptions, Api, Fixture, JsonFields as _, eventually, eventually_shown, file,
    on_both_databases, tar_zst, write_policy,
};
use serde_json::{Value, json};

on_both_databases!(
    an_assignment_ends_with_the_rights_of_its_maker,
    a_rule_that_is_made_later_holds_agents_that_join,
    a_service_of_another_is_stopped_only_by_who_controls_work,
);

async fn made(fixture: &Fixture, fields: Value) -> (String, Api) {
    let made = fixture.api.post("/api/keys", fields).await.expect(201);
    (made.id().to_owned(), fixture.api.with_key(made.text("key")))
}

async fn upload(fixture: &Fixture, kind: &str) {
    let rest = match kind {
        "task" => "[schedule]\ncron = \"0 0 1 1 *\"\n",
        _ => "",
    };
    let description = format!(
        "name = \"tick\"\nversion = \"1\"\nkind = \"{kind}\"\nexecutor = \"sh\"\nentry = \"run.sh\"\n{rest}"
    );
    let program = "exec tail -f /dev/null\n";
    let archive = tar_zst(&[file("muster.toml", &description), file("run.sh", program)]);
    fixture.api.upload("/api/packages", archive).await.expect(201);
}

async fn agent(fixture: &Fixture, name: &str) -> (Agent, String) {
    write_policy(&fixture.test_dir.folder(name), &json!({"allow": "library"}).to_string());
    let options = AgentOptions { name: name.into(), ..AgentOptions::default() };
    fixture.agent(options).await
}

fn everywhere() -> Value {
    json!({"name": "ticks", "script": "package:tick", "target": {"expression": "all"}})
}

/// What the API shows of an agent of an assignment.
async fn shown(fixture: &Fixture, path: &str, agent: &str) -> Value {
    let page = fixture.api.get(&format!("{path}/agents")).await.expect(200);
    let found = page.list("items").iter().find(|item| item["agent_id"] == agent).cloned();
    found.expect("an agent of the target")
}

async fn in_state(fixture: &Fixture, path: &str, agent: &str, state: &str) {
    eventually_shown(state, async || {
        let shown = shown(fixture, path, agent).await;
        if shown["state"] == state { Ok(()) } else { Err(shown) }
    })
    .await;
}

async fn has_none(agent: &Agent) {
    let assigned = agent.state_dir().join("assignments.json");
    eventually("the host has no assignment", async || {
        let text = std::fs::read_to_string(&assigned).ok()?;
        text.contains("\"items\":[]").then_some(())
    })
    .await;
}

async fn an_assignment_ends_with_the_rights_of_its_maker(fixture: Fixture) {
    let (mut host, id) = agent(&fixture, "one").await;
    upload(&fixture, "task").await;
    let fields = json!({"name": "maker", "role": "admin",
        "scopes": ["schedules:read", "schedules:write", "commands:run"]});
    let (maker_id, maker) = made(&fixture, fields.clone()).await;
    let created = maker.post("/api/assignments", everywhere()).await.expect(201);
    let path = format!("/api/assignments/{}", created.id());
    in_state(&fixture, &path, &id, "installed").await;

    // Others change it only with the right to control work of others, and it becomes theirs.
    let mut other = fields;
    other["name"] = json!("other");
    let (_, other) = made(&fixture, other).await;
    let change = json!({"target": {"expression": "all"}});
    other.patch(&path, change.clone()).await.expect_problem(403, "missing_scope");
    other.patch(&path, json!({"name": "mine"})).await.expect_problem(403, "missing_scope");
    other.delete(&path).await.expect_problem(403, "missing_scope");

    // A right is taken from its maker: the host loses the package.
    let narrow = json!({"target": "tag:web"});
    fixture.api.patch(&format!("/api/keys/{maker_id}"), narrow).await.expect(200);
    let held = shown(&fixture, &path, &id).await;
    assert_eq!(
        (&held["state"], &held["error_code"]),
        (&json!("held"), &json!("maker_not_permitted"))
    );
    host.stop();
    host.resume();
    has_none(&host).await;

    let changed = fixture.api.patch(&path, change).await.expect(200);
    assert_ne!(changed["created_by"], created["created_by"]);
    in_state(&fixture, &path, &id, "installed").await;
}

async fn a_rule_that_is_made_later_holds_agents_that_join(fixture: Fixture) {
    let (_host, first) = agent(&fixture, "one").await;
    upload(&fixture, "task").await;
    let created = fixture.api.post("/api/assignments", everywhere()).await.expect(201);
    let path = format!("/api/assignments/{}", created.id());
    in_state(&fixture, &path, &first, "installed").await;
    let rule = json!({"name": "ticks", "scripts": ["package:tick"]});
    fixture.api.post("/api/approvals/rules", rule).await.expect(201);
    let (joined, second) = agent(&fixture, "two").await;
    has_none(&joined).await;
    let held = shown(&fixture, &path, &second).await;
    assert_eq!((&held["state"], &held["error_code"]), (&json!("held"), &json!("approval_needed")));
    assert!(held.text("error").contains("`ticks`"), "{held}");
    // What was there before the rule continues.
    assert_eq!(shown(&fixture, &path, &first).await["state"], "installed");
}

async fn a_service_of_another_is_stopped_only_by_who_controls_work(fixture: Fixture) {
    let (host, id) = agent(&fixture, "one").await;
    upload(&fixture, "service").await;
    let created = fixture.api.post("/api/assignments", everywhere()).await.expect(201);
    let path = format!("/api/assignments/{}", created.id());
    in_state(&fixture, &path, &id, "installed").await;
    let stop = format!("/api/services/{}/stop", created.id());
    let fields = json!({"name": "runner", "role": "member", "scopes": ["commands:run"]});
    let (_, runner) = made(&fixture, fields).await;
    runner.post(&stop, json!({})).await.expect_problem(403, "missing_scope");
    let fields = json!({"name": "deployer", "role": "admin", "scripts": ["deploy"],
        "scopes": ["commands:run", "commands:manage"]});
    let (_, deployer) = made(&fixture, fields).await;
    deployer.post(&stop, json!({})).await.expect_problem(403, "script_not_in_key");
    let fields = json!({"name": "ticker", "role": "admin", "scripts": ["package:tick"],
        "scopes": ["commands:run", "commands:manage"]});
    let (_, ticker) = made(&fixture, fields).await;
    ticker.post(&stop, json!({})).await.expect(202);
    // A repeated restart is another one, so the header that would prevent it is refused.
    let restart = format!("/api/services/{}/restart", created.id());
    let keyed = fixture.api.post_once(&restart, "one", json!({})).await;
    keyed.expect_problem(400, "invalid_query");
    // A refusal names the rule that asks.
    let rule = json!({"name": "ticks", "scripts": ["package:tick"]});
    fixture.api.post("/api/approvals/rules", rule).await.expect(201);
    let start = format!("/api/services/{}/start", created.id());
    let refused = fixture.api.post(&start, json!({})).await.expect_problem(403, "approval_needed");
    assert!(refused.text("detail").contains("the rule `ticks`"), "{refused}");
    // A service outlives its agent, so the agent has to end it first.
    fixture.api.delete(&path).await.expect(204);
    eventually("nothing of it runs", async || host.shim_ids().is_empty().then_some(())).await;
}
