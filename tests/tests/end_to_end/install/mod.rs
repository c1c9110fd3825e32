//! `deploy.sh` on throw-away hosts: piped from a server, as a person would run it.

mod certificates;
mod docker;
mod hazards;
mod life;
mod managers;
mod networks;
mod output;
mod refusals;
mod releases;
mod requests;
mod server;
mod server_packages;
mod signatures;
mod trust;
mod upgrade;
mod user;

use muster_tests::{ALL, Fixture, Host, Manager, ProgramOutput, eventually};
use serde_json::{Value, json};

/// The path of the installed copy of the script.
const DEPLOY: &str = "/opt/muster/deploy.sh";

/// A server, a key, and a host without an installation.
struct NewHost {
    fixture: Fixture,
    host: Host,
    key_id: String,
    key: String,
}

impl NewHost {
    async fn on(manager: Manager) -> Self {
        let fixture = Fixture::on_sqlite().await;
        let host = Host::boot(&fixture.test_dir, manager).await;
        let (key_id, key) = fixture.api.agent_key(json!({"permissions": ALL})).await;
        Self { fixture, host, key_id, key }
    }

    /// The command on the server's install page, with these words after `sh -s --`.
    fn line(&self, words: &str) -> String {
        self.line_for("sh", words)
    }

    fn line_for(&self, shell: &str, words: &str) -> String {
        format!(
            "curl -fsSL {}/install/deploy.sh | {shell} -s -- {words}",
            self.fixture.server.url()
        )
    }

    /// Installs an agent, and waits until it is online and has reported its policy.
    async fn install(&self) -> Value {
        let said = self.host.run(&self.line(&format!("--key {}", self.key))).await;
        said.expect(0);
        self.fixture.reported(&self.key_id).await
    }

    /// Restarts the host, and waits for a new connection: the server may still show the one from before.
    async fn reboot(&mut self) -> Value {
        let before = self.fixture.online(&self.key_id).await;
        self.host.reboot().await;
        eventually("the agent connects after the restart", async || {
            let agent = self.fixture.online(&self.key_id).await;
            (agent["connected_at"] != before["connected_at"]).then_some(agent)
        })
        .await
    }

    /// Runs a script on the agent and returns what it printed.
    async fn printed_by(&self, agent: &str, script: &str) -> String {
        let run = self.fixture.api.execute(agent, script, json!({})).await;
        let command = self.fixture.api.finished(&run).await;
        assert_eq!(command["state"], "succeeded", "{command}");
        let output = self.fixture.api.output(&run).await;
        String::from_utf8(output).expect("plain text")
    }

    /// Adds a script to the host's manifest, as its owner would.
    async fn allow(&self, name: &str, body: &str) {
        let state = "/var/lib/muster";
        let list = json!({"scripts": [
            {"name": "hello", "path": "hello.sh", "interpreter": "/bin/sh"},
            {"name": name, "path": format!("{name}.sh"), "interpreter": "/bin/sh"},
        ]});
        let file = self.host.file(&format!("{state}/scripts/{name}.sh"));
        std::fs::write(file, body).expect("write the script");
        let list_file = self.host.file(&format!("{state}/script_manifest.json"));
        std::fs::write(list_file, list.to_string()).expect("write the list");
    }
}

/// The last line that a command printed to standard error.
fn complaint(said: &ProgramOutput) -> &str {
    said.stderr.trim_end().lines().last().unwrap_or_default()
}

/// New files of an installation on the host, apart from the users' files, which are copied when
/// anything in them changes.
fn new_files(before: &[String], after: &[String]) -> Vec<String> {
    let users = [
        "/etc/passwd",
        "/etc/group",
        "/etc/shadow",
        "/etc/gshadow",
        "/etc/subuid",
        "/etc/subgid",
        "/etc/.pwd.lock",
    ];
    let is_of_users = |path: &str| users.iter().any(|file| path.trim_end_matches('-') == *file);
    after.iter().filter(|path| !before.contains(path) && !is_of_users(path)).cloned().collect()
}
