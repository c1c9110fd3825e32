//! P6, P7, P11: ten thousand agents that do nothing, and that come back.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::anchor::Bare;
use crate::process::{FleetHandle, Memory, Server, cpu_ms, memory, peak_rss_bytes, scene};
use crate::report::Line;

const AGENTS: usize = 10_000;
/// Memory and processor time are read when the connecting is forgotten.
const SETTLE: Duration = Duration::from_secs(8);
/// One whole interval of heartbeats: every agent sends one.
const WATCHED: Duration = Duration::from_secs(30);
const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * 1024.0;

/// What idle connections cost.
struct Idle {
    kib_per_agent: f64,
    /// Processor time per minute and 1,000 agents.
    cpu_ms: f64,
    connect_ms: f64,
}

pub async fn measure() -> Result<Vec<Line>> {
    let folder = scene()?;
    let bare = bare(folder.path())?;
    let mut server = Server::start(folder.path())?;
    let empty = memory(server.pid())?;
    let key = server.agent_key(AGENTS).await?;
    let mut fleet = FleetHandle::start(folder.path(), server.address, AGENTS, Some(&key))?;
    let enrolment = fleet.connect()?;
    let idle = watch(server.pid(), empty, enrolment.elapsed_ms, &mut fleet)?;

    server.kill();
    fleet.wait_for(|counts| counts.live == 0)?;
    server.resume()?;
    let empty_again = memory(server.pid())?;
    let back = fleet.connect()?;
    std::thread::sleep(SETTLE);
    let known = per_agent_kib(empty_again, memory(server.pid())?);
    let peak_mib = peak_rss_bytes(server.pid())? as f64 / MIB;
    let live = fleet.counts()?.live;
    ensure!(live == AGENTS as u64, "{live} of {AGENTS} agents stayed");
    let back_s = back.elapsed_ms / 1_000.0;
    let tls = "TLS not yet: the server has none";
    Ok(vec![
        Line {
            id: "P6",
            figure: idle.kib_per_agent,
            unit: "KiB/agent",
            anchor: Some(bare.kib_per_agent),
            anchor_name: "bare tungstenite server, 4 KiB buffers",
            target: "<=12",
            is_met: idle.kib_per_agent <= 12.0,
            notes: vec![
                format!("{AGENTS} agents, right after they enrolled; after a restart {known:.1}"),
                tls.into(),
            ],
        },
        Line {
            id: "P7",
            figure: idle.cpu_ms,
            unit: "ms/min/1000",
            anchor: Some(bare.cpu_ms),
            anchor_name: "bare tungstenite server that answers as often",
            target: "<=400",
            is_met: idle.cpu_ms <= 400.0,
            notes: vec![format!(
                "{AGENTS} agents over {} s, heartbeats each 30 s",
                WATCHED.as_secs()
            )],
        },
        Line {
            id: "P11",
            figure: back_s,
            unit: "s",
            anchor: Some(bare.connect_ms / 1_000.0),
            anchor_name: "bare connect and hello",
            target: "<=3",
            is_met: back_s <= 3.0,
            notes: vec![
                format!(
                    "{AGENTS} agents; the first time, with enrolment, {:.2} s",
                    enrolment.elapsed_ms / 1_000.0
                ),
                format!("the server held {peak_mib:.0} MiB at its peak; {tls}"),
            ],
        },
    ])
}

fn bare(folder: &Path) -> Result<Idle> {
    let server = Bare::start(folder, "websocket")?;
    let empty = memory(server.pid())?;
    let mut fleet = FleetHandle::start(folder, server.address, AGENTS, None)?;
    let round = fleet.connect()?;
    watch(server.pid(), empty, round.elapsed_ms, &mut fleet)
}

fn watch(pid: u32, empty: Memory, connect_ms: f64, fleet: &mut FleetHandle) -> Result<Idle> {
    std::thread::sleep(SETTLE);
    let kib_per_agent = per_agent_kib(empty, memory(pid)?);
    let (before, beats) = (cpu_ms(pid)?, fleet.counts()?.heartbeats);
    std::thread::sleep(WATCHED);
    let spent = cpu_ms(pid)? - before;
    let beats = fleet.counts()?.heartbeats - beats;
    ensure!(beats * 10 >= AGENTS as u64 * 9, "only {beats} heartbeats of {AGENTS} agents");
    let minutes = WATCHED.as_secs_f64() / 60.0;
    Ok(Idle {
        kib_per_agent,
        cpu_ms: spent as f64 / minutes / (AGENTS as f64 / 1_000.0),
        connect_ms,
    })
}

fn per_agent_kib(empty: Memory, full: Memory) -> f64 {
    full.rss_bytes.saturating_sub(empty.rss_bytes) as f64 / KIB / AGENTS as f64
}
