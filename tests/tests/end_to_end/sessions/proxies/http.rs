//! Agents behind a proxy that requires a user name and password.

use muster_tests::{
    Agent, AgentOptions, ClosedPort, Doctor, Fixture, JsonFields as _, Script, TestDir, Tinyproxy,
    eventually, finding,
};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

fn hello() -> AgentOptions {
    AgentOptions::with_scripts([Script::new("hello", "echo through")])
}

async fn runs_hello(fixture: &Fixture, agent: &str) {
    let id = fixture.api.execute(agent, "hello", json!({})).await;
    assert_eq!(fixture.api.finished(&id).await["state"], "succeeded");
    assert_eq!(fixture.api.output(&id).await, b"through\n");
}

/// Neither in plain nor in encoded form, although the log level is the most detailed.
fn says_no_password(agent: &Agent) {
    let log = agent.log();
    for secret in ["sesame", "b2ZmaWNlOm9wZW4tc2VzYW1l"] {
        assert!(!log.contains(secret), "the password is in the log: {log}");
    }
}

#[tokio::test]
async fn websocket_uses_connect_and_the_proxy_password_is_never_logged() {
    let fixture = Fixture::on_sqlite().await;
    let proxy = Tinyproxy::start(&fixture.test_dir);
    let options = hello().with("HTTP_PROXY", proxy.url()).with("MUSTER_LOG", "trace");
    let (agent, id) = fixture.agent(options).await;
    fixture.reached_over(&id, "websocket").await;
    assert!(proxy.has_connected_to(&fixture.server.address()), "{:?}", proxy.requests());
    runs_hello(&fixture, &id).await;
    let log = agent.log();
    assert!(log.contains(&proxy.address()), "the proxy is named: {log}");
    says_no_password(&agent);
}

#[tokio::test]
async fn polling_uses_the_proxy() {
    let fixture = Fixture::on_sqlite().await;
    let proxy = Tinyproxy::start(&fixture.test_dir);
    let options = hello()
        .with("http_proxy", proxy.url())
        .with("MUSTER_HTTP_FALLBACK", "only")
        .with("MUSTER_LOG", "trace");
    let (agent, id) = fixture.agent(options).await;
    fixture.reached_over(&id, "http").await;
    let request = format!("POST http://{}/api/agents/exchange ", fixture.server.address());
    let requests = proxy.requests();
    assert!(requests.iter().any(|line| line.starts_with(&request)), "{requests:?}");
    runs_hello(&fixture, &id).await;
    says_no_password(&agent);
}

#[tokio::test]
async fn proxy_that_forbids_tunnels_allows_polling() {
    let fixture = Fixture::on_sqlite().await;
    let proxy = Tinyproxy::with(&fixture.test_dir, "ConnectPort 443");
    let (agent, id) = fixture.agent(hello().with("HTTP_PROXY", proxy.url())).await;
    fixture.reached_over(&id, "http").await;
    assert!(agent.log().contains("forbids connections to"), "{}", agent.log());
    runs_hello(&fixture, &id).await;

    let (_, key) = fixture.api.agent_key(json!({})).await;
    let doctor = Doctor::new(&fixture.test_dir, &fixture.server.url(), &key);
    let doctor = doctor.with("HTTP_PROXY", proxy.url());
    let findings = doctor.findings(0).await;
    for check in ["proxy", "websocket"] {
        let detail = finding(&findings, check).text("detail");
        assert!(detail.contains("forbids connections to"), "{findings:#?}");
    }
    assert_eq!(finding(&findings, "key")["detail"], "the server accepts the key over HTTP");
    doctor.with("MUSTER_HTTP_FALLBACK", "0").findings(1).await;
}

#[tokio::test]
async fn proxy_works_under_a_supervisor_and_for_all_schemes() {
    let fixture = Fixture::on_sqlite().await;
    let proxy = Tinyproxy::start(&fixture.test_dir);
    let options = AgentOptions::named("agent").supervised().with("ALL_PROXY", proxy.url());
    let (_agent, id) = fixture.agent(options).await;
    fixture.reached_over(&id, "websocket").await;
    assert!(proxy.has_connected_to(&fixture.server.address()), "{:?}", proxy.requests());
}

