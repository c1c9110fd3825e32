//! Who an agent is: one key, one host, one ledger; copies are told apart.

use muster_tests::{
    Agent, AgentOptions, Closed, FakeAgent, Fixture, JsonFields as _, Script, eventually,
    on_both_databases,
};
use serde_json::json;
use uuid::Uuid;

on_both_databases!(
    second_agent_on_a_key_for_one_agent_is_refused,
    newer_session_replaces_the_older_one,
    ledger_restored_from_an_older_copy_makes_delivered_commands_lost,
);

async fn second_agent_on_a_key_for_one_agent_is_refused(fixture: Fixture) {
    let address = fixture.server.address();
    let (id, key) = fixture.api.agent_key(json!({})).await;
    let first = json!({"hostname": "one"});
    let (_one, registered) = FakeAgent::registered_full(&address, &key, first).await;
    let mut two = FakeAgent::connect_with_header(&address, &key).await;
    two.expect("connected").await;
    two.register(muster_tests::full_registration(json!({"hostname": "two"}))).await;
    assert_eq!(two.closed().await, Closed::new(4004, "agent_limit"));
    let agents = fixture.agents_of(&id).await;
    assert_eq!((agents.len(), &agents[0]["id"]), (1, &registered["agent_id"]));
    assert_eq!(agents[0]["status"], "online");
}

async fn newer_session_replaces_the_older_one(fixture: Fixture) {
    let address = fixture.server.address();
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let mut old = FakeAgent::registered(&address, &key, "one").await;
    let mut new = FakeAgent::registered(&address, &key, "one").await;
    assert_eq!(old.closed().await, Closed::new(4009, "session_replaced"));
    new.send(json!({"type": "heartbeat", "status": {}})).await;
    new.expect("heartbeat_ack").await;
}

async fn ledger_restored_from_an_older_copy_makes_delivered_commands_lost(fixture: Fixture) {
    let address = fixture.server.address();
    let (id, key) = fixture.api.agent_key(json!({})).await;
    let host = json!({"machine_id": "a".repeat(64), "ledger_id": Uuid::new_v4()});
    let (mut agent, registered) = FakeAgent::registered_full(&address, &key, host.clone()).await;
    let body = json!({"command": "execute", "data": {"script": "x"}});
    let path = format!("/api/agents/keys/{id}/command");
    let made = fixture.api.post(&path, body).await.expect(202);
    let command = agent.expect("command").await;
    let command_id = &command["command_id"];
    let accepted = json!({"type": "accepted", "command_id": command_id, "acceptance_count": 5});
    agent.send(accepted).await;
    agent.send(json!({"type": "started", "command_id": command_id})).await;
    let made = made.id();
    fixture.api.in_state(made, "running").await;
    drop(agent);
    // The same ledger before it accepted anything.
    let mut older = host;
    older["agent_id"] = registered["agent_id"].clone();
    let (_agent, again) = FakeAgent::registered_full(&address, &key, older).await;
    assert_eq!(again["agent_id"], registered["agent_id"]);
    assert_eq!(fixture.api.finished(made).await["state"], "lost");
}

#[tokio::test]
async fn two_hosts_with_one_identity_are_both_stopped_and_reported() {
    let fixture = Fixture::on_sqlite().await;
    let address = fixture.server.address();
    let (key_id, key) = fixture.api.agent_key(json!({})).await;
    let host = json!({"machine_id": "a".repeat(64), "ledger_id": Uuid::new_v4()});
    let (mut first, registered) = FakeAgent::registered_full(&address, &key, host.clone()).await;
    let claim = |instance: Uuid| {
        let mut data = host.clone();
        data["agent_id"] = registered["agent_id"].clone();
        data["instance_id"] = json!(instance);
        data
    };
    let (mut second, _) = FakeAgent::registered_full(&address, &key, claim(Uuid::new_v4())).await;
    assert_eq!(first.closed().await.code, 4009);
    // The first agent does not give way: an agent that returns while the other is online is a
    // second host.
    let instances = [Uuid::new_v4(), Uuid::new_v4()];
    let mut conflict = None;
    for round in 0..6 {
        let mut next = FakeAgent::connect_with_header(&address, &key).await;
        next.expect("connected").await;
        next.register(muster_tests::full_registration(claim(instances[round % 2]))).await;
        match next.next().await {
            Err(closed) => conflict = Some(closed),
            Ok(_) => {
                let closed = second.closed().await;
                if closed.code == 4010 {
                    conflict = Some(closed);
                }
                second = next;
            }
        }
        if conflict.is_some() {
            break;
        }
    }
    assert_eq!(conflict, Some(Closed::new(4010, "identity_conflict")));
    let agent = fixture.agents_of(&key_id).await[0].id().to_owned();
    eventually("the conflict is in the agent's events", async || {
        let events = fixture.api.get(&format!("/api/agents/{agent}/events")).await.expect(200);
        events.to_string().contains("identity_conflict").then_some(())
    })
    .await;
}

