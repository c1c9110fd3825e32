//! P15: a server with ten thousand schedules starts and is idle, beside one with a single schedule.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::load::{Connection, Request};
use crate::process::{Server, cpu_ms, measurement_folder};
use crate::report::Line;

/// As many as a tenant may have.
const MANY: usize = 10_000;
/// Starts of which the median counts.
const STARTS: usize = 5;
/// Processor time is read after the effects of the start are gone.
const SETTLE: Duration = Duration::from_secs(5);
const WATCHED: Duration = Duration::from_secs(30);

/// A server with some schedules.
struct IdleServer {
    start_s: f64,
    /// Processor time a minute.
    cpu_ms: f64,
}

pub async fn measure() -> Result<Vec<Line>> {
    let one = over(1).await?;
    let many = over(MANY).await?;
    let added_ms = (many.cpu_ms - one.cpu_ms).max(0.0);
    Ok(vec![
        Line {
            id: "P15",
            figure: many.start_s,
            unit: "s to start",
            anchor: Some(one.start_s),
            anchor_name: "the same server with one schedule",
            target: "<1",
            is_met: many.start_s < 1.0,
            notes: vec![format!(
                "{MANY} schedules, none of them due; the median of {STARTS} starts"
            )],
        },
        Line {
            id: "P15",
            figure: many.cpu_ms,
            unit: "ms a minute, idle",
            anchor: Some(one.cpu_ms),
            anchor_name: "the same server with one schedule",
            target: "no more than one",
            is_met: added_ms <= one.cpu_ms * 0.1,
            notes: vec![format!("{added_ms:.0} ms a minute more than with one schedule")],
        },
    ])
}

async fn over(count: usize) -> Result<IdleServer> {
    let folder = measurement_folder()?;
    let mut server = Server::start(folder.path())?;
    create(&server, count).await?;
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        server.kill();
        let started_at = Instant::now();
        server.resume()?;
        let next = server.call("GET", "/api/schedules?limit=1", None).await?;
        starts.push(started_at.elapsed().as_secs_f64());
        ensure!(next["items"][0]["next_due_at"].is_string(), "a schedule is not active");
    }
    starts.sort_by(f64::total_cmp);
    tokio::time::sleep(SETTLE).await;
    let before = cpu_ms(server.pid())?;
    tokio::time::sleep(WATCHED).await;
    let used_ms = cpu_ms(server.pid())? - before;
    let a_minute = 60.0 / WATCHED.as_secs_f64();
    let start_s = *starts.get(STARTS / 2).context("find the median")?;
    Ok(IdleServer { start_s, cpu_ms: used_ms as f64 * a_minute })
}

/// Schedules that are due at every minute of a day, and not now.
async fn create(server: &Server, count: usize) -> Result<()> {
    let mut connection = Connection::open(server.address).await?;
    for number in 0..count {
        let rule = json!({"cron": format!("{} {} 1 1 *", number % 60, number / 60 % 24)});
        let job = json!({"script": "noop", "target": {"expression": "all"}});
        let body = json!({"name": format!("schedule-{number}"), "rule": rule, "job": job});
        let body = body.to_string();
        let request = Request::new("POST", "/api/schedules", Some(&server.key), Some(&body));
        let status = connection.send(&request).await?;
        ensure!(status == 201, "answered {status}: {}", connection.text());
    }
    Ok(())
}
