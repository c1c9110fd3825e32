//! Key pairs: an agent proves its identity, and its claims do not make it another agent.

use muster_tests::{
    ALL, Agent, AgentOptions, Cli, Closed, ExchangeAgent, FakeAgent, Fixture, JsonFields as _,
    Script, agent_program, eventually, full_registration, key_pair_of, on_both_databases, proven,
};
use serde_json::{Value, json};
use uuid::Uuid;

on_both_databases!(
    holder_of_the_agent_key_and_the_machine_id_does_not_become_the_agent,
    holder_of_a_key_for_one_agent_locks_no_agent_out_and_is_reported,
    connections_that_do_not_register_keep_no_agent_out_and_are_reported,
    proof_of_another_connection_or_for_other_claims_is_refused,
);

/// What a host says of itself, with the key pair of `seed`.
fn claims(registered: Option<&Value>, seed: &str) -> Value {
    let mut data = full_registration(json!({
        "machine_id": "a".repeat(64), "ledger_id": Uuid::from_u128(1), "key_seed": seed,
    }));
    if let Some(registered) = registered {
        data["agent_id"] = registered["agent_id"].clone();
    }
    data
}

async fn over_websocket(fixture: &Fixture, key: &str, data: Value) -> Result<Value, Closed> {
    let mut agent = FakeAgent::connect_with_header(&fixture.server.address(), key).await;
    agent.expect("connected").await;
    agent.register(data).await;
    agent.next().await
}

async fn over_http(fixture: &Fixture, key: &str, data: Value) -> Result<Value, Closed> {
    let mut agent = ExchangeAgent::connect(&fixture.server.address(), key).await;
    let data = agent.proven(data);
    agent.register(data).await
}

async fn holder_of_the_agent_key_and_the_machine_id_does_not_become_the_agent(fixture: Fixture) {
    let address = fixture.server.address();
    let (key_id, key) = fixture.api.agent_key(json!({"max_agents": 9})).await;
    let (mut host, registered) =
        FakeAgent::registered_full(&address, &key, claims(None, "host")).await;
    let id = registered.text("agent_id").to_owned();
    let steal = async |state: &str| {
        let thieves = [
            over_websocket(&fixture, &key, claims(Some(&registered), &format!("one {state}")))
                .await,
            over_http(&fixture, &key, claims(Some(&registered), &format!("two {state}"))).await,
        ];
        for stolen in thieves {
            let stolen = stolen.expect("enrolled as itself");
            assert_eq!(stolen["type"], "registered");
            assert_ne!(stolen["agent_id"], registered["agent_id"], "the host is {state}");
        }
    };
    steal("online").await;
    host.send(json!({"type": "heartbeat", "status": {}})).await;
    host.expect("heartbeat_ack").await;
    // What is meant for the agent reaches its host.
    let body = json!({"command": "execute", "data": {"script": "x"}});
    fixture.api.post(&format!("/api/agents/{id}/command"), body).await.expect(202);
    host.expect("command").await;
    drop(host);
    eventually("the host is offline", async || {
        let shown = fixture.api.get(&format!("/api/agents/{id}")).await.expect(200);
        (shown["status"] == "offline").then_some(())
    })
    .await;
    steal("offline").await;
    let (_host, again) =
        FakeAgent::registered_full(&address, &key, claims(Some(&registered), "host")).await;
    assert_eq!(again["agent_id"], registered["agent_id"], "the host is not locked out");
    let agents = fixture.agents_of(&key_id).await;
    for agent in agents.iter().filter(|agent| agent["id"] != id.as_str()) {
        assert_eq!(agent["alert"], "key_pair_changed", "{agent}");
    }
}

async fn holder_of_a_key_for_one_agent_locks_no_agent_out_and_is_reported(fixture: Fixture) {
    let address = fixture.server.address();
    let (key_id, key) = fixture.api.agent_key(json!({})).await;
    let (host, registered) = FakeAgent::registered_full(&address, &key, claims(None, "host")).await;
    drop(host);
    fixture.with_status(&key_id, "offline").await;
    let limit = Err(Closed::new(4004, "agent_limit"));
    let thief = || claims(Some(&registered), "thief");
    assert_eq!(over_websocket(&fixture, &key, thief()).await, limit);
    assert_eq!(over_http(&fixture, &key, thief()).await, limit);
    let shown = fixture.with_status(&key_id, "offline").await;
    assert_eq!(shown["alert"], "key_pair_changed");
    let fingerprint = key_pair_of("thief").public_key().fingerprint().to_string();
    assert!(shown.text("alert_detail").contains(&fingerprint), "{shown}");
    let own = key_pair_of("host").public_key();
    assert_eq!(shown["public_key"], own.to_string());
    assert_eq!(shown["fingerprint"], own.fingerprint().to_string());
    let again = over_websocket(&fixture, &key, claims(Some(&registered), "host")).await;
    assert_eq!(again.expect("registered")["agent_id"], registered["agent_id"]);
}