#[tokio::test]
async fn copied_state_directory_becomes_a_new_agent_and_runs_nothing_it_contains() {
    let fixture = Fixture::on_sqlite().await;
    let (key_id, key) = fixture.api.agent_key(json!({"max_agents": 2})).await;
    let script = Script::counting("long", 2_000, 50, "0.05");
    let url = fixture.server.url();
    let mut one = Agent::start(&fixture.test_dir, &url, &key, AgentOptions::with_scripts([script]));
    let first = fixture.online(&key_id).await.id().to_owned();
    let running = fixture.api.execute(&first, "long", json!({})).await;
    fixture.api.output_reaches(&running, 1).await;
    one.kill_9();
    eventually("the job ends", async || one.shim_ids().is_empty().then_some(())).await;
    let copy = fixture.test_dir.path().join("copy");
    let copied =
        std::process::Command::new("cp").arg("-a").arg(one.state_dir()).arg(&copy).status();
    assert!(copied.expect("run cp").success());
    let machine = fixture.test_dir.path().join("machine-id");
    std::fs::write(&machine, format!("{}\n", "f".repeat(32))).expect("write");
    let mounts = format!("mount --bind {} /etc/machine-id", machine.display());
    let mut options = AgentOptions::named("two").with_mounts(&mounts);
    options.state_dir = Some(copy);
    let _two = Agent::start(&fixture.test_dir, &url, &key, options);

    let second = eventually("the copy is enrolled", async || {
        let agents = fixture.agents_of(&key_id).await;
        agents
            .into_iter()
            .find(|agent| agent["id"] != first.as_str() && agent["status"] == "online")
    })
    .await;
    assert_ne!(second["id"], first.as_str());
    // The copy has the execution too, but must not report it.
    assert_eq!(fixture.api.command(&running).await["state"], "running");
    one.resume();
    assert_eq!(fixture.api.finished(&running).await["state"], "succeeded");
}

#[tokio::test]
async fn host_that_changes_its_key_stays_the_same_agent_and_loses_no_command() {
    let fixture = Fixture::on_sqlite().await;
    let (first_id, first) = fixture.api.agent_key(json!({})).await;
    let (second_id, second) = fixture.api.agent_key(json!({})).await;
    let (third_id, third) = fixture.api.agent_key(json!({})).await;
    let script = Script::counting("long", 2_000, 50, "0.1");
    let url = fixture.server.url();
    let mut agent =
        Agent::start(&fixture.test_dir, &url, &first, AgentOptions::with_scripts([script]));
    let before = fixture.online(&first_id).await;
    // From here on it has stored the id that it was issued.
    eventually("the agent logs its session", async || {
        agent.log().contains("registered link=").then_some(())
    })
    .await;
    let running = fixture.api.execute(before.id(), "long", json!({})).await;
    fixture.api.output_reaches(&running, 1).await;
    agent.kill_9();
    agent.set("MUSTER_API_KEY", Some(&second));
    agent.resume();
    assert_eq!(fixture.online(&second_id).await["id"], before["id"]);
    assert_eq!(fixture.api.finished(&running).await["state"], "succeeded");

    // The agents of a disabled key can't leave it: with another key the host is another agent.
    agent.kill_9();
    let disabled = json!({"status": "disabled"});
    fixture.api.patch(&format!("/api/agents/keys/{second_id}"), disabled).await.expect(200);
    agent.set("MUSTER_API_KEY", Some(&third));
    agent.resume();
    let after = fixture.online(&third_id).await;
    eventually("the agent logs that it was enrolled again", async || {
        agent.log().contains("enrolled this host again").then_some(())
    })
    .await;
    assert_ne!(before["id"], after["id"]);
    let running = fixture.api.execute(after.id(), "long", json!({})).await;
    fixture.api.output_reaches(&running, 1).await;
    agent.kill_9();
    agent.resume();
    assert_eq!(fixture.api.finished(&running).await["state"], "succeeded");
}

#[tokio::test]
async fn reinstalled_host_becomes_the_same_agent_if_its_key_trusts_its_holders() {
    let fixture = Fixture::on_sqlite().await;
    let (key_id, key) = fixture.api.agent_key(json!({"trusts_holders": true})).await;
    let url = fixture.server.url();
    let mut before = Agent::start(&fixture.test_dir, &url, &key, AgentOptions::named("before"));
    let first = fixture.online(&key_id).await["id"].clone();
    before.stop();
    fixture.with_status(&key_id, "offline").await;
    let _after = Agent::start(&fixture.test_dir, &url, &key, AgentOptions::named("after"));
    assert_eq!(fixture.online(&key_id).await["id"], first);
}

#[tokio::test]
async fn second_agent_on_one_state_directory_is_refused() {
    let fixture = Fixture::on_sqlite().await;
    let (agent, _) = fixture.agent(AgentOptions::named("agent")).await;
    let mut options = AgentOptions::named("second");
    options.state_dir = Some(agent.state_dir().to_owned());
    let key = format!("mst_agent_{}", "x".repeat(43));
    let mut second = Agent::start(&fixture.test_dir, &fixture.server.url(), &key, options);
    let status = second.process().ended().await;
    assert!(!status.success());
    assert!(second.log().contains("another agent uses the state directory"), "{}", second.log());
}
