//! A newer version over an older one, and back.

use std::fs;
use std::path::Path;

use muster_tests::{JsonFields as _, Manager, binary};

use super::{DEPLOY, NewHost, complaint};

/// Copies of the programs with another version of the same length.
fn other_version(folder: &Path, version: &str) {
    let own = env!("CARGO_PKG_VERSION");
    assert_eq!(own.len(), version.len());
    for name in ["muster-agent", "muster-supervisor"] {
        let mut bytes = fs::read(binary(name)).expect("read the program");
        for start in 0..bytes.len() - own.len() {
            if &bytes[start..start + own.len()] == own.as_bytes() {
                bytes[start..start + own.len()].copy_from_slice(version.as_bytes());
            }
        }
        let path = folder.join(name);
        fs::write(&path, bytes).expect("write the program");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&path, mode).expect("make it a program");
    }
}

#[tokio::test]
async fn newer_version_replaces_a_busy_agent_and_an_older_one_only_on_request() {
    let new_host = NewHost::on(Manager::Systemd).await;
    let agent = new_host.install().await;
    let id = agent.id();
    new_host
        .allow("long", "echo begun; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo done")
        .await;
    let run = new_host.fixture.api.execute(id, "long", serde_json::json!({})).await;
    new_host.fixture.api.output_reaches(&run, 6).await;

    let newer = new_host.fixture.test_dir.folder("newer");
    other_version(&newer, "0.9.7");
    let from = format!("{DEPLOY} --from {}", newer.display());
    let said = new_host.host.run(&from).await.expect(0);
    assert!(said.contains(&format!("replacing version {}", env!("CARGO_PKG_VERSION"))), "{said}");
    assert_eq!(new_host.fixture.online(&new_host.key_id).await["version"], "0.9.7");
    new_host.host.run("touch /tmp/go").await.expect(0);
    assert_eq!(new_host.fixture.api.finished(&run).await["state"], "succeeded");
    assert_eq!(new_host.fixture.api.output(&run).await, b"begun\ndone\n");

    let refused = new_host.host.run(DEPLOY).await;
    refused.expect(1);
    assert!(complaint(&refused).contains("0.9.7 is installed here"), "{}", refused.stderr);
    assert_eq!(new_host.fixture.online(&new_host.key_id).await["version"], "0.9.7");
    let back = format!("{DEPLOY} --version {}", env!("CARGO_PKG_VERSION"));
    new_host.host.run(&back).await.expect(0);
    let version = &new_host.fixture.online(&new_host.key_id).await["version"];
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn failed_upgrade_keeps_the_previous_installation() {
    let new_host = NewHost::on(Manager::Systemd).await;
    new_host.install().await;
    let newer = new_host.fixture.test_dir.folder("newer");
    other_version(&newer, "0.9.7");
    // It only answers the question for its version.
    let broken =
        "#!/bin/sh\ncase $1 in version) echo muster-agent 0.9.7;; doctor) ;; *) exit 1;; esac\n";
    fs::write(newer.join("muster-supervisor"), "#!/bin/sh\nexit 1\n").expect("written");
    fs::write(newer.join("muster-agent"), broken).expect("written");
    let said = new_host.host.run(&format!("{DEPLOY} --from {}", newer.display())).await;
    said.expect(1);
    assert!(said.stderr.contains("as it was before"), "{}", said.stderr);
    let agent = new_host.fixture.online(&new_host.key_id).await;
    assert_eq!(agent["version"], env!("CARGO_PKG_VERSION"));
    new_host.host.run(&format!("{DEPLOY} --status")).await.expect(0);
}
