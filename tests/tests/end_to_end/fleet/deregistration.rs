//! Hosts that leave the fleet: the results of what ran are reported, open commands end, and nothing
//! of the enrolment is left on either side.

use muster_tests::{
    Agent, AgentOptions, Closed, FakeAgent, Fixture, JsonFields as _, ProgramOutput, Script,
    agent_program, eventually, full_registration, on_both_databases,
};
use serde_json::{Value, json};

on_both_databases!(
    deregistered_host_reports_its_results_is_deleted_and_can_enrol_again,
    only_a_full_agent_deregisters_and_only_after_its_inventory,
);

/// An agent, its id, its key and that key's id.
async fn enrolled(fixture: &Fixture, options: AgentOptions) -> (Agent, String, String, String) {
    let all = json!({"permissions": muster_tests::ALL});
    let (key_id, key) = fixture.api.agent_key(all).await;
    let agent = Agent::start(&fixture.test_dir, &fixture.server.url(), &key, options);
    let id = fixture.online(&key_id).await.id().to_owned();
    // The server knows the agent a moment before the agent has stored its id.
    fixture.ask(&id, "ping", json!({})).await;
    (agent, id, key, key_id)
}

async fn deregister(
    fixture: &Fixture,
    agent: &Agent,
    key: &str,
    more: &[(&str, &str)],
) -> ProgramOutput {
    let url = fixture.server.url();
    let own = [("MUSTER_SERVER_URL", url.as_str()), ("MUSTER_API_KEY", key)];
    let environment: Vec<_> = own.into_iter().chain(more.iter().copied()).collect();
    agent_program(agent.state_dir(), &["deregister"], &environment).await
}

async fn ends_with_its_agent(fixture: &Fixture, command: &str, state: &str) {
    let command = fixture.api.command(command).await;
    let ended = (&command["state"], &command["error_code"]);
    assert_eq!(ended, (&json!(state), &json!("agent_deleted")), "{command}");
}

async fn is_gone(fixture: &Fixture, id: &str) {
    fixture.api.get(&format!("/api/agents/{id}")).await.expect_problem(404, "not_found");
}

async fn deregistered_host_reports_its_results_is_deleted_and_can_enrol_again(fixture: Fixture) {
    let gate = fixture.test_dir.path().join("gate");
    let body = format!("echo begun; while [ ! -e '{}' ]; do sleep 0.05; done", gate.display());
    let options = AgentOptions::with_scripts([Script::new("wait", &body)]);
    let (mut agent, id, key, key_id) = enrolled(&fixture, options).await;
    let run = fixture.api.execute(&id, "wait", json!({})).await;
    fixture.api.output_reaches(&run, 6).await;
    agent.stop();
    // It ends while the agent is offline, so its result is only on the host.
    std::fs::write(&gate, "").expect("open the gate");
    eventually("the shim has ended", async || agent.shim_ids().is_empty().then_some(())).await;
    let queued = fixture.api.execute(&id, "wait", json!({})).await;

    let said = deregister(&fixture, &agent, &key, &[]).await.expect(0);
    assert_eq!(said, format!("deregistered {id}\n"));
    is_gone(&fixture, &id).await;
    let command = fixture.api.command(&run).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    assert_eq!(fixture.api.output(&run).await, b"begun\n");
    // A host that is leaving gets no more commands.
    ends_with_its_agent(&fixture, &queued, "cancelled").await;
    let audit = fixture.api.get("/api/audit?limit=100").await.expect(200);
    let entries = audit.list("items");
    let entry = entries.iter().find(|entry| entry["action"] == "agent.deregister");
    let entry = entry.expect("it is audited");
    assert_eq!((&entry["actor_kind"], &entry["actor_id"]), (&json!("agent"), &json!(id)));

    let again = deregister(&fixture, &agent, &key, &[]).await.expect(0);
    assert!(again.starts_with("nothing to deregister"), "{again}");
    agent.resume();
    let new = fixture.online(&key_id).await;
    assert_ne!(new["id"], id, "enrolled anew");
    let new = new.id().to_owned();
    let run = fixture.api.execute(&new, "wait", json!({})).await;
    assert_eq!(fixture.api.finished(&run).await["state"], "succeeded");
}

