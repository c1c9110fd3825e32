//! A host of its own for each test: a state directory, scripts, and a look at what is left running.

use data_encoding::HEXLOWER;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use muster_agent::executions::ledger::NewCommand;
use muster_agent::executions::ledger::record::{Launch, ParameterRecord};
use muster_agent::executions::{ExecutionEvent, ExecutionManager};
use muster_agent::platform::{all_processes, has_environment_entry};
use muster_agent::storage::layout::StateDir;
use muster_protocol::CommandName;
use muster_protocol::frame::output::records_of;
use muster_protocol::frame::{ExecuteResult, Response};
use tempfile::TempDir;
use uuid::Uuid;

/// Nothing here takes this long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// The program under test.
pub fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_muster-agent"))
}

/// One host.
pub struct Host {
    pub state: StateDir,
    ids: std::cell::RefCell<Vec<Uuid>>,
    _folder: TempDir,
}

impl Host {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(&folder.path().join("state")).expect("state directory");
        Self { state, ids: Default::default(), _folder: folder }
    }

    pub fn executions(&self, max_executions: u32) -> ExecutionManager {
        ExecutionManager::open(&self.state, program(), max_executions).expect("executions")
    }

    /// ExecutionManager whose shims may not write files larger than this: a disk that fills up meanwhile.
    pub fn executions_on_small_disk(&self, file_kib: u32) -> ExecutionManager {
        let path = self.state.path().join("small-disk");
        let text = format!("#!/bin/sh\nulimit -f {}\nexec {:?} \"$@\"\n", file_kib * 2, program());
        fs::write(&path, text).expect("wrapper written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("made runnable");
        ExecutionManager::open(&self.state, path, 1).expect("executions")
    }

    /// Writes a shell script and gives its name.
    pub fn script(&self, name: &str, text: &str) -> String {
        let path = self.state.scripts().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("script written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .expect("script made runnable");
        name.to_owned()
    }

    /// A command that runs this script.
    pub fn command(&self, script: String) -> NewCommand {
        let command_id = Uuid::now_v7();
        self.note(command_id);
        NewCommand {
            command_id,
            command: CommandName::Execute,
            request_id: None,
            start_by: None,
            launch: Some(Launch {
                policy: None,
                path: script,
                argv: Vec::new(),
                interpreter: Some("/bin/sh".into()),
                args: vec![],
                sha256: None,
                script: None,
                library: None,
                file: None,
                package: None,
                service: None,
                call: None,
                requirements: None,
                is_rehearsal: false,
                is_probe: false,
                file_parameters: Vec::new(),
                steps: Vec::new(),
                run_as: None,
                secrets: Default::default(),
                timeout_ms: 60_000,
                output_limit_bytes: 1 << 30,
                output_quota_bytes: 5 << 30,
            }),
            parameters: ParameterRecord::default(),
            files: Vec::new(),
            minimums: Vec::new(),
            task: None,
        }
    }

    /// Nothing of this command may be left when the host goes.
    pub fn note(&self, command_id: Uuid) {
        self.ids.borrow_mut().push(command_id);
    }

    /// What the execution's output file holds: stdout and stderr apart, and both in the order read.
    pub fn output(&self, command_id: Uuid) -> Output {
        let bytes = fs::read(self.state.execution(command_id).output()).unwrap_or_default();
        let mut output = Output::default();
        for record in records_of(&bytes) {
            let Ok(record) = record else { break };
            output.both.extend_from_slice(record.payload);
            match record.stream {
                muster_protocol::frame::output::Stream::Stdout => {
                    output.stdout.extend_from_slice(record.payload);
                }
                muster_protocol::frame::output::Stream::Stderr => {
                    output.stderr.extend_from_slice(record.payload);
                }
            }
        }
        output
    }

    pub fn processes_of(&self, command_id: Uuid) -> Vec<u32> {
        let mark = format!("MUSTER_COMMAND_ID={}", command_id.hyphenated());
        all_processes()
            .into_iter()
            .filter(|process| !process.is_zombie && has_environment_entry(process.pid, &mark))
            .map(|process| process.pid)
            .collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for command_id in self.ids.borrow().iter() {
            assert_eq!(self.processes_of(*command_id), Vec::<u32>::new(), "left running");
        }
    }
}

#[derive(Debug, Default)]
pub struct Output {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub both: Vec<u8>,
}

/// Waits until a event is one that is looked for.
pub async fn wait_for(executions: &mut ExecutionManager, wanted: impl Fn(ExecutionEvent) -> bool) {
    let waiting = async {
        loop {
            if wanted(executions.next().await) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the event comes");
}

/// Waits for the end of a command.
pub async fn settled(executions: &mut ExecutionManager, command_id: Uuid) -> Response {
    wait_for(executions, |event| event == ExecutionEvent::Settled(command_id)).await;
    executions.ledger().response(command_id).expect("a settled command has its answer")
}

/// Looks again and again, without a fixed wait, until something holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

pub fn result(response: &Response) -> ExecuteResult {
    serde_json::from_value(response.data.clone()).expect("the result of an execute")
}

pub fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}
