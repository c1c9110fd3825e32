//! A PostgreSQL cluster for one test: for tests that stop, restart or reconfigure PostgreSQL. All
//! others use a [`PostgresDatabase`](super::database::PostgresDatabase).

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::programs::{self, USER};
use super::shared_cluster::SharedCluster;
use super::sql;
use crate::processes::ports::free_port;
use crate::processes::process::Process;
use crate::processes::test_dir::TestDir;
use crate::wait::eventually_blocking;

const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster that listens on 127.0.0.1 and trusts every connection.
#[derive(Debug)]
pub struct PostgresCluster {
    test_dir: TestDir,
    data_dir: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl PostgresCluster {
    /// Creates a cluster, as a copy of the one that this run initialised, and starts it.
    ///
    /// # Panics
    /// If PostgreSQL is not installed: a missing service fails the tests.
    pub fn start(test_dir: &TestDir) -> Self {
        let parent = test_dir.folder("postgres");
        programs::own_by_postgres(&parent);
        let data_dir = parent.join("cluster");
        programs::copy_data_dir(SharedCluster::get().initialised_data_dir(), &data_dir);
        let mut cluster =
            Self { test_dir: test_dir.clone(), data_dir, port: free_port(), process: None };
        cluster.resume();
        cluster
    }

    /// The address of its database, as a server takes it.
    pub fn url(&self) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/postgres", self.port)
    }

    /// Restarts it, and accepts only connections that know this password from then on.
    pub fn require_password(&mut self, password: &str) {
        sql::query(&self.url(), &format!("ALTER USER {USER} PASSWORD '{password}'"));
        let rules = self.data_dir.join("pg_hba.conf");
        std::fs::write(rules, "host all all 127.0.0.1/32 scram-sha-256\n").expect("written");
        self.stop();
        self.resume();
    }

    /// Stops it at once, which breaks every connection.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again, on the same port with the same data.
    pub fn resume(&mut self) {
        let (program, mut args) = programs::command("postgres");
        args.extend(programs::postgres_args(&self.data_dir, self.port, &[]));
        let args: Vec<&str> = args.iter().map(|arg| arg.to_str().expect("plain text")).collect();
        let none: [(&str, &str); 0] = [];
        let folder = self.test_dir.folder("postgres");
        let mut process =
            Process::start("postgres", &program, &args, none, &folder).ended_by(Signal::SIGINT);
        let ready = eventually_blocking(PATIENCE, || {
            assert!(process.status().is_none(), "PostgreSQL ended: {}", process.log());
            (programs::ready_process_id(&self.data_dir)? == process.id()).then_some(())
        });
        assert!(ready.is_some(), "PostgreSQL is not ready: {}", process.log());
        self.process = Some(process);
    }
}
