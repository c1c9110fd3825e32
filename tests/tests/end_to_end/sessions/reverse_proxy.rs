//! Servers behind a reverse proxy that ends TLS with a certificate of the company's own.

use muster_tests::{
    ALL, Agent, AgentOptions, Api, Authority, Doctor, LiveStream, Nginx, Script, Site, Tinyproxy,
    TlsFront, Upgrades, World, eventually, finding,
};
use serde_json::json;

/// A server behind nginx, and the authority that vouches for it.
struct Company {
    // Before the world: nothing may outlive the site.
    nginx: Nginx,
    authority: Authority,
    world: World,
}

async fn company(upgrades: Upgrades) -> Company {
    let world = World::on_sqlite().await;
    let authority = Authority::new(&world.site);
    let certificate = authority.installed();
    let nginx = Nginx::start(&world.site, &world.server.address(), &certificate, upgrades);
    Company { nginx, authority, world }
}

impl Company {
    fn options(&self) -> AgentOptions {
        AgentOptions::with_scripts([Script::new("hello", "echo through")])
            .with("MUSTER_CA_FILE", self.authority.file().display())
    }

    async fn runs_hello(&self, agent: &str) {
        let id = self.world.api.execute(agent, "hello", json!({})).await;
        assert_eq!(self.world.api.finished(&id).await["state"], "succeeded");
        assert_eq!(self.world.api.output(&id).await, b"through\n");
    }
}

#[tokio::test]
async fn an_agent_that_was_given_the_authority_gets_through_by_websocket() {
    let company = company(Upgrades::Passed).await;
    let url = company.nginx.url("localhost");
    let (_agent, id) = company.world.agent_through(&url, company.options()).await;
    company.world.reached_over(&id, "websocket").await;
    company.runs_hello(&id).await;
}

#[tokio::test]
async fn output_passes_live_where_other_answers_are_held_back() {
    let company = company(Upgrades::Passed).await;
    let scripts = [Script::new("sleep", "echo begun; exec sleep 600")];
    let (_agent, agent) = company.world.agent(AgentOptions::with_scripts(scripts)).await;
    let id = company.world.api.execute(&agent, "sleep", json!({})).await;
    let url = format!("{}/buffered", company.nginx.url("localhost"));
    let api = Api::trusting(&url, company.world.api.key(), Some(company.authority.file()));
    let live = format!("/api/executions/{id}/output/live");
    let mut stream = LiveStream::open(&api, &live, "").await.expect("a live stream");
    assert_eq!(stream.expect("output").await.data["text"], "begun\n");
    let cancel = format!("/api/commands/{id}/cancel");
    company.world.api.post(&cancel, json!({})).await.expect(202);
    assert_eq!(stream.expect("result").await.data["state"], "cancelled");
}

#[tokio::test]
async fn an_authority_that_was_renewed_is_read_again_without_a_restart() {
    let company = company(Upgrades::Passed).await;
    let file = company.world.site.path().join("authorities.pem");
    let elsewhere = Site::new();
    let older = Authority::new(&elsewhere);
    std::fs::copy(older.file(), &file).expect("write the older authority");
    let options = company.options().with("MUSTER_CA_FILE", file.display());
    let (key_id, key) = company.world.api.agent_key(json!({"permissions": ALL})).await;
    let url = company.nginx.url("localhost");
    let mut agent = Agent::start(&company.world.site, &url, &key, options);
    eventually("the agent does not trust the server", async || {
        agent.process().log().contains("MUSTER_CA_FILE").then_some(())
    })
    .await;
    std::fs::copy(company.authority.file(), &file).expect("write the newer authority");
    company.world.online(&key_id).await;
}

#[tokio::test]
async fn the_authority_may_stand_in_the_settings_file() {
    let company = company(Upgrades::Passed).await;
    let settings = company.world.site.path().join("agent.toml");
    let text = format!("ca_file = {:?}\n", company.authority.file());
    std::fs::write(&settings, text).expect("write the settings");
    let (_, key) = company.world.api.agent_key(json!({})).await;
    let doctor = Doctor::new(&company.world.site, &company.nginx.url("127.0.0.1"), &key);
    let said = doctor.say(&["--config", settings.to_str().expect("plain text")]).await;
    let text = said.expect(0);
    assert!(text.contains("the certificate of 127.0.0.1 is trusted until"), "{text}");
}

#[tokio::test]
async fn a_reverse_proxy_that_drops_upgrades_leaves_polling_over_tls() {
    let company = company(Upgrades::Dropped).await;
    let url = company.nginx.url("127.0.0.1");
    let (_agent, id) = company.world.agent_through(&url, company.options()).await;
    company.world.reached_over(&id, "http").await;
    company.runs_hello(&id).await;

    let (_, key) = company.world.api.agent_key(json!({})).await;
    let doctor = Doctor::new(&company.world.site, &url, &key)
        .with("MUSTER_CA_FILE", company.authority.file().display());
    let findings = doctor.findings(0).await;
    let websocket = finding(&findings, "websocket");
    assert_eq!(websocket["status"], "warn", "{websocket}");
    assert!(websocket["hint"].as_str().expect("a hint").contains("Upgrade"), "{websocket}");
    let key = finding(&findings, "key");
    assert_eq!(key["detail"], "the server accepts the key over HTTP", "{key}");
}

