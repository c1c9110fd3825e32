//! Servers behind a reverse proxy that ends TLS with a company's own certificate.

use muster_tests::{
    ALL, Agent, AgentOptions, Api, Authority, Doctor, Fixture, JsonFields as _, LiveStream, Nginx,
    Script, TestDir, Tinyproxy, TlsTerminator, Upgrades, eventually, finding,
};
use serde_json::json;

/// A server behind nginx, and the authority of nginx's certificate.
struct Company {
    // Dropped before the fixture: no process may outlive its directory.
    nginx: Nginx,
    authority: Authority,
    fixture: Fixture,
}

async fn company(upgrades: Upgrades) -> Company {
    let fixture = Fixture::on_sqlite().await;
    let authority = Authority::new(&fixture.test_dir);
    let certificate = authority.installed();
    let nginx = Nginx::start(&fixture.test_dir, &fixture.server.address(), &certificate, upgrades);
    Company { nginx, authority, fixture }
}

impl Company {
    fn options(&self) -> AgentOptions {
        AgentOptions::with_scripts([Script::new("hello", "echo through")])
            .with("MUSTER_CA_FILE", self.authority.file().display())
    }

    async fn runs_hello(&self, agent: &str) {
        let id = self.fixture.api.execute(agent, "hello", json!({})).await;
        assert_eq!(self.fixture.api.finished(&id).await["state"], "succeeded");
        assert_eq!(self.fixture.api.output(&id).await, b"through\n");
    }
}

#[tokio::test]
async fn agent_with_the_authority_connects_by_websocket() {
    let company = company(Upgrades::Passed).await;
    let url = company.nginx.url("localhost");
    let (_agent, id) = company.fixture.agent_through(&url, company.options()).await;
    company.fixture.reached_over(&id, "websocket").await;
    company.runs_hello(&id).await;
}

#[tokio::test]
async fn live_output_passes_a_buffering_proxy() {
    let company = company(Upgrades::Passed).await;
    let scripts = [Script::new("sleep", "echo begun; exec sleep 600")];
    let (_agent, agent) = company.fixture.agent(AgentOptions::with_scripts(scripts)).await;
    let id = company.fixture.api.execute(&agent, "sleep", json!({})).await;
    let url = company.nginx.buffering_url("localhost");
    let api = Api::trusting(&url, company.fixture.api.key(), Some(company.authority.file()));
    let live = format!("/api/executions/{id}/output/live");
    let mut stream = LiveStream::open(&api, &live, "").await.expect("a live stream");
    assert_eq!(stream.expect("output").await.data["text"], "begun\n");
    let cancel = format!("/api/commands/{id}/cancel");
    company.fixture.api.post(&cancel, json!({})).await.expect(202);
    assert_eq!(stream.expect("result").await.data["state"], "cancelled");
}

#[tokio::test]
async fn renewed_authority_is_reloaded_without_a_restart() {
    let company = company(Upgrades::Passed).await;
    let file = company.fixture.test_dir.path().join("authorities.pem");
    let elsewhere = TestDir::new();
    let older = Authority::new(&elsewhere);
    std::fs::copy(older.file(), &file).expect("write the older authority");
    let options = company.options().with("MUSTER_CA_FILE", file.display());
    let (key_id, key) = company.fixture.api.agent_key(json!({"permissions": ALL})).await;
    let url = company.nginx.url("localhost");
    let mut agent = Agent::start(&company.fixture.test_dir, &url, &key, options);
    eventually("the agent does not trust the server", async || {
        agent.process().log().contains("MUSTER_CA_FILE").then_some(())
    })
    .await;
    std::fs::copy(company.authority.file(), &file).expect("write the newer authority");
    company.fixture.online(&key_id).await;
}

#[tokio::test]
async fn authority_can_be_set_in_the_settings_file() {
    let company = company(Upgrades::Passed).await;
    let settings = company.fixture.test_dir.path().join("agent.toml");
    let text = format!("ca_file = {:?}\n", company.authority.file());
    std::fs::write(&settings, text).expect("write the settings");
    let (_, key) = company.fixture.api.agent_key(json!({})).await;
    let doctor = Doctor::new(&company.fixture.test_dir, &company.nginx.url("127.0.0.1"), &key);
    let said = doctor.say(&["--config", settings.to_str().expect("plain text")]).await;
    let text = said.expect(0);
    assert!(text.contains("the certificate of 127.0.0.1 is trusted until"), "{text}");
}

