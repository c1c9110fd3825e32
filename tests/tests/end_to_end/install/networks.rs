//! Through a company's network: its own authority, its proxy.

use muster_tests::{
    Authority, Database, Host, Manager, Reaction, Receiver, ServerOptions, Site, Tinyproxy, World,
};

use super::{ALL, DEPLOY, Newcomer, complaint};

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_beside_the_hosts() {
    let site = Site::new();
    let authority = Authority::new(&site);
    let options = ServerOptions::secured(&authority);
    let world = World::on(site, Database::Sqlite, options).await;
    let host = Host::boot(&world.site, Manager::Bare).await;
    let (key_id, key) = world.api.agent_key(serde_json::json!({"permissions": ALL})).await;
    let newcomer = Newcomer { world, host, key_id, key };
    let ca = authority.file().display().to_string();
    let line =
        |words: &str| newcomer.line(words).replacen("curl", &format!("curl --cacert {ca}"), 1);

    let refused = newcomer.host.run(&line(&format!("--key {}", newcomer.key))).await;
    refused.expect(1);
    assert!(complaint(&refused).contains("--ca FILE"), "{}", refused.stderr);
    // A curl that notes what it is called with.
    let curl = "#!/bin/sh\necho \"$*\" >>/tmp/calls\nexec /usr/bin/curl \"$@\"\n";
    std::fs::write(newcomer.host.file("/usr/local/bin/curl"), curl).expect("written");
    newcomer.host.run("chmod 755 /usr/local/bin/curl").await.expect(0);
    newcomer.host.run(&line(&format!("--key {} --ca {ca}", newcomer.key))).await.expect(0);
    let calls = newcomer.host.run("grep -e ' -o ' /tmp/calls").await.expect(0);
    assert!(calls.lines().count() >= 4, "{calls}");
    for call in calls.lines() {
        assert!(call.contains("--proto =https --proto-redir =https"), "{call}");
    }
    newcomer.world.online(&newcomer.key_id).await;
    // It is kept: later runs need not name it.
    newcomer.host.run(DEPLOY).await.expect(0);
    newcomer.host.run(&format!("{DEPLOY} --status")).await.expect(0);
    newcomer.host.run("test -s /etc/muster/ca.pem").await.expect(0);
}

#[tokio::test]
async fn the_proxy_of_the_environment_is_used_and_kept() {
    let newcomer = Newcomer::on(Manager::Bare).await;
    let proxy = Tinyproxy::start(&newcomer.world.site);
    let line = newcomer.line(&format!("--key {}", newcomer.key));
    let line = format!("export HTTP_PROXY={} http_proxy={}; {line}", proxy.url(), proxy.url());
    newcomer.host.run(&line).await.expect(0);
    newcomer.world.online(&newcomer.key_id).await;
    let address = newcomer.world.server.address();
    assert!(proxy.has_connected_to(&address), "{:?}", proxy.requests());
    let program = format!("GET http://{address}/install/");
    assert!(
        proxy.requests().iter().any(|line| line.starts_with(&program)),
        "{:?}",
        proxy.requests()
    );
    newcomer.host.run("grep -q \"^HTTP_PROXY='http://\" /etc/muster/agent.env").await.expect(0);
    // Without the environment it goes the same way.
    let before = proxy.requests().len();
    newcomer.host.run(DEPLOY).await.expect(0);
    assert!(proxy.requests().len() > before, "{:?}", proxy.requests());
}

#[tokio::test]
async fn downloads_follow_no_redirect_with_curl_or_with_any_wget() {
    let newcomer = Newcomer::on(Manager::Bare).await;
    let host = &newcomer.host;
    let url = newcomer.world.server.url();
    host.run(&format!("curl -fsS {url}/install/deploy.sh >/srv/deploy.sh")).await.expect(0);
    let platform = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
    let target = format!("{url}/install/{platform}/SHA256SUMS");
    let redirect = || Reaction::Answer(307, vec![("location", target.clone())], String::new());
    let redirecting = Receiver::start((0..3).map(|_| redirect())).await;
    let line = format!(
        "sh /srv/deploy.sh --native --server http://{} --key {}",
        redirecting.address(),
        newcomer.key
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
    let line = format!("sh /srv/deploy.sh --native --key {}", newcomer.key);
    host.run(&line).await.expect(0);
    newcomer.world.online(&newcomer.key_id).await;
}