#[tokio::test]
async fn an_agent_reaches_tls_through_the_offices_proxy_by_either_transport() {
    let company = company(Upgrades::Passed).await;
    let proxy = Tinyproxy::start(&company.world.site);
    let options = company.options().with("HTTPS_PROXY", proxy.url());
    let url = company.nginx.url("127.0.0.1");
    let (mut agent, id) = company.world.agent_through(&url, options).await;
    company.world.reached_over(&id, "websocket").await;
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
    let (_agent, id) = company.world.agent_through(&url, options).await;
    company.world.reached_over(&id, "http").await;
    company.runs_hello(&id).await;
    assert!(connects() > before, "{:?}", proxy.requests());

    let (_, key) = company.world.api.agent_key(json!({})).await;
    let doctor = Doctor::new(&company.world.site, &url, &key)
        .with("MUSTER_CA_FILE", company.authority.file().display())
        .with("HTTPS_PROXY", proxy.url());
    let findings = doctor.findings(0).await;
    // The server stands on this host, which is seldom what a proxy is for.
    let through = finding(&findings, "proxy");
    assert_eq!(through["status"], "warn", "{through}");
    let detail = through["detail"].as_str().expect("a sentence");
    assert!(detail.contains(&format!("connects to {}", company.nginx.address())), "{through}");
    assert_eq!(finding(&findings, "tls")["status"], "ok");
    assert_eq!(
        finding(&findings, "key")["detail"],
        "the server accepts the key over the WebSocket"
    );
}

#[tokio::test]
async fn a_proxy_that_speaks_tls_itself_is_trusted_by_the_same_authority() {
    let company = company(Upgrades::Passed).await;
    let proxy = Tinyproxy::start(&company.world.site);
    let certificate = company.authority.installed();
    let front = TlsFront::before(&proxy.address(), &certificate).await;
    let url = company.nginx.url("127.0.0.1");
    for (name, fallback, transport) in [("one", "0", "websocket"), ("two", "only", "http")] {
        let before = proxy.requests().len();
        let options = AgentOptions { name: name.into(), ..company.options() }
            .with("HTTPS_PROXY", format!("https://office:open-sesame@{}", front.address()))
            .with("MUSTER_HTTP_FALLBACK", fallback);
        let (_agent, id) = company.world.agent_through(&url, options).await;
        company.world.reached_over(&id, transport).await;
        company.runs_hello(&id).await;
        assert!(proxy.requests().len() > before, "{name} went another way");
    }
}

#[tokio::test]
async fn a_missing_password_on_the_way_to_tls_is_told_over_either_transport() {
    let company = company(Upgrades::Passed).await;
    let proxy = Tinyproxy::start(&company.world.site);
    let (_, key) = company.world.api.agent_key(json!({})).await;
    for (name, fallback) in [("websocket", "0"), ("polling", "only")] {
        let options = AgentOptions { name: name.into(), ..company.options() }
            .with("HTTPS_PROXY", format!("http://{}", proxy.address()))
            .with("MUSTER_HTTP_FALLBACK", fallback);
        let url = company.nginx.url("127.0.0.1");
        let agent = Agent::start(&company.world.site, &url, &key, options);
        eventually("the agent says what the proxy wants", async || {
            agent.log().contains("requires a user name and password (407)").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn an_unknown_issuer_is_told_with_what_to_do_over_either_transport() {
    let company = company(Upgrades::Passed).await;
    let url = company.nginx.url("127.0.0.1");
    let (_, key) = company.world.api.agent_key(json!({})).await;
    for (name, fallback) in [("websocket", "0"), ("polling", "only")] {
        let options = AgentOptions::named(name).with("MUSTER_HTTP_FALLBACK", fallback);
        let agent = Agent::start(&company.world.site, &url, &key, options);
        eventually("the agent says whom it does not trust", async || {
            let log = agent.log();
            let is_told = log.contains("was issued by an authority that this host does not trust");
            (is_told && log.contains("MUSTER_CA_FILE")).then_some(())
        })
        .await;
    }
    let findings = Doctor::new(&company.world.site, &url, &key).findings(1).await;
    let tls = finding(&findings, "tls");
    assert_eq!(tls["status"], "fail", "{tls}");
    assert!(tls["hint"].as_str().expect("a hint").contains("MUSTER_CA_FILE"), "{tls}");
    let key = finding(&findings, "key");
    assert_eq!(key["detail"], "not checked, because tls failed", "{key}");
}

#[tokio::test]
async fn certificates_that_do_not_fit_are_told_apart() {
    let world = World::on_sqlite().await;
    let authority = Authority::new(&world.site);
    let (_, key) = world.api.agent_key(json!({})).await;
    for (names, days, code, verdict, sentence) in [
        (["other.example"], (-1, 90), 1, "fail", "not valid for 127.0.0.1, only for"),
        (["127.0.0.1"], (-9, -2), 1, "fail", "expired on"),
        (["127.0.0.1"], (2, 90), 1, "fail", "is not valid before"),
        (["127.0.0.1"], (-9, 5), 0, "warn", "is trusted until"),
        (["127.0.0.1"], (-9, 90), 0, "ok", "is trusted until"),
    ] {
        let certificate = authority.certify(&names, days);
        let address = world.server.address();
        let nginx = Nginx::start(&world.site, &address, &certificate, Upgrades::Passed);
        let doctor = Doctor::new(&world.site, &nginx.url("127.0.0.1"), &key)
            .with("MUSTER_CA_FILE", authority.file().display());
        let findings = doctor.findings(code).await;
        let tls = finding(&findings, "tls");
        assert_eq!(tls["status"], verdict, "{tls}");
        assert!(tls["detail"].as_str().expect("a sentence").contains(sentence), "{tls}");
        let is_about_time = sentence.contains("expired") || sentence.contains("before");
        let hint = tls["hint"].as_str().unwrap_or_default();
        assert_eq!(hint.contains("clock"), is_about_time, "{tls}");
    }
}
