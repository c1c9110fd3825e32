//! P14: pages of the execution history, with ten thousand and with a million executions.

mod dataset;

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};

use self::dataset::Dataset;
use crate::load::{Connection, Latencies, Request};
use crate::process::{Server, measurement_folder};
use crate::report::Line;

const FEW: u32 = 10_000;
const MANY: u32 = 1_000_000;
const REPEATS: usize = 40;

/// The median time of each query, in milliseconds.
struct QueryTimes {
    pages: Vec<(&'static str, f64)>,
    /// Fifty rows through an index, with the driver only.
    look_up_ms: f64,
}

pub async fn measure() -> Result<Vec<Line>> {
    let few = over(FEW).await?;
    let many = over(MANY).await?;
    let (worst, figure) = worst(&many.pages);
    let growth = figure / self::worst(&few.pages).1;
    let mut notes = vec![
        format!("the slowest of {} questions, `{worst}`, at {MANY} executions", many.pages.len()),
        format!("{growth:.2} times the slowest at {FEW}"),
    ];
    let pairs = many.pages.iter().zip(&few.pages);
    notes.extend(
        pairs.map(|((name, many), (_, few))| {
            format!("{name}: {many:.2} ms, with {FEW} {few:.2} ms")
        }),
    );
    Ok(vec![Line {
        id: "P14",
        figure,
        unit: "ms",
        anchor: Some(many.look_up_ms),
        anchor_name: "50 rows through the index by the driver alone, no server",
        target: "<20,flat",
        is_met: figure < 20.0 && growth < 2.0,
        notes,
    }])
}

/// The slowest query with pages of the usual length.
fn worst(pages: &[(&'static str, f64)]) -> (&'static str, f64) {
    let usual = pages.iter().filter(|(name, _)| *name != dataset::LONG_PAGE);
    usual.copied().fold(("", 0.0), |worst, page| if page.1 > worst.1 { page } else { worst })
}

async fn over(executions: u32) -> Result<QueryTimes> {
    let folder = measurement_folder()?;
    let mut server = Server::start(folder.path())?;
    server.kill();
    let database = folder.path().join("data/muster.db");
    let dataset = Dataset::fill(&database, executions).await?;
    let look_up_ms = look_up(&database, &dataset).await?;
    server.resume()?;
    let mut connection = Connection::open(server.address).await?;
    let mut pages = Vec::new();
    for (name, query) in dataset.queries() {
        let request =
            Request::new("GET", &format!("/api/executions?{query}"), Some(&server.key), None);
        let mut latencies = Latencies::default();
        for _ in 0..REPEATS {
            let asked_at = Instant::now();
            let status = connection.send(&request).await?;
            latencies.add(asked_at.elapsed());
            ensure!(status == 200, "answered {status}: {}", connection.text());
        }
        pages.push((name, latencies.quantile_ms(0.5)));
    }
    Ok(QueryTimes { pages, look_up_ms })
}

async fn look_up(database: &Path, dataset: &Dataset) -> Result<f64> {
    let connection = dataset::connect(database).await?;
    let mut latencies = Latencies::default();
    for _ in 0..REPEATS {
        let asked_at = Instant::now();
        let rows = dataset.look_up(&connection).await?;
        latencies.add(asked_at.elapsed());
        ensure!(rows == 50, "{rows} rows");
    }
    Ok(latencies.quantile_ms(0.5))
}
