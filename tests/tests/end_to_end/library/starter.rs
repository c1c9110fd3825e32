//! The starter library of the repository: pushed to a server, and each script run on a host.

use std::path::Path;

use muster_tests::{Fixture, JsonFields as _};
use serde_json::json;

use super::{agent_with_policy, output};

#[tokio::test]
async fn every_script_of_the_starter_library_runs() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, agent) = agent_with_policy(&fixture, json!({"allow": "library"})).await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../library");
    let cli = fixture.cli().await;
    let pushed = cli.run(&["scripts", "push", folder.to_str().expect("text"), "--json"]).await;
    pushed.expect(0);
    let names: Vec<_> =
        pushed.json().list("items").iter().map(|item| item.text("name").to_owned()).collect();
    assert_eq!(names.len(), 10, "{names:?}");
    let log = fixture.test_dir.path().join("some.log");
    std::fs::write(&log, "one\ntwo ERROR\nthree\n").expect("written");
    let log = log.to_str().expect("text");
    let (_, certificate) = self_signed(&fixture);
    for (name, parameters, states, expected) in [
        ("disk-report", json!({"THRESHOLD": "101"}), "succeeded", "Filesystem"),
        ("certificate-expiry", json!({"FILES": certificate, "DAYS": "1"}), "succeeded", "expires"),
        ("log-tail", json!({"FILE": log, "MATCH": "ERROR"}), "succeeded", "two ERROR"),
        ("log-tail", json!({"FILE": "/no/such/file"}), "failed", "no such file"),
        ("user-audit", json!({}), "succeeded", "root"),
        ("top-processes", json!({"COUNT": "3"}), "succeeded", "PID"),
        ("listening-ports", json!({}), "succeeded", ""),
        ("network-check", json!({"HOST": "localhost"}), "succeeded", "localhost"),
        ("pending-updates", json!({"REFRESH": "false"}), "succeeded", "updates"),
        ("service-restart", json!({"SERVICE": "no-such-service"}), "failed", "no-such-service"),
        ("reboot-needed", json!({}), "succeeded", "reboot"),
    ] {
        assert!(names.iter().any(|known| known == name), "{name}");
        let data = json!({"parameters": parameters});
        let command = fixture.api.execute(&agent, &format!("library:{name}"), data).await;
        let ended = fixture.api.finished(&command).await;
        let output = output(&fixture, &command).await;
        assert_eq!(ended["state"], states, "{name}: {ended}\n{output}");
        assert!(output.contains(expected), "{name}: {output}");
    }
    // A full disk and a certificate that ends soon are failures.
    for (name, parameters) in [
        ("disk-report", json!({"THRESHOLD": "0"})),
        ("certificate-expiry", json!({"FILES": certificate, "DAYS": "30000"})),
    ] {
        let data = json!({"parameters": parameters});
        let command = fixture.api.execute(&agent, &format!("library:{name}"), data).await;
        assert_eq!(fixture.api.finished(&command).await["state"], "failed", "{name}");
    }
}

/// A self-signed certificate that is valid for a year: its key file and its own.
fn self_signed(fixture: &Fixture) -> (String, String) {
    let file = |name: &str| fixture.test_dir.path().join(name).to_str().expect("text").to_owned();
    let (key, certificate) = (file("certificate.key"), file("certificate.pem"));
    let made = std::process::Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "365", "-subj", "/CN=test",
        ])
        .args(["-keyout", &key, "-out", &certificate])
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{made:?}");
    (key, certificate)
}
