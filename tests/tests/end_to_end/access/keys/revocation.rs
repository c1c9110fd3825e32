//! What happens to the work of a revoked key.

use muster_tests::{
    ALL, Api, Cli, FakeAgent, Fixture, JsonFields as _, eventually_shown, on_both_databases,
};
use reqwest::Method;
use serde_json::{Value, json};

on_both_databases!(
    queued_work_of_a_revoked_key_is_never_sent,
    a_rollout_of_a_revoked_key_halts_until_another_key_resumes_it,
    a_revocation_cancels_what_the_key_queued_and_pauses_its_rollouts_and_groups,
);

/// Basic agents of one key: the secret of the key, and each agent with its id.
async fn agents(fixture: &Fixture, count: usize) -> (String, Vec<(FakeAgent, String)>) {
    let fields = json!({"permissions": ALL, "max_agents": count, "trusts_holders": true});
    let (key_id, key) = fixture.api.agent_key(fields).await;
    let mut agents = Vec::new();
    for index in 0..count {
        let name = format!("fake-{index}");
        let agent = FakeAgent::registered(&fixture.server.address(), &key, &name).await;
        let known = fixture.agents_of(&key_id).await;
        let known = known.iter().find(|known| known["hostname"] == name).expect("enrolled");
        agents.push((agent, known.id().to_owned()));
    }
    (key, agents)
}

async fn api_key(fixture: &Fixture, role: &str) -> (String, Api) {
    let made = fixture.api.post("/api/keys", json!({"name": role, "role": role})).await.expect(201);
    let text = |field: &str| made[field].as_str().expect("a string").to_owned();
    (text("id"), fixture.api.with_key(&text("key")))
}

async fn offline(fixture: &Fixture, id: &str) {
    eventually_shown("the agent is offline", async || {
        let agent = fixture.api.get(&format!("/api/agents/{id}")).await.expect(200);
        if agent["status"] == "offline" { Ok(()) } else { Err(agent) }
    })
    .await;
}

async fn job_that(fixture: &Fixture, id: &str, is: impl Fn(&Value) -> bool) -> Value {
    eventually_shown("the job is as expected", async || {
        let job = fixture.api.get(&format!("/api/jobs/{id}")).await.expect(200);
        if is(&job) { Ok(job) } else { Err(job) }
    })
    .await
}

async fn answer(agent: &mut FakeAgent) {
    let command = agent.expect("command").await;
    let id = &command["command_id"];
    agent.send(json!({"type": "response", "command_id": id, "success": true})).await;
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("{field}: {value}")).to_owned()
}

async fn queued_work_of_a_revoked_key_is_never_sent(fixture: Fixture) {
    let (key, mut agents) = agents(&fixture, 1).await;
    let (agent, id) = agents.remove(0);
    drop(agent);
    offline(&fixture, &id).await;
    let (revoked_id, revoked) = api_key(&fixture, "member").await;
    let command = revoked.execute_anyway(&id, json!({"script": "deploy"})).await;
    let kept = fixture.api.execute_anyway(&id, json!({"script": "deploy"})).await;
    let answer = fixture.api.delete(&format!("/api/keys/{revoked_id}")).await.expect(200);
    assert_eq!(answer["cancelled_commands"], 0);
    // A delivery that began before the agent left may find out that the key is revoked.
    let state = text(&fixture.api.command(&command).await, "state");
    assert!(["queued", "rejected"].contains(&state.as_str()), "{state}");
    let mut agent = FakeAgent::registered(&fixture.server.address(), &key, "fake-0").await;
    let sent = agent.expect("command").await;
    assert_eq!(sent["command_id"], kept.as_str(), "the command of the revoked key was sent");
    let ended = fixture.api.finished(&command).await;
    assert_eq!(
        (&ended["state"], &ended["error_code"]),
        (&json!("rejected"), &json!("api_key_invalid"))
    );
    assert!(ended["delivered_at"].is_null(), "{ended}");
}