#[tokio::test]
async fn reverse_proxy_that_drops_upgrades_allows_polling_over_tls() {
    let company = company(Upgrades::Dropped).await;
    let url = company.nginx.url("127.0.0.1");
    let (_agent, id) = company.fixture.agent_through(&url, company.options()).await;
    company.fixture.reached_over(&id, "http").await;
    company.runs_hello(&id).await;

    let (_, key) = company.fixture.api.agent_key(json!({})).await;
    let doctor = Doctor::new(&company.fixture.test_dir, &url, &key)
        .with("MUSTER_CA_FILE", company.authority.file().display());
    let findings = doctor.findings(0).await;
    let websocket = finding(&findings, "websocket");
    assert_eq!(websocket["status"], "warn", "{websocket}");
    assert!(websocket.text("hint").contains("Upgrade"), "{websocket}");
    let key = finding(&findings, "key");
    assert_eq!(key["detail"], "the server accepts the key over HTTP", "{key}");
}

#[tokio::test]
async fn reverse_proxy_with_small_bodies_is_noticed_and_passes_everything() {
    let company = company(Upgrades::DroppedWithSmallBodies).await;
    let url = company.nginx.url("127.0.0.1");
    let bytes = 12 * 1024 * 1024;
    let scripts = [
        Script::new("large", &format!("head -c {bytes} /dev/zero")),
        Script::new("hello", "echo through"),
    ];
    let options = AgentOptions { scripts: scripts.into(), ..company.options() }
        .with("MUSTER_HTTP_FALLBACK", "only");
    let (agent, id) = company.fixture.agent_through(&url, options).await;
    let api = &company.fixture.api;
    let large = api.execute(&id, "large", json!({})).await;
    api.output_reaches(&large, 1).await;
    company.runs_hello(&id).await;
    let command = api.finished(&large).await;
    assert_eq!(command["result"]["output_bytes"], bytes, "{command}");
    assert_eq!(command["result"]["output_complete"], true, "{command}");
    assert_eq!(agent.log().matches("registered").count(), 1, "{}", agent.log());

    let (_, key) = api.agent_key(json!({})).await;
    let doctor = Doctor::new(&company.fixture.test_dir, &url, &key)
        .with("MUSTER_CA_FILE", company.authority.file().display());
    let findings = doctor.findings(0).await;
    let websocket = finding(&findings, "websocket");
    assert!(websocket.text("detail").contains("a proxy refuses bodies above"), "{websocket}");
    assert!(websocket.text("hint").contains("client_max_body_size"), "{websocket}");
}

#[tokio::test]
async fn agent_reaches_tls_through_a_forward_proxy_by_either_transport() {
    let company = company(Upgrades::Passed).await;
    let proxy = Tinyproxy::start(&company.fixture.test_dir);
    let options = company.options().with("HTTPS_PROXY", proxy.url());
    let url = company.nginx.url("127.0.0.1");
    let (mut agent, id) = company.fixture.agent_through(&url, options).await;
    company.fixture.reached_over(&id, "websocket").await;
    company.runs_hello(&id).await;
    agent.stop();
    let connects = || {
        let wanted = format!("CONNECT {} ", company.nginx.address());
        proxy.requests().iter().filter(|line| line.starts_with(&wanted)).count()
    };
    let before = connects();
    assert!(before > 0, "{:?}", proxy.requests());

    let options = AgentOptions { name: "polling".into(), ..company.options() }
        .with("HTTPS_PROXY", proxy.url())
        .with("MUSTER_HTTP_FALLBACK", "only");
    let (_agent, id) = company.fixture.agent_through(&url, options).await;
    company.fixture.reached_over(&id, "http").await;
    company.runs_hello(&id).await;
    assert!(connects() > before, "{:?}", proxy.requests());

    let (_, key) = company.fixture.api.agent_key(json!({})).await;
    let doctor = Doctor::new(&company.fixture.test_dir, &url, &key)
        .with("MUSTER_CA_FILE", company.authority.file().display())
        .with("HTTPS_PROXY", proxy.url());
    let findings = doctor.findings(0).await;
    // The server is on this host, for which proxies are rarely meant.
    let through = finding(&findings, "proxy");
    assert_eq!(through["status"], "warn", "{through}");
    let detail = through.text("detail");
    assert!(detail.contains(&format!("connects to {}", company.nginx.address())), "{through}");
    assert_eq!(finding(&findings, "tls")["status"], "ok");
    assert_eq!(
        finding(&findings, "key")["detail"],
        "the server accepts the key over the WebSocket"
    );
}

