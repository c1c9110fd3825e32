//! Tests the ledger against a model: after any steps in any order, with a crash between any two of
//! them, the ledger knows what a simple table knows.

use std::collections::BTreeMap;

use muster_protocol::CommandName;
use muster_protocol::frame::{ExecuteResult, Outcome};
use muster_protocol::parameter::Parameters;
use proptest::prelude::*;
use uuid::Uuid;

use super::record::{
    CancelledBy, ExecutionEnd, ExitRecord, Launch, ParameterRecord, Settlement, refusal,
};
use super::recovery::RecoveryAction;
use super::{KnownState, Ledger, NewCommand, Phase, cancelled};
use crate::platform::FileLock;
use crate::storage;
use crate::storage::layout::{ExecutionDir, StateDir};

const COMMANDS: u8 = 3;

/// One step. Steps that are impossible in the current state are skipped.
#[derive(Debug, Clone)]
enum ModelStep {
    Accept(Vec<u8>),
    /// The folder of the command is taken, so its acceptance fails.
    AcceptInVain(u8),
    Cancel(u8),
    Start(u8),
    End(u8),
    Kill(u8),
    Lose(u8),
    Receipt(u8),
    Sweep,
    Crash,
}

/// The state of a command in the model.
#[derive(Debug)]
enum State {
    Accepted,
    Running(#[expect(dead_code, reason = "held, not read")] FileLock),
    /// The shim has ended without a result.
    Dead,
    Settled(Outcome),
    Receipted(Outcome),
}

fn step() -> impl Strategy<Value = ModelStep> {
    let one = || 0..COMMANDS;
    prop_oneof![
        4 => prop::collection::vec(one(), 1..4).prop_map(ModelStep::Accept),
        1 => one().prop_map(ModelStep::AcceptInVain),
        1 => one().prop_map(ModelStep::Cancel),
        4 => one().prop_map(ModelStep::Start),
        3 => one().prop_map(ModelStep::End),
        1 => one().prop_map(ModelStep::Kill),
        1 => one().prop_map(ModelStep::Lose),
        3 => one().prop_map(ModelStep::Receipt),
        1 => Just(ModelStep::Sweep),
        3 => Just(ModelStep::Crash),
    ]
}

fn id(number: u8) -> Uuid {
    Uuid::from_u128(u128::from(number) + 1)
}

fn new_command(number: u8) -> NewCommand {
    let launch = Launch {
        policy: None,
        path: "a.sh".into(),
        argv: Vec::new(),
        interpreter: None,
        args: vec![],
        sha256: None,
        script: None,
        library: None,
        package: None,
        file: None,
        service: None,
        call: None,
        requirements: None,
        is_rehearsal: false,
        is_probe: false,
        file_parameters: Vec::new(),
        steps: Vec::new(),
        run_as: None,
        secrets: Default::default(),
        timeout_ms: 1,
        output_limit_bytes: 1,
        output_quota_bytes: 1,
    };
    NewCommand {
        command_id: id(number),
        command: CommandName::Execute,
        start_by: None,
        launch: Some(launch),
        parameters: ParameterRecord {
            secret_parameters: Parameters::from([("SECRET".into(), "value".into())]).into(),
            ..ParameterRecord::default()
        },
        files: Vec::new(),
        minimums: Vec::new(),
        request_id: None,
        task: None,
    }
}

fn exit(code: i32) -> Settlement {
    let result = ExecuteResult {
        exit_code: Some(code),
        signal: None,
        duration_ms: 1,
        output_bytes: 0,
        stdout_bytes: 0,
        stderr_bytes: 0,
        dropped_bytes: 0,
        output_complete: true,
        output_sha256: None,
        stdout_sha256: None,
        stderr_sha256: None,
        steps: Vec::new(),
        rehearsal: None,
    };
    let (is_timed_out, is_cancelled) = (false, false);
    Settlement::Exit(Box::new(ExitRecord {
        ending: ExecutionEnd::Ended,
        is_timed_out,
        is_cancelled,
        cancelled_by: CancelledBy::Server,
        is_unhealthy: false,
        result,
        run: None,
        failed_part: None,
        call: None,
    }))
}

/// A ledger and the model that it is compared with.
struct World {
    state: StateDir,
    ledger: Ledger,
    model: BTreeMap<u8, State>,
    /// The highest acceptance count that a server can have seen.
    reported_count: u64,
}

impl World {
    fn new(path: &std::path::Path) -> Self {
        let state = StateDir::create(path).expect("state directory");
        let (ledger, _) = Ledger::open(&state).expect("opened");
        Self { state, ledger, model: BTreeMap::new(), reported_count: 0 }
    }

    fn execution(&self, number: u8) -> ExecutionDir {
        self.state.execution(id(number))
    }

