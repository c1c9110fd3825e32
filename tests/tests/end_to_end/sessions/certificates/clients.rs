//! Certificates of agents: issued over their key pairs, shown in the handshake of TLS, and required or not.

use std::path::PathBuf;

use muster_tests::{
    AgentOptions, Authority, CertifiedHost, Closed, Database, FakeAgent, Fixture, JsonFields as _,
    Script, ServerOptions, TestDir, TlsTerminator, certified_client, eventually, fake_time,
};
use serde_json::{Value, json};

/// A server that issues its certificate itself and requires certificates of these clients.
async fn requiring(who: &str) -> Fixture {
    requiring_with(who, |options, _| options).await
}

async fn requiring_with(
    who: &str,
    set: impl FnOnce(ServerOptions, &TestDir) -> ServerOptions,
) -> Fixture {
    let test_dir = TestDir::new();
    let options = ServerOptions::issuing(&test_dir).with("MUSTER_REQUIRE_CLIENT_CERT", who);
    let options = set(options, &test_dir);
    Fixture::on(test_dir, Database::Sqlite, options).await
}

fn authority(fixture: &Fixture) -> PathBuf {
    fixture.server.data_dir().join("ca.pem")
}

/// A host that is enrolled, and the key of its agent.
async fn enrolled(fixture: &Fixture) -> (CertifiedHost, String) {
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let mut host = CertifiedHost::new();
    host.enrol(&authority(fixture), &fixture.server.address(), &key).await;
    (host, key)
}

/// The only certificate of this agent, as the API shows it.
async fn shown(fixture: &Fixture, agent: &str) -> Value {
    let list = fixture.api.get("/api/certificates").await.expect(200);
    let items = list["items"].as_array().expect("items").clone();
    let of_agent = |item: &&Value| item["holder_id"] == agent;
    let found: Vec<_> = items.iter().filter(of_agent).cloned().collect();
    assert_eq!(found.len(), 1, "{list}");
    found[0].clone()
}

