//! P3 and P4: durable commands submitted as jobs: many jobs on a thousand agents, and one job on
//! ten thousand.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::anchor::table;
use crate::load::{Connection, Latencies, Request};
use crate::process::{FleetHandle, Server, cpu_ms, measurement_folder};
use crate::report::Line;

const MANY_JOBS: usize = 60;
const AGENTS_OF_MANY: usize = 1_000;
/// Clients that submit the many jobs, each sequentially.
const SUBMITTERS: usize = 4;
const LARGE_JOBS: usize = 5;
const AGENTS_OF_LARGE: usize = 10_000;
const ANCHOR_NAME: &str =
    "the rows of one command after the other, by the driver alone, 512 a synced transaction";

pub async fn measure() -> Result<Vec<Line>> {
    let anchor_folder = measurement_folder()?;
    // Before and after, because the load of the machine changes.
    let before = table::commands_per_s(anchor_folder.path(), AGENTS_OF_LARGE).await?;
    let (many, large) = (many().await?, large().await?);
    let after = table::commands_per_s(anchor_folder.path(), AGENTS_OF_LARGE).await?;
    let bare = f64::midpoint(before, after);
    Ok(vec![
        Line { anchor: Some(bare), ..many },
        Line { anchor: Some(AGENTS_OF_LARGE as f64 / bare), ..large },
    ])
}

/// Many jobs: time from the first POST to the last committed result.
async fn many() -> Result<Line> {
    let folder = measurement_folder()?;
    let server = Server::start(folder.path())?;
    let mut fleet = fleet(folder.path(), &server, AGENTS_OF_MANY).await?;
    let (began_at, cpu) = (Instant::now(), cpu_ms(server.pid())?);
    let mut latencies = submit(&server, MANY_JOBS).await?;
    let submitted_s = began_at.elapsed().as_secs_f64();
    let executions = (MANY_JOBS * AGENTS_OF_MANY) as u64;
    fleet.wait_for(|counts| counts.receipts == executions)?;
    let elapsed_s = began_at.elapsed().as_secs_f64();
    let cpu_us = (cpu_ms(server.pid())? - cpu) as f64 * 1_000.0 / executions as f64;
    finished(&server, MANY_JOBS).await?;
    let per_second = executions as f64 / elapsed_s;
    Ok(Line {
        id: "P3",
        figure: per_second,
        unit: "results/s",
        anchor: None,
        anchor_name: ANCHOR_NAME,
        target: ">=40000",
        is_met: per_second >= 40_000.0,
        notes: vec![
            format!("{MANY_JOBS} jobs on {AGENTS_OF_MANY} agents; a POST {}", latencies.summary()),
            format!(
                "accepted and committed: {:.0} commands/s; server {cpu_us:.0} us of processor time \
                 each, with its result",
                executions as f64 / submitted_s
            ),
        ],
    })
}

/// One large job, several times: time from the POST to the last committed result.
async fn large() -> Result<Line> {
    let folder = measurement_folder()?;
    let server = Server::start(folder.path())?;
    let mut fleet = fleet(folder.path(), &server, AGENTS_OF_LARGE).await?;
    let (mut whole, mut accepted) = (Latencies::default(), Latencies::default());
    let mut all = Vec::new();
    for run in 1..=LARGE_JOBS {
        let began_at = Instant::now();
        accepted.extend(submit(&server, 1).await?);
        fleet.wait_for(|counts| counts.receipts == (run * AGENTS_OF_LARGE) as u64)?;
        whole.add(began_at.elapsed());
        all.push(format!("{:.2}", began_at.elapsed().as_secs_f64()));
        finished(&server, run).await?;
    }
    let seconds = whole.quantile_ms(0.5) / 1_000.0;
    Ok(Line {
        id: "P4",
        figure: seconds,
        unit: "s",
        anchor: None,
        anchor_name: ANCHOR_NAME,
        target: "<0.7",
        is_met: seconds < 0.7,
        notes: vec![format!(
            "{AGENTS_OF_LARGE} agents, the median of {} s; the POST alone: {}",
            all.join(", "),
            accepted.summary()
        )],
    })
}

async fn fleet(folder: &Path, server: &Server, agents: usize) -> Result<FleetHandle> {
    let key = server.agent_key(agents).await?;
    let mut fleet = FleetHandle::start(folder, server.address, agents, Some(&key))?;
    fleet.connect()?;
    // Wait until the agents' tags are committed; otherwise the target of a job would not match all
    // of them.
    let deadline = Instant::now() + Duration::from_secs(30);
    while server.agents().await?.len() < agents {
        ensure!(Instant::now() < deadline, "the agents did not all register in time");
    }
    Ok(fleet)
}

/// Submits `jobs` jobs on every agent, [`SUBMITTERS`] at once.
async fn submit(server: &Server, jobs: usize) -> Result<Latencies> {
    let body = json!({
        "script": "hello",
        "parameters": {"NAME": "world"},
        "target": {"expression": "name:host-*"},
    });
    let request =
        Arc::new(Request::new("POST", "/api/jobs", Some(&server.key), Some(&body.to_string())));
    let left = Arc::new(AtomicUsize::new(jobs));
    let mut tasks = Vec::with_capacity(SUBMITTERS);
    for _ in 0..SUBMITTERS.min(jobs) {
        let (request, left) = (Arc::clone(&request), Arc::clone(&left));
        let mut connection = Connection::open(server.address).await?;
        tasks.push(tokio::spawn(async move {
            let mut latencies = Latencies::default();
            let take = |left: usize| left.checked_sub(1);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                let sent_at = Instant::now();
                let status = connection.send(&request).await?;
                ensure!(status == 202, "answered {status}: {}", connection.text());
                latencies.add(sent_at.elapsed());
            }
            anyhow::Ok(latencies)
        }));
    }
    let mut latencies = Latencies::default();
    for task in tasks {
        latencies.extend(task.await??);
    }
    Ok(latencies)
}

/// Waits until the server reports `jobs` jobs that have succeeded completely.
async fn finished(server: &Server, jobs: usize) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let page = server.call("GET", "/api/jobs?limit=500", None).await?;
        let items = page["items"].as_array().context("read a page")?;
        let is_over = |job: &&Value| job["state"] == "succeeded";
        let over = items.iter().filter(is_over).count();
        if over == jobs {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{over} of {jobs} jobs succeeded in time");
    }
}
