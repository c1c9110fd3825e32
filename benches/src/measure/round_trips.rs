//! P1: pings by REST to simulated agents.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::anchor::{self, AnchorServer, NatsWorkload};
use crate::load::{self, LoadResult, Request};
use crate::process::{FleetHandle, Server, cpu_ms, measurement_folder};
use crate::report::Line;

const AGENTS: usize = 1_000;
const IN_FLIGHT: usize = 100;
const WARM_UP: Duration = Duration::from_secs(2);
const DURATION: Duration = Duration::from_secs(10);
const ANCHOR_DURATION: Duration = Duration::from_secs(3);

pub async fn measure() -> Result<Line> {
    let folder = measurement_folder()?;
    // Before and after, because the load of the machine changes.
    let before = anchors(folder.path()).await?;
    let (mut load, fleet_cpu_us) = pings(folder.path()).await?;
    let after = anchors(folder.path()).await?;
    let nats = before.nats.zip(after.nats).map(|(before, after)| f64::midpoint(before, after));
    let notes = vec![
        format!("{}; {} answers, {AGENTS} agents", load.latencies.summary(), load.answers),
        format!(
            "processor time for one answer: server {:.0} us, simulated agent {fleet_cpu_us:.0} us; \
             bare axum POST {:.0} us",
            load.cpu_us,
            f64::midpoint(before.posts.cpu_us, after.posts.cpu_us)
        ),
        format!(
            "bare axum POST {:.0}/s; bare WebSocket echo {:.0}/s",
            f64::midpoint(before.posts.per_second, after.posts.per_second),
            f64::midpoint(before.echoes, after.echoes)
        ),
    ];
    Ok(Line {
        id: "P1",
        figure: load.per_second,
        unit: "round-trips/s",
        anchor: nats,
        anchor_name: "NATS request/reply, 100 in flight, 1,000 subscribers",
        target: ">=25000,p99<10ms",
        is_met: load.per_second >= 25_000.0 && load.latencies.quantile_ms(0.99) < 10.0,
        notes,
    })
}

struct Anchors {
    nats: Option<f64>,
    posts: LoadResult,
    echoes: f64,
}

async fn anchors(folder: &Path) -> Result<Anchors> {
    let exchange =
        NatsWorkload { requesters: IN_FLIGHT, subscribers: AGENTS, duration: ANCHOR_DURATION };
    let nats = anchor::request_reply(folder, exchange).await?.map(|(per_second, _)| per_second);
    let posts = AnchorServer::start(folder, "axum")?.posts(None, ANCHOR_DURATION).await?;
    let echoes =
        AnchorServer::start(folder, "websocket")?.echoes(IN_FLIGHT, ANCHOR_DURATION).await?;
    Ok(Anchors { nats, posts, echoes })
}

/// The pings, and the fleet's processor time per ping in microseconds.
async fn pings(folder: &Path) -> Result<(LoadResult, f64)> {
    let server = Server::start(folder)?;
    let key = server.agent_key(AGENTS).await?;
    let mut fleet = FleetHandle::start(folder, server.address, AGENTS, Some(&key))?;
    fleet.connect()?;
    let path = |id: &String| format!("/api/agents/{id}/ping");
    let requests: Vec<Request> = server
        .agents()
        .await?
        .iter()
        .map(|id| Request::new("POST", &path(id), Some(&server.key), None))
        .collect();
    let (cpu, answers) = (cpu_ms(fleet.pid())?, fleet.counts()?.answers);
    let load = load::run(server.target(), requests, 200, WARM_UP, DURATION).await?;
    let answers = fleet.counts()?.answers - answers;
    let cpu_us = (cpu_ms(fleet.pid())? - cpu) as f64 * 1_000.0;
    Ok((load, cpu_us / answers.max(1) as f64))
}
