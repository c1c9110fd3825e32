//! `muster-server` on a new SQLite database, with the API requests that measurements need.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::certificate::{TlsCertificate, trusting};
use super::managed_process::{ManagedProcess, release_binary};
use crate::load::{Connection, Request, Target};

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that can be killed and restarted with the same port and data.
pub struct Server {
    program: ManagedProcess,
    folder: PathBuf,
    pub address: SocketAddr,
    /// The owner's API key.
    pub key: String,
    tls: Option<TlsCertificate>,
    is_mutual: bool,
}

impl Server {
    /// Starts a server in this folder and waits until it is ready.
    pub fn start(folder: &Path) -> Result<Self> {
        Self::start_over(folder, None, false)
    }

    /// Like [`Server::start`]; with a certificate it serves over TLS. `is_mutual`: it requires certificates of agents.
    pub fn start_over(folder: &Path, tls: Option<TlsCertificate>, is_mutual: bool) -> Result<Self> {
        let (program, address) = launch(folder, "127.0.0.1:0", tls.as_ref(), is_mutual)?;
        let key = std::fs::read_to_string(folder.join("data/bootstrap_key"))?.trim().to_owned();
        Ok(Self { program, folder: folder.to_owned(), address, key, tls, is_mutual })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// The URL for agents.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Over TLS: the file of the CA to trust.
    pub fn authority(&self) -> Option<&Path> {
        self.tls.as_ref().map(|pair| pair.certificate.as_path())
    }

    /// The target of a load generator.
    pub fn target(&self) -> Target {
        Target { address: self.address, pid: self.pid() }
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.program.stop();
    }

    /// Restarts it with the same port and data.
    pub fn resume(&mut self) -> Result<()> {
        std::fs::remove_file(self.folder.join("data/server_url"))?;
        self.program =
            launch(&self.folder, &self.address.to_string(), self.tls.as_ref(), self.is_mutual)?.0;
        Ok(())
    }

    /// Creates a key for `max_agents` agents; returns its secret.
    pub async fn agent_key(&self, max_agents: usize) -> Result<String> {
        let body = json!({"name": "bench", "max_agents": max_agents});
        let answer = self.call("POST", "/api/agents/keys", Some(&body)).await?;
        Ok(answer["key"].as_str().context("read a key")?.to_owned())
    }

    /// The ids of all agents.
    pub async fn agents(&self) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        let mut path = "/api/agents?limit=500".to_owned();
        loop {
            let page = self.call("GET", &path, None).await?;
            let items = page["items"].as_array().context("read a page")?;
            ids.extend(items.iter().filter_map(|item| item["id"].as_str().map(str::to_owned)));
            let Some(cursor) = page["next_cursor"].as_str() else { return Ok(ids) };
            path = format!("/api/agents?limit=500&cursor={cursor}");
        }
    }

    /// Sends one request; returns its response, which must be a success.
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let stream = TcpStream::connect(self.address).await?;
        match &self.tls {
            None => self.ask(Connection::over(stream), method, path, body).await,
            Some(pair) => {
                let tls = TlsConnector::from(trusting(&pair.certificate)?);
                let stream = tls.connect(ServerName::from(self.address.ip()), stream).await?;
                self.ask(Connection::over(stream), method, path, body).await
            }
        }
    }

    async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut connection: Connection<S>,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value> {
        let body = body.map(Value::to_string);
        let request = Request::new(method, path, Some(&self.key), body.as_deref());
        let status = connection.send(&request).await?;
        let text = String::from_utf8_lossy(connection.body()).into_owned();
        ensure!((200..300).contains(&status), "{method} {path} answered {status}: {text}");
        serde_json::from_str(&text).context("read an answer")
    }
}

fn launch(
    folder: &Path,
    listen: &str,
    tls: Option<&TlsCertificate>,
    is_mutual: bool,
) -> Result<(ManagedProcess, SocketAddr)> {
    let mut command = Command::new(release_binary("muster-server")?);
    command.args(["serve", "--listen", listen, "--data-dir", "data"]).env("MUSTER_LOG", "warn");
    if let Some(pair) = tls {
        command.arg("--tls-cert").arg(&pair.certificate).arg("--tls-key").arg(&pair.key);
        if is_mutual {
            command.args(["--require-client-cert", "agents"]);
        }
    }
    let mut program = ManagedProcess::start("server", &command, folder, Signal::SIGKILL)?;
    let deadline = Instant::now() + PATIENCE;
    let url = folder.join("data/server_url");
    loop {
        program.check()?;
        let text = std::fs::read_to_string(&url).unwrap_or_default();
        if let Ok(address) = text.trim().rsplit('/').next().unwrap_or_default().parse() {
            return Ok((program, address));
        }
        ensure!(Instant::now() < deadline, "the server did not start in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}
