//! From nothing to an agent over TLS: the install command of a server that issues its certificate itself.

use muster_tests::{Database, Fixture, Host, JsonFields as _, Manager, ServerOptions, TestDir};

use serde_json::json;

use super::{ALL, DEPLOY, NewHost, complaint};

/// A server that issues its certificate itself and requires one of agents, a host, and the line that the server
/// shows for it.
async fn new_host() -> (NewHost, String) {
    let test_dir = TestDir::new();
    let options = ServerOptions::issuing(&test_dir).with("MUSTER_REQUIRE_CLIENT_CERT", "agents");
    let fixture = Fixture::on(test_dir, Database::Sqlite, options).await;
    let host = Host::boot(&fixture.test_dir, Manager::Bare).await;
    let body = json!({"name": "hosts", "permissions": ALL});
    let made = fixture.api.post("/api/agents/keys", body).await.expect(201);
    let line = made.text("install_line").replacen("| sudo sh", "| sh", 1);
    let (key_id, key) = (made.id().to_owned(), made.text("key").to_owned());
    (NewHost { fixture, host, key_id, key }, line)
}

/// Sums of everything that the host trusts.
const STORE: &str = "find /etc/ssl /usr/share/ca-certificates /usr/local/share/ca-certificates -type f -exec sha256sum {} + 2>/dev/null | sort";

#[tokio::test]
async fn pasted_line_installs_an_agent_over_tls_and_changes_no_store_of_the_host() {
    let (new_host, line) = new_host().await;
    assert!(line.contains(" --pinnedpubkey 'sha256//") && line.contains(" -k "), "{line}");
    let before = new_host.host.run(STORE).await.expect(0);
    new_host.host.run(&line).await.expect(0);
    new_host.fixture.online(&new_host.key_id).await;
    // One command was enough for a certificate of the agent too.
    let listed = new_host.fixture.api.get("/api/certificates").await.expect(200);
    assert_eq!(
        (&listed["items"][0]["state"], &listed["items"][1]),
        (&json!("valid"), &json!(null))
    );
    assert_eq!(new_host.host.run(STORE).await.expect(0), before);
    let installed = new_host.host.run("cat /etc/muster/ca.pem").await.expect(0);
    let authority = std::fs::read_to_string(new_host.fixture.server.data_dir().join("ca.pem"));
    assert_eq!(installed.trim(), authority.expect("the authority").trim());
    // Again, and from the installed copy: it is trusted once.
    for line in [line.as_str(), DEPLOY] {
        new_host.host.run(line).await.expect(0);
        let count = new_host.host.run("grep -c BEGIN /etc/muster/ca.pem").await.expect(0);
        assert_eq!(count.trim(), "1");
    }
    new_host.host.run(&format!("{DEPLOY} --status")).await.expect(0);
}

#[tokio::test]
async fn server_with_another_key_gets_no_byte_into_the_host() {
    let (new_host, line) = new_host().await;
    let (own, pin) = (new_host.fixture.server.url(), pin_of(&line));
    let impostor_dir = TestDir::new();
    let options = ServerOptions::issuing(&impostor_dir);
    let impostor = Fixture::on(impostor_dir, Database::Sqlite, options).await;
    let stolen = line.replacen(&own, &impostor.server.url(), 1);
    let got = stolen.replacen("| sh -s", "| tee /tmp/script | sh -s", 1);
    new_host.host.run(&got).await;
    new_host.host.run("test ! -s /tmp/script && test ! -e /opt/muster").await.expect(0);

    // The same with a script from elsewhere, which checks the pin itself: with curl, and with GNU wget.
    let script = format!("curl -k -fsS {own}/install/deploy.sh >/srv/deploy.sh");
    new_host.host.run(&script).await.expect(0);
    let blank = "sed -i -e \"/^server_ca='/,/^'/d\" /srv/deploy.sh && sed -i '/^script_version=/a server_ca=' /srv/deploy.sh";
    new_host.host.run(blank).await.expect(0);
    let install = |server: &str| {
        format!("sh /srv/deploy.sh --native --server {server} --key {} --pin {pin}", new_host.key)
    };
    let plain = new_host.host.run(&install("http://127.0.0.1:9")).await;
    plain.expect(1);
    assert!(complaint(&plain).contains("--pin needs an https:// address"), "{}", plain.stderr);
    for prepare in ["true", "mv /usr/bin/curl /usr/bin/curl.away"] {
        new_host.host.run(prepare).await.expect(0);
        let refused = new_host.host.run(&install(&impostor.server.url())).await;
        refused.expect(1);
        assert!(complaint(&refused).contains("is not the one of --pin"), "{}", refused.stderr);
        new_host.host.run("test ! -e /opt/muster").await.expect(0);
    }
    new_host.host.run(&install(&own)).await.expect(0);
    new_host.fixture.online(&new_host.key_id).await;
}

fn pin_of(line: &str) -> String {
    let start = line.find("sha256//").expect("a pin");
    line[start..].split('\'').next().expect("its end").to_owned()
}
