//! Through a company's network: its own authority, its proxy.

use muster_tests::{Authority, Database, Host, Manager, ServerOptions, Site, Tinyproxy, World};

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
    newcomer.host.run(&line(&format!("--key {} --ca {ca}", newcomer.key))).await.expect(0);
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
