//! P13 and, with the same setup, P2: durable commands by REST, one POST each.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::anchor::AnchorServer;
use crate::load::{self, LoadResult, Request};
use crate::process::{FleetHandle, Server, measurement_folder};
use crate::report::Line;

const AGENTS: usize = 1_000;
const WARM_UP: Duration = Duration::from_secs(1);
const DURATION: Duration = Duration::from_secs(8);
const ANCHOR_DURATION: Duration = Duration::from_secs(3);
const BODY: &str =
    r#"{"command":"execute","data":{"script":"hello","parameters":{"NAME":"world"}}}"#;
const ANCHOR_NAME: &str = "bare axum POST";

pub async fn measure() -> Result<Vec<Line>> {
    let folder = measurement_folder()?;
    // Before and after, because the load of the machine changes.
    let before = bare(folder.path()).await?;
    let server = Server::start(folder.path())?;
    let key = server.agent_key(AGENTS).await?;
    let mut fleet = FleetHandle::start(folder.path(), server.address, AGENTS, Some(&key))?;
    fleet.connect()?;
    let requests = requests(&server).await?;
    let durable = durable(&server, &mut fleet, requests.clone()).await?;
    drop(fleet);
    std::thread::sleep(Duration::from_secs(1));
    let mut offline = load::run(server.target(), requests, 202, WARM_UP, DURATION).await?;
    drop(server);
    let after = bare(folder.path()).await?;
    let anchor = Some(f64::midpoint(before.per_second, after.per_second));
    Ok(vec![
        Line { anchor, ..durable },
        Line {
            id: "P13",
            figure: offline.per_second,
            unit: "commands/s",
            anchor,
            anchor_name: ANCHOR_NAME,
            target: ">=25000",
            is_met: offline.per_second >= 25_000.0,
            notes: vec![format!(
                "to agents that are away: {}; server {:.0} us of processor time each, bare axum \
                 POST {:.0} us",
                offline.latencies.summary(),
                offline.cpu_us,
                f64::midpoint(before.cpu_us, after.cpu_us)
            )],
        },
    ])
}

/// Commands to agents that answer at once: time from the first POST to the last committed result.
async fn durable(server: &Server, fleet: &mut FleetHandle, requests: Vec<Request>) -> Result<Line> {
    let began_at = Instant::now();
    let mut posts = load::run(server.target(), requests, 202, WARM_UP, DURATION).await?;
    let by_last_post = fleet.counts()?.receipts;
    // All remaining results must arrive: no accepted command is lost.
    let results = fleet.wait_for(|counts| counts.answers == counts.receipts)?.receipts;
    let per_second = results as f64 / began_at.elapsed().as_secs_f64();
    Ok(Line {
        id: "P2",
        figure: per_second,
        unit: "results/s",
        anchor: None,
        anchor_name: ANCHOR_NAME,
        target: ">=12000",
        is_met: per_second >= 12_000.0,
        notes: vec![format!(
            "{results} results committed, {by_last_post} of them by the last POST; POST {:.0}/s, {}; \
             server {:.0} us of processor time each",
            posts.per_second,
            posts.latencies.summary(),
            posts.cpu_us
        )],
    })
}

async fn bare(folder: &Path) -> Result<LoadResult> {
    AnchorServer::start(folder, "axum")?.posts(Some(BODY), ANCHOR_DURATION).await
}

async fn requests(server: &Server) -> Result<Vec<Request>> {
    let path = |id: &String| format!("/api/agents/{id}/command");
    let ids = server.agents().await?;
    Ok(ids
        .iter()
        .map(|id| Request::new("POST", &path(id), Some(&server.key), Some(BODY)))
        .collect())
}