async fn only_a_full_agent_deregisters_and_only_after_its_inventory(fixture: Fixture) {
    let address = fixture.server.address();
    let (basic_key_id, basic_key) = fixture.api.agent_key(json!({})).await;
    let mut basic = FakeAgent::registered(&address, &basic_key, "basic").await;
    basic.send(json!({"type": "deregister"})).await;
    assert_eq!(basic.expect("error").await["code"], "unknown_type");
    fixture.online(&basic_key_id).await;

    let (_, key) = fixture.api.agent_key(json!({})).await;
    let mut full = FakeAgent::open(&address, "", Some(&key)).await;
    full.expect("connected").await;
    full.send(json!({"type": "deregister"})).await;
    assert_eq!(full.expect("error").await["code"], "unexpected_frame");
    full.register(full_registration(json!({}))).await;
    let registered = full.expect("registered").await;
    full.send(json!({"type": "deregister"})).await;
    assert_eq!(full.expect("error").await["code"], "unexpected_frame");
    full.send(json!({"type": "inventory_end"})).await;
    full.send(json!({"type": "deregister"})).await;
    full.expect("deregistered").await;
    assert_eq!(full.closed().await, Closed::new(1000, "deregistered"));
    is_gone(&fixture, registered.text("agent_id")).await;
}

#[tokio::test]
async fn host_deregisters_over_http() {
    let fixture = Fixture::on_sqlite().await;
    let (mut agent, id, key, _) = enrolled(&fixture, AgentOptions::named("agent")).await;
    agent.stop();
    deregister(&fixture, &agent, &key, &[("MUSTER_HTTP_FALLBACK", "only")]).await.expect(0);
    is_gone(&fixture, &id).await;
}

#[tokio::test]
async fn host_deregisters_over_http_behind_a_proxy_that_blocks_upgrades() {
    let fixture = Fixture::on_sqlite().await;
    let (mut agent, id, key, _) = enrolled(&fixture, AgentOptions::named("agent")).await;
    agent.stop();
    let link = muster_tests::Link::to(&fixture.server.address()).await;
    link.block_upgrades(true);
    let url = link.url();
    deregister(&fixture, &agent, &key, &[("MUSTER_SERVER_URL", &url)]).await.expect(0);
    is_gone(&fixture, &id).await;
}

#[tokio::test]
async fn running_commands_of_a_deregistering_host_are_killed_and_lost() {
    let fixture = Fixture::on_sqlite().await;
    let script = Script::new("long", "echo begun; sleep 600");
    let (mut agent, id, key, _) = enrolled(&fixture, AgentOptions::with_scripts([script])).await;
    let run = fixture.api.execute(&id, "long", json!({})).await;
    fixture.api.output_reaches(&run, 6).await;
    agent.stop();
    let said = deregister(&fixture, &agent, &key, &[]).await.expect(0);
    assert!(said.contains("results not reported to the server: 1"), "{said}");
    ends_with_its_agent(&fixture, &run, "lost").await;
    eventually("nothing of it runs", async || agent.shim_ids().is_empty().then_some(())).await;
}

#[tokio::test]
async fn failed_deregistration_explains_the_fix_and_keeps_the_enrolment() {
    let mut fixture = Fixture::on_sqlite().await;
    let test_dir = fixture.test_dir.clone();
    let never =
        agent_program(&test_dir.path().join("nowhere"), &["deregister"], &[]).await.expect(0);
    assert!(never.starts_with("nothing to deregister"), "{never}");
    assert!(!test_dir.path().join("nowhere").exists());

    let (mut agent, id, key, key_id) = enrolled(&fixture, AgentOptions::named("agent")).await;
    let running = deregister(&fixture, &agent, &key, &[]).await;
    running.expect(1);
    assert!(running.stderr.contains("stop it"), "{running:?}");
    agent.stop();

    let refused = |said: &ProgramOutput, why: &str| {
        said.expect(1);
        assert_eq!(said.stderr.lines().count(), 1, "one line: {said:?}");
        assert!(said.stderr.contains(why), "{said:?}");
        assert!(said.stderr.contains("muster agents delete "), "{said:?}");
    };
    let wrong = deregister(&fixture, &agent, "mst_agent_wrong", &[]).await;
    refused(&wrong, "key_unknown");
    let url = fixture.server.url();
    fixture.server.stop();
    let own = [("MUSTER_SERVER_URL", url.as_str()), ("MUSTER_API_KEY", key.as_str())];
    let away = agent_program(agent.state_dir(), &["deregister"], &own).await;
    refused(&away, "the connection to the server failed");

    fixture.server.resume();
    agent.resume();
    let shown: Value = fixture.online(&key_id).await;
    assert_eq!(shown["id"], id, "nothing has changed");
}
