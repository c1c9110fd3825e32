//! From one authority of the server to the next: agents that work, agents that were away, and what is refused.

use std::path::{Path, PathBuf};

use muster_tests::{
    Agent, AgentOptions, AuthorityRollover, CertifiedHost, Cli, Database, FakeAgent, Fixture,
    JsonFields as _, PostgresDatabase, Script, ServerOptions, TestDir, eventually, shown,
    try_connect,
};
use rustls::server::ParsedCertificate;
use serde_json::{Value, json};

/// A server that issues its certificate itself and requires certificates of agents.
async fn issuing(database: Database) -> Fixture {
    let test_dir = TestDir::new();
    let options = ServerOptions::issuing(&test_dir)
        .with("MUSTER_REQUIRE_CLIENT_CERT", "agents")
        .with("MUSTER_HEARTBEAT_INTERVAL_MS", 1_000);
    Fixture::on(test_dir, database, options).await
}

/// A copy of what the server shows clients to trust now.
fn copy_authority(fixture: &Fixture, name: &str) -> PathBuf {
    let copy = fixture.test_dir.folder("authorities").join(name);
    std::fs::copy(fixture.server.data_dir().join("ca.pem"), &copy).expect("copy the authority");
    copy
}

async fn agent(fixture: &Fixture, name: &str, authority: &Path) -> (Agent, String) {
    let options = AgentOptions::with_scripts([Script::new("hello", "echo hello")]);
    let options = AgentOptions { name: name.into(), ..options };
    let options = options.with("MUSTER_BACKOFF_MAX_MS", 500);
    fixture.agent(options.with("MUSTER_CA_FILE", authority.display())).await
}

async fn rollover(fixture: &Fixture) -> Value {
    fixture.api.get("/api/certificates/rollover").await.expect(200)
}

async fn step(fixture: &Fixture, action: &str) -> Value {
    fixture.api.post("/api/certificates/rollover", json!({"action": action})).await.expect(200)
}

/// Waits until so many agents have stored the new authority.
async fn confirmed(fixture: &Fixture, count: u64) {
    eventually("the agents have stored the new authority", async || {
        (rollover(fixture).await["confirmed_count"] == count).then_some(())
    })
    .await;
}

async fn works(fixture: &Fixture, id: &str) {
    let command = fixture.api.execute(id, "hello", json!({})).await;
    assert_eq!(fixture.api.finished(&command).await["state"], "succeeded");
}

/// The public key of the server, which its pin names.
async fn public_key(fixture: &Fixture, authority: &Path) -> Vec<u8> {
    let connection = try_connect(authority, &fixture.server.address()).await.expect("trusted");
    let certificate = shown(&connection);
    let parsed = ParsedCertificate::try_from(&certificate).expect("a certificate");
    parsed.subject_public_key_info().to_vec()
}

/// The last certificate of a bundle alone: that of the announced authority.
fn last_of(fixture: &Fixture, bundle: &Path) -> PathBuf {
    let text = std::fs::read_to_string(bundle).expect("a bundle");
    let start = text.rfind("-----BEGIN").expect("PEM");
    let path = fixture.test_dir.folder("authorities").join("next.pem");
    std::fs::write(&path, &text[start..]).expect("write the authority");
    path
}

