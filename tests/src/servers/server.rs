//! A server under test: a real process on a free port, with its data in the test's directory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clients::api::Api;
use crate::databases::cluster::PostgresCluster;
use crate::databases::database::PostgresDatabase;
use crate::processes::binaries::binary;
use crate::processes::process::Process;
use crate::processes::test_dir::TestDir;
use crate::servers::authority::Authority;
use crate::wait::{eventually, eventually_blocking};

const PATIENCE: Duration = Duration::from_secs(60);

/// Where a server stores its data.
#[derive(Debug)]
pub enum Database {
    /// A file in the server's data directory.
    Sqlite,
    /// A database in the cluster that all tests share.
    Postgres(PostgresDatabase),
    /// A cluster for this test alone, for tests that stop it.
    Cluster(PostgresCluster),
}

/// Settings that differ from the defaults of the harness.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// `MUSTER_…` variables in addition to those that the harness sets.
    pub environment: Vec<(String, String)>,
    /// The authority that issued the server's certificate, if the server uses TLS.
    pub authority: Option<PathBuf>,
    /// Shell commands that run first, in a mount namespace for the server: a small disk.
    pub mounts: Option<String>,
    /// Where it listens, if not on a free port of this machine.
    pub listen: Option<String>,
}

impl ServerOptions {
    /// Listening on this address.
    pub fn listening(mut self, address: &str) -> Self {
        self.listen = Some(address.to_owned());
        self
    }

    /// A server with TLS and a certificate of this authority.
    pub fn secured(authority: &Authority) -> Self {
        let mut options = Self::default()
            .with("MUSTER_TLS_CERT", authority.certificate().display())
            .with("MUSTER_TLS_KEY", authority.key().display());
        options.authority = Some(authority.file().to_owned());
        options
    }

    /// A server with TLS that issues its certificate itself, in this directory.
    pub fn issuing(test_dir: &TestDir) -> Self {
        let mut options = Self::default().with("MUSTER_TLS", "auto");
        // The server writes it before it listens.
        options.authority = Some(test_dir.folder("server").join("ca.pem"));
        options
    }

    /// Runs it in its own mount namespace, prepared by these shell commands.
    pub fn with_mounts(mut self, commands: &str) -> Self {
        self.mounts = Some(commands.to_owned());
        self
    }

    /// Adds a variable.
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }
}

/// A server that can be stopped, killed and restarted on the same port with the same data.
#[derive(Debug)]
pub struct Server {
    // Before the database, so that the server ends first.
    process: Option<Process>,
    pub database: Database,
    options: ServerOptions,
    data_dir: PathBuf,
    listen: String,
    test_dir: TestDir,
}

impl Server {
    /// Starts a server and waits until it is ready.
    pub fn start(test_dir: &TestDir, database: Database, options: ServerOptions) -> Self {
        let mut server = Self::unstarted(test_dir, database, options);
        server.resume();
        server.listen = server.address();
        server
    }

    /// A server that is configured but not started.
    pub fn unstarted(test_dir: &TestDir, database: Database, options: ServerOptions) -> Self {
        let listen = options.listen.clone().unwrap_or_else(|| "127.0.0.1:0".to_owned());
        Self {
            process: None,
            database,
            options,
            data_dir: test_dir.folder("server"),
            listen,
            test_dir: test_dir.clone(),
        }
    }

    /// Restarts it.
    pub fn resume(&mut self) {
        let url_file = self.data_dir.join("server_url");
        // The file may not exist.
        let _ = std::fs::remove_file(&url_file);
        let mut process = self.spawn();
        let ready = eventually_blocking(PATIENCE, || {
            assert!(process.status().is_none(), "the server ended:\n{}", process.log());
            let url = std::fs::read_to_string(&url_file).ok()?;
            (!url.trim().is_empty()).then_some(())
        });
        assert!(ready.is_some(), "the server is not ready:\n{}", process.log());
        self.process = Some(process);
    }

    /// Restarts it with other options.
    pub fn resume_with(&mut self, options: ServerOptions) {
        self.configure(options);
        self.resume();
    }

    /// Other options for its next start, and for other commands of its program.
    pub fn configure(&mut self, options: ServerOptions) {
        self.options = options;
    }

    /// Starts the program with this server's data and returns its process.
    pub fn spawn(&self) -> Process {
        self.spawn_at(&self.listen)
    }

    /// True if its database is on PostgreSQL.
    pub fn is_postgres(&self) -> bool {
        !matches!(self.database, Database::Sqlite)
    }

