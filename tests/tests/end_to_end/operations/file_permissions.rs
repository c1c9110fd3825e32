//! Files of the data directory belong to the server's user alone.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use muster_tests::{AgentOptions, Fixture, Script, ServerOptions};
use serde_json::json;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("read").permissions().mode() & 0o777
}

/// Everything below a folder that other users can open.
fn open_to_others(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("read a folder") {
        let path = entry.expect("read a folder").path();
        if mode(&path) & 0o077 != 0 {
            found.push(format!("{} {:o}", path.display(), mode(&path)));
        }
        if path.is_dir() {
            found.extend(open_to_others(&path));
        }
    }
    found
}

#[tokio::test]
async fn files_of_the_data_directory_are_closed_to_others_with_any_umask() {
    let mut fixture = Fixture::with(ServerOptions::default().with_mounts("umask 000")).await;
    let scripts = [Script::new("talk", "seq 1 20000")];
    let (_agent, id) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    let run = fixture.api.execute(&id, "talk", json!({})).await;
    fixture.api.finished(&run).await;
    let folder = fixture.server.data_dir().to_owned();
    for name in ["muster.db", "muster.db-wal", "muster.db-shm", "master.key", "server_url", "lock"]
    {
        assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
    }
    assert_eq!(open_to_others(&folder), Vec::<String>::new());

    fixture.server.stop();
    fs::set_permissions(folder.join("muster.db"), Permissions::from_mode(0o644)).expect("open it");
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).expect("open it");
    fixture.server.resume();
    assert_eq!(mode(&folder.join("muster.db")), 0o600, "an open file stays open");
    let log = fixture.server.log();
    assert!(log.contains("other users can open the data directory"), "{log}");
    fixture.server.stop();
    fs::set_permissions(&folder, Permissions::from_mode(0o700)).expect("close it");
}
