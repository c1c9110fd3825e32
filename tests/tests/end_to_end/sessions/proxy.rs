//! Agents behind a proxy that wants a user name and password.

use muster_tests::{
    Agent, AgentOptions, ClosedPort, Doctor, Script, Site, Tinyproxy, World, eventually, finding,
};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

fn hello() -> AgentOptions {
    AgentOptions::with_scripts([Script::new("hello", "echo through")])
}

async fn runs_hello(world: &World, agent: &str) {
    let id = world.api.execute(agent, "hello", json!({})).await;
    assert_eq!(world.api.finished(&id).await["state"], "succeeded");
    assert_eq!(world.api.output(&id).await, b"through\n");
}

/// Neither as it is nor as it is sent, though everything there is to log is logged.
fn says_no_password(agent: &Agent) {
    let log = agent.log();
    for secret in ["sesame", "b2ZmaWNlOm9wZW4tc2VzYW1l"] {
        assert!(!log.contains(secret), "the password is in the log: {log}");
    }
}

#[tokio::test]
async fn a_websocket_goes_through_the_proxy_by_connect_and_the_password_is_in_no_log() {
    let world = World::on_sqlite().await;
    let proxy = Tinyproxy::start(&world.site);
    let options = hello().with("HTTP_PROXY", proxy.url()).with("MUSTER_LOG", "trace");
    let (agent, id) = world.agent(options).await;
    world.reached_over(&id, "websocket").await;
    assert!(proxy.has_connected_to(&world.server.address()), "{:?}", proxy.requests());
    runs_hello(&world, &id).await;
    let log = agent.log();
    assert!(log.contains(&proxy.address()), "the proxy is named: {log}");
    says_no_password(&agent);
}

#[tokio::test]
async fn polling_goes_through_the_proxy_too() {
    let world = World::on_sqlite().await;
    let proxy = Tinyproxy::start(&world.site);
    let options = hello()
        .with("http_proxy", proxy.url())
        .with("MUSTER_HTTP_FALLBACK", "only")
        .with("MUSTER_LOG", "trace");
    let (agent, id) = world.agent(options).await;
    world.reached_over(&id, "http").await;
    let request = format!("POST http://{}/api/agents/exchange ", world.server.address());
    let requests = proxy.requests();
    assert!(requests.iter().any(|line| line.starts_with(&request)), "{requests:?}");
    runs_hello(&world, &id).await;
    says_no_password(&agent);
}

#[tokio::test]
async fn a_proxy_that_forbids_tunnels_leaves_polling() {
    let world = World::on_sqlite().await;
    let proxy = Tinyproxy::with(&world.site, "ConnectPort 443");
    let (agent, id) = world.agent(hello().with("HTTP_PROXY", proxy.url())).await;
    world.reached_over(&id, "http").await;
    assert!(agent.log().contains("forbids connections to"), "{}", agent.log());
    runs_hello(&world, &id).await;

    let (_, key) = world.api.agent_key(json!({})).await;
    let doctor = Doctor::new(&world.site, &world.server.url(), &key);
    let doctor = doctor.with("HTTP_PROXY", proxy.url());
    let findings = doctor.findings(0).await;
    for check in ["proxy", "websocket"] {
        let detail = finding(&findings, check)["detail"].as_str().expect("a sentence");
        assert!(detail.contains("forbids connections to"), "{findings:#?}");
    }
    assert_eq!(finding(&findings, "key")["detail"], "the server accepts the key over HTTP");
    doctor.with("MUSTER_HTTP_FALLBACK", "0").findings(1).await;
}

#[tokio::test]
async fn a_proxy_is_used_under_a_supervisor_too_and_stands_in_for_all_schemes() {
    let world = World::on_sqlite().await;
    let proxy = Tinyproxy::start(&world.site);
    let options = AgentOptions::named("agent").supervised().with("ALL_PROXY", proxy.url());
    let (_agent, id) = world.agent(options).await;
    world.reached_over(&id, "websocket").await;
    assert!(proxy.has_connected_to(&world.server.address()), "{:?}", proxy.requests());
}

