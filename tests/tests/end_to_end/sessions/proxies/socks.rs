//! Agents and command line behind a SOCKS5 proxy. The server's name resolves only there, so nothing can pass
//! around it.

use muster_tests::{
    Agent, AgentOptions, ClosedPort, Doctor, Fixture, JsonFields as _, Script, SocksBehaviour,
    SocksProxy, TestDir, eventually, finding,
};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

/// No resolver knows it.
const SERVER: &str = "http://server.invalid:8080";
const TARGET: &str = "server.invalid:8080";

fn hello(proxy: String) -> AgentOptions {
    AgentOptions::with_scripts([Script::new("hello", "echo through")])
        .with("ALL_PROXY", proxy)
        .with("MUSTER_INSECURE", 1)
        .with("MUSTER_LOG", "trace")
}

async fn runs_hello(fixture: &Fixture, agent: &str) {
    let id = fixture.api.execute(agent, "hello", json!({})).await;
    assert_eq!(fixture.api.finished(&id).await["state"], "succeeded");
    assert_eq!(fixture.api.output(&id).await, b"through\n");
}

fn says_no_password(agent: &Agent) {
    let log = agent.log();
    for secret in ["sesame", "open%20", "b3BlbiBzZXNhbWU"] {
        assert!(!log.contains(secret), "the password is in the log: {log}");
    }
}

async fn connects_over(transport: &str, fallback: &str, behaviour: SocksBehaviour) {
    let fixture = Fixture::on_sqlite().await;
    let proxy = SocksProxy::start(&fixture.server.address(), behaviour).await;
    let url = match behaviour {
        SocksBehaviour::Login => proxy.url_with_login("socks5h"),
        _ => proxy.url("socks5h"),
    };
    let options = hello(url).with("MUSTER_HTTP_FALLBACK", fallback);
    let (agent, id) = fixture.agent_through(SERVER, options).await;
    fixture.reached_over(&id, transport).await;
    runs_hello(&fixture, &id).await;
    assert!(proxy.requests().iter().all(|target| target == TARGET), "{:?}", proxy.requests());
    assert!(agent.log().contains(&proxy.url("socks5h")), "the proxy is named: {}", agent.log());
    says_no_password(&agent);
}

#[tokio::test]
async fn websocket_goes_through_a_socks_proxy_that_resolves_the_name() {
    connects_over("websocket", "0", SocksBehaviour::Open).await;
}

#[tokio::test]
async fn websocket_goes_through_a_socks_proxy_with_a_password_that_is_never_logged() {
    connects_over("websocket", "0", SocksBehaviour::Login).await;
}

#[tokio::test]
async fn polling_goes_through_a_socks_proxy() {
    connects_over("http", "only", SocksBehaviour::Open).await;
}

#[tokio::test]
async fn polling_goes_through_a_socks_proxy_with_a_password_that_is_never_logged() {
    connects_over("http", "only", SocksBehaviour::Login).await;
}

#[tokio::test]
async fn socks5_resolves_the_name_on_the_host_over_either_transport() {
    for (transport, fallback) in [("websocket", "0"), ("http", "only")] {
        let fixture = Fixture::on_sqlite().await;
        let proxy = SocksProxy::start(&fixture.server.address(), SocksBehaviour::Open).await;
        let closed = ClosedPort::new();
        let server = format!("http://localhost:{}", closed.number());
        let options = hello(proxy.url("socks5")).with("MUSTER_HTTP_FALLBACK", fallback);
        let (_agent, id) = fixture.agent_through(&server, options).await;
        fixture.reached_over(&id, transport).await;
        let requests = proxy.requests();
        let local =
            [format!("[127.0.0.1]:{}", closed.number()), format!("[::1]:{}", closed.number())];
        assert!(requests.iter().all(|target| local.contains(target)), "{requests:?}");
    }
}

