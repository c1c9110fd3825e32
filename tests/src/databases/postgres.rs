//! A throw-away PostgreSQL cluster in a folder of the test.

use std::ffi::OsString;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};

use crate::processes::ports::free_port;
use crate::processes::process::Process;
use crate::processes::test_dir::Site;
use crate::wait::eventually_blocking;

/// Who runs the cluster when the tests run as root, which PostgreSQL refuses.
const USER: &str = "postgres";
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster that listens on 127.0.0.1 and trusts everybody there.
#[derive(Debug)]
pub struct Postgres {
    site: Site,
    cluster: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Postgres {
    /// Makes a cluster and starts it.
    ///
    /// # Panics
    /// If PostgreSQL is not installed: a missing service fails the tests.
    pub fn start(site: &Site) -> Self {
        let cluster = site.folder("postgres").join("cluster");
        std::fs::create_dir(&cluster).expect("make the cluster's folder");
        if geteuid().is_root() {
            let user = User::from_name(USER).expect("read the users").expect("a postgres user");
            for folder in [cluster.as_path(), cluster.parent().expect("just joined")] {
                chown(folder, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("chown");
            }
        }
        let (program, mut args) = command("initdb");
        let settings = ["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"];
        args.extend(settings.map(OsString::from));
        args.push(cluster.clone().into());
        let made = Command::new(program)
            .args(args)
            .current_dir(&cluster)
            .stdin(Stdio::null())
            .output()
            .expect("run initdb");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port = free_port();
        let mut postgres = Self { site: site.clone(), cluster, port, process: None };
        postgres.resume();
        postgres
    }

    /// What a server is given to reach it.
    pub fn url(&self) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/postgres", self.port)
    }

    /// Where one of the programs that came with the cluster's is.
    pub fn program(&self, name: &str) -> PathBuf {
        locate(name)
    }

    /// Lets nobody in any more who does not know this password.
    pub fn demand_password(&mut self, password: &str) {
        let statement = format!("ALTER USER {USER} PASSWORD '{password}'");
        let mut psql = Command::new(self.program("psql"));
        let told = psql.args([&self.url(), "-c", &statement]).output().expect("run psql");
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        let rules = self.cluster.join("pg_hba.conf");
        std::fs::write(rules, "host all all 127.0.0.1/32 scram-sha-256\n").expect("written");
        self.go_away();
        self.resume();
    }

    /// Ends it at once and breaks every connection.
    pub fn go_away(&mut self) {
        self.process = None;
    }

    /// Starts it again, on the same port with the same data.
    pub fn resume(&mut self) {
        let (program, mut args) = command("postgres");
        let port = self.port.to_string();
        let settings = ["-F", "-p", &port, "-k", "", "-h", "127.0.0.1", "-D"];
        args.extend(settings.map(OsString::from));
        args.push(self.cluster.clone().into());
        let args: Vec<&str> = args.iter().map(|arg| arg.to_str().expect("plain text")).collect();
        let none: [(&str, &str); 0] = [];
        let folder = self.site.folder("postgres");
        let mut process =
            Process::start("postgres", &program, &args, none, &folder).ended_by(Signal::SIGINT);
        let pid_file = self.cluster.join("postmaster.pid");
        let ready = eventually_blocking(PATIENCE, || {
            assert!(process.status().is_none(), "PostgreSQL ended: {}", process.log());
            let text = std::fs::read_to_string(&pid_file).ok()?;
            let is_own = text.lines().next()? == process.id().to_string();
            (is_own && text.lines().nth(7)?.trim() == "ready").then_some(())
        });
        assert!(ready.is_some(), "PostgreSQL is not ready: {}", process.log());
        self.process = Some(process);
    }
}

/// How to call one of PostgreSQL's programs, as another user when this one is root.
fn command(name: &str) -> (PathBuf, Vec<OsString>) {
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