#[tokio::test]
async fn host_in_no_proxy_is_reached_directly() {
    let fixture = Fixture::on_sqlite().await;
    let proxy = Tinyproxy::start(&fixture.test_dir);
    let options =
        hello().with("HTTP_PROXY", proxy.url()).with("NO_PROXY", "example.com,127.0.0.0/8");
    let (_agent, id) = fixture.agent(options).await;
    fixture.reached_over(&id, "websocket").await;
    runs_hello(&fixture, &id).await;
    assert_eq!(proxy.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn wrong_proxy_password_is_reported_over_either_transport_and_never_shown() {
    let fixture = Fixture::on_sqlite().await;
    let proxy = Tinyproxy::start(&fixture.test_dir);
    let (_, key) = fixture.api.agent_key(json!({})).await;
    for (name, fallback) in [("websocket", "0"), ("polling", "only")] {
        let options = AgentOptions::named(name)
            .with("HTTP_PROXY", proxy.url_for("office:open-barley"))
            .with("MUSTER_HTTP_FALLBACK", fallback);
        let agent = Agent::start(&fixture.test_dir, &fixture.server.url(), &key, options);
        eventually("the agent says what the proxy wants", async || {
            // This proxy answers 407 only to requests without any credentials.
            agent.log().contains("rejects the user name and password (401)").then_some(())
        })
        .await;
        assert!(agent.log().contains("http://USER:PASSWORD@HOST:PORT"), "{}", agent.log());
        assert!(!agent.log().contains("barley"), "{}", agent.log());
    }
}

#[tokio::test]
async fn missing_proxy_is_reported_over_either_transport() {
    let fixture = Fixture::on_sqlite().await;
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let closed = ClosedPort::new();
    let refusing = format!("http://127.0.0.1:{}", closed.number());
    let unknown = "http://proxy.invalid:3128";
    for (name, proxy, sentence) in [
        ("unknown", unknown, format!("failed to resolve the name of the proxy {unknown}")),
        ("refusing", &refusing, format!("failed to connect to the proxy {refusing}")),
    ] {
        for (transport, fallback) in [("websocket", "0"), ("polling", "only")] {
            let options = AgentOptions::named(&format!("{name}-{transport}"))
                .with("HTTP_PROXY", proxy)
                .with("MUSTER_HTTP_FALLBACK", fallback);
            let agent = Agent::start(&fixture.test_dir, &fixture.server.url(), &key, options);
            eventually("the agent says what is wrong with the proxy", async || {
                agent.log().contains(&sentence).then_some(())
            })
            .await;
        }
    }
}

/// The doctor's finding about the proxy at this address.
async fn proxy_finding(test_dir: &TestDir, proxy: &str) -> serde_json::Value {
    let key = format!("mst_agent_{}", "x".repeat(43));
    let doctor = Doctor::new(test_dir, "https://127.0.0.1:9", &key).with("HTTPS_PROXY", proxy);
    let findings = doctor.findings(1).await;
    let failed = findings.iter().find(|finding| finding["status"] == "fail");
    failed.expect("a failure").clone()
}

#[tokio::test]
async fn each_proxy_failure_is_reported_distinctly() {
    let test_dir = TestDir::new();
    let proxy = Tinyproxy::with(&test_dir, "ConnectPort 443");

    let missing = proxy_finding(&test_dir, &format!("http://{}", proxy.address())).await;
    assert_eq!(missing["check"], "proxy", "{missing}");
    let detail = missing.text("detail");
    assert!(detail.contains("requires a user name and password (407)"), "{missing}");

    let wrong = proxy_finding(&test_dir, &proxy.url_for("office:open-barley")).await;
    assert!(wrong.text("detail").contains("rejects the user name and password"), "{wrong}");
    assert!(!wrong.to_string().contains("barley"), "{wrong}");

    let forbidden = proxy_finding(&test_dir, &proxy.url()).await;
    let detail = forbidden.text("detail");
    assert!(detail.contains("forbids connections to 127.0.0.1:9 (403)"), "{forbidden}");

    let closed = ClosedPort::new();
    let silent = format!("http://127.0.0.1:{}", closed.number());
    let unreached = proxy_finding(&test_dir, &silent).await;
    assert_eq!(unreached["check"], "tcp", "{unreached}");
    assert!(unreached.text("detail").contains("of the proxy"));

    let unknown = proxy_finding(&test_dir, "http://proxy.invalid:3128").await;
    assert_eq!(unknown["check"], "dns", "{unknown}");
    assert!(unknown.text("detail").contains("proxy.invalid of the proxy"));
}

#[tokio::test]
async fn server_that_is_not_a_proxy_is_detected() {
    let test_dir = TestDir::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let address = listener.local_addr().expect("a bound address");
    let answering = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"SSH-2.0-something\r\n").await;
        }
    });
    let nonsense = proxy_finding(&test_dir, &format!("http://{address}")).await;
    let detail = nonsense.text("detail");
    assert_eq!(detail, format!("the answer from http://{address} is not from an HTTP proxy"));
    answering.abort();
}

#[tokio::test]
async fn unsupported_proxy_scheme_stops_the_agent_with_a_reason() {
    let fixture = Fixture::on_sqlite().await;
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let options = AgentOptions::named("agent").with("ALL_PROXY", "socks4://u:sesame@127.0.0.1:1");
    let mut agent = Agent::start(&fixture.test_dir, &fixture.server.url(), &key, options);
    assert_eq!(agent.process().ended().await.code(), Some(99));
    let log = agent.log();
    assert!(log.contains("the proxy in ALL_PROXY is a socks4 proxy"), "{log}");
    assert!(!log.contains("sesame"), "{log}");
}