#[tokio::test]
async fn proxy_that_uses_tls_is_trusted_by_the_same_authority() {
    let company = company(Upgrades::Passed).await;
    let proxy = Tinyproxy::start(&company.fixture.test_dir);
    let certificate = company.authority.installed();
    let front = TlsTerminator::before(&proxy.address(), &certificate).await;
    let url = company.nginx.url("127.0.0.1");
    for (name, fallback, transport) in [("one", "0", "websocket"), ("two", "only", "http")] {
        let before = proxy.requests().len();
        let options = AgentOptions { name: name.into(), ..company.options() }
            .with("HTTPS_PROXY", format!("https://office:open-sesame@{}", front.address()))
            .with("MUSTER_HTTP_FALLBACK", fallback);
        let (_agent, id) = company.fixture.agent_through(&url, options).await;
        company.fixture.reached_over(&id, transport).await;
        company.runs_hello(&id).await;
        assert!(proxy.requests().len() > before, "{name} went another way");
    }
}

#[tokio::test]
async fn missing_proxy_password_before_tls_is_reported_over_either_transport() {
    let company = company(Upgrades::Passed).await;
    let proxy = Tinyproxy::start(&company.fixture.test_dir);
    let (_, key) = company.fixture.api.agent_key(json!({})).await;
    for (name, fallback) in [("websocket", "0"), ("polling", "only")] {
        let options = AgentOptions { name: name.into(), ..company.options() }
            .with("HTTPS_PROXY", format!("http://{}", proxy.address()))
            .with("MUSTER_HTTP_FALLBACK", fallback);
        let url = company.nginx.url("127.0.0.1");
        let agent = Agent::start(&company.fixture.test_dir, &url, &key, options);
        eventually("the agent says what the proxy wants", async || {
            agent.log().contains("requires a user name and password (407)").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn unknown_issuer_is_reported_with_a_fix_over_either_transport() {
    let company = company(Upgrades::Passed).await;
    let url = company.nginx.url("127.0.0.1");
    let (_, key) = company.fixture.api.agent_key(json!({})).await;
    for (name, fallback) in [("websocket", "0"), ("polling", "only")] {
        let options = AgentOptions::named(name).with("MUSTER_HTTP_FALLBACK", fallback);
        let agent = Agent::start(&company.fixture.test_dir, &url, &key, options);
        eventually("the agent says whom it does not trust", async || {
            let log = agent.log();
            let is_told = log.contains("was issued by an authority that this host does not trust");
            (is_told && log.contains("MUSTER_CA_FILE")).then_some(())
        })
        .await;
    }
    let findings = Doctor::new(&company.fixture.test_dir, &url, &key).findings(1).await;
    let tls = finding(&findings, "tls");
    assert_eq!(tls["status"], "fail", "{tls}");
    assert!(tls.text("hint").contains("MUSTER_CA_FILE"), "{tls}");
    let key = finding(&findings, "key");
    assert_eq!(key["detail"], "not checked, because tls failed", "{key}");
}

#[tokio::test]
async fn each_certificate_error_is_reported_distinctly() {
    let fixture = Fixture::on_sqlite().await;
    let authority = Authority::new(&fixture.test_dir);
    let (_, key) = fixture.api.agent_key(json!({})).await;
    for (names, days, code, status, sentence) in [
        (["other.example"], (-1, 90), 1, "fail", "not valid for 127.0.0.1, only for"),
        (["127.0.0.1"], (-9, -2), 1, "fail", "expired on"),
        (["127.0.0.1"], (2, 90), 1, "fail", "is not valid before"),
        (["127.0.0.1"], (-9, 5), 0, "warn", "is trusted until"),
        (["127.0.0.1"], (-9, 90), 0, "ok", "is trusted until"),
    ] {
        let certificate = authority.certify(&names, days);
        let address = fixture.server.address();
        let nginx = Nginx::start(&fixture.test_dir, &address, &certificate, Upgrades::Passed);
        let doctor = Doctor::new(&fixture.test_dir, &nginx.url("127.0.0.1"), &key)
            .with("MUSTER_CA_FILE", authority.file().display());
        let findings = doctor.findings(code).await;
        let tls = finding(&findings, "tls");
        assert_eq!(tls["status"], status, "{tls}");
        assert!(tls.text("detail").contains(sentence), "{tls}");
        let is_about_time = sentence.contains("expired") || sentence.contains("before");
        let hint = tls["hint"].as_str().unwrap_or_default();
        assert_eq!(hint.contains("clock"), is_about_time, "{tls}");
    }
}
