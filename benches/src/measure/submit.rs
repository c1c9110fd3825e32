//! P13 and, while the scene stands, P2: durable commands by REST, one POST each.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::anchor::Bare;
use crate::load::{self, Request, Tally};
use crate::process::{FleetHandle, Server};
use crate::report::Line;

const AGENTS: usize = 1_000;
const WARM_UP: Duration = Duration::from_secs(1);
const DURATION: Duration = Duration::from_secs(8);
const BODY: &str =
    r#"{"command":"execute","data":{"script":"hello","parameters":{"NAME":"world"}}}"#;

pub async fn measure() -> Result<Vec<Line>> {
    let folder = tempfile::tempdir()?;
    let bare = Bare::start(folder.path(), "axum")?;
    let mut posts = bare.posts(Some(BODY), Duration::from_secs(4)).await?;
    drop(bare);
    let server = Server::start(folder.path())?;
    let key = server.agent_key(AGENTS).await?;
    let mut fleet = FleetHandle::start(folder.path(), server.address, AGENTS, Some(&key))?;
    fleet.connect()?;
    let requests = requests(&server).await?;

    let began_at = Instant::now();
    let before = fleet.counts()?.receipts;
    let mut connected = load::run(server.address, requests.clone(), 202, WARM_UP, DURATION).await?;
    let submitted_in = began_at.elapsed();
    let at_once = fleet.counts()?.receipts - before;
    // Whatever is still on its way has to come: nothing accepted is lost.
    let commands = submitted(&connected, submitted_in);
    let settled = fleet.wait_for(|counts| counts.answers == counts.receipts)?.receipts - before;
    let finished_in = began_at.elapsed();
    let per_second = settled as f64 / finished_in.as_secs_f64();
    drop(fleet);
    std::thread::sleep(Duration::from_secs(1));
    let mut offline = load::run(server.address, requests, 202, WARM_UP, DURATION).await?;

    let anchor = posts.per_second;
    let bare_note = format!("bare axum POST: {}", posts.latencies.summary());
    Ok(vec![
        Line {
            id: "P2",
            figure: per_second,
            unit: "results/s",
            anchor: Some(anchor),
            anchor_name: "bare axum POST",
            target: ">=12000",
            is_met: per_second >= 12_000.0,
            notes: vec![format!(
                "{settled} results of about {commands:.0} commands committed, {at_once} of them by \
                 the last POST; POST {:.0}/s, {}",
                connected.per_second,
                connected.latencies.summary()
            )],
        },
        Line {
            id: "P13",
            figure: offline.per_second,
            unit: "commands/s",
            anchor: Some(anchor),
            anchor_name: "bare axum POST",
            target: ">=25000",
            is_met: offline.per_second >= 25_000.0,
            notes: vec![
                format!("to agents that are away: {}", offline.latencies.summary()),
                bare_note,
            ],
        },
    ])
}

fn submitted(tally: &Tally, elapsed: Duration) -> f64 {
    tally.per_second * elapsed.as_secs_f64()
}

async fn requests(server: &Server) -> Result<Vec<Request>> {
    let path = |id: &String| format!("/api/agents/{id}/command");
    let ids = server.agents().await?;
    Ok(ids
        .iter()
        .map(|id| Request::new("POST", &path(id), Some(&server.key), Some(BODY)))
        .collect())
}
