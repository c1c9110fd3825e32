//! The server over TLS: what it serves, which certificate it presents to whom, and what it refuses.

use muster_tests::{
    AgentOptions, Authority, Cli, Database, FakeAgent, Fixture, Script, Secured, Server,
    ServerOptions, TestDir, connect, eventually, shown,
};
use nix::sys::signal::Signal;
use rustls::HandshakeKind;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A server over TLS with options set by `set`, and the authority of its certificate.
async fn secured(set: impl FnOnce(ServerOptions) -> ServerOptions) -> (Fixture, Authority) {
    let test_dir = TestDir::new();
    let authority = Authority::new(&test_dir);
    let options = set(ServerOptions::secured(&authority));
    (Fixture::on(test_dir, Database::Sqlite, options).await, authority)
}

/// An agent with a session over TLS.
async fn agent(fixture: &Fixture, authority: &Authority) -> FakeAgent {
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let address = fixture.server.address();
    FakeAgent::registered_over(authority.connect(&address).await, &address, &key).await
}

/// Sends one request over a connection, and reads until the end of the connection.
async fn ask(connection: &mut Secured) -> String {
    let request = b"GET /healthz HTTP/1.1\r\nhost: muster\r\nconnection: close\r\n\r\n";
    connection.write_all(request).await.expect("ask");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.expect("hear");
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_serves_everything_over_tls_and_reports_https_urls() {
    let (fixture, authority) = secured(|options| options).await;
    let address = fixture.server.address();
    assert_eq!(fixture.server.url(), format!("https://{address}"));
    let log = fixture.server.log();
    assert!(log.contains(&format!("https://{address}")), "{log}");
    assert!(log.contains("every user of this machine may read the private key"), "{log}");
    fixture.api.get("/api/agents").await.expect(200);
    agent(&fixture, &authority).await;
    for (version, protocols, chosen) in [
        (&rustls::version::TLS12, &["http/1.1"][..], Some("http/1.1")),
        (&rustls::version::TLS13, &["h2", "http/1.1"], Some("h2")),
        (&rustls::version::TLS13, &[], None),
    ] {
        let connection = connect(authority.client(&[version], protocols), &address).await;
        let (_, session) = connection.get_ref();
        assert_eq!(session.protocol_version(), Some(version.version));
        assert_eq!(session.alpn_protocol(), chosen.map(str::as_bytes));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reconnecting_client_resumes_the_tls_session_in_either_version() {
    let (fixture, authority) = secured(|options| options).await;
    for version in rustls::ALL_VERSIONS {
        let client = authority.client(&[version], &[]);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut connection = connect(client.clone(), &fixture.server.address()).await;
            // The ticket arrives before the answer.
            assert!(ask(&mut connection).await.starts_with("HTTP/1.1 200"));
            assert_eq!(connection.get_ref().1.handshake_kind(), Some(kind), "{version:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewed_certificate_is_used_for_new_connections_and_old_ones_stay_open() {
    let (fixture, authority) = secured(|options| options.with("MUSTER_TLS_CHECK_MS", 50)).await;
    let mut old = agent(&fixture, &authority).await;
    let renewed = authority.issue();
    authority.install(&renewed.certificate, &renewed.key);
    eventually("new connections are shown the new certificate", async || {
        let connection = authority.connect(&fixture.server.address()).await;
        (shown(&connection) == renewed.der).then_some(())
    })
    .await;
    old.send(json!({"type": "heartbeat"})).await;
    old.expect("heartbeat_ack").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_reloads_the_certificate_and_keeps_the_old_one_on_error() {
    let never = |options: ServerOptions| options.with("MUSTER_TLS_CHECK_MS", 3_600_000);
    let (mut fixture, authority) = secured(never).await;
    let address = fixture.server.address();
    let mut old = agent(&fixture, &authority).await;
    let before = shown(&authority.connect(&address).await);
    let (renewed, other) = (authority.issue(), authority.issue());

    authority.install(&renewed.certificate, &other.key);
    fixture.server.process().signal(Signal::SIGHUP);
    eventually("the log says what is wrong", async || {
        fixture.server.log().contains("does not belong to the certificate").then_some(())
    })
    .await;
    assert_eq!(shown(&authority.connect(&address).await), before);

    authority.install(&renewed.certificate, &renewed.key);
    fixture.server.process().signal(Signal::SIGHUP);
    eventually("new connections are shown the new certificate", async || {
        (shown(&authority.connect(&address).await) == renewed.der).then_some(())
    })
    .await;
    old.send(json!({"type": "heartbeat"})).await;
    old.expect("heartbeat_ack").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_with_an_invalid_certificate_does_not_start() {
    let test_dir = TestDir::new();
    let authority = Authority::new(&test_dir);
    let issued = authority.issue();
    authority.install(&issued.certificate, "");
    let options = ServerOptions::secured(&authority);
    for (options, sentence) in [
        (options.clone(), "contains no private key"),
        (options.with("MUSTER_TLS_CERT", "/nowhere/tls.crt"), "failed to read /nowhere/tls.crt"),
        (ServerOptions::default().with("MUSTER_TLS_CERT", "/tls.crt"), "setting `tls_key`"),
    ] {
        let server = Server::unstarted(&test_dir, Database::Sqlite, options);
        let mut process = server.spawn();
        assert!(!process.ended().await.success());
        assert!(process.log().contains(sentence), "{}", process.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_on_the_tls_port_gets_an_explanation() {
    let (fixture, _authority) = secured(|options| options).await;
    let mut stream = TcpStream::connect(fixture.server.address()).await.expect("reach the server");
    let request = b"GET /api/agents HTTP/1.1\r\nhost: muster\r\n\r\n";
    stream.write_all(request).await.expect("ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("a clean end");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("use https://"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_works_over_tls_and_the_command_line_stores_the_authority() {
    let (fixture, authority) = secured(|options| options).await;
    let file = authority.file().display().to_string();
    let options = AgentOptions::with_scripts([Script::new("hello", "echo hello")]);
    let (_agent, id) = fixture.agent(options.with("SSL_CERT_FILE", &file)).await;
    fixture.reached_over(&id, "websocket").await;

    let cli = Cli::new(&fixture.test_dir);
    let url = fixture.server.url();
    let strange = cli.run_with_input(&["login", "--server", &url], fixture.api.key()).await;
    strange.expect(3);
    assert!(strange.stderr.contains("certificate"), "{}", strange.stderr);
    let login = ["login", "--server", &url, "--ca-file", &file];
    cli.run_with_input(&login, fixture.api.key()).await.expect(0);
    assert_eq!(cli.run(&["run", &id, "hello"]).await.expect(0), "hello\n");
}
