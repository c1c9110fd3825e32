//! Splunk, HTTP event collector: <https://docs.splunk.com/Documentation/Splunk/latest/Data/FormateventsforHTTPEventCollector>.

use serde_json::{Value, json};

use super::{EventMessage, cut};

/// Path of the collector.
pub const COLLECTOR: &str = "/services/collector/event";

/// The body of an event.
pub fn format(message: &EventMessage) -> Value {
    let host = message.data.pointer("/agent/hostname").and_then(Value::as_str);
    let host = host.filter(|host| !host.is_empty()).unwrap_or("muster");
    let mut event = json!({"id": message.id, "type": message.event, "title": message.title,
        "data": message.data});
    if let Some(text) = &message.text {
        event["text"] = json!(text);
    }
    json!({
        // Seconds, with milliseconds behind the point.
        "time": message.at.0 as f64 / 1_000.0,
        "host": cut(host, 255),
        "source": "muster",
        "sourcetype": "muster:event",
        "event": event,
    })
}
