//! Servers with addresses of both families, of which one does not work.

use muster_tests::{Agent, AgentOptions, Doctor, World, finding};
use serde_json::json;

#[tokio::test]
async fn a_family_that_fails_is_a_warning_and_holds_no_agent_up() {
    let world = World::on_sqlite().await;
    let hosts = world.site.path().join("hosts");
    std::fs::write(&hosts, "::1 both.example\n127.0.0.1 both.example\n").expect("write hosts");
    let mounts = format!("mount --bind '{}' /etc/hosts", hosts.display());
    let address = world.server.address();
    let (_, port) = address.split_once(':').expect("a port");
    let url = format!("ws://both.example:{port}");
    let (key_id, key) = world.api.agent_key(json!({})).await;

    let doctor = Doctor::new(&world.site, &url, &key).with_mounts(&mounts);
    let findings = doctor.with("MUSTER_INSECURE", 1).findings(0).await;
    let dns = finding(&findings, "dns")["detail"].as_str().expect("a sentence");
    assert_eq!(dns, "both.example (the server): A 127.0.0.1; AAAA ::1");
    let tcp = finding(&findings, "tcp");
    assert_eq!(tcp["status"], "warn", "{tcp}");
    let detail = tcp["detail"].as_str().expect("a sentence");
    assert!(detail.contains("IPv4 connects, IPv6 fails ("), "{tcp}");
    assert_eq!(finding(&findings, "tls")["status"], "warn", "the key travels in the clear");

    let options = AgentOptions::named("agent").with_mounts(&mounts).with("MUSTER_INSECURE", 1);
    let _agent = Agent::start(&world.site, &url, &key, options);
    world.online(&key_id).await;
}
