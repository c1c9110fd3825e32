//! The power is cut right after each step of an update: the host starts, and says what came of it.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use futures_util::future::join_all;
use muster_protocol::release::Program;
use muster_supervisor::fault_injection::CrashPoint;
use muster_tests::{Publisher, World, current_version};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{ask, host, options, runs};

/// Up to here nothing has begun: the update is to be asked for again.
const BEFORE_THE_TRIAL: [CrashPoint; 5] = [
    CrashPoint::Downloaded,
    CrashPoint::Verified,
    CrashPoint::MovedAside,
    CrashPoint::Placed,
    CrashPoint::SelfTested,
];
/// From here on the trial goes on.
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
/// Of a version that does not register.
const ON_THE_WAY_BACK: [CrashPoint; 2] = [CrashPoint::TrialFailed, CrashPoint::RolledBack];
/// Of the version that runs, fetched afresh.
const REPAIRING: [CrashPoint; 2] = [CrashPoint::HalfRepaired, CrashPoint::Repaired];

struct Scene {
    world: World,
    publisher: Publisher,
}

impl Scene {
    async fn new() -> Self {
        let world = World::on_sqlite().await;
        let publisher = Publisher::new(&world).await;
        publisher.release("0.1.0").await;
        Self { world, publisher }
    }

    /// Cuts the power of a host right after a step of this command; the command in its end, and the
    /// version that the host then has.
    async fn cut(&self, cut: CrashPoint, command: &str, data: Value) -> (Value, String) {
        let (options, folder) = options(&self.publisher, cut.name(), "0.1.0");
        prepare(&folder, cut);
        // Only who begins a second time counts itself.
        let faults = match cut {
            CrashPoint::BootCounted => format!("{},{}", CrashPoint::TrialSaved.name(), cut.name()),
            _ => cut.name().to_owned(),
        };
        let options = options.with("MUSTER_FAULT", faults).with("MUSTER_TRIAL_MS", 5_000);
        let (mut agent, id) = self.world.agent(options).await;
        let asked = ask(&self.world, &id, command, data).await;
        let ends = if cut == CrashPoint::BootCounted { 2 } else { 1 };
        for number in 1..=ends {
            let end = agent.process().ended().await;
            assert_eq!(end.signal(), Some(Signal::SIGABRT as i32), "{cut:?} was not reached");
            agent.cut_power();
            agent.set("MUSTER_FAULT", Some(cut.name()).filter(|_| number < ends));
            agent.resume();
        }
        let ended = self.world.api.finished(&asked).await;
        let version = current_version(&folder);
        runs(&self.world, &id, &version).await;
        self.world.ask(&id, "ping", json!({})).await;
        assert!(!folder.join("trial.json").exists(), "{cut:?}: the trial goes on");
        (ended, version)
    }

    async fn each(&self, cuts: &[CrashPoint], command: &str, data: Value, is: (&str, Value, &str)) {
        let all = cuts.iter().map(|cut| self.cut(*cut, command, data.clone()));
        for (cut, (ended, version)) in cuts.iter().zip(join_all(all).await) {
            let (verdict, code, expected) = &is;
            assert_eq!(ended["result"]["update_result"], *verdict, "{cut:?}: {ended}");
            assert_eq!(ended["error_code"], *code, "{cut:?}: {ended}");
            assert_eq!(version, *expected, "{cut:?}: {ended}");
        }
    }
}

/// Makes sure that there is something to be done in this step.
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
            // Others share the file.
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
async fn cut_before_the_trial_it_is_to_be_asked_for_again() {
    let scene = Scene::new().await;
    scene.publisher.release("0.2.0").await;
    let interrupted = ("failed", json!("interrupted"), "0.1.0");
    scene.each(&BEFORE_THE_TRIAL, "update", wanted(), interrupted).await;
}

#[tokio::test]
async fn cut_in_the_trial_it_goes_on() {
    let scene = Scene::new().await;
    scene.publisher.release("0.2.0").await;
    let installed = ("installed", Value::Null, "0.2.0");
    scene.each(&IN_THE_TRIAL, "update", wanted(), installed).await;
}

#[tokio::test]
async fn cut_once_it_has_registered_it_is_kept() {
    let scene = Scene::new().await;
    scene.publisher.release("0.2.0").await;
    let installed = ("installed", Value::Null, "0.2.0");
    scene.each(&AT_THE_END, "update", wanted(), installed).await;
}

#[tokio::test]
async fn cut_on_the_way_back_it_goes_back() {
    let scene = Scene::new().await;
    let script = "[ \"$1\" = version ] && exit 0; exec sleep 600";
    scene.publisher.replace("0.2.0", Program::Agent, script);
    scene.publisher.release("0.2.0").await;
    let back = ("rolled_back", json!("not_registered"), "0.1.0");
    scene.each(&ON_THE_WAY_BACK, "update", wanted(), back).await;
}

#[tokio::test]
async fn cut_while_programs_are_exchanged_each_is_whole() {
    let scene = Scene::new().await;
    let interrupted = ("failed", json!("interrupted"), "0.1.0");
    scene.each(&REPAIRING, "redeploy", json!({}), interrupted).await;
}

#[tokio::test]
async fn a_supervisor_that_fails_to_start_three_times_gives_way_to_the_one_before() {
    let scene = Scene::new().await;
    scene.publisher.replace("0.2.0", Program::Supervisor, "[ \"$1\" = self-test ]");
    scene.publisher.release("0.2.0").await;
    let (mut agent, id, folder) = host(&scene.world, &scene.publisher, "host", "0.1.0").await;
    let asked = ask(&scene.world, &id, "update", wanted()).await;
    for _ in 0..3 {
        let end = agent.process().ended().await;
        assert_eq!(end.code(), Some(1));
        // As the service manager does.
        agent.resume();
    }
    let ended = scene.world.api.finished(&asked).await;
    assert_eq!(ended["result"]["update_result"], "rolled_back", "{ended}");
    assert_eq!(ended["error_code"], "supervisor_failed", "{ended}");
    runs(&scene.world, &id, "0.1.0").await;
    assert_eq!(current_version(&folder), "0.1.0");
}