    fn take(&mut self, step: &ModelStep) {
        match step {
            ModelStep::Accept(numbers) => self.accept(numbers),
            ModelStep::AcceptInVain(number) => self.accept_in_vain(*number),
            ModelStep::Cancel(number) => {
                if matches!(self.model.get(number), None | Some(State::Accepted)) {
                    self.ledger.settle(cancelled(id(*number), CancelledBy::Server));
                    self.model.insert(*number, State::Settled(Outcome::Cancelled));
                }
            }
            ModelStep::Start(number) => {
                if matches!(self.model.get(number), Some(State::Accepted)) {
                    let execution = self.execution(*number);
                    let lock = FileLock::take(&execution.lock()).expect("free");
                    storage::create_synced(&execution.started(), b"")
                        .expect("never started before");
                    self.ledger.set_running(id(*number));
                    self.model.insert(*number, State::Running(lock));
                }
            }
            ModelStep::End(number) => {
                if matches!(self.model.get(number), Some(State::Running(_))) {
                    let bytes = storage::seal(&exit(i32::from(*number)));
                    std::fs::write(self.execution(*number).exit(), bytes).expect("written");
                    let outcome = if *number == 0 { Outcome::Succeeded } else { Outcome::Failed };
                    self.model.insert(*number, State::Settled(outcome));
                    assert_eq!(
                        self.ledger.decide(id(*number)).expect("judged"),
                        RecoveryAction::Report
                    );
                    self.ledger.set_settled(id(*number));
                }
            }
            ModelStep::Kill(number) => {
                if matches!(self.model.get(number), Some(State::Running(_))) {
                    self.model.insert(*number, State::Dead);
                }
            }
            ModelStep::Lose(number) => {
                if matches!(self.model.get(number), Some(State::Dead)) {
                    self.lose(*number);
                }
            }
            ModelStep::Receipt(number) => {
                self.ledger.receipt(id(*number));
                if let Some(State::Settled(outcome)) = self.model.get(number) {
                    self.model.insert(*number, State::Receipted(*outcome));
                }
            }
            ModelStep::Sweep => self.ledger.sweep(),
            ModelStep::Crash => self.crash(),
        }
    }

    fn accept(&mut self, numbers: &[u8]) {
        let unknown: Vec<_> =
            numbers.iter().filter(|number| !self.model.contains_key(number)).collect();
        let outcomes = self.ledger.accept(numbers.iter().map(|n| new_command(*n)).collect());
        for (_, outcome) in outcomes.iter().filter(|(_, outcome)| outcome.is_ok()) {
            let count = *outcome.as_ref().expect("filtered");
            assert!(count > self.reported_count, "{count} after {}", self.reported_count);
            self.reported_count = count;
        }
        for number in unknown {
            assert!(outcomes.iter().any(|(it, outcome)| *it == id(*number) && outcome.is_ok()));
            self.model.insert(*number, State::Accepted);
        }
    }

    fn accept_in_vain(&mut self, number: u8) {
        if self.model.contains_key(&number) {
            return;
        }
        let execution = self.execution(number);
        std::fs::create_dir(execution.path()).expect("created");
        let outcomes = self.ledger.accept(vec![new_command(number)]);
        assert!(matches!(outcomes[..], [(_, Err(_))]), "{outcomes:?}");
        assert!(execution.path().exists(), "what was there is another's");
        std::fs::remove_dir(execution.path()).expect("empty");
    }

    fn lose(&mut self, number: u8) {
        assert_eq!(self.ledger.decide(id(number)).expect("judged"), RecoveryAction::Lose);
        self.ledger.settle(refusal(id(number), Outcome::Lost, "lost", String::new()));
        self.model.insert(number, State::Settled(Outcome::Lost));
    }

    /// The agent ends while shims continue. The next agent reads the files and applies the actions.
    fn crash(&mut self) {
        let (ledger, recoveries) = Ledger::open(&self.state).expect("opened again");
        self.ledger = ledger;
        let mut expected: BTreeMap<Uuid, RecoveryAction> = BTreeMap::new();
        for (number, state) in &self.model {
            let recovery = match state {
                State::Accepted => RecoveryAction::Start,
                State::Running(_) => RecoveryAction::Reattach,
                State::Dead => RecoveryAction::Lose,
                State::Settled(_) => RecoveryAction::Report,
                State::Receipted(_) => continue,
            };
            expected.insert(id(*number), recovery);
        }
        assert_eq!(recoveries.iter().copied().collect::<BTreeMap<_, _>>(), expected);
        for (command_id, recovery) in recoveries {
            match recovery {
                RecoveryAction::Report => self.ledger.set_settled(command_id),
                RecoveryAction::Lose => {
                    let number = (0..COMMANDS).find(|number| id(*number) == command_id);
                    self.lose(number.expect("one of them"));
                }
                _ => {}
            }
        }
    }

    fn check(&mut self) {
        let count = self.ledger.head().acceptance_count;
        assert!(count >= self.reported_count, "the server would see a loss");
        // An agent may register at any moment.
        self.reported_count = count;
        for number in 0..COMMANDS {
            let known = self.ledger.known(id(number));
            let answer = self.ledger.response(id(number)).and_then(|answer| answer.outcome);
            let (expected, outcome) = match self.model.get(&number) {
                None => (KnownState::Never, None),
                Some(State::Accepted) => (KnownState::Open(Phase::Waiting), None),
                Some(State::Running(_) | State::Dead) => (KnownState::Open(Phase::Running), None),
                Some(State::Settled(outcome)) => (KnownState::Open(Phase::Settled), Some(*outcome)),
                Some(State::Receipted(outcome)) => (KnownState::Receipted, Some(*outcome)),
            };
            assert_eq!((known, answer), (expected, outcome), "command {number}");
            let has_secret = self.execution(number).parameters().exists();
            let may_have = matches!(known, KnownState::Open(Phase::Waiting | Phase::Running));
            assert!(may_have || !has_secret, "a secret outlives command {number}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_ledger_matches_the_model_in_any_order_and_after_any_crash(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut world = World::new(folder.path());
        for step in &steps {
            world.take(step);
            world.check();
        }
    }
}
