//! The PostgreSQL cluster that all tests of one run share.
//!
//! nextest runs each test in a process of its own. The first one that needs PostgreSQL starts the
//! cluster, under a lock; the others find it by the id of the run. Without nextest, the run is the
//! test's process. The cluster belongs to no test: a small shell process stops it and removes its
//! files as soon as the run's process (nextest, or the test's own) has ended, for any reason.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use uuid::Uuid;

use super::programs::{self, USER};
use crate::processes::ports::free_port;
use crate::processes::test_run::TestRun;
use crate::wait::eventually_blocking;

const PATIENCE: Duration = Duration::from_secs(60);
/// Each test's server opens some ten connections. No test that uses this cluster cuts its power, and
/// what its processes have written survives their end. The tests that crash a database have one of
/// their own, which syncs.
const SETTINGS: [&str; 3] = ["max_connections=400", "full_page_writes=off", "fsync=off"];
/// Arguments: the process to outlive, the folder to remove, the program and its arguments.
const GUARD: &str = r#"run=$1 folder=$2
shift 2
"$@" >"$folder/postgres.log" 2>&1 &
tail --pid="$run" -s 0.1 -f /dev/null
kill -QUIT $!
wait $!
rm -rf "$folder""#;

/// A cluster that listens on 127.0.0.1 and trusts every connection.
#[derive(Debug)]
pub struct SharedCluster {
    port: u16,
    initialised: PathBuf,
}

impl SharedCluster {
    /// The cluster of this run, started if it is not running yet.
    pub fn get() -> &'static Self {
        static CLUSTER: OnceLock<SharedCluster> = OnceLock::new();
        CLUSTER.get_or_init(Self::find_or_start)
    }

    /// The address of one of its databases, as a server takes it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }

    /// The data directory of a cluster as `initdb` left it, to be copied.
    pub fn initialised_data_dir(&self) -> &Path {
        &self.initialised
    }

    fn find_or_start() -> Self {
        let run = TestRun::current();
        let temporary = std::env::temp_dir();
        // An empty TMPDIR would be the folder of the crate, and its files would be committed.
        assert!(temporary.is_absolute(), "TMPDIR must be an absolute path; set or unset it");
        let folder = temporary.join(format!("muster-postgres-{}", run.id));
        // The user that runs PostgreSQL passes through it.
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o711).create(&folder).expect("create the run's folder");
        let lock = File::create(folder.join("lock")).expect("create the lock");
        let _lock = Flock::lock(lock, FlockArg::LockExclusive).expect("wait for the lock");
        let (initialised, port_file) = (folder.join("initialised"), folder.join("port"));
        if let Ok(port) = fs::read_to_string(&port_file) {
            return Self { port: port.parse().expect("a port"), initialised };
        }
        // A process that was killed while it started the cluster leaves parts behind.
        let _ = fs::remove_dir_all(&initialised);
        programs::initdb(&initialised);
        let data_dir = folder.join(format!("cluster-{}", Uuid::new_v4()));
        programs::copy_data_dir(&initialised, &data_dir);
        let port = free_port();
        start(&run, &folder, &data_dir, port);
        fs::write(port_file, port.to_string()).expect("write the port");
        Self { port, initialised }
    }
}

fn start(run: &TestRun, folder: &Path, data_dir: &Path, port: u16) {
    let (program, mut args) = programs::command("postgres");
    args.extend(programs::postgres_args(data_dir, port, &SETTINGS));
    let mut guard = Command::new("sh")
        .args(["-c", GUARD, "postgres-guard", &run.process_id.to_string()])
        .arg(folder)
        .arg(program)
        .args(args)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .current_dir(folder)
        // Neither a signal from the terminal nor the end of a test reaches it.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start the shared cluster");
    let is_ready = eventually_blocking(PATIENCE, || {
        let ended = guard.try_wait().expect("look at a child");
        assert!(ended.is_none(), "the shared cluster ended: {ended:?}");
        programs::ready_process_id(data_dir).map(drop)
    });
    let log = || fs::read_to_string(folder.join("postgres.log")).unwrap_or_default();
    assert!(is_ready.is_some(), "the shared cluster is not ready: {}", log());
}
