//! P12: real processes on one host, each started by the shim, with its result committed.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::one_host;
use crate::anchor::disk;
use crate::load::{Connection, Latencies, Request};
use crate::process::{Server, cpu_ms, measurement_folder};
use crate::report::Line;

/// More than a host runs at once (16), so that it is always busy.
const IN_FLIGHT: usize = 48;
const WARM_UP: Duration = Duration::from_secs(1);
const DURATION: Duration = Duration::from_secs(8);
const ANCHOR_DURATION: Duration = Duration::from_secs(3);
/// Parallel runs of the anchor.
const ANCHOR_THREADS: usize = 4;
const TARGET: f64 = 500.0;

pub async fn measure() -> Result<Line> {
    let folder = measurement_folder()?;
    let folder = folder.path();
    let script = one_host::write_script(&folder.join("state"))?;
    let bare = || disk::spawns_per_s(&script, ANCHOR_THREADS, ANCHOR_DURATION);
    // Before and after, because the load of the machine changes.
    let before = bare()?;
    let server = Server::start(folder)?;
    let mut supervisor = one_host::supervisor(folder, &server).await?;
    let agent_id = one_host::connected(&server).await?;
    let (mut latencies, server_us) = load(&server, &agent_id).await?;
    supervisor.stop();
    drop(server);
    let per_second = latencies.len() as f64 / DURATION.as_secs_f64();
    let after = bare()?;
    Ok(Line {
        id: "P12",
        figure: per_second,
        unit: "executions/s",
        anchor: Some(f64::midpoint(before, after)),
        anchor_name: "the same script, spawned with two pipes and waited for",
        target: ">=500",
        is_met: per_second >= TARGET,
        notes: vec![format!(
            "{} executions, {IN_FLIGHT} asked for at once: {}; fsyncs of the host's disk {:.2} ms each; \
             server {server_us:.0} us of processor time each",
            latencies.len(),
            latencies.summary(),
            disk::fsync_ms(folder, 100)?,
        )],
    })
}

/// Latency from each POST to its committed result, and the server's processor time per execution in
/// microseconds.
async fn load(server: &Server, agent_id: &str) -> Result<(Latencies, f64)> {
    let begin = Instant::now() + WARM_UP;
    let end = begin + DURATION;
    let mut tasks = Vec::with_capacity(IN_FLIGHT);
    for _ in 0..IN_FLIGHT {
        let mut caller = Caller {
            connection: Connection::open(server.address).await?,
            key: server.key.clone(),
            path: format!("/api/agents/{agent_id}/command"),
        };
        tasks.push(tokio::spawn(async move {
            let mut latencies = Latencies::default();
            while Instant::now() < end {
                let asked_at = Instant::now();
                caller.execute().await?;
                let ended_at = Instant::now();
                if (begin..end).contains(&ended_at) {
                    latencies.add(ended_at - asked_at);
                }
            }
            anyhow::Ok(latencies)
        }));
    }
    tokio::time::sleep_until(begin.into()).await;
    let cpu = cpu_ms(server.pid())?;
    tokio::time::sleep_until(end.into()).await;
    let spent = cpu_ms(server.pid())? - cpu;
    let mut latencies = Latencies::default();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let each_us = spent as f64 * 1_000.0 / latencies.len().max(1) as f64;
    Ok((latencies, each_us))
}

struct Caller {
    connection: Connection,
    key: String,
    path: String,
}

impl Caller {
    async fn execute(&mut self) -> Result<()> {
        let body = json!({"command": "execute", "data": {"script": "one-line"}}).to_string();
        let submit = Request::new("POST", &self.path, Some(&self.key), Some(&body));
        let status = self.connection.send(&submit).await?;
        ensure!(status == 202, "answered {status}: {}", self.connection.text());
        let accepted: Value = serde_json::from_slice(self.connection.body())?;
        let id = accepted["id"].as_str().context("read a command's id")?;
        let path = format!("/api/commands/{id}?wait_ms=30000");
        self.connection.send(&Request::new("GET", &path, Some(&self.key), None)).await?;
        let ended: Value = serde_json::from_slice(self.connection.body())?;
        ensure!(ended["state"] == "succeeded", "it did not succeed: {ended}");
        Ok(())
    }
}
