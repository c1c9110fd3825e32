//! Hosts that leave the fleet: what they did is told, what they were to do ends, and nothing of
//! the enrolment is left on either side.

use muster_tests::{
    Agent, AgentOptions, Closed, FakeAgent, Said, Script, World, agent_program, eventually,
    full_registration, on_both_databases,
};
use serde_json::{Value, json};

on_both_databases!(
    a_host_that_leaves_reports_is_deleted_and_may_enrol_anew,
    only_a_full_agent_deregisters_and_only_after_its_inventory,
);

/// An agent, its id, its key and that key's id.
async fn enrolled(world: &World, options: AgentOptions) -> (Agent, String, String, String) {
    let all = json!({"permissions": muster_tests::ALL});
    let (key_id, key) = world.api.agent_key(all).await;
    let agent = Agent::start(&world.site, &world.server.url(), &key, options);
    let id = world.online(&key_id).await["id"].as_str().expect("an id").to_owned();
    // The server knows it a moment before the agent has written its own id down.
    world.ask(&id, "ping", json!({})).await;
    (agent, id, key, key_id)
}

async fn deregister(world: &World, agent: &Agent, key: &str, more: &[(&str, &str)]) -> Said {
    let url = world.server.url();
    let own = [("MUSTER_SERVER_URL", url.as_str()), ("MUSTER_API_KEY", key)];
    let environment: Vec<_> = own.into_iter().chain(more.iter().copied()).collect();
    agent_program(agent.state_dir(), &["deregister"], &environment).await
}

async fn ends_with_its_agent(world: &World, command: &str, state: &str) {
    let command = world.api.command(command).await;
    let ended = (&command["state"], &command["error_code"]);
    assert_eq!(ended, (&json!(state), &json!("agent_deleted")), "{command}");
}

async fn is_gone(world: &World, id: &str) {
    world.api.get(&format!("/api/agents/{id}")).await.expect_problem(404, "not_found");
}

async fn a_host_that_leaves_reports_is_deleted_and_may_enrol_anew(world: World) {
    let gate = world.site.path().join("gate");
    let body = format!("echo begun; while [ ! -e '{}' ]; do sleep 0.05; done", gate.display());
    let options = AgentOptions::with_scripts([Script::new("wait", &body)]);
    let (mut agent, id, key, key_id) = enrolled(&world, options).await;
    let run = world.api.execute(&id, "wait", json!({})).await;
    world.api.output_reaches(&run, 6).await;
    agent.stop();
    // It ends while no agent is there, and its result is only on the host.
    std::fs::write(&gate, "").expect("open the gate");
    eventually("the shim has ended", async || agent.shim_ids().is_empty().then_some(())).await;
    let queued = world.api.execute(&id, "wait", json!({})).await;

    let said = deregister(&world, &agent, &key, &[]).await.expect(0);
    assert_eq!(said, format!("deregistered {id}\n"));
    is_gone(&world, &id).await;
    let command = world.api.command(&run).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    assert_eq!(world.api.output(&run).await, b"begun\n");
    // A host that leaves is sent nothing more.
    ends_with_its_agent(&world, &queued, "cancelled").await;
    let audit = world.api.get("/api/audit?limit=100").await.expect(200);
    let entries = audit["items"].as_array().expect("entries");
    let entry = entries.iter().find(|entry| entry["action"] == "agent.deregister");
    let entry = entry.expect("it is audited");
    assert_eq!((&entry["actor_kind"], &entry["actor_id"]), (&json!("agent"), &json!(id)));

    let again = deregister(&world, &agent, &key, &[]).await.expect(0);
    assert!(again.starts_with("nothing to deregister"), "{again}");
    agent.resume();
    let new = world.online(&key_id).await;
    assert_ne!(new["id"], id, "enrolled anew");
    let new = new["id"].as_str().expect("an id").to_owned();
    let run = world.api.execute(&new, "wait", json!({})).await;
    assert_eq!(world.api.finished(&run).await["state"], "succeeded");
}

