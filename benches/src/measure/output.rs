//! P10: the output of one child, into committed storage.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::one_host;
use crate::anchor::{AnchorServer, disk};
use crate::load::{Connection, Request, pattern};
use crate::process::{Server, cpu_ms, measurement_folder, release_binary};
use crate::report::Line;

/// Bytes printed by each run.
const BYTES: u64 = 512 * 1024 * 1024;
const RUNS: usize = 3;
const MB: f64 = 1e6;
const TARGET: f64 = 250.0;

pub async fn measure() -> Result<Vec<Line>> {
    let folder = measurement_folder()?;
    let folder = folder.path();
    let file = disk::append_mb_per_s(folder, BYTES)?;
    let socket = {
        let bare = AnchorServer::start(folder, "websocket")?;
        bare.stream_mb_per_s(BYTES).await?
    };
    let server = Server::start(folder)?;
    let state = folder.join("state");
    install(&state)?;
    let mut supervisor = one_host::supervisor(folder, &server).await?;
    let agent_id = one_host::connected(&server).await?;
    let sha256 = pattern::sha256(BYTES)?;
    let mut best = Run::default();
    let mut all = Vec::new();
    for _ in 0..RUNS {
        let run = run(&server, &agent_id, &sha256).await?;
        all.push(format!("{:.0}", run.mb_per_s));
        best = if run.mb_per_s > best.mb_per_s { run } else { best };
    }
    supervisor.stop();
    Ok(vec![Line {
        id: "P10",
        figure: best.mb_per_s,
        unit: "MB/s",
        anchor: Some(socket),
        anchor_name: "a bare WebSocket stream in frames of 256 KiB",
        target: ">=250",
        is_met: best.mb_per_s >= TARGET,
        notes: vec![
            format!("{} MiB each, the best of {} MB/s", BYTES / 1024 / 1024, all.join(", ")),
            format!("appended to a file and synced once, without Muster: {file:.0} MB/s"),
            format!("the server took {} ms of processor time for it", best.server_cpu_ms),
        ],
    }])
}

fn install(state: &Path) -> Result<()> {
    let scripts = state.join("scripts");
    std::fs::create_dir_all(&scripts)?;
    let manifest = json!({"scripts": [
        {"name": "print", "path": "print.sh", "interpreter": "/bin/sh"}
    ]});
    std::fs::write(state.join("script_manifest.json"), manifest.to_string())?;
    let source = release_binary("bare-output")?;
    let script = format!("exec '{}' {BYTES}\n", source.display());
    Ok(std::fs::write(scripts.join("print.sh"), script)?)
}

#[derive(Debug, Clone, Copy, Default)]
struct Run {
    mb_per_s: f64,
    server_cpu_ms: u64,
}

/// Time from submission to the committed result, which follows all output.
async fn run(server: &Server, agent_id: &str, sha256: &str) -> Result<Run> {
    let mut connection = Connection::open(server.address).await?;
    let body = json!({"command": "execute", "data": {"script": "print"}}).to_string();
    let path = format!("/api/agents/{agent_id}/command");
    let submit = Request::new("POST", &path, Some(&server.key), Some(&body));
    let (began_at, before) = (Instant::now(), cpu_ms(server.pid())?);
    let status = connection.send(&submit).await?;
    ensure!(status == 202, "answered {status}: {}", connection.text());
    let accepted: serde_json::Value = serde_json::from_slice(connection.body())?;
    let id = accepted["id"].as_str().context("read a command's id")?;
    let path = format!("/api/commands/{id}?wait_ms=60000");
    connection.send(&Request::new("GET", &path, Some(&server.key), None)).await?;
    let elapsed = began_at.elapsed();
    let ended: serde_json::Value = serde_json::from_slice(connection.body())?;
    ensure!(ended["state"] == "succeeded", "it did not succeed: {ended}");
    ensure!(ended["output_bytes"] == BYTES, "not all of it is committed: {ended}");
    ensure!(ended["result"]["output_sha256"] == sha256, "other bytes came: {ended}");
    let server_cpu_ms = cpu_ms(server.pid())? - before;
    // Wait for the compaction of this run, so that the next run does not measure it.
    std::thread::sleep(Duration::from_secs(5));
    Ok(Run { mb_per_s: BYTES as f64 / MB / elapsed.as_secs_f64(), server_cpu_ms })
}
