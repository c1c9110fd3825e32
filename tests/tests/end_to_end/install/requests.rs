//! An update that the host's owner asks for, where it is not as simple as that.

use muster_tests::{
    Agent, AgentOptions, Authority, Manager, Publisher, ServerOptions, World, agent_program,
    eventually,
};
use serde_json::json;

use super::{ALL, DEPLOY, Newcomer, complaint};

const OWN: &str = env!("CARGO_PKG_VERSION");
const WANTED: &str = "/api/agents/desired-release";

#[tokio::test]
async fn an_agent_that_nobody_supervises_says_so_and_runs_on() {
    let world = World::on_sqlite().await;
    let publisher = Publisher::new(&world).await;
    publisher.release("0.9.7").await;
    let (key_id, key) = world.api.agent_key(json!({"permissions": ALL})).await;
    let url = world.server.url();
    let options = AgentOptions::default();
    let agent = Agent::start(&world.site, &url, &key, options);
    let id = world.online(&key_id).await["id"].clone();
    let settings = [("MUSTER_API_KEY", key.as_str()), ("MUSTER_SERVER_URL", url.as_str())];
    for words in [&["request-update"][..], &["request-update", "--version", "0.9.7"]] {
        let said = agent_program(agent.state_dir(), words, &settings).await;
        said.expect(1);
        assert!(said.stderr.contains("not updated (not_supervised)"), "{}", said.stderr);
    }
    world.ask(id.as_str().expect("an id"), "ping", json!({})).await;
    let nowhere = world.site.folder("nowhere");
    let said = agent_program(&nowhere, &["request-update"], &settings).await;
    said.expect(1);
    assert!(said.stderr.contains("no agent runs on"), "{}", said.stderr);
}

#[tokio::test]
async fn an_agent_without_a_session_takes_the_request_and_the_release_is_not_blamed() {
    let newcomer = Newcomer::on(Manager::Bare).await;
    let publisher = Publisher::new(&newcomer.world).await;
    publisher.release(OWN).await;
    let words = format!("--key {} --release-key {}", newcomer.key, publisher.fingerprint());
    newcomer.host.run(&newcomer.line(&words)).await.expect(0);
    let knobs = "MUSTER_TRIAL_MS='3000'\nMUSTER_BACKOFF_MAX_MS='200'\n";
    let set = format!("printf %s \"{knobs}\" >>/etc/muster/agent.env && {DEPLOY} --start");
    newcomer.host.run(&set).await.expect(0);
    publisher.release("0.9.7").await;
    let path = format!("/api/agents/keys/{}", newcomer.key_id);
    newcomer.world.api.patch(&path, json!({"status": "disabled"})).await.expect(200);
    newcomer.world.with_status(&newcomer.key_id, "offline").await;

    let refused = newcomer.host.run(&format!("{DEPLOY} --update")).await;
    refused.expect(1);
    let said = newcomer.host.run(&format!("{DEPLOY} --update --version 0.9.7")).await;
    said.expect(1);
    assert!(complaint(&said).contains("failed (server_unreachable)"), "{}", said.stderr);
    newcomer.world.api.patch(&path, json!({"status": "active"})).await.expect(200);
    newcomer.host.run(&format!("{DEPLOY} --start")).await.expect(0);
    eventually("the server knows what came of it", async || {
        let agent = newcomer.world.online(&newcomer.key_id).await;
        let is_it = agent["version"] == OWN && agent["update"]["code"] == "server_unreachable";
        is_it.then_some(())
    })
    .await;
    newcomer.host.run(&format!("{DEPLOY} --update --version 0.9.7")).await.expect(0);
}

#[tokio::test]
async fn which_version_a_host_should_run_is_said_to_agents_keys() {
    let world = World::on_postgres().await;
    let (_agent, id) = world.agent(AgentOptions::default()).await;
    let (_, other) = world.api.agent_key(json!({})).await;
    let other = world.api.with_key(&other);
    world.api.get(WANTED).await.expect(401);
    world.api.with_key("").get(WANTED).await.expect(401);
    other.get(WANTED).await.expect_problem(409, "no_release");

    let publisher = Publisher::new(&world).await;
    publisher.release("0.9.6").await;
    publisher.release("0.9.7").await;
    let group = json!({"name": "all", "target": {"expression": "all"}, "desired_version": "0.9.6"});
    world.api.post("/api/groups", group).await.expect(201);
    // Of an agent that is not of the key nothing is said.
    for query in [format!("?agent_id={id}"), String::new()] {
        let told = other.get(&format!("{WANTED}{query}")).await.expect(200);
        assert_eq!(told, json!({"version": "0.9.7"}), "{query}");
    }
    let odd = other.get(&format!("{WANTED}?platform=macos-aarch64")).await;
    odd.expect_problem(409, "no_release");
    other.get(&format!("{WANTED}?agent_id=x")).await.expect_problem(400, "invalid_query");
}

#[tokio::test]
async fn the_first_key_that_comes_over_tls_is_trusted_from_then_on() {
    let mut newcomer = Newcomer::on(Manager::Bare).await;
    let publisher = Publisher::new(&newcomer.world).await;
    publisher.release(OWN).await;
    publisher.release("0.9.7").await;
    let authority = Authority::new(&newcomer.world.site);
    newcomer.world.server.stop();
    newcomer.world.server.resume_with(ServerOptions::secured(&authority));
    newcomer.world.server.ready().await;
    newcomer.world.api = newcomer.world.server.api();
    let ca = authority.file().display().to_string();
    let line = newcomer.line(&format!("--key {} --ca {ca} --version {OWN}", newcomer.key));
    let line = line.replacen("curl", &format!("curl --cacert {ca}"), 1);
    newcomer.host.run(&line).await.expect(0);
    let pinned = newcomer.host.run("cat /opt/muster/release_key").await.expect(0);
    assert_eq!(pinned.trim(), publisher.fingerprint());
    let said = newcomer.host.run(&format!("{DEPLOY} --update")).await.expect(0);
    assert!(said.contains(&format!("updated from {OWN} to 0.9.7")), "{said}");
}
