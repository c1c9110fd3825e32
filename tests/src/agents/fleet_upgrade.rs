//! Upgrades a fleet to another version and back, wave by wave, while every host runs an execution.
//! No execution may be lost, repeated or altered, and no host may be left on the old version.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::agents::agent::{Agent, AgentOptions};
use crate::agents::publisher::Publisher;
use crate::agents::scripts::Script;
use crate::fixture::Fixture;
use crate::json::JsonFields as _;
use crate::wait::{pass, within};

/// Hosts that are started or queried at once.
const AT_ONCE: usize = 8;
/// Lines that a script prints before it pauses for a second.
const STEP: u32 = 40;
/// Interval between two queries of the fleet.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The size and the limits of a run.
#[derive(Debug, Clone, Copy)]
pub struct FleetUpgrade {
    pub hosts: usize,
    /// Hosts of a wave.
    pub wave: usize,
    /// Lines of each script, which prints about 40 a second.
    pub lines: u32,
    /// Time limit for each direction, for the whole fleet.
    pub patience: Duration,
}

/// The result and how long each part took.
#[derive(Debug, Clone)]
pub struct FleetUpgradeReport {
    pub upgrade: FleetUpgrade,
    pub jobs: usize,
    /// Executions that ran while the version of their host changed.
    pub carried: usize,
    pub starting: Duration,
    pub up: Duration,
    pub down: Duration,
}

impl fmt::Display for FleetUpgradeReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FleetUpgrade { hosts, wave, lines, .. } = self.upgrade;
        write!(
            formatter,
            "{hosts} hosts in waves of {wave}, {} jobs of {lines} lines, {} of which ran while their host changed: started in {:.0} s, up in {:.0} s, back in {:.0} s; none lost, none doubled, every byte in its place",
            self.jobs,
            self.carried,
            self.starting.as_secs_f64(),
            self.up.as_secs_f64(),
            self.down.as_secs_f64()
        )
    }
}

struct HostAtWork {
    agent: Agent,
    id: String,
}

impl FleetUpgrade {
    /// Starts the fleet, upgrades it from 0.1.0 to 0.2.0, downgrades it again, and checks the
    /// result.
    ///
    /// # Panics
    /// If a guarantee was broken.
    pub async fn run(self, fixture: &Fixture) -> FleetUpgradeReport {
        let publisher = Publisher::new(fixture).await;
        publisher.release("0.1.0").await;
        publisher.release("0.2.0").await;
        let begun = Instant::now();
        let hosts: Vec<HostAtWork> = stream::iter(0..self.hosts)
            .map(|number| self.host(fixture, &publisher, number))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let starting = begun.elapsed();
        let body = json!({"name": "all", "target": {"expression": "all"}, "wave_size": self.wave});
        let made = fixture.api.post("/api/groups", body).await.expect(201);
        let group = made.id();

        let mut jobs = Vec::new();
        let mut changes = Vec::new();
        let mut ways = Vec::new();
        for version in ["0.2.0", "0.1.0"] {
            jobs.extend(self.set_to_work(fixture, &hosts).await);
            let begun = Instant::now();
            self.go(fixture, group, version).await;
            ways.push(begun.elapsed());
            for (number, host) in hosts.iter().enumerate() {
                let shown = fixture.api.get(&format!("/api/agents/{}", host.id)).await.expect(200);
                assert_eq!(shown["update"]["outcome"], "installed", "{shown}");
                assert_eq!(shown["update"]["to_version"], version, "{shown}");
                let update = shown["update"].text("command_id");
                changes.push((number, at(&fixture.api.command(update).await, "finished_at")));
            }
        }
        let carried = self.check_executions(fixture, &hosts, &jobs, &changes).await;
        let (up, down) = (ways[0], ways[1]);
        FleetUpgradeReport { upgrade: self, jobs: jobs.len(), carried, starting, up, down }
    }

    async fn host(&self, fixture: &Fixture, publisher: &Publisher, number: usize) -> HostAtWork {
        // No name is a prefix of another.
        let name = format!("host-{number:04}");
        let folder = publisher.install(&name, "0.1.0");
        let options = AgentOptions { scripts: vec![self.script()], ..AgentOptions::named(&name) };
        let options = options.installed(folder).with("MUSTER_BACKOFF_MAX_MS", 1_000);
        let (agent, id) = fixture.agent(options).await;
        HostAtWork { agent, id }
    }

    /// Records that it started, then prints for a while.
    fn script(&self) -> Script {
        let counting = Script::counting("work", self.lines, STEP, "1");
        let note = "echo \"$MUSTER_COMMAND_ID\" >>\"$(dirname \"$0\")/started\"\n";
        counting.beginning_with(note)
    }

    async fn set_to_work(&self, fixture: &Fixture, hosts: &[HostAtWork]) -> Vec<(usize, String)> {
        let jobs = stream::iter(hosts.iter().enumerate())
            .map(async |(number, host)| {
                let run = fixture.api.execute(&host.id, "work", json!({})).await;
                fixture.api.output_reaches(&run, 1).await;
                (number, run)
            })
            .buffer_unordered(AT_ONCE);
        jobs.collect().await
    }

    async fn go(&self, fixture: &Fixture, group: &str, version: &str) {
        let path = format!("/api/groups/{group}");
        fixture.api.patch(&path, json!({"desired_version": version})).await.expect(200);
        within(self.patience, &format!("every host is of {version}"), async || {
            // Spares the server some load.
            pass(LOOK_EVERY).await;
            let shown = fixture.api.get(&path).await.expect(200);
            assert_eq!((&shown["state"], &shown["failed_count"]), (&json!("active"), &json!(0)));
            let is_there = shown["up_to_date_count"] == json!(self.hosts);
            (is_there && shown["updating_count"] == 0).then_some(())
        })
        .await;
    }

    /// Checks every execution. Returns how many ran while their host changed its version.
    async fn check_executions(
        &self,
        fixture: &Fixture,
        hosts: &[HostAtWork],
        jobs: &[(usize, String)],
        changes: &[(usize, String)],
    ) -> usize {
        let mut carried = 0;
        let wanted = Script::counted(self.lines);
        let mut expected: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for (number, run) in jobs {
            let ended: Value = within(self.patience, &format!("job {run} ends"), async || {
                let shown = fixture.api.command(run).await;
                let has_ended =
                    shown["state"].as_str().is_some_and(crate::clients::api::is_terminal);
                has_ended.then_some(shown)
            })
            .await;
            assert_eq!(ended["state"], "succeeded", "{ended}");
            assert!(fixture.api.output(run).await == wanted, "the output of {run} differs");
            let (began, finished) = (at(&ended, "started_at"), at(&ended, "finished_at"));
            let is_in = |change: &str| began.as_str() < change && change < finished.as_str();
            let mut own = changes.iter().filter(|(host, _)| host == number);
            carried += usize::from(own.any(|(_, change)| is_in(change)));
            expected.entry(*number).or_default().push(run.clone());
        }
        for (number, mut wanted) in expected {
            let noted = hosts[number].agent.state_dir().join("scripts/started");
            let noted = fs::read_to_string(noted).expect("what was started");
            let mut noted: Vec<_> = noted.lines().map(str::to_owned).collect();
            noted.sort();
            wanted.sort();
            assert_eq!(noted, wanted, "host {number} has started something else");
        }
        carried
    }
}

/// An instant as the API writes it. All have the same form, so their texts can be compared.
fn at(command: &Value, field: &str) -> String {
    command[field].as_str().expect("an instant").to_owned()
}