#[tokio::test]
async fn host_in_no_proxy_is_reached_around_the_socks_proxy() {
    let fixture = Fixture::on_sqlite().await;
    let proxy = SocksProxy::start(&fixture.server.address(), SocksBehaviour::Open).await;
    let options = hello(proxy.url("socks5h")).with("no_proxy", "127.0.0.0/8");
    let (_agent, id) = fixture.agent(options).await;
    runs_hello(&fixture, &id).await;
    assert_eq!(proxy.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn refusal_of_a_socks_proxy_is_reported_over_either_transport() {
    let fixture = Fixture::on_sqlite().await;
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let proxy = SocksProxy::start(&fixture.server.address(), SocksBehaviour::Login).await;
    let refusing = SocksProxy::start(&fixture.server.address(), SocksBehaviour::Refuse(5)).await;
    let wrong = proxy.url_for("socks5h", "office:barley");
    for (name, url, sentence) in [
        ("missing", proxy.url("socks5h"), "requires a user name and password"),
        ("wrong", wrong, "rejects the user name and password"),
        ("refused", refusing.url("socks5h"), "server.invalid:8080: the connection was refused"),
    ] {
        for (transport, fallback) in [("websocket", "0"), ("polling", "only")] {
            let options = AgentOptions::named(&format!("{name}-{transport}"))
                .with("ALL_PROXY", &url)
                .with("MUSTER_INSECURE", 1)
                .with("MUSTER_HTTP_FALLBACK", fallback);
            let agent = Agent::start(&fixture.test_dir, SERVER, &key, options);
            eventually("the agent says what is wrong with the proxy", async || {
                agent.log().contains(sentence).then_some(())
            })
            .await;
            assert!(!agent.log().contains("barley"), "{}", agent.log());
        }
    }
}

#[tokio::test]
async fn doctor_goes_through_a_socks_proxy() {
    let fixture = Fixture::on_sqlite().await;
    let proxy = SocksProxy::start(&fixture.server.address(), SocksBehaviour::Login).await;
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let doctor = Doctor::new(&fixture.test_dir, SERVER, &key)
        .with("MUSTER_INSECURE", 1)
        .with("ALL_PROXY", proxy.url_with_login("socks5h"));
    let findings = doctor.findings(0).await;
    let detail = finding(&findings, "proxy").text("detail");
    assert_eq!(detail, format!("{} connects to {TARGET}", proxy.url("socks5h")));
    assert_eq!(finding(&findings, "websocket")["detail"], "WebSockets work");
    assert!(proxy.requests().iter().all(|target| target == TARGET), "{:?}", proxy.requests());
}

/// The doctor's finding about the proxy at this address.
async fn proxy_finding(test_dir: &TestDir, proxy: &str) -> serde_json::Value {
    let key = format!("mst_agent_{}", "x".repeat(43));
    let doctor = Doctor::new(test_dir, "https://server.invalid", &key).with("HTTPS_PROXY", proxy);
    let findings = doctor.findings(1).await;
    let failed = findings.iter().find(|finding| finding["status"] == "fail");
    failed.expect("a failure").clone()
}

#[tokio::test]
async fn each_failure_of_a_socks_proxy_is_reported_distinctly_and_says_what_to_do() {
    let test_dir = TestDir::new();
    let nowhere = "127.0.0.1:9";
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let no_socks = listener.local_addr().expect("a bound address");
    let answering = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let open = SocksProxy::start(nowhere, SocksBehaviour::Open).await;
    let login = SocksProxy::start(nowhere, SocksBehaviour::Login).await;
    let hanging = SocksProxy::start(nowhere, SocksBehaviour::Hang).await;
    let forbids = SocksProxy::start(nowhere, SocksBehaviour::Refuse(2)).await;
    let refused = SocksProxy::start(nowhere, SocksBehaviour::Refuse(4)).await;
    for (proxy, detail, hint) in [
        (open.url("socks5h"), "closed the connection without an answer", "is a SOCKS5 proxy"),
        (open.url_with_login("socks5h"), "does not accept user names", "remove user name"),
        (open.url("socks5"), "failed to resolve the name server.invalid", "as socks5h://"),
        (login.url("socks5h"), "requires a user name and password", "socks5h://USER:PASSWORD@"),
        (
            login.url_for("socks5h", "office:barley"),
            "rejects the user name and password",
            "socks5h://USER:PASSWORD@",
        ),
        (hanging.url("socks5h"), "did not answer within 10 s", "a proxy of the kind"),
        (forbids.url("socks5h"), "forbids connections to server.invalid:443", "permit connections"),
        (refused.url("socks5h"), "server.invalid:443: the host is unreachable", "can connect to"),
        (format!("socks5h://{no_socks}"), "is not from a SOCKS5 proxy", "address and scheme"),
    ] {
        let found = proxy_finding(&test_dir, &proxy).await;
        assert_eq!(found["check"], "proxy", "{found}");
        assert!(found.text("detail").contains(detail), "{proxy}: {found}");
        assert!(found.text("hint").contains(hint), "{proxy}: {found}");
        assert!(!found.to_string().contains("barley"), "{found}");
        assert!(!found.to_string().contains("sesame"), "{found}");
    }
    answering.abort();
}

#[tokio::test]
async fn command_line_goes_through_a_socks_proxy_and_never_around_it() {
    let fixture = Fixture::on_sqlite().await;
    let proxy = SocksProxy::start(&fixture.server.address(), SocksBehaviour::Login).await;
    let cli = muster_tests::Cli::new(&fixture.test_dir);
    let through = cli.clone().with("ALL_PROXY", proxy.url_with_login("socks5h"));
    let login = ["login", "--server", SERVER, "--insecure"];
    through.run_with_input(&login, fixture.api.key()).await.expect(0);
    through.run(&["agents", "list"]).await.expect(0);
    assert!(proxy.requests().iter().all(|target| target == TARGET), "{:?}", proxy.requests());
    assert!(!proxy.requests().is_empty());

    let wrong = cli.clone().with("ALL_PROXY", proxy.url_for("socks5h", "office:barley"));
    let refused = wrong.run(&["agents", "list"]).await;
    refused.expect(3);
    let place = format!("{SERVER}/ through the proxy {}: ", proxy.url("socks5h"));
    assert!(refused.stderr.contains(&place), "{}", refused.stderr);
    assert!(refused.stderr.contains("credentials not accepted"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("barley"), "{}", refused.stderr);

    let invalid = cli.with("ALL_PROXY", "socks4://u:sesame@127.0.0.1:1");
    let refused = invalid.run(&["agents", "list"]).await;
    refused.expect(2);
    assert!(refused.stderr.contains("ALL_PROXY"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("sesame"), "{}", refused.stderr);
}
