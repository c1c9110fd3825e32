//! Servers with addresses of both families, one of which does not work.

use muster_tests::{Agent, AgentOptions, Doctor, Fixture, JsonFields as _, finding};
use serde_json::json;

#[tokio::test]
async fn failing_address_family_is_a_warning_and_delays_no_agent() {
    let fixture = Fixture::on_sqlite().await;
    let hosts = fixture.test_dir.path().join("hosts");
    std::fs::write(&hosts, "::1 both.example\n127.0.0.1 both.example\n").expect("write hosts");
    let mounts = format!("mount --bind '{}' /etc/hosts", hosts.display());
    let address = fixture.server.address();
    let (_, port) = address.split_once(':').expect("a port");
    let url = format!("ws://both.example:{port}");
    let (key_id, key) = fixture.api.agent_key(json!({})).await;

    let doctor = Doctor::new(&fixture.test_dir, &url, &key).with_mounts(&mounts);
    let findings = doctor.with("MUSTER_INSECURE", 1).findings(0).await;
    let dns = finding(&findings, "dns").text("detail");
    assert_eq!(dns, "both.example (the server): A 127.0.0.1; AAAA ::1");
    let tcp = finding(&findings, "tcp");
    assert_eq!(tcp["status"], "warn", "{tcp}");
    let detail = tcp.text("detail");
    assert!(detail.contains("IPv4 connects, IPv6 fails ("), "{tcp}");
    assert_eq!(finding(&findings, "tls")["status"], "warn", "the key travels in the clear");

    let options = AgentOptions::named("agent").with_mounts(&mounts).with("MUSTER_INSECURE", 1);
    let _agent = Agent::start(&fixture.test_dir, &url, &key, options);
    fixture.online(&key_id).await;
}