/// Registers over an open connection, and returns how the server ended it.
async fn refused(mut agent: FakeAgent, host: &CertifiedHost) -> Closed {
    agent.expect("connected").await;
    agent.register(host.registration()).await;
    agent.next().await.expect_err("the session is refused")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_enrols_and_works_where_certificates_are_required() {
    let fixture = requiring("agents").await;
    for transport in ["websocket", "http"] {
        let options = AgentOptions::with_scripts([Script::new("hello", "echo hello")]);
        let options = options.with("MUSTER_CA_FILE", authority(&fixture).display());
        let options = match transport {
            "http" => options.with("MUSTER_HTTP_FALLBACK", "only"),
            _ => options,
        };
        let (mut agent, id) =
            fixture.agent(AgentOptions { name: transport.into(), ..options }).await;
        fixture.reached_over(&id, transport).await;
        let command = fixture.api.execute(&id, "hello", json!({})).await;
        assert_eq!(fixture.api.finished(&command).await["state"], "succeeded");
        let log = agent.log();
        assert_eq!(log.matches("the server issued a certificate").count(), 1, "{log}");
        let first = shown(&fixture, &id).await;
        assert_eq!(first["state"], "valid", "{first}");
        // The stored certificate is shown after a restart; no other one is issued.
        agent.stop();
        agent.resume();
        fixture.reached_over(&id, transport).await;
        assert_eq!(shown(&fixture, &id).await, first);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_with_the_certificate_of_another_agent_is_refused() {
    for who in ["off", "agents"] {
        let fixture = requiring(who).await;
        let (authority, address) = (authority(&fixture), fixture.server.address());
        let (_, key) = fixture.api.agent_key(json!({"max_agents": 2})).await;
        let (mut victim, mut thief) = (CertifiedHost::new(), CertifiedHost::new());
        for host in [&mut victim, &mut thief] {
            let mut agent = host.connect(&authority, &address, &key).await;
            agent.expect("connected").await;
            agent.register(host.registration()).await;
            host.keep(&mut agent).await;
        }
        // The thief has its own certificate, and registers with the key pair of the victim.
        let agent = thief.connect(&authority, &address, &key).await;
        let closed = refused(agent, &victim).await;
        assert_eq!(closed, Closed::new(4011, "certificate_mismatch"), "{who}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_of_another_authority_counts_as_none() {
    let fixture = requiring("agents").await;
    let (authority, address) = (authority(&fixture), fixture.server.address());
    let (mut host, key) = enrolled(&fixture).await;
    let self_made = host.self_made();
    let mut agent = CertifiedHost::connect_with(Some(self_made), &authority, &address, &key).await;
    agent.expect("connected").await;
    agent.register(host.registration()).await;
    // It gets a certificate of this server, and nothing else.
    host.keep(&mut agent).await;
    agent.expect("drain").await;
    agent.send(json!({"type": "inventory_end"})).await;
    assert_eq!(agent.next().await.expect_err("the end").code, 1001);
    host.session(&authority, &address, &key).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_without_a_key_pair_is_refused_where_certificates_are_required() {
    let fixture = requiring("agents").await;
    let (authority, address) = (authority(&fixture), fixture.server.address());
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let host = CertifiedHost::new();
    let mut basic = host.connect(&authority, &address, &key).await;
    basic.expect("connected").await;
    basic.register(json!({"hostname": "basic"})).await;
    assert_eq!(basic.closed().await, Closed::new(4011, "certificate_missing"));
    let agent = fixture.api.with_key(&key);
    agent.get("/api/agents/poll?wait_ms=20000").await.expect_problem(403, "certificate_missing");
    agent.get("/api/agents/desired-release").await.expect_problem(403, "certificate_missing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxy_that_ends_tls_is_refused_where_certificates_are_required() {
    for who in ["off", "agents"] {
        let fixture = requiring(who).await;
        // The proxy has the certificate of another authority, which the host trusts too.
        let office = Authority::new(&fixture.test_dir);
        let (own, address) = (authority(&fixture), fixture.server.address());
        let (_, key) = fixture.api.agent_key(json!({})).await;
        let mut host = CertifiedHost::new();
        let mut first = host.connect(&own, &address, &key).await;
        first.expect("connected").await;
        first.register(host.registration()).await;
        host.keep(&mut first).await;
        let inner = certified_client(None, &own);
        let proxy = TlsTerminator::before_tls(&address, &office.installed(), inner).await;
        let mut agent = host.connect(office.file(), &proxy.address(), &key).await;
        agent.expect("connected").await;
        agent.register(host.registration()).await;
        match who {
            // The signed challenge proves the agent's identity through the proxy.
            "off" => drop(agent.expect("registered").await),
            _ => assert_eq!(agent.closed().await, Closed::new(4011, "certificate_missing")),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoked_certificate_ends_its_session_and_opens_no_other() {
    let fixture = requiring("agents").await;
    let (authority, address) = (authority(&fixture), fixture.server.address());
    let (mut host, key) = enrolled(&fixture).await;
    let (other, other_key) = enrolled(&fixture).await;
    let mut agent = host.session(&authority, &address, &key).await;
    let mut bystander = other.session(&authority, &address, &other_key).await;
    let certificate = shown(&fixture, host.agent_id()).await;
    let path = format!("/api/certificates/{}", certificate.id());
    fixture.api.delete(&path).await.expect(204);
    let revoked = Closed::new(4011, "certificate_revoked");
    assert_eq!(agent.closed().await, revoked);
    assert_eq!(shown(&fixture, host.agent_id()).await["state"], "revoked");
    // Neither with it nor without any: the key pair is what was revoked.
    for certificate in [host.certificate.take(), None] {
        host.certificate = certificate;
        let mut agent = host.connect(&authority, &address, &key).await;
        agent.expect("connected").await;
        agent.register(host.registration()).await;
        assert_eq!(agent.closed().await, revoked);
    }
    bystander.send(json!({"type": "heartbeat"})).await;
    bystander.expect("heartbeat_ack").await;
    let audit = fixture.api.get("/api/audit?action=certificate.revoke").await.expect(200);
    assert_eq!(audit["items"].as_array().map(Vec::len), Some(1), "{audit}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_is_renewed_within_the_session_at_two_thirds_of_its_time() {
    let clock = |test_dir: &TestDir| test_dir.path().join("clock");
    let fixture = requiring_with("agents", |options, test_dir| {
        std::fs::write(clock(test_dir), "+0").expect("write the clock");
        let options = options
            .with("MUSTER_HEARTBEAT_INTERVAL_MS", 1_000)
            .with("FAKETIME_TIMESTAMP_FILE", clock(test_dir).display())
            .with("FAKETIME_NO_CACHE", 1);
        // The file takes the place of the fixed offset.
        let moved = fake_time("+0").into_iter().filter(|(name, _)| *name != "FAKETIME");
        moved.fold(options, |options, (name, value)| options.with(name, value))
    })
    .await;
    let (authority, address) = (authority(&fixture), fixture.server.address());
    let (host, key) = enrolled(&fixture).await;
    let mut agent = host.session(&authority, &address, &key).await;
    agent.send(json!({"type": "heartbeat"})).await;
    agent.expect("heartbeat_ack").await;
    let first = shown(&fixture, host.agent_id()).await;

    std::fs::write(clock(&fixture.test_dir), "+21d").expect("write the clock");
    agent.send(json!({"type": "heartbeat"})).await;
    let mut frames =
        vec![agent.next().await.expect("a frame"), agent.next().await.expect("a frame")];
    frames.sort_by_key(|frame| frame["type"].as_str().map(str::to_owned));
    assert_eq!(frames[0]["type"], "certificate", "{frames:?}");
    assert_eq!(frames[1]["type"], "heartbeat_ack", "{frames:?}");
    let second = shown(&fixture, host.agent_id()).await;
    assert_eq!(second.id(), first.id());
    assert!(second.text("expires_at") > first.text("expires_at"), "{second}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_whose_certificate_expired_gets_another_one_by_its_key_pair() {
    // Both begin 40 days ago, which is within the time of the server's certificate.
    let past = fake_time("-40d");
    let begun = |options: ServerOptions, _: &TestDir| {
        past.iter().fold(options, |options, (name, value)| options.with(name, value))
    };
    let mut fixture = requiring_with("agents", begun).await;
    let options = AgentOptions::default().with("MUSTER_CA_FILE", authority(&fixture).display());
    let options = past.iter().fold(options, |options, (name, value)| options.with(name, value));
    let (mut agent, id) = fixture.agent(options).await;
    let first = shown(&fixture, &id).await;
    assert_eq!(first["state"], "valid", "{first}");
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let mut host = CertifiedHost::new();
    host.enrol(&authority(&fixture), &fixture.server.address(), &key).await;
    agent.stop();
    fixture.server.stop();
    let options = ServerOptions::issuing(&fixture.test_dir);
    fixture.server.resume_with(options.with("MUSTER_REQUIRE_CLIENT_CERT", "agents"));
    assert_eq!(shown(&fixture, &id).await["state"], "expired");
    // It counts as none: the session only enrols.
    host.enrol(&authority(&fixture), &fixture.server.address(), &key).await;
    for (name, _) in &past {
        agent.set(name, None);
    }
    agent.resume();
    let renewed = eventually("the agent has a new certificate", async || {
        let renewed = shown(&fixture, &id).await;
        (renewed["expires_at"] != first["expires_at"]).then_some(renewed)
    })
    .await;
    assert_eq!(renewed["state"], "valid", "{renewed}");
    assert_eq!(renewed.id(), first.id());
    fixture.reached_over(&id, "websocket").await;
}