async fn connections_that_do_not_register_keep_no_agent_out_and_are_reported(fixture: Fixture) {
    let address = fixture.server.address();
    let (key_id, key) = fixture.api.agent_key(json!({})).await;
    let busy = Closed::new(1013, "try_again_later");
    // More than a key for one agent may have, of each transport.
    let mut held = Vec::new();
    for _ in 0..11 {
        let mut agent = FakeAgent::connect_with_header(&address, &key).await;
        agent.expect("connected").await;
        held.push(agent);
    }
    assert_eq!(held[0].closed().await, busy, "the oldest makes room");
    let registered = over_websocket(&fixture, &key, claims(None, "host")).await;
    let id = registered.expect("registered")["agent_id"].clone();
    for _ in 0..21 {
        ExchangeAgent::connect(&address, &key).await;
    }
    let again = over_http(&fixture, &key, claims(None, "host")).await.expect("registered");
    assert_eq!(again["agent_id"], id);
    let reports = eventually("the report", async || {
        let audit = fixture.api.get("/api/audit").await.expect(200);
        let is_report = |entry: &&Value| entry["action"] == "agent_key.limit";
        let entries = audit["items"].as_array().expect("a list");
        let reports: Vec<_> = entries.iter().filter(is_report).cloned().collect();
        (!reports.is_empty()).then_some(reports)
    })
    .await;
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert_eq!(reports[0]["subject_id"], key_id.as_str());
}

async fn proof_of_another_connection_or_for_other_claims_is_refused(fixture: Fixture) {
    let address = fixture.server.address();
    let (key_id, key) = fixture.api.agent_key(json!({"max_agents": 9})).await;
    let refused = Err(Closed::new(1008, "policy_violation"));
    // What one connection proved is replayed on the next ones.
    let mut first = FakeAgent::connect_with_header(&address, &key).await;
    let connected = first.expect("connected").await;
    let challenge = connected.text("challenge").parse().expect("a challenge");
    let agent_key_id = connected.text("agent_key_id").parse().expect("an id");
    let recorded = proven(claims(None, "host"), &challenge, agent_key_id);
    assert_eq!(over_websocket(&fixture, &key, recorded.clone()).await, refused);
    let mut http = ExchangeAgent::connect(&address, &key).await;
    assert_eq!(http.register(recorded.clone()).await, refused);
    // A proof for other claims, with another public key, and none at all.
    let mut changed = [recorded.clone(), recorded.clone(), recorded.clone(), recorded.clone()];
    changed[0]["machine_id"] = json!("b".repeat(64));
    changed[1]["instance_id"] = json!(Uuid::new_v4());
    changed[2]["public_key"] = json!(key_pair_of("thief").public_key().to_string());
    changed[3]["proof"] = json!("AAAA");
    for data in changed {
        let mut agent = FakeAgent::connect_with_header(&address, &key).await;
        let connected = agent.expect("connected").await;
        let challenge = connected.text("challenge").parse().expect("a challenge");
        let valid = proven(claims(None, "host"), &challenge, agent_key_id);
        let mut data = data;
        if data["proof"] != "AAAA" {
            data["proof"] = valid["proof"].clone();
        }
        agent.register(data).await;
        assert_eq!(agent.next().await, refused);
    }
    let mut without = ExchangeAgent::connect(&address, &key).await;
    let mut data = claims(None, "host");
    data.as_object_mut().expect("fields").remove("key_seed");
    assert_eq!(without.register(data).await, refused);
    assert!(fixture.agents_of(&key_id).await.is_empty(), "no agent was enrolled");
    assert!(fixture.server.log().contains("did not prove its key pair"));
    // On its own connection the recorded one is valid.
    first.register(recorded).await;
    first.expect("registered").await;
}

#[tokio::test]
async fn heartbeat_of_a_basic_agent_with_the_key_of_a_full_one_is_refused() {
    let fixture = Fixture::on_sqlite().await;
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let (_host, _) =
        FakeAgent::registered_full(&fixture.server.address(), &key, claims(None, "host")).await;
    let basic = fixture.api.with_key(&key);
    let answer = basic.post("/api/agents/heartbeat", json!({"status": {}})).await;
    answer.expect_problem(409, "agent_limit");
}

