//! `muster agents events` and `metrics`: what was recorded about an agent.

use chrono::Utc;
use reqwest::Method;
use serde_json::Value;

use crate::error::CliError;
use crate::input::instants::instant;
use crate::listing::{LatestLimit, List};
use crate::output::table::Column;
use crate::output::time_format::shown_milliseconds;
use crate::session::{ResourceKind, Session};

const EVENT_COLUMNS: [Column; 3] =
    [Column::of("TIME", "at"), Column::of("EVENT", "kind"), Column::of("DETAIL", "detail")];

const METRIC_COLUMNS: [Column; 7] = [
    Column::of("TIME", "at"),
    Column::by("CPU", |sample| percent(sample, "cpu_percent")),
    Column::by("MEMORY", |sample| percent(sample, "memory_percent")),
    Column::by("DISK", |sample| percent(sample, "disk_percent")),
    Column::by("LOAD", |sample| number(sample, "load_1m", 2)),
    Column::by("RUNNING", |sample| number(sample, "running_executions", 0)),
    Column::by("UPTIME", uptime),
];

/// Lists the events of an agent, newest first.
///
/// # Errors
/// [`CliError`].
pub async fn events(session: &Session, agent: &str, limit: LatestLimit) -> Result<u8, CliError> {
    let id = session.id_of(ResourceKind::Agent, agent).await?;
    let (segments, columns) = (&["agents", &id, "events"], &EVENT_COLUMNS);
    let (limit, empty) = (limit.into(), "No events.");
    List { segments, filters: &[], limit, columns, empty }.show(session).await
}

/// Lists the telemetry of an agent, oldest first.
///
/// # Errors
/// [`CliError`].
pub async fn metrics(
    session: &Session,
    agent: &str,
    since: Option<&str>,
    limit: u64,
) -> Result<u8, CliError> {
    let id = session.id_of(ResourceKind::Agent, agent).await?;
    let mut query = vec![("limit", limit.to_string())];
    if let Some(typed) = since {
        query.push(("since", instant(typed, Utc::now())?));
    }
    let request = session.api.request(Method::GET, &["agents", &id, "metrics"]).query(&query);
    let samples = session.api.json_with_retries(request).await?;
    session.output.list(&samples, &METRIC_COLUMNS, "No telemetry.")?;
    Ok(0)
}

fn percent(sample: &Value, name: &str) -> String {
    let value = sample.get(name).and_then(Value::as_f64);
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} %"))
}

fn number(sample: &Value, name: &str, digits: usize) -> String {
    let value = sample.get(name).and_then(Value::as_f64);
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

fn uptime(sample: &Value) -> String {
    let seconds = sample.get("uptime_seconds").and_then(Value::as_f64);
    // Of a host: any number is possible.
    let milliseconds = seconds.map(|seconds| (seconds.max(0.0) * 1_000.0) as u64);
    milliseconds.map_or_else(|| "-".to_owned(), shown_milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn samples_have_units_and_missing_values_are_dashes() {
        let sample = json!({"cpu_percent": 12.34, "load_1m": 0.5, "uptime_seconds": 90_061.0});
        assert_eq!(percent(&sample, "cpu_percent"), "12.3 %");
        assert_eq!(percent(&sample, "disk_percent"), "-");
        assert_eq!(number(&sample, "load_1m", 2), "0.50");
        assert_eq!(uptime(&sample), "1d 1h");
        assert_eq!(uptime(&json!({"uptime_seconds": -1e300})), "0 ms");
    }
}