#[tokio::test]
async fn a_host_in_no_proxy_is_reached_without_the_proxy() {
    let world = World::on_sqlite().await;
    let proxy = Tinyproxy::start(&world.site);
    let options =
        hello().with("HTTP_PROXY", proxy.url()).with("NO_PROXY", "example.com,127.0.0.0/8");
    let (_agent, id) = world.agent(options).await;
    world.reached_over(&id, "websocket").await;
    runs_hello(&world, &id).await;
    assert_eq!(proxy.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn a_wrong_password_is_told_over_either_transport_and_never_shown() {
    let world = World::on_sqlite().await;
    let proxy = Tinyproxy::start(&world.site);
    let (_, key) = world.api.agent_key(json!({})).await;
    for (name, fallback) in [("websocket", "0"), ("polling", "only")] {
        let options = AgentOptions::named(name)
            .with("HTTP_PROXY", proxy.url_for("office:open-barley"))
            .with("MUSTER_HTTP_FALLBACK", fallback);
        let agent = Agent::start(&world.site, &world.server.url(), &key, options);
        eventually("the agent says what the proxy wants", async || {
            // This proxy says 407 only to those who name no password at all.
            agent.log().contains("rejects the user name and password (401)").then_some(())
        })
        .await;
        assert!(agent.log().contains("http://USER:PASSWORD@HOST:PORT"), "{}", agent.log());
        assert!(!agent.log().contains("barley"), "{}", agent.log());
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_told_over_either_transport() {
    let world = World::on_sqlite().await;
    let (_, key) = world.api.agent_key(json!({})).await;
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
            let agent = Agent::start(&world.site, &world.server.url(), &key, options);
            eventually("the agent says what is wrong with the proxy", async || {
                agent.log().contains(&sentence).then_some(())
            })
            .await;
        }
    }
}

/// The doctor's finding about the proxy at this address.
async fn proxy_finding(site: &Site, proxy: &str) -> serde_json::Value {
    let key = format!("mst_agent_{}", "x".repeat(43));
    let doctor = Doctor::new(site, "https://127.0.0.1:9", &key).with("HTTPS_PROXY", proxy);
    let findings = doctor.findings(1).await;
    let failed = findings.iter().find(|finding| finding["status"] == "fail");
    failed.expect("a failure").clone()
}

#[tokio::test]
async fn what_is_wrong_with_a_proxy_is_told_apart() {
    let site = Site::new();
    let proxy = Tinyproxy::with(&site, "ConnectPort 443");

    let missing = proxy_finding(&site, &format!("http://{}", proxy.address())).await;
    assert_eq!(missing["check"], "proxy", "{missing}");
    let detail = missing["detail"].as_str().expect("a sentence");
    assert!(detail.contains("requires a user name and password (407)"), "{missing}");

    let wrong = proxy_finding(&site, &proxy.url_for("office:open-barley")).await;
    assert!(
        wrong["detail"]
            .as_str()
            .expect("a sentence")
            .contains("rejects the user name and password"),
        "{wrong}"
    );
    assert!(!wrong.to_string().contains("barley"), "{wrong}");

    let forbidden = proxy_finding(&site, &proxy.url()).await;
    let detail = forbidden["detail"].as_str().expect("a sentence");
    assert!(detail.contains("forbids connections to 127.0.0.1:9 (403)"), "{forbidden}");

    let closed = ClosedPort::new();
    let silent = format!("http://127.0.0.1:{}", closed.number());
    let unreached = proxy_finding(&site, &silent).await;
    assert_eq!(unreached["check"], "tcp", "{unreached}");
    assert!(unreached["detail"].as_str().expect("a sentence").contains("of the proxy"));

    let unknown = proxy_finding(&site, "http://proxy.invalid:3128").await;
    assert_eq!(unknown["check"], "dns", "{unknown}");
    assert!(unknown["detail"].as_str().expect("a sentence").contains("proxy.invalid of the proxy"));
}

#[tokio::test]
async fn something_else_than_a_proxy_is_recognised_as_such() {
    let site = Site::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let address = listener.local_addr().expect("a bound address");
    let answering = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"SSH-2.0-something\r\n").await;
        }
    });
    let nonsense = proxy_finding(&site, &format!("http://{address}")).await;
    let detail = nonsense["detail"].as_str().expect("a sentence");
    assert_eq!(detail, format!("the answer from http://{address} is not from an HTTP proxy"));
    answering.abort();
}

#[tokio::test]
async fn a_proxy_of_a_kind_that_is_not_spoken_stops_the_agent_with_a_sentence() {
    let world = World::on_sqlite().await;
    let (_, key) = world.api.agent_key(json!({})).await;
    let options = AgentOptions::named("agent").with("ALL_PROXY", "socks5://u:sesame@127.0.0.1:1");
    let mut agent = Agent::start(&world.site, &world.server.url(), &key, options);
    assert_eq!(agent.process().ended().await.code(), Some(99));
    let log = agent.log();
    assert!(log.contains("the proxy in ALL_PROXY is a socks5 proxy"), "{log}");
    assert!(!log.contains("sesame"), "{log}");
}