    /// [`Server::spawn`] on another free port.
    pub fn spawn_elsewhere(&self) -> Process {
        self.spawn_at("127.0.0.1:0")
    }

    /// Runs another command of its program on its data, to the end.
    pub fn run(&self, args: &[&str]) -> std::process::Output {
        let mut command = std::process::Command::new(binary("muster-server"));
        command.args(args).arg("--data-dir").arg(&self.data_dir);
        command.envs(self.options.environment.iter().cloned());
        command.envs(self.database_url().map(|url| ("MUSTER_DATABASE_URL", url)));
        command.output().expect("run muster-server")
    }

    /// As [`Server::run`], and does not wait for the end.
    pub fn start_command(&self, args: &[&str]) -> std::process::Child {
        let mut command = std::process::Command::new(binary("muster-server"));
        command.args(args).arg("--data-dir").arg(&self.data_dir);
        command.envs(self.options.environment.iter().cloned());
        command.envs(self.database_url().map(|url| ("MUSTER_DATABASE_URL", url)));
        command.stdout(std::process::Stdio::null()).spawn().expect("start muster-server")
    }

    /// [`Server::run`] with this text as standard input.
    pub fn run_with_input(&self, args: &[&str], input: &str) -> std::process::Output {
        use std::io::Write as _;
        use std::process::Stdio;
        let mut command = std::process::Command::new(binary("muster-server"));
        command.args(args).arg("--data-dir").arg(&self.data_dir);
        command.envs(self.options.environment.iter().cloned());
        command.envs(self.database_url().map(|url| ("MUSTER_DATABASE_URL", url)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("run muster-server");
        let mut stdin = child.stdin.take().expect("its input");
        // Fails if it has ended, which its status shows.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("wait for muster-server")
    }

    fn database_url(&self) -> Option<String> {
        match &self.database {
            Database::Sqlite => None,
            Database::Postgres(database) => Some(database.url()),
            Database::Cluster(cluster) => Some(cluster.url()),
        }
    }

    fn spawn_at(&self, listen: &str) -> Process {
        let data_dir = self.data_dir.to_str().expect("plain text");
        let mut environment = vec![("MUSTER_LOG".into(), "info".into())];
        environment.extend(self.options.environment.iter().cloned());
        environment.extend(self.database_url().map(|url| ("MUSTER_DATABASE_URL".into(), url)));
        let args = ["serve", "--listen", listen, "--data-dir", data_dir];
        let start = |program: &Path, args: &[&str]| {
            Process::start("server", program, args, environment, self.test_dir.path())
        };
        let program = binary("muster-server");
        let Some(commands) = &self.options.mounts else { return start(&program, &args) };
        let script = format!("set -e\n{commands}\nexec \"$0\" \"$@\"");
        let program = program.to_str().expect("plain text");
        let inside = ["--mount", "--", "sh", "-c", &script, program];
        start(Path::new("unshare"), &[&inside[..], &args[..]].concat())
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the server runs")
    }

    /// Kills it with -9.
    pub fn kill_9(&mut self) {
        self.process().kill_9();
        self.process = None;
    }

    /// Stops it as an operator would.
    pub fn stop(&mut self) {
        self.process().stop();
        self.process = None;
    }

    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// `http://127.0.0.1:PORT` or `https://…`, as the server prints it.
    pub fn url(&self) -> String {
        let url = std::fs::read_to_string(self.data_dir.join("server_url")).unwrap_or_default();
        url.trim().to_owned()
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        let url = self.url();
        url.split_once("://").map_or("", |(_, address)| address).to_owned()
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.test_dir.path().join("server.log")).unwrap_or_default()
    }

    /// A client with the first owner's key.
    pub fn api(&self) -> Api {
        let key = std::fs::read_to_string(self.data_dir.join("bootstrap_key"));
        let key = key.expect("the server wrote the first key");
        Api::trusting(&self.url(), key.trim(), self.options.authority.as_deref())
    }

    /// Waits until it reports that it is ready.
    pub async fn ready(&self) {
        let api = self.api();
        eventually("the server is ready", async || {
            let answer = api.try_send(reqwest::Method::GET, "/readyz", &[], None).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    /// Its PostgreSQL cluster, to stop and restart it.
    ///
    /// # Panics
    /// If the cluster is shared with other tests.
    pub fn cluster(&mut self) -> &mut PostgresCluster {
        match &mut self.database {
            Database::Cluster(cluster) => cluster,
            other => panic!("the tests of other servers would suffer: {other:?}"),
        }
    }
}