#[tokio::test]
async fn reinstalled_host_is_a_new_agent_until_a_person_adopts_it() {
    let fixture = Fixture::on_sqlite().await;
    let fields = json!({"max_agents": 2, "permissions": ALL});
    let (key_id, key) = fixture.api.agent_key(fields).await;
    let url = fixture.server.url();
    let hello = || [Script::new("hello", "echo hello")];
    let options = AgentOptions { name: "before".into(), ..AgentOptions::with_scripts(hello()) };
    let mut before = Agent::start(&fixture.test_dir, &url, &key, options);
    let former = fixture.online(&key_id).await.id().to_owned();
    let history = fixture.api.execute(&former, "hello", json!({})).await;
    fixture.api.finished(&history).await;
    let cli = Cli::new(&fixture.test_dir);
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, fixture.api.key()).await.expect(0);
    let wrong = key_pair_of("wrong").public_key().fingerprint().to_string();
    let online = cli.run(&["agents", "adopt", &former, "--fingerprint", &wrong]).await;
    assert_ne!(online.code, Some(0), "{online:?}");
    assert!(online.stderr.contains("is online"), "{online:?}");
    before.stop();

    let options = AgentOptions { name: "after".into(), ..AgentOptions::with_scripts(hello()) };
    let after = Agent::start(&fixture.test_dir, &url, &key, options);
    let shown = eventually("the reinstalled host is a new agent", async || {
        let agents = fixture.agents_of(&key_id).await;
        agents
            .into_iter()
            .find(|agent| agent["id"] != former.as_str() && agent["status"] == "online")
    })
    .await;
    assert_eq!(shown["alert"], "key_pair_changed", "{shown}");
    // The host shows the fingerprint that the server shows.
    let on_host = agent_program(after.state_dir(), &["status", "--json"], &[]).await;
    assert_eq!(
        serde_json::from_slice::<Value>(&on_host.stdout).expect("JSON")["agent"]["fingerprint"],
        shown["fingerprint"]
    );
    let fingerprint = shown.text("fingerprint");

    // The fingerprint of another host changes nothing for this one.
    cli.run(&["agents", "adopt", &former, "--fingerprint", &wrong]).await.expect(0);
    let still = fixture.api.get(&format!("/api/agents/{}", shown.id())).await.expect(200);
    assert_eq!(still["status"], "online");
    cli.run(&["agents", "adopt", &former, "--fingerprint", fingerprint]).await.expect(0);
    fixture.reached_over(&former, "websocket").await;
    fixture.api.get(&format!("/api/agents/{}", shown.id())).await.expect_problem(404, "not_found");
    let adopted = fixture.online(&key_id).await;
    assert_eq!((adopted.id(), adopted.text("fingerprint")), (former.as_str(), fingerprint));
    assert_eq!(adopted["alert"], Value::Null);
    assert_eq!(fixture.api.command(&history).await["agent_id"], former.as_str());
    let again = fixture.api.execute(&former, "hello", json!({})).await;
    assert_eq!(fixture.api.finished(&again).await["state"], "succeeded");
    let audit = fixture.api.get("/api/audit").await.expect(200).to_string();
    assert!(audit.contains("agent.adopt"), "{audit}");
}

#[tokio::test]
async fn refused_reinstalled_host_comes_back_as_its_agent_once_its_fingerprint_is_accepted() {
    let fixture = Fixture::on_sqlite().await;
    let (key_id, key) = fixture.api.agent_key(json!({})).await;
    let former = over_websocket(&fixture, &key, claims(None, "before")).await.expect("registered");
    fixture.with_status(&key_id, "offline").await;
    let limit = Err(Closed::new(4004, "agent_limit"));
    assert_eq!(over_websocket(&fixture, &key, claims(None, "after")).await, limit);
    let path = format!("/api/agents/{}/adopt", former.text("agent_id"));
    let fingerprint = key_pair_of("after").public_key().fingerprint().to_string();
    let waiting = fixture.api.post(&path, json!({"fingerprint": fingerprint})).await.expect(200);
    assert_eq!(waiting["next_fingerprint"], fingerprint);
    assert_eq!(over_websocket(&fixture, &key, claims(None, "other")).await, limit);
    let adopted = over_websocket(&fixture, &key, claims(None, "after")).await.expect("registered");
    assert_eq!(adopted["agent_id"], former["agent_id"]);
    let own = fixture.api.post(&path, json!({"fingerprint": fingerprint})).await;
    own.expect_problem(409, "already_adopted");
}

#[tokio::test]
async fn adoption_without_a_fingerprint_is_refused_even_for_a_single_candidate() {
    let fixture = Fixture::on_sqlite().await;
    let (key_id, key) = fixture.api.agent_key(json!({"max_agents": 9})).await;
    let former = over_websocket(&fixture, &key, claims(None, "before")).await.expect("registered");
    fixture.with_status(&key_id, "offline").await;
    // A holder of the agent key that reports the machine id of the host.
    over_websocket(&fixture, &key, claims(None, "impostor")).await.expect("registered");
    let id = former.text("agent_id");
    let path = format!("/api/agents/{id}/adopt");
    let problem = fixture.api.post(&path, json!({})).await.expect_problem(422, "invalid_body");
    assert_eq!(problem["errors"][0], json!({"field": "fingerprint", "code": "required"}));
    let refused = fixture.cli().await.run(&["agents", "adopt", id]).await;
    refused.expect(2);
    assert!(refused.stderr.contains("--fingerprint"), "{}", refused.stderr);
    let shown = fixture.api.get(&format!("/api/agents/{id}")).await.expect(200);
    let own = key_pair_of("before").public_key().fingerprint().to_string();
    assert_eq!((shown.text("fingerprint"), &shown["next_fingerprint"]), (&*own, &Value::Null));
}