async fn a_rollout_of_a_revoked_key_halts_until_another_key_resumes_it(fixture: Fixture) {
    let (_, mut agents) = agents(&fixture, 2).await;
    let (revoked_id, revoked) = api_key(&fixture, "member").await;
    let ids: Vec<_> = agents.iter().map(|(_, id)| id.clone()).collect();
    let body = json!({"script": "deploy", "target": {"ids": ids}, "rollout": {"wave_size": 1}});
    let job = text(&revoked.post("/api/jobs", body).await.expect(202), "id");
    fixture.api.delete(&format!("/api/keys/{revoked_id}")).await.expect(200);
    answer(&mut agents[0].0).await;
    let job_shown = job_that(&fixture, &job, |job| job["state"] == "halted").await;
    let reason = text(&job_shown, "halt_reason");
    assert!(reason.contains("the API key that requested it was revoked"), "{reason}");
    assert_eq!(job_shown["rollout"]["held"], 1, "{job_shown}");
    fixture.api.post(&format!("/api/jobs/{job}/resume"), json!({})).await.expect(202);
    answer(&mut agents[1].0).await;
    job_that(&fixture, &job, |job| job["state"] == "succeeded").await;
}

async fn a_revocation_cancels_what_the_key_queued_and_pauses_its_rollouts_and_groups(
    fixture: Fixture,
) {
    let (_, mut agents) = agents(&fixture, 2).await;
    let (revoked_id, revoked) = api_key(&fixture, "admin").await;
    let ids: Vec<_> = agents.iter().map(|(_, id)| id.clone()).collect();
    let body = json!({"script": "deploy", "target": {"ids": ids}, "rollout": {"wave_size": 1}});
    let rollout = text(&revoked.post("/api/jobs", body).await.expect(202), "id");
    let group = json!({"name": "g", "target": {"tags": ["none"]}});
    let group = text(&revoked.post("/api/groups", group).await.expect(201), "id");
    // A published release would take long to build; the row is what matters.
    fixture.server.query("UPDATE agent_groups SET desired_version = '9.9.9'");
    let (_, last) = agents.pop().expect("an agent");
    offline(&fixture, &last).await;
    let queued = revoked.execute_anyway(&last, json!({"script": "deploy"})).await;
    let kept = fixture.api.execute_anyway(&last, json!({"script": "deploy"})).await;

    let path = format!("/api/keys/{revoked_id}?queued=cancel");
    let stopped = fixture.api.delete(&path).await.expect(200);
    assert_eq!(stopped["cancelled_commands"], 1, "{stopped}");
    assert_eq!(stopped["paused_jobs"], json!([rollout]));
    assert_eq!(stopped["paused_groups"], json!([group]));
    let ended = fixture.api.command(&queued).await;
    assert_eq!(
        (&ended["state"], &ended["error_code"]),
        (&json!("cancelled"), &json!("cancelled_in_queue"))
    );
    assert_eq!(fixture.api.command(&kept).await["state"], "queued");
    assert_eq!(
        fixture.api.get(&format!("/api/jobs/{rollout}")).await.expect(200)["state"],
        "paused"
    );
    assert_eq!(
        fixture.api.get(&format!("/api/groups/{group}")).await.expect(200)["state"],
        "paused"
    );
    // What was sent already continues, and the rest waits for a person.
    answer(&mut agents[0].0).await;
    let job = job_that(&fixture, &rollout, |job| job["counts"]["succeeded"] == 1).await;
    assert_eq!((&job["state"], &job["rollout"]["held"]), (&json!("paused"), &json!(1)));
}

#[tokio::test]
async fn api_keys_are_created_and_revoked_from_the_command_line() {
    let fixture = Fixture::on_sqlite().await;
    let cli = Cli::new(&fixture.test_dir);
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, fixture.api.key()).await.expect(0);
    let made = cli.run(&["api-keys", "create", "deployer", "--scope", "commands:run"]).await;
    let deployer = fixture.api.with_key(made.expect(0).trim());
    let (_, agents) = agents(&fixture, 1).await;
    let id = agents[0].1.clone();
    drop(agents);
    offline(&fixture, &id).await;
    let queued = deployer.execute_anyway(&id, json!({"script": "deploy"})).await;
    let revoke = ["api-keys", "revoke", "deployer", "--cancel-queued", "--cascade", "--json"];
    let stopped = cli.run(&revoke).await.json();
    assert_eq!(
        (&stopped["cancelled_commands"], stopped["revoked_keys"].as_array().map(Vec::len)),
        (&json!(1), Some(1))
    );
    assert_eq!(fixture.api.command(&queued).await["state"], "cancelled");
    let answer = deployer.try_send(Method::GET, "/api/agents", &[], None).await;
    answer.expect("reach the server").expect_problem(401, "invalid_api_key");
}
