//! The fleet for the faults: a server, its database, and hosts that each have a disk, a link and a
//! supervised agent.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use uuid::Uuid;

use super::disk::Disk;
use super::settings::{ChaosSettings, Store};
use crate::agents::agent::{Agent, AgentOptions};
use crate::agents::scripts::Script;
use crate::clients::api::Api;
use crate::databases::cluster::PostgresCluster;
use crate::fixture::ALL;
use crate::processes::binaries::binary;
use crate::processes::process_tree::processes_of;
use crate::processes::test_dir::TestDir;
use crate::proxies::link::Link;
use crate::servers::server::{Database, Server, ServerOptions};
use crate::wait::{eventually, eventually_blocking};

/// The tag that every host has.
pub const TAG: &str = "chaos";
/// The script that every host has.
pub const SCRIPT: &str = "work";
const PATIENCE: Duration = Duration::from_secs(30);

/// One host.
#[derive(Debug)]
pub struct FleetHost {
    // Dropped in this order: the users of the disk before the disk.
    pub agent: Agent,
    pub agent_id: String,
    pub link: Link,
    disk: Disk,
    test_dir: TestDir,
}

/// The whole fleet.
#[derive(Debug)]
pub struct Fleet {
    pub hosts: Vec<FleetHost>,
    pub server: Server,
    server_disk: Option<Disk>,
    pub api: Api,
    /// The file in which executions record their start. It is on no disk that loses power, because
    /// the effects of an execution outside its host are never undone.
    pub start_log: PathBuf,
    pub test_dir: TestDir,
}

impl Fleet {
    /// Starts everything and waits until every host is connected.
    pub async fn start(settings: &ChaosSettings) -> Self {
        let test_dir = TestDir::new();
        let start_log = test_dir.path().join("start_log");
        std::fs::write(&start_log, "").expect("make the start_log");
        let mut options = ServerOptions::default().with("MUSTER_HEARTBEAT_INTERVAL_MS", 1_000);
        if let Some(fault) = &settings.server_fault {
            options = options.with("MUSTER_FAULT", fault);
        }
        let (database, server_disk) = match settings.store {
            Store::Sqlite => (Database::Sqlite, Some(Disk::mounted(&test_dir.folder("server")))),
            Store::Postgres => (Database::Cluster(PostgresCluster::start(&test_dir)), None),
        };
        let server = Server::start(&test_dir, database, options);
        server.ready().await;
        let api = server.api();
        let mut fleet = Self { hosts: vec![], server, server_disk, api, start_log, test_dir };
        for number in 0..settings.shape.hosts {
            let host = fleet.host(number, settings).await;
            fleet.hosts.push(host);
        }
        fleet
    }

    async fn host(&self, number: usize, settings: &ChaosSettings) -> FleetHost {
        let name = format!("host-{number}");
        let link = Link::to(&self.server.address()).await;
        let disk = Disk::mounted(&self.test_dir.folder(&name));
        let keyed = json!({"permissions": ALL, "tags": [TAG]});
        let (key_id, key) = self.api.agent_key(keyed).await;
        let work = format!("exec '{}'\n", binary("chaos-work").display());
        let mut options = AgentOptions::named(&name)
            .supervised()
            // The agents are killed more often than the supervisor's backoff expects.
            .with("MUSTER_BACKOFF_MAX_MS", 500)
            .with("MUSTER_WS_RETRY_MS", 1_000);
        options.scripts = vec![Script::new(SCRIPT, &work).taking([
            "START_LOG",
            "PRINT",
            "STAY_MS",
            "EXIT",
            "TOKEN",
        ])];
        options.state_dir = Some(disk.place().to_owned());
        if number % 3 == 2 {
            options = options.with("MUSTER_HTTP_FALLBACK", "only");
        }
        if let Some(fault) = &settings.agent_fault {
            options = options.with("MUSTER_FAULT", fault);
        }
        let agent = Agent::start(&self.test_dir, &link.url(), &key, options);
        let agent_id = eventually("the host is connected", async || {
            let agents = self.api.get("/api/agents?limit=100").await.expect(200);
            let items = agents["items"].as_array()?;
            let own = items.iter().find(|agent| agent["key_id"] == *key_id)?;
            (own["status"] == "online").then(|| own["id"].as_str().map(str::to_owned))?
        })
        .await;
        // Everything on the disk is synced: it would have been there for long.
        nix::unistd::sync();
        FleetHost { agent, agent_id, link, disk, test_dir: self.test_dir.clone() }
    }

    /// Cuts the power of the database's disk, or stops the database.
    pub fn lose_store(&mut self) {
        match &self.server_disk {
            Some(disk) => {
                self.server.kill_9();
                disk.lose_power();
                self.server.resume();
            }
            None => {
                self.server.cluster().stop();
                self.server.cluster().resume();
            }
        }
    }

    /// Number of executions that have started.
    pub fn begun(&self) -> usize {
        begun(&self.start_log)
    }
}

/// Number of lines in a start log.
pub fn begun(start_log: &std::path::Path) -> usize {
    const LINE_BYTES: u64 = 37;
    std::fs::metadata(start_log).map_or(0, |data| (data.len() / LINE_BYTES) as usize)
}

impl FleetHost {
    /// Kills the shim of a running execution. Returns the id of the execution.
    pub fn kill_shim(&self, number: u64) -> Option<Uuid> {
        let shims = self.test_dir.processes(self.agent.state_dir(), "muster-agent shim ");
        let shim = shims.get((number % shims.len().max(1) as u64) as usize)?;
        let id = shim.command_line.trim().rsplit('/').next()?.parse().ok()?;
        // It may have ended by itself; then nothing was killed.
        kill(Pid::from_raw(shim.id), Signal::SIGKILL).ok().map(|()| id)
    }

    /// Kills an agent, which its supervisor restarts. False if there is none at this moment.
    pub fn kill_agent(&self) -> bool {
        let ids = self.agent.agent_ids();
        ids.iter().filter(|id| kill(Pid::from_raw(**id), Signal::SIGKILL).is_ok()).count() > 0
    }

    /// Cuts the power and boots again. Returns the executions that were on the host.
    ///
    /// The boot id stays the same. That is harder than a real boot, after which an agent starts
    /// nothing that it accepted before.
    pub fn lose_power(&mut self) -> BTreeSet<Uuid> {
        self.agent.kill_9();
        // From the top of the process tree, so that no process can record the end of another.
        for word in ["muster-agent run", "muster-agent shim ", ""] {
            let gone = eventually_blocking(PATIENCE, || {
                let alive = self.test_dir.processes(self.agent.state_dir(), word);
                for process in &alive {
                    let _ = kill(Pid::from_raw(process.id), Signal::SIGKILL);
                }
                alive.is_empty().then_some(())
            });
            assert!(gone.is_some(), "processes of the host do not end");
        }
        let held = self.jobs();
        self.disk.lose_power();
        self.agent.resume();
        held
    }

    /// Executions that have a folder on the host.
    pub fn jobs(&self) -> BTreeSet<Uuid> {
        names(&self.agent.state_dir().join("executions"))
            .into_iter()
            .filter_map(|name| name.parse().ok())
            .collect()
    }

    /// Every process of the host.
    pub fn processes(&self) -> Vec<String> {
        let found = processes_of(self.agent.state_dir());
        found.into_iter().map(|process| process.command_line).collect()
    }
}

/// The names in a folder; none if it is not there.
pub fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
