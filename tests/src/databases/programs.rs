//! PostgreSQL's own programs: where they are, and as which user they run.

use std::ffi::OsString;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{User, geteuid};

/// The superuser of every cluster, and the system user that runs it if the tests run as root,
/// which PostgreSQL refuses.
pub const USER: &str = "postgres";

/// A program and its first arguments, run as [`USER`] if the tests run as root.
pub fn command(name: &str) -> (PathBuf, Vec<OsString>) {
    let program = locate(name);
    if !geteuid().is_root() {
        return (program, vec![]);
    }
    let setpriv = find_in_path("setpriv").expect("setpriv is missing: install util-linux");
    let switch = ["--reuid", USER, "--regid", USER, "--init-groups", "--"];
    let mut args: Vec<OsString> = switch.map(OsString::from).into();
    args.push(program.into());
    (setpriv, args)
}

/// Creates the data directory of a cluster that trusts every connection.
///
/// # Panics
/// If PostgreSQL is not installed: a missing service fails the tests.
pub fn initdb(data_dir: &Path) {
    std::fs::create_dir(data_dir).expect("create the data directory");
    own_by_postgres(data_dir);
    let (program, mut args) = command("initdb");
    let settings = ["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"];
    args.extend(settings.map(OsString::from));
    args.push(data_dir.into());
    run(Command::new(program).args(args).current_dir(data_dir));
}

/// Copies the data directory of a cluster that was never started, with its owner and modes.
pub fn copy_data_dir(from: &Path, to: &Path) {
    run(Command::new("cp").args(["-a", "--reflink=auto", "--"]).args([from, to]));
}

/// Gives a path to the user that runs the clusters.
pub fn own_by_postgres(path: &Path) {
    if geteuid().is_root() {
        let user = User::from_name(USER).expect("read the users").expect("a postgres user");
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("chown");
    }
}

/// The arguments of `postgres` for this data directory and port, on 127.0.0.1 only. Nothing is
/// flushed to the disk: the kernel keeps what a killed PostgreSQL wrote.
pub fn postgres_args(data_dir: &Path, port: u16, settings: &[&str]) -> Vec<OsString> {
    let port = port.to_string();
    let mut args: Vec<OsString> =
        ["-F", "-p", &port, "-k", "", "-h", "127.0.0.1", "-D"].map(OsString::from).into();
    args.push(data_dir.into());
    args.extend(settings.iter().flat_map(|setting| ["-c".into(), OsString::from(setting)]));
    args
}

/// The process id that PostgreSQL wrote into its data directory, once it accepts connections.
pub fn ready_process_id(data_dir: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
    let is_ready = text.lines().nth(7)?.trim() == "ready";
    text.lines().next()?.parse().ok().filter(|_| is_ready)
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("failed to run {command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {errors}");
}

fn locate(name: &str) -> PathBuf {
    let mut packaged: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|version| Some(version.ok()?.path().join("bin").join(name)))
        .filter(|path| path.is_file())
        .collect();
    packaged.sort();
    packaged
        .pop()
        .or_else(|| find_in_path(name))
        .unwrap_or_else(|| panic!("{name} is missing: install the package postgresql"))
}

fn find_in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder: PathBuf| folder.join(name))
        .find(|p: &PathBuf| p.is_file())
}
