//! Power cuts right after each step of an update: the host starts again and reports the outcome.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use futures_util::future::join_all;
use muster_protocol::release::Program;
use muster_supervisor::fault_injection::CrashPoint;
use muster_tests::{Fixture, Publisher, current_version};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{ask, host, options, runs};

/// Steps before the trial: the update has to be requested again.
const BEFORE_THE_TRIAL: [CrashPoint; 5] = [
    CrashPoint::Downloaded,
    CrashPoint::Verified,
    CrashPoint::MovedAside,
    CrashPoint::Placed,
    CrashPoint::SelfTested,
];
/// Steps during the trial, which continues.
const IN_THE_TRIAL: [CrashPoint; 5] = [
    CrashPoint::TrialSaved,
    CrashPoint::HandingOver,
    CrashPoint::TrialResumed,
    CrashPoint::BootCounted,
    CrashPoint::Registered,
];
const AT_THE_END: [CrashPoint; 5] = [
    CrashPoint::OutcomeSaved,
    CrashPoint::MadeCurrent,
    CrashPoint::PinsUpdated,
    CrashPoint::ResultWritten,
    CrashPoint::TrialRemoved,
];
/// Steps for a version that does not register.
const ON_THE_WAY_BACK: [CrashPoint; 2] = [CrashPoint::TrialFailed, CrashPoint::RolledBack];
/// Steps of a download of the running version.
const REPAIRING: [CrashPoint; 2] = [CrashPoint::HalfRepaired, CrashPoint::Repaired];

struct PowerCut {
    fixture: Fixture,
    publisher: Publisher,
}

impl PowerCut {
    async fn new() -> Self {
        let fixture = Fixture::on_sqlite().await;
        let publisher = Publisher::new(&fixture).await;
        publisher.release("0.1.0").await;
        Self { fixture, publisher }
    }

    /// Cuts the power of a host right after a step of this command. Returns the ended command, and
    /// the version of the host after that.
    async fn cut(&self, cut: CrashPoint, command: &str, data: Value) -> (Value, String) {
        let (options, folder) = options(&self.publisher, cut.name(), "0.1.0");
        prepare(&folder, cut);
        // A supervisor counts itself only at its second start.
        let faults = match cut {
            CrashPoint::BootCounted => format!("{},{}", CrashPoint::TrialSaved.name(), cut.name()),
            _ => cut.name().to_owned(),
        };
        let options = options.with("MUSTER_FAULT", faults).with("MUSTER_TRIAL_MS", 5_000);
        let (mut agent, id) = self.fixture.agent(options).await;
        let asked = ask(&self.fixture, &id, command, data).await;
        let ends = if cut == CrashPoint::BootCounted { 2 } else { 1 };
        for number in 1..=ends {
            let end = agent.process().ended().await;
            assert_eq!(end.signal(), Some(Signal::SIGABRT as i32), "{cut:?} was not reached");
            agent.cut_power();
            agent.set("MUSTER_FAULT", Some(cut.name()).filter(|_| number < ends));
            agent.resume();
        }
        let ended = self.fixture.api.finished(&asked).await;
        let version = current_version(&folder);
        runs(&self.fixture, &id, &version).await;
        self.fixture.ask(&id, "ping", json!({})).await;
        assert!(!folder.join("trial.json").exists(), "{cut:?}: the trial goes on");
        (ended, version)
    }

    async fn each(&self, cuts: &[CrashPoint], command: &str, data: Value, is: (&str, Value, &str)) {
        let all = cuts.iter().map(|cut| self.cut(*cut, command, data.clone()));
        for (cut, (ended, version)) in cuts.iter().zip(join_all(all).await) {
            let (outcome, code, expected) = &is;
            assert_eq!(ended["result"]["update_result"], *outcome, "{cut:?}: {ended}");
            assert_eq!(ended["error_code"], *code, "{cut:?}: {ended}");
            assert_eq!(version, *expected, "{cut:?}: {ended}");
        }
    }
}