#[tokio::test]
async fn replaced_secret_enrols_no_new_agent_in_its_grace_period() {
    let fixture = Fixture::on_sqlite().await;
    let address = fixture.server.address();
    let (id, old) = fixture.api.agent_key(json!({"max_agents": 9})).await;
    let (mut host, registered) =
        FakeAgent::registered_full(&address, &old, claims(None, "host")).await;
    let path = format!("/api/agents/keys/{id}/regenerate");
    let made = fixture.api.post(&path, json!({"grace_ms": 600_000})).await.expect(200);
    let rekey = host.expect("rekey").await;
    assert_eq!(rekey["key"], made["key"]);
    let refused = Err(Closed::new(4002, "key_regenerated"));
    let thief = || claims(Some(&registered), "thief");
    assert_eq!(over_websocket(&fixture, &old, thief()).await, refused);
    assert_eq!(over_http(&fixture, &old, thief()).await, refused);
    let basic = over_websocket(&fixture, &old, json!({"hostname": "basic"})).await;
    assert_eq!(basic, refused);
    // The agent itself may still come with the old secret, and everybody with the new one.
    let again = over_websocket(&fixture, &old, claims(Some(&registered), "host")).await;
    assert_eq!(again.expect("registered")["agent_id"], registered["agent_id"]);
    let new = made.text("key");
    over_websocket(&fixture, new, claims(None, "second")).await.expect("registered");
}

#[tokio::test]
async fn second_basic_host_needs_a_key_that_trusts_its_holders() {
    let fixture = Fixture::on_sqlite().await;
    let address = fixture.server.address();
    let (id, key) = fixture.api.agent_key(json!({"max_agents": 2})).await;
    let _one = FakeAgent::registered(&address, &key, "one").await;
    let mut two = FakeAgent::connect(&address, &key).await;
    two.expect("connected").await;
    two.register(json!({"hostname": "two"})).await;
    assert_eq!(two.closed().await, Closed::new(4004, "agent_limit"));
    let path = format!("/api/agents/keys/{id}");
    let changed = fixture.api.patch(&path, json!({"trusts_holders": true})).await.expect(200);
    assert_eq!(changed["trusts_holders"], true);
    let _two = FakeAgent::registered(&address, &key, "two").await;
    assert_eq!(fixture.agents_of(&id).await.len(), 2);
}

#[tokio::test]
async fn restored_server_keeps_the_ids_that_it_issued_and_no_others() {
    let mut fixture = Fixture::on_sqlite().await;
    let (key_id, key) = fixture.api.agent_key(json!({"max_agents": 9})).await;
    fixture.server.stop();
    let backup = fixture.test_dir.path().join("backup");
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
        assert!(copied.expect("run cp").success());
    };
    copy(fixture.server.data_dir(), &backup);
    fixture.server.resume();
    fixture.server.ready().await;
    let options = AgentOptions::named("agent");
    let _agent = Agent::start(&fixture.test_dir, &fixture.server.url(), &key, options);
    let issued = fixture.online(&key_id).await.id().to_owned();
    let other = over_websocket(&fixture, &key, claims(None, "other")).await.expect("registered");

    fixture.server.kill_9();
    std::fs::remove_dir_all(fixture.server.data_dir()).expect("lose the data");
    copy(&backup, fixture.server.data_dir());
    fixture.server.resume();
    fixture.server.ready().await;
    fixture.reached_over(&issued, "websocket").await;
    // An id that was issued to another key pair, without a ticket and with that one's ticket.
    let mut thief = claims(Some(&other), "thief");
    let without = over_websocket(&fixture, &key, thief.clone()).await.expect("registered");
    assert_ne!(without["agent_id"], other["agent_id"]);
    thief["ticket"] = other["ticket"].clone();
    thief["key_seed"] = json!("second thief");
    let forged = over_websocket(&fixture, &key, thief).await.expect("registered");
    assert_ne!(forged["agent_id"], other["agent_id"]);
    let mut owner = claims(Some(&other), "other");
    owner["ticket"] = other["ticket"].clone();
    let kept = over_http(&fixture, &key, owner).await.expect("registered");
    assert_eq!(kept["agent_id"], other["agent_id"]);
}