async fn operator(fixture: &Fixture, authority: &Path) -> Cli {
    let cli = Cli::new(&fixture.test_dir);
    let (url, authority) = (fixture.server.url(), authority.display().to_string());
    let args = ["login", "--server", &url, "--ca-file", &authority];
    cli.run_with_input(&args, fixture.api.key()).await.expect(0);
    cli
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authority_is_replaced_while_agents_work_and_one_that_was_away_returns() {
    for is_postgres in [false, true] {
        let database = match is_postgres {
            true => Database::Postgres(PostgresDatabase::empty()),
            false => Database::Sqlite,
        };
        let mut fixture = issuing(database).await;
        let old = copy_authority(&fixture, "old.pem");
        let cli = operator(&fixture, &old).await;
        let (mut present, present_id) = agent(&fixture, "present", &old).await;
        let (mut away, away_id) = agent(&fixture, "away", &old).await;
        let pin = public_key(&fixture, &old).await;
        away.stop();
        eventually("the agent is offline", async || {
            let shown = fixture.api.get(&format!("/api/agents/{away_id}")).await.expect(200);
            (shown["status"] == "offline").then_some(())
        })
        .await;

        let announced = cli.run(&["ca", "rollover"]).await.expect(0);
        assert!(announced.contains("announced"), "{announced}");
        confirmed(&fixture, 1).await;
        let new = last_of(&fixture, &copy_authority(&fixture, "both.pem"));
        let counted = cli.run(&["ca", "rollover", "--dry-run"]).await.expect(1);
        assert!(counted.contains(&away_id) && !counted.contains(&present_id), "{counted}");
        // The former authority still signs, also after a restart.
        fixture.server.stop();
        fixture.server.resume();
        let address = fixture.server.address();
        assert!(try_connect(&new, &address).await.is_err());
        fixture.reached_over(&present_id, "websocket").await;

        cli.run(&["ca", "rollover", "--switch"]).await.expect(0);
        let switched =
            eventually("the new authority signs", async || try_connect(&new, &address).await.ok())
                .await;
        // A client that trusts only the former one gets the proof.
        assert_eq!(switched.get_ref().1.peer_certificates().map(<[_]>::len), Some(2));
        assert_eq!(public_key(&fixture, &old).await, pin);
        assert_eq!(public_key(&fixture, &new).await, pin);
        away.resume();
        fixture.reached_over(&away_id, "websocket").await;
        works(&fixture, &away_id).await;
        confirmed(&fixture, 2).await;
        let left = cli.run(&["ca", "rollover", "--dry-run"]).await;
        left.expect(0);
        assert!(left.stderr.contains("--retire"), "{}", left.stderr);

        cli.run(&["ca", "rollover", "--retire"]).await.expect(0);
        eventually("the former authority is retired", async || {
            try_connect(&old, &address).await.err()
        })
        .await;
        fixture.api = fixture.server.api();
        for (agent, id) in [(&mut present, &present_id), (&mut away, &away_id)] {
            agent.stop();
            agent.resume();
            fixture.reached_over(id, "websocket").await;
            works(&fixture, id).await;
        }
        fixture.server.stop();
        fixture.server.resume();
        for id in [&present_id, &away_id] {
            fixture.reached_over(id, "websocket").await;
        }
        let audit = fixture.api.get("/api/audit?action=authority.retire").await.expect(200);
        assert_eq!(audit["items"].as_array().map(Vec::len), Some(1), "{audit}");
        let status = fixture.api.get("/api/certificates/status").await.expect(200);
        assert_eq!(status["rollover"], "none", "{status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fleet_follows_its_server_and_those_who_stay_away_are_named() {
    let test_dir = TestDir::new();
    let options = ServerOptions::issuing(&test_dir)
        .with("MUSTER_REQUIRE_CLIENT_CERT", "agents")
        .with("MUSTER_HEARTBEAT_INTERVAL_MS", 600_000);
    let fixture = Fixture::on(test_dir, Database::Sqlite, options).await;
    let report = AuthorityRollover { hosts: 40, away_of: 10 }.run(&fixture).await;
    assert_eq!((report.returned, report.stranded), (2, 2), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switch_waits_for_agents_online_and_an_abort_leaves_no_trace() {
    let fixture = issuing(Database::Sqlite).await;
    let old = copy_authority(&fixture, "old.pem");
    let (address, url) = (fixture.server.address(), "/api/certificates/rollover");
    let refused = async |action: &str, code: &str| {
        let body = json!({"action": action});
        fixture.api.post(url, body).await.expect_problem(409, code)
    };
    for action in ["switch", "retire", "abort"] {
        refused(action, "rollover_state").await;
    }
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let mut host = CertifiedHost::new().named("unable");
    host.enrol(&old, &address, &key).await;
    let _session = host.session(&old, &address, &key).await;
    step(&fixture, "announce").await;
    refused("announce", "rollover_state").await;
    let refusal = refused("switch", "agents_unconfirmed").await;
    assert!(refusal.to_string().contains("unable"), "{refusal}");
    let status = rollover(&fixture).await;
    assert_eq!(status["agents"][0]["can_follow"], false, "{status}");
    let announced = last_of(&fixture, &copy_authority(&fixture, "both.pem"));
    step(&fixture, "abort").await;
    assert_eq!(rollover(&fixture).await["state"], "none");
    assert!(try_connect(&announced, &address).await.is_err());
    try_connect(&old, &address).await.expect("the authority is the same");

    step(&fixture, "announce").await;
    let forced = json!({"action": "switch", "force": true});
    fixture.api.post(url, forced).await.expect(200);
    refused("abort", "rollover_state").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_of_a_retired_authority_counts_as_none() {
    let fixture = issuing(Database::Sqlite).await;
    let (old, address) = (copy_authority(&fixture, "old.pem"), fixture.server.address());
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let mut host = CertifiedHost::new().following();
    host.enrol(&old, &address, &key).await;
    let mut session = host.session(&old, &address, &key).await;
    step(&fixture, "announce").await;
    let new = last_of(&fixture, &copy_authority(&fixture, "both.pem"));
    host.follow(&mut session).await;
    confirmed(&fixture, 1).await;
    step(&fixture, "switch").await;
    let former = host.certificate.clone();
    eventually("the new authority signs", async || try_connect(&new, &address).await.ok()).await;
    // It counts until the end of the rollover; the session renews it.
    session.send(json!({"type": "heartbeat"})).await;
    let renewed = eventually("the certificate is renewed", async || {
        let frame = session.next().await.expect("a frame");
        (frame["type"] == "certificate").then(|| frame.text("certificate").to_owned())
    })
    .await;
    step(&fixture, "retire").await;
    eventually("the former authority is retired", async || try_connect(&old, &address).await.err())
        .await;
    let registers = async |host: &CertifiedHost| {
        let mut agent: FakeAgent = host.connect(&new, &address, &key).await;
        agent.expect("connected").await;
        agent.register(host.registration()).await;
        agent.expect("registered").await;
        agent.next().await.expect("a frame")
    };
    host.certificate = former;
    let frame = registers(&host).await;
    assert_eq!(frame["type"], "certificate", "it only enrols: {frame}");
    host.certificate = Some(renewed);
    let frame = registers(&host).await;
    assert_eq!(frame["type"], "authorities", "the session is open: {frame}");
}