async fn only_a_full_agent_deregisters_and_only_after_its_inventory(world: World) {
    let address = world.server.address();
    let (basic_key_id, basic_key) = world.api.agent_key(json!({})).await;
    let mut basic = FakeAgent::registered(&address, &basic_key, "basic").await;
    basic.send(json!({"type": "deregister"})).await;
    assert_eq!(basic.expect("error").await["code"], "unknown_type");
    world.online(&basic_key_id).await;

    let (_, key) = world.api.agent_key(json!({})).await;
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
    is_gone(&world, registered["agent_id"].as_str().expect("an id")).await;
}

#[tokio::test]
async fn a_host_leaves_over_http_too() {
    let world = World::on_sqlite().await;
    let (mut agent, id, key, _) = enrolled(&world, AgentOptions::named("agent")).await;
    agent.stop();
    deregister(&world, &agent, &key, &[("MUSTER_HTTP_FALLBACK", "only")]).await.expect(0);
    is_gone(&world, &id).await;
}

#[tokio::test]
async fn a_host_leaves_over_http_where_a_proxy_blocks_upgrades() {
    let world = World::on_sqlite().await;
    let (mut agent, id, key, _) = enrolled(&world, AgentOptions::named("agent")).await;
    agent.stop();
    let link = muster_tests::Link::to(&world.server.address()).await;
    link.block_upgrades(true);
    let url = link.url();
    deregister(&world, &agent, &key, &[("MUSTER_SERVER_URL", &url)]).await.expect(0);
    is_gone(&world, &id).await;
}

#[tokio::test]
async fn what_still_runs_on_a_leaving_host_is_ended_there_and_lost_on_the_server() {
    let world = World::on_sqlite().await;
    let script = Script::new("long", "echo begun; sleep 600");
    let (mut agent, id, key, _) = enrolled(&world, AgentOptions::with_scripts([script])).await;
    let run = world.api.execute(&id, "long", json!({})).await;
    world.api.output_reaches(&run, 6).await;
    agent.stop();
    let said = deregister(&world, &agent, &key, &[]).await.expect(0);
    assert!(said.contains("results not reported to the server: 1"), "{said}");
    ends_with_its_agent(&world, &run, "lost").await;
    eventually("nothing of it runs", async || agent.shim_ids().is_empty().then_some(())).await;
}

#[tokio::test]
async fn whoever_can_not_deregister_is_told_why_and_what_to_do_and_stays_enrolled() {
    let mut world = World::on_sqlite().await;
    let site = world.site.clone();
    let never = agent_program(&site.path().join("nowhere"), &["deregister"], &[]).await.expect(0);
    assert!(never.starts_with("nothing to deregister"), "{never}");
    assert!(!site.path().join("nowhere").exists());

    let (mut agent, id, key, key_id) = enrolled(&world, AgentOptions::named("agent")).await;
    let running = deregister(&world, &agent, &key, &[]).await;
    running.expect(1);
    assert!(running.stderr.contains("stop it"), "{running:?}");
    agent.stop();

    let refused = |said: &Said, why: &str| {
        said.expect(1);
        assert_eq!(said.stderr.lines().count(), 1, "one line: {said:?}");
        assert!(said.stderr.contains(why), "{said:?}");
        assert!(said.stderr.contains("muster agents delete "), "{said:?}");
    };
    let wrong = deregister(&world, &agent, "mst_agent_wrong", &[]).await;
    refused(&wrong, "key_unknown");
    let url = world.server.url();
    world.server.stop();
    let own = [("MUSTER_SERVER_URL", url.as_str()), ("MUSTER_API_KEY", key.as_str())];
    let away = agent_program(agent.state_dir(), &["deregister"], &own).await;
    refused(&away, "the connection to the server failed");

    world.server.resume();
    agent.resume();
    let shown: Value = world.online(&key_id).await;
    assert_eq!(shown["id"], id, "nothing has changed");
}
