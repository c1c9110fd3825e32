//! Secret parameters as files: nothing of them is visible to other users, and nothing is left.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Host, settled, sha256, until, wait_for};
use muster_agent::executions;
use muster_agent::executions::ledger::NewCommand;
use muster_agent::executions::{ExecutionEvent, ExecutionManager};
use muster_agent::platform::{Signal, signal_process};
use muster_protocol::frame::Outcome;
use muster_protocol::parameter::Parameters;
use muster_protocol::parameter::secret_parameters::SecretDelivery;
use uuid::Uuid;

const SECRET: &str = "hunter2-and-more\n";
const DAEMON: u32 = 1;

/// A command that prints what it sees of its secret, then waits for a file.
fn command(host: &Host) -> NewCommand {
    let script = host.script(
        "secret.sh",
        "stat -c '%U %a' \"$TOKEN\" \"$(dirname \"$TOKEN\")\"; sha256sum <\"$TOKEN\"\n\
         echo ready; while [ ! -e go ]; do sleep 0.02; done",
    );
    let mut command = host.command(script);
    let launch = command.launch.as_mut().expect("an execute");
    launch.secrets = SecretDelivery::File;
    launch.run_as = Some("nobody".into());
    let secrets = Parameters::from([("TOKEN".into(), SECRET.into())]);
    command.parameters.secret_parameters = secrets.into();
    command
}

/// Lets other users reach the state directory, as in `/var/lib`.
fn open_to_others(host: &Host) {
    let parent = host.state.path().parent().expect("a folder of its own");
    fs::set_permissions(parent, fs::Permissions::from_mode(0o755)).expect("opened");
    host.state.grant_script_access().expect("opened");
}

fn file(host: &Host, id: Uuid) -> PathBuf {
    host.state.execution(id).secrets().expect("a place").join("TOKEN")
}

async fn started(host: &Host) -> (ExecutionManager, Uuid) {
    open_to_others(host);
    let command = command(host);
    let id = command.command_id;
    let mut executions = host.executions(1);
    executions.accept(vec![command]);
    wait_for(&mut executions, |_| host.output(id).stdout.ends_with(b"ready\n")).await;
    assert!(file(host, id).exists());
    (executions, id)
}

fn is_readable_by(user: u32, path: &Path) -> bool {
    let mut command = Command::new("cat");
    command.arg(path).uid(user).gid(user);
    command.output().expect("cat runs").status.success()
}

#[tokio::test]
async fn a_secret_in_a_file_is_readable_only_by_the_scripts_user_and_goes_with_the_execution() {
    let host = Host::new();
    let (mut executions, id) = started(&host).await;
    let text = String::from_utf8(host.output(id).stdout).expect("text");
    let expected = format!("nobody 600\nnobody 700\n{}  -\nready\n", sha256(SECRET.as_bytes()));
    assert_eq!(text, expected);
    assert!(!is_readable_by(DAEMON, &file(&host, id)), "another user can read the secret");
    let processes = host.processes_of(id);
    assert!(!processes.is_empty());
    for process in processes {
        let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment);
        assert!(!environment.contains("hunter2"), "{environment}");
    }
    fs::write(host.state.scripts().join("go"), "").expect("written");
    assert_eq!(settled(&mut executions, id).await.outcome, Some(Outcome::Succeeded));
    assert!(!file(&host, id).parent().expect("a folder").exists());
}

#[tokio::test]
async fn secret_files_of_a_killed_shim_are_removed_by_the_agent_or_by_the_next_one() {
    for is_agent_alive in [true, false] {
        let host = Host::new();
        let (executions, id) = started(&host).await;
        let shim = executions::holder(&host.state.execution(id)).expect("signed").shim_pid;
        let mut executions = Some(executions).filter(|_| is_agent_alive);
        signal_process(shim, Signal::Kill);
        until("the lock is free", || {
            let lock = muster_agent::platform::FileLock::is_held(&host.state.execution(id).lock());
            lock.is_ok_and(|is_held| !is_held)
        })
        .await;
        let mut executions = executions.take().unwrap_or_else(|| host.executions(1));
        wait_for(&mut executions, |event| event == ExecutionEvent::Settled(id)).await;
        let response = executions.ledger().response(id).expect("settled");
        assert_eq!(response.outcome, Some(Outcome::Lost));
        assert!(!file(&host, id).parent().expect("a folder").exists(), "{is_agent_alive}");
    }
}

#[tokio::test]
async fn secret_files_of_executions_that_are_gone_are_removed_when_the_agent_starts() {
    let host = Host::new();
    let stale = file(&host, Uuid::now_v7());
    fs::create_dir_all(stale.parent().expect("a folder")).expect("created");
    fs::write(&stale, SECRET).expect("written");
    drop(host.executions(1));
    assert!(!stale.exists());
}
