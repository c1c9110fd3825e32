//! What is left after a run: in the database, on the hosts, among the processes.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use uuid::Uuid;

use super::SECRET;
use super::checker::{Promise, Violation};
use super::fleet::{Fleet, FleetHost, names};
use crate::wait::eventually_blocking;

/// Names that an agent's state directory may contain at the end.
const OF_A_HOST: [&str; 22] = [
    "assignments.json",
    "facts.d",
    "identity.json",
    "executions",
    "key.json",
    "key_pair.json",
    "ledger.json",
    "lock",
    "lost+found",
    "machine_seed.json",
    "manifest.seen",
    "policy.json",
    "policy.seen",
    "requests-life-cycle.log",
    "requests-refused.log",
    "requests.log",
    "script_manifest.json",
    "scripts",
    "settled",
    "status.json",
    "supervisor.json",
    "wake.sock",
];
/// Receipts may still be on their way, and folders are removed with the next heartbeat.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that should not exist. `known`: every execution of the run.
pub fn leftovers(fleet: &Fleet, known: &BTreeSet<Uuid>) -> Vec<Violation> {
    let mut left = vec![];
    let is_swept = || fleet.hosts.iter().all(|host| host.jobs().is_empty()).then_some(());
    // Time is up: reported below.
    let _ = eventually_blocking(PATIENCE, is_swept);
    for (number, host) in fleet.hosts.iter().enumerate() {
        let of_host = of_host(host, known);
        left.extend(of_host.into_iter().map(|what| format!("on host {number}: {what}")));
    }
    left.extend(rows(fleet, known.len()));
    let files = holding(fleet.test_dir.path(), SECRET);
    left.extend(files.into_iter().map(|file| format!("a secret in {file}")));
    left.into_iter().map(|what| Violation::new(Promise::NothingIsLeft, what)).collect()
}

fn of_host(host: &FleetHost, known: &BTreeSet<Uuid>) -> Vec<String> {
    let mut left = vec![];
    left.extend(host.jobs().into_iter().map(|id| format!("the folder of {id}")));
    let state = host.agent.state_dir();
    let is_strange = |name: &String| !OF_A_HOST.contains(&name.as_str());
    left.extend(names(state).into_iter().filter(is_strange).map(|name| format!("file {name}")));
    for name in names(&state.join("settled")) {
        if !name.parse().is_ok_and(|id| known.contains(&id)) {
            left.push(format!("an answer to what was never asked: {name}"));
        }
    }
    // A host runs its supervisor and its agent, and nothing else.
    let works = |line: &String| line.contains(" shim ") || line.contains("chaos-work");
    left.extend(host.processes().into_iter().filter(works).map(|line| format!("process {line}")));
    left
}

fn rows(fleet: &Fleet, known: usize) -> Vec<String> {
    let of_ended = "state NOT IN ('queued', 'delivered', 'running')";
    let counts = [
        ("commands", "SELECT count(*) FROM commands".to_owned(), known),
        (
            "commands that are open",
            format!("SELECT count(*) FROM commands WHERE finished_at IS NULL OR NOT ({of_ended})"),
            0,
        ),
        (
            "commands with secrets",
            "SELECT count(*) FROM commands WHERE sealed_parameters IS NOT NULL".to_owned(),
            0,
        ),
        (
            "reports of no command",
            "SELECT count(*) FROM command_reports WHERE command_id NOT IN (SELECT id FROM commands)"
                .to_owned(),
            0,
        ),
    ];
    let count = |statement: &str| fleet.server.query(statement).concat().parse::<usize>();
    counts
        .into_iter()
        .filter_map(|(what, statement, expected)| match count(&statement) {
            Ok(found) if found == expected => None,
            found => Some(format!("rows of {what}: {found:?} instead of {expected}")),
        })
        .collect()
}

/// The files below a folder that contain some text. Raw disks are skipped, because they contain
/// deleted data.
fn holding(folder: &Path, text: &str) -> Vec<String> {
    let mut grep = Command::new("grep");
    let found =
        grep.args(["-rlaF", "--exclude=*.disk", text]).arg(folder).output().expect("run grep");
    // 1: nothing was found. 2: among others, a file was removed during the search.
    assert!(matches!(found.status.code(), Some(0..=2)), "grep failed: {found:?}");
    String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned).collect()
}