/// Makes sure that the step has something to do.
fn prepare(folder: &Path, cut: CrashPoint) {
    match cut {
        CrashPoint::MovedAside => {
            let place = folder.join("versions/0.2.0/bin");
            fs::create_dir_all(&place).expect("make a folder");
            fs::write(place.join("muster-agent"), "half a program").expect("write");
        }
        CrashPoint::HalfRepaired | CrashPoint::Repaired => {
            let program = folder.join("versions/0.1.0/bin/muster-agent");
            let changed = [fs::read(&program).expect("read"), vec![0]].concat();
            // Other versions share the file.
            let draft = program.with_extension("draft");
            fs::copy(&program, &draft).expect("copy");
            fs::write(&draft, changed).expect("write");
            fs::rename(draft, program).expect("replace");
        }
        _ => {}
    }
}

fn wanted() -> Value {
    json!({"version": "0.2.0"})
}

#[test]
fn every_step_has_its_test() {
    let tested = [
        &BEFORE_THE_TRIAL[..],
        &IN_THE_TRIAL[..],
        &AT_THE_END[..],
        &ON_THE_WAY_BACK[..],
        &REPAIRING[..],
    ];
    assert_eq!(tested.concat().len(), CrashPoint::ALL.len());
    assert!(CrashPoint::ALL.iter().all(|cut| tested.concat().contains(cut)));
}

#[tokio::test]
async fn power_cut_before_the_trial_needs_a_new_request() {
    let scenario = PowerCut::new().await;
    scenario.publisher.release("0.2.0").await;
    let interrupted = ("failed", json!("interrupted"), "0.1.0");
    scenario.each(&BEFORE_THE_TRIAL, "update", wanted(), interrupted).await;
}

#[tokio::test]
async fn power_cut_during_the_trial_continues_it() {
    let scenario = PowerCut::new().await;
    scenario.publisher.release("0.2.0").await;
    let installed = ("installed", Value::Null, "0.2.0");
    scenario.each(&IN_THE_TRIAL, "update", wanted(), installed).await;
}

#[tokio::test]
async fn power_cut_after_registration_keeps_the_new_version() {
    let scenario = PowerCut::new().await;
    scenario.publisher.release("0.2.0").await;
    let installed = ("installed", Value::Null, "0.2.0");
    scenario.each(&AT_THE_END, "update", wanted(), installed).await;
}

#[tokio::test]
async fn power_cut_during_rollback_completes_the_rollback() {
    let scenario = PowerCut::new().await;
    let script = "[ \"$1\" = version ] && exit 0; exec sleep 600";
    scenario.publisher.replace("0.2.0", Program::Agent, script);
    scenario.publisher.release("0.2.0").await;
    let back = ("rolled_back", json!("not_registered"), "0.1.0");
    scenario.each(&ON_THE_WAY_BACK, "update", wanted(), back).await;
}

#[tokio::test]
async fn power_cut_while_programs_are_replaced_leaves_each_intact() {
    let scenario = PowerCut::new().await;
    let interrupted = ("failed", json!("interrupted"), "0.1.0");
    scenario.each(&REPAIRING, "redeploy", json!({}), interrupted).await;
}

#[tokio::test]
async fn supervisor_that_fails_to_start_three_times_is_rolled_back() {
    let scenario = PowerCut::new().await;
    scenario.publisher.replace("0.2.0", Program::Supervisor, "[ \"$1\" = self-test ]");
    scenario.publisher.release("0.2.0").await;
    let (mut agent, id, folder) =
        host(&scenario.fixture, &scenario.publisher, "host", "0.1.0").await;
    let asked = ask(&scenario.fixture, &id, "update", wanted()).await;
    for _ in 0..3 {
        let end = agent.process().ended().await;
        assert_eq!(end.code(), Some(1));
        // As the service manager does.
        agent.resume();
    }
    let ended = scenario.fixture.api.finished(&asked).await;
    assert_eq!(ended["result"]["update_result"], "rolled_back", "{ended}");
    assert_eq!(ended["error_code"], "supervisor_failed", "{ended}");
    runs(&scenario.fixture, &id, "0.1.0").await;
    assert_eq!(current_version(&folder), "0.1.0");
}
