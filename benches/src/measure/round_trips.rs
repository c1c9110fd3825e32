//! P1: pings through REST, to simulated agents and back.

use std::time::Duration;

use anyhow::Result;

use crate::anchor::{self, Bare, Exchange};
use crate::load::{self, Request};
use crate::process::{FleetHandle, Server, cpu_ms};
use crate::report::Line;

const AGENTS: usize = 1_000;
const IN_FLIGHT: usize = 100;
const DURATION: Duration = Duration::from_secs(10);
const ANCHOR_DURATION: Duration = Duration::from_secs(4);

pub async fn measure() -> Result<Line> {
    let folder = tempfile::tempdir()?;
    let exchange =
        Exchange { requesters: IN_FLIGHT, subscribers: AGENTS, duration: ANCHOR_DURATION };
    let nats = anchor::request_reply(folder.path(), exchange).await?;
    let posts = Bare::start(folder.path(), "axum")?.posts(None, ANCHOR_DURATION).await?;
    let echo = Bare::start(folder.path(), "websocket")?;
    let echoes = echo.echoes(IN_FLIGHT, ANCHOR_DURATION).await?;
    drop(echo);

    let server = Server::start(folder.path())?;
    let key = server.agent_key(AGENTS).await?;
    let mut fleet = FleetHandle::start(folder.path(), server.address, AGENTS, Some(&key))?;
    fleet.connect()?;
    let path = |id: &String| format!("/api/agents/{id}/ping");
    let requests: Vec<Request> = server
        .agents()
        .await?
        .iter()
        .map(|id| Request::new("POST", &path(id), Some(&server.key), None))
        .collect();
    let before = (cpu_ms(server.pid())?, cpu_ms(fleet.pid())?);
    let warm_up = Duration::from_secs(2);
    let mut tally = load::run(server.address, requests, 200, warm_up, DURATION).await?;
    let cpu = (cpu_ms(server.pid())? - before.0, cpu_ms(fleet.pid())? - before.1);
    let wall_ms = (warm_up + DURATION).as_millis() as f64;
    let mut notes = vec![
        format!("{}; {} answers, {AGENTS} agents", tally.latencies.summary(), tally.answers),
        format!("bare axum POST {:.0}/s; bare WebSocket echo {echoes:.0}/s", posts.per_second),
        format!(
            "of two processors the server had {:.2}, the fleet {:.2}",
            cpu.0 as f64 / wall_ms,
            cpu.1 as f64 / wall_ms
        ),
    ];
    let anchor = nats.map(|(per_second, mut latencies)| {
        notes.push(format!("NATS at {IN_FLIGHT} in flight: {}", latencies.summary()));
        per_second
    });
    let is_met = tally.per_second >= 25_000.0 && tally.latencies.quantile_ms(0.99) < 10.0;
    Ok(Line {
        id: "P1",
        figure: tally.per_second,
        unit: "round-trips/s",
        anchor,
        anchor_name: "NATS request/reply, 100 in flight",
        target: ">=25000,p99<10ms",
        is_met,
        notes,
    })
}
