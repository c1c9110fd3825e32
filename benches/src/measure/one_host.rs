//! P5, P8, P9: one host with the supervisor and agent built for hosts.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::anchor::{AnchorServer, disk};
use crate::load::{Connection, Latencies, Request};
use crate::process::{
    ManagedProcess, Memory, Server, TlsCertificate, host_binary, measurement_folder, memory,
};
use crate::report::Line;

const RUNS: usize = 200;
/// Memory is read after the effects of start-up are gone.
const SETTLE: Duration = Duration::from_secs(5);
const P8_ANCHOR: &str = "bare tokio client, rustls";
const MIB: f64 = 1024.0 * 1024.0;
const SCRIPT: &str = "#!/bin/sh\necho done\n";
const MANIFEST: &str =
    r#"{"scripts":[{"name":"one-line","path":"one-line.sh","interpreter":"/bin/sh"}]}"#;

pub async fn measure() -> Result<Vec<Line>> {
    let folder = measurement_folder()?;
    let server = Server::start(folder.path())?;
    let script = write_script(&folder.path().join("state"))?;
    let mut supervisor = supervisor(folder.path(), &server).await?;
    let agent_id = connected(&server).await?;
    std::thread::sleep(SETTLE);
    let agent_pid = child_of(supervisor.pid())?;
    let (agent, own) = (memory(agent_pid)?, memory(supervisor.pid())?);
    let (mut latencies, acceptances) = executions(&server, &agent_id).await?;
    let after = memory(agent_pid)?;
    supervisor.stop();
    drop(server);

    let bare = AnchorServer::start(folder.path(), "websocket")?;
    let client = idle(folder.path(), "bare-client", &[&bare.address.to_string()])?;
    let (secured, secured_client) = over_tls().await?;
    let sleep = idle(folder.path(), "bare-sleep", &[])?;
    let spawn_ms = disk::spawn_ms(&script, RUNS)?;
    let fsync_ms = disk::fsync_ms(folder.path(), RUNS)?;
    let p50 = latencies.quantile_ms(0.5);
    Ok(vec![
        Line {
            id: "P5",
            figure: p50,
            unit: "ms",
            anchor: Some(spawn_ms + fsync_ms),
            anchor_name: "the same script without Muster, and one fsync",
            target: "p50<12",
            is_met: p50 < 12.0,
            notes: vec![
                format!("{RUNS} runs: {}", latencies.summary()),
                format!("bare run of the script {spawn_ms:.2} ms, one fsync {fsync_ms:.2} ms"),
                format!("the POST alone: {acceptances}"),
            ],
        },
        Line {
            notes: vec![
                format!("{}; bare client {}", split(secured), split(secured_client)),
                format!("plain: {}; bare client {}", split(agent), split(client)),
                format!("plain, after {RUNS} executions: {}", split(after)),
            ],
            is_met: mib(secured.rss_bytes) <= 6.5 && mib(secured.private_bytes) <= 3.0,
            ..memory_line("P8", secured, secured_client, P8_ANCHOR, "<=6.5RSS,<=3private")
        },
        Line {
            notes: vec![format!("{}; bare sleep {}", split(own), split(sleep))],
            is_met: mib(own.rss_bytes) <= 2.8 && mib(own.private_bytes) <= 0.8,
            ..memory_line("P9", own, sleep, "bare sleep", "<=2.8RSS,<=0.8private")
        },
    ])
}

/// Memory of the agent and of a minimal client, both connected over TLS and idle.
async fn over_tls() -> Result<(Memory, Memory)> {
    let folder = measurement_folder()?;
    let pair = TlsCertificate::make(folder.path())?;
    let server = Server::start_over(folder.path(), Some(pair.clone()), false)?;
    write_script(&folder.path().join("state"))?;
    let mut supervisor = supervisor(folder.path(), &server).await?;
    connected(&server).await?;
    std::thread::sleep(SETTLE);
    let agent = memory(child_of(supervisor.pid())?)?;
    supervisor.stop();
    drop(server);
    let bare = AnchorServer::start_over(folder.path(), "websocket", Some(&pair))?;
    let authority = pair.certificate.display().to_string();
    let client = idle(folder.path(), "bare-client", &[&bare.address.to_string(), &authority])?;
    Ok((agent, client))
}

