//! Installation in a company's network, with its own authority and proxy.

use muster_tests::{
    Authority, Database, Fixture, Host, Manager, Reaction, ServerOptions, TestDir, Tinyproxy,
    WebhookSink,
};

use super::{ALL, DEPLOY, NewHost, complaint};

#[tokio::test]
async fn private_authority_is_trusted_in_addition_to_those_of_the_host() {
    let test_dir = TestDir::new();
    let authority = Authority::new(&test_dir);
    let options = ServerOptions::secured(&authority);
    let fixture = Fixture::on(test_dir, Database::Sqlite, options).await;
    let host = Host::boot(&fixture.test_dir, Manager::Bare).await;
    let (key_id, key) = fixture.api.agent_key(serde_json::json!({"permissions": ALL})).await;
    let new_host = NewHost { fixture, host, key_id, key };
    let ca = authority.file().display().to_string();
    let line =
        |words: &str| new_host.line(words).replacen("curl", &format!("curl --cacert {ca}"), 1);

    let refused = new_host.host.run(&line(&format!("--key {}", new_host.key))).await;
    refused.expect(1);
    assert!(complaint(&refused).contains("--ca FILE"), "{}", refused.stderr);
    // A curl that records its arguments.
    let curl = "#!/bin/sh\necho \"$*\" >>/tmp/calls\nexec /usr/bin/curl \"$@\"\n";
    std::fs::write(new_host.host.file("/usr/local/bin/curl"), curl).expect("written");
    new_host.host.run("chmod 755 /usr/local/bin/curl").await.expect(0);
    new_host.host.run(&line(&format!("--key {} --ca {ca}", new_host.key))).await.expect(0);
    let calls = new_host.host.run("grep -e ' -o ' /tmp/calls").await.expect(0);
    assert!(calls.lines().count() >= 4, "{calls}");
    for call in calls.lines() {
        assert!(call.contains("--proto =https --proto-redir =https"), "{call}");
    }
    new_host.fixture.online(&new_host.key_id).await;
    // It is stored, so later runs need not name it.
    new_host.host.run(DEPLOY).await.expect(0);
    new_host.host.run(&format!("{DEPLOY} --status")).await.expect(0);
    new_host.host.run("test -s /etc/muster/ca.pem").await.expect(0);
}

#[tokio::test]
async fn proxy_of_the_environment_is_used_and_stored() {
    let new_host = NewHost::on(Manager::Bare).await;
    let proxy = Tinyproxy::start(&new_host.fixture.test_dir);
    let line = new_host.line(&format!("--key {}", new_host.key));
    let line = format!("export HTTP_PROXY={} http_proxy={}; {line}", proxy.url(), proxy.url());
    new_host.host.run(&line).await.expect(0);
    new_host.fixture.online(&new_host.key_id).await;
    let address = new_host.fixture.server.address();
    assert!(proxy.has_connected_to(&address), "{:?}", proxy.requests());
    let program = format!("GET http://{address}/install/");
    assert!(
        proxy.requests().iter().any(|line| line.starts_with(&program)),
        "{:?}",
        proxy.requests()
    );
    new_host.host.run("grep -q \"^HTTP_PROXY='http://\" /etc/muster/agent.env").await.expect(0);
    // Without the environment it still uses the proxy.
    let before = proxy.requests().len();
    new_host.host.run(DEPLOY).await.expect(0);
    assert!(proxy.requests().len() > before, "{:?}", proxy.requests());
}

#[tokio::test]
async fn downloads_follow_no_redirect_with_curl_or_with_any_wget() {
    let new_host = NewHost::on(Manager::Bare).await;
    let host = &new_host.host;
    let url = new_host.fixture.server.url();
    host.run(&format!("curl -fsS {url}/install/deploy.sh >/srv/deploy.sh")).await.expect(0);
    let platform = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
    let target = format!("{url}/install/{platform}/SHA256SUMS");
    let redirect = || Reaction::Answer(307, vec![("location", target.clone())], String::new());
    let redirecting = WebhookSink::start((0..3).map(|_| redirect())).await;
    let line = format!(
        "sh /srv/deploy.sh --native --server http://{} --key {}",
        redirecting.address(),
        new_host.key
    );
    let wget = "mv /usr/bin/curl /usr/bin/curl.away";
    let busybox = "ln -s /usr/bin/busybox /usr/local/bin/wget";
    for prepare in ["true", wget, busybox] {
        host.run(prepare).await.expect(0);
        let refused = host.run(&line).await;
        refused.expect(1);
        let reason = complaint(&refused);
        assert!(reason.contains("redirects to another address"), "{prepare}: {reason}");
        host.run("test ! -e /opt/muster").await.expect(0);
    }
    // Without a redirect the same wget installs.
    let line = format!("sh /srv/deploy.sh --native --key {}", new_host.key);
    host.run(&line).await.expect(0);
    new_host.fixture.online(&new_host.key_id).await;
}
