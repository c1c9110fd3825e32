//! P6, P7, P11: ten thousand idle agents, and their reconnection; without and with TLS.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::anchor::AnchorServer;
use crate::fleet::Plan;
use crate::process::{
    FleetHandle, Memory, Server, TlsCertificate, cpu_ms, measurement_folder, memory, peak_rss_bytes,
};
use crate::report::Line;

const AGENTS: usize = 10_000;
/// Memory and processor time are read after the effects of connecting are gone.
const SETTLE: Duration = Duration::from_secs(8);
/// One full heartbeat interval: every agent sends one heartbeat.
const WATCHED: Duration = Duration::from_secs(30);
const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * 1024.0;

/// The cost of idle connections.
struct IdleCost {
    kib_per_agent: f64,
    /// Processor time per minute and 1,000 agents.
    cpu_ms: f64,
    connect_ms: f64,
}

/// A fleet that connects, stays idle, loses its server and reconnects.
struct FleetRun {
    bare: IdleCost,
    idle: IdleCost,
    /// After the restart.
    known_kib: f64,
    back_s: f64,
    peak_mib: f64,
}

/// The targets of the three figures.
struct Targets {
    memory_unit: &'static str,
    back_unit: &'static str,
    memory: (&'static str, f64),
    back: (&'static str, f64),
}

const PLAIN: Targets = Targets {
    memory_unit: "KiB/agent",
    back_unit: "s",
    memory: ("<=12", 12.0),
    back: ("<=3", 3.0),
};
const TLS: Targets = Targets {
    memory_unit: "KiB/agent, TLS",
    back_unit: "s, TLS",
    memory: ("<=28", 28.0),
    back: ("<=8", 8.0),
};
/// Agents show certificates. The anchor does not ask for any.
const MUTUAL: Targets = Targets {
    memory_unit: "KiB/agent, mutual TLS",
    back_unit: "s, mutual TLS",
    memory: TLS.memory,
    back: TLS.back,
};

pub async fn measure() -> Result<Vec<Line>> {
    let plain = stay(None, false).await?;
    let folder = measurement_folder()?;
    let certificate = TlsCertificate::make(folder.path())?;
    let tls = stay(Some(certificate.clone()), false).await?;
    let mutual = stay(Some(certificate), true).await?;
    let mut lines = lines(&plain, &PLAIN);
    lines.push(processor(&plain, &tls, &mutual));
    lines.extend(self::lines(&tls, &TLS));
    lines.extend(self::lines(&mutual, &MUTUAL));
    Ok(lines)
}

async fn stay(tls: Option<TlsCertificate>, is_mutual: bool) -> Result<FleetRun> {
    let folder = measurement_folder()?;
    let folder = folder.path();
    let bare = bare(folder, tls.as_ref())?;
    let mut server = Server::start_over(folder, tls.clone(), is_mutual)?;
    let empty = memory(server.pid())?;
    let plan = Plan {
        address: server.address,
        agents: AGENTS,
        first: 0,
        key: Some(server.agent_key(AGENTS).await?),
        answer_execute: true,
        ca_file: tls.map(|pair| pair.certificate),
        is_mutual,
    };
    let mut fleet = FleetHandle::start_part(folder, &plan)?;
    let enrolment = fleet.connect()?;
    let idle = watch(server.pid(), empty, enrolment.elapsed_ms, &mut fleet)?;

    server.kill();
    fleet.wait_for(|counts| counts.live == 0)?;
    server.resume()?;
    let empty_again = memory(server.pid())?;
    let back = fleet.connect()?;
    std::thread::sleep(SETTLE);
    let known_kib = per_agent_kib(empty_again, memory(server.pid())?);
    let peak_mib = peak_rss_bytes(server.pid())? as f64 / MIB;
    let live = fleet.counts()?.live;
    ensure!(live == AGENTS as u64, "{live} of {AGENTS} agents stayed");
    Ok(FleetRun { bare, idle, known_kib, back_s: back.elapsed_ms / 1_000.0, peak_mib })
}

fn lines(stay: &FleetRun, targets: &Targets) -> Vec<Line> {
    let FleetRun { bare, idle, known_kib, back_s, peak_mib } = stay;
    let enrolled_s = idle.connect_ms / 1_000.0;
    vec![
        Line {
            id: "P6",
            figure: idle.kib_per_agent,
            unit: targets.memory_unit,
            anchor: Some(bare.kib_per_agent),
            anchor_name: "bare tungstenite server, 4 KiB buffers; over TLS with rustls",
            target: targets.memory.0,
            is_met: idle.kib_per_agent <= targets.memory.1,
            notes: vec![format!(
                "{AGENTS} agents, right after they enrolled; after a restart {known_kib:.1}"
            )],
        },
        Line {
            id: "P11",
            figure: *back_s,
            unit: targets.back_unit,
            anchor: Some(bare.connect_ms / 1_000.0),
            anchor_name: "bare connect and hello; over TLS with rustls",
            target: targets.back.0,
            is_met: *back_s <= targets.back.1,
            notes: vec![
                format!("{AGENTS} agents; the first time, with enrolment, {enrolled_s:.2} s"),
                format!("the server held {peak_mib:.0} MiB at its peak"),
            ],
        },
    ]
}

fn processor(plain: &FleetRun, tls: &FleetRun, mutual: &FleetRun) -> Line {
    let (figure, watched_s) = (plain.idle.cpu_ms, WATCHED.as_secs());
    Line {
        id: "P7",
        figure,
        unit: "ms/min/1000",
        anchor: Some(plain.bare.cpu_ms),
        anchor_name: "bare tungstenite server that answers as often",
        target: "<=400",
        is_met: figure <= 400.0,
        notes: vec![
            format!("{AGENTS} agents over {watched_s} s, heartbeats each 30 s"),
            format!("over TLS {:.0}, its anchor {:.0}", tls.idle.cpu_ms, tls.bare.cpu_ms),
            format!("over mutual TLS {:.0}", mutual.idle.cpu_ms),
        ],
    }
}

fn bare(folder: &Path, tls: Option<&TlsCertificate>) -> Result<IdleCost> {
    let server = AnchorServer::start_over(folder, "websocket", tls)?;
    let empty = memory(server.pid())?;
    let plan = Plan {
        address: server.address,
        agents: AGENTS,
        first: 0,
        key: None,
        answer_execute: true,
        ca_file: tls.map(|pair| pair.certificate.clone()),
        is_mutual: false,
    };
    let mut fleet = FleetHandle::start_part(folder, &plan)?;
    let round = fleet.connect()?;
    watch(server.pid(), empty, round.elapsed_ms, &mut fleet)
}

fn watch(pid: u32, empty: Memory, connect_ms: f64, fleet: &mut FleetHandle) -> Result<IdleCost> {
    std::thread::sleep(SETTLE);
    let kib_per_agent = per_agent_kib(empty, memory(pid)?);
    let (before, beats) = (cpu_ms(pid)?, fleet.counts()?.heartbeats);
    std::thread::sleep(WATCHED);
    let spent = cpu_ms(pid)? - before;
    let beats = fleet.counts()?.heartbeats - beats;
    ensure!(beats * 10 >= AGENTS as u64 * 9, "only {beats} heartbeats of {AGENTS} agents");
    let minutes = WATCHED.as_secs_f64() / 60.0;
    Ok(IdleCost {
        kib_per_agent,
        cpu_ms: spent as f64 / minutes / (AGENTS as f64 / 1_000.0),
        connect_ms,
    })
}

fn per_agent_kib(empty: Memory, full: Memory) -> f64 {
    full.rss_bytes.saturating_sub(empty.rss_bytes) as f64 / KIB / AGENTS as f64
}
