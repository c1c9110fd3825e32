//! Datadog: events v1, <https://docs.datadoghq.com/api/latest/events/#post-an-event>, and metrics v2,
//! <https://docs.datadoghq.com/api/latest/metrics/#submit-metrics>.

use serde_json::{Value, json};

use super::{EventMessage, cut};
use crate::domain::integrations::event_type::Severity;

/// Path of events.
pub const EVENTS: &str = "/api/v1/events";
/// Path of metrics.
pub const SERIES: &str = "/api/v2/series";
const TITLE_CHARS: usize = 500;
const TEXT_CHARS: usize = 4_000;
/// A metric that counts.
const COUNT: u8 = 1;
/// A metric that is measured.
const GAUGE: u8 = 3;

/// The body of an event.
pub fn event(message: &EventMessage) -> Value {
    let alert_type = match message.event.severity() {
        Severity::Info => "info",
        Severity::Resolved => "success",
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    let text = message.plain_text();
    let text = if text.is_empty() { message.title.clone() } else { text };
    let mut event = json!({
        "title": cut(&message.title, TITLE_CHARS),
        "text": cut(&text, TEXT_CHARS),
        "date_happened": message.at.0.div_euclid(1_000),
        "alert_type": alert_type,
        "source_type_name": "muster",
        "aggregation_key": message.problem_key(),
        "tags": tags(message),
    });
    if let Some(host) = host(message) {
        event["host"] = json!(host);
    }
    event
}

/// The body of the metrics: `muster.events` counts events by type; a job that ended has its executions
/// and its duration too.
pub fn metrics(message: &EventMessage) -> Value {
    let timestamp = message.at.0.div_euclid(1_000);
    let series = |metric: &str, kind: u8, value: Value, tag: Option<String>| {
        let mut tags = tags(message);
        tags.extend(tag);
        json!({"metric": metric, "type": kind, "tags": tags,
            "points": [{"timestamp": timestamp, "value": value}]})
    };
    let mut all = vec![series("muster.events", COUNT, json!(1), None)];
    let counts = message.data.pointer("/job/counts").and_then(Value::as_object);
    for (state, count) in counts.into_iter().flatten() {
        let tag = Some(format!("state:{state}"));
        all.push(series("muster.job.executions", COUNT, count.clone(), tag));
    }
    if let Some(ms) = message.data.pointer("/job/duration_ms").and_then(Value::as_i64) {
        let seconds = json!(ms as f64 / 1_000.0);
        all.push(series("muster.job.duration_seconds", GAUGE, seconds, None));
    }
    json!({"series": all})
}

fn tags(message: &EventMessage) -> Vec<String> {
    let mut tags = vec![format!("event:{}", message.event.as_str()), "source:muster".to_owned()];
    let named =
        [("script", "/job/script"), ("agent", "/agent/name"), ("schedule", "/schedule_name")];
    for (tag, path) in named {
        if let Some(value) = message.data.pointer(path).and_then(Value::as_str)
            && !value.is_empty()
        {
            // A tag has at most 200 characters, and a comma would end it.
            tags.push(cut(&format!("{tag}:{}", value.replace(',', "_")), 200));
        }
    }
    tags
}

fn host(message: &EventMessage) -> Option<String> {
    let host = message.data.pointer("/agent/hostname").and_then(Value::as_str)?;
    Some(cut(host, 255)).filter(|host| !host.is_empty())
}