fn memory_line(
    id: &'static str,
    found: Memory,
    anchor: Memory,
    anchor_name: &'static str,
    target: &'static str,
) -> Line {
    Line {
        id,
        figure: mib(found.rss_bytes),
        unit: "MiB",
        anchor: Some(mib(anchor.rss_bytes)),
        anchor_name,
        target,
        is_met: false,
        notes: Vec::new(),
    }
}

/// Writes a manifest with one script, `one-line`; returns the script's path.
pub(super) fn write_script(state: &Path) -> Result<PathBuf> {
    let scripts = state.join("scripts");
    std::fs::create_dir_all(&scripts)?;
    std::fs::write(state.join("script_manifest.json"), MANIFEST)?;
    let script = scripts.join("one-line.sh");
    std::fs::write(&script, SCRIPT)?;
    Ok(script)
}

/// Starts the supervisor and agent built for hosts, with their state in the folder.
pub(super) async fn supervisor(folder: &Path, server: &Server) -> Result<ManagedProcess> {
    let key = server.agent_key(1).await?;
    let mut command = Command::new(host_binary("muster-supervisor")?);
    command
        .arg("run")
        .env("MUSTER_AGENT", host_binary("muster-agent")?)
        .env("MUSTER_SERVER_URL", server.url())
        .env("MUSTER_API_KEY", key)
        .env("MUSTER_STATE_DIR", folder.join("state"));
    if let Some(authority) = server.authority() {
        command.env("MUSTER_CA_FILE", authority);
    }
    ManagedProcess::start("supervisor", &command, folder, Signal::SIGTERM)
}

/// Waits for the agent; returns its id.
pub(super) async fn connected(server: &Server) -> Result<String> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let page = server.call("GET", "/api/agents/connected", None).await?;
        if let Some(id) = page["items"][0]["id"].as_str() {
            return Ok(id.to_owned());
        }
        ensure!(Instant::now() < deadline, "the agent did not connect in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Latency from submission to the committed result, one after the other, and of the submissions
/// alone.
async fn executions(server: &Server, agent_id: &str) -> Result<(Latencies, String)> {
    let mut connection = Connection::open(server.address).await?;
    let body = json!({"command": "execute", "data": {"script": "one-line"}}).to_string();
    let path = format!("/api/agents/{agent_id}/command");
    let submit = Request::new("POST", &path, Some(&server.key), Some(&body));
    let (mut latencies, mut acceptances) = (Latencies::default(), Latencies::default());
    for _ in 0..RUNS {
        let began_at = Instant::now();
        let status = connection.send(&submit).await?;
        acceptances.add(began_at.elapsed());
        ensure!(status == 202, "answered {status}: {}", connection.text());
        let accepted: serde_json::Value = serde_json::from_slice(connection.body())?;
        let id = accepted["id"].as_str().context("read a command's id")?;
        let path = format!("/api/commands/{id}?wait_ms=30000");
        connection.send(&Request::new("GET", &path, Some(&server.key), None)).await?;
        latencies.add(began_at.elapsed());
        let ended: serde_json::Value = serde_json::from_slice(connection.body())?;
        ensure!(ended["state"] == "succeeded", "it did not succeed: {ended}");
    }
    Ok((latencies, acceptances.summary()))
}

/// Memory of an idle program.
fn idle(folder: &Path, name: &str, args: &[&str]) -> Result<Memory> {
    let mut command = Command::new(host_binary(name)?);
    command.args(args);
    let program = ManagedProcess::start(name, &command, folder, Signal::SIGKILL)?;
    std::thread::sleep(Duration::from_secs(2));
    memory(program.pid())
}

fn child_of(pid: u32) -> Result<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let first = children.split_whitespace().next().context("find the agent")?;
    first.parse().context("read a process id")
}

fn split(memory: Memory) -> String {
    format!("{:.2} MiB RSS, {:.2} private", mib(memory.rss_bytes), mib(memory.private_bytes))
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB
}
