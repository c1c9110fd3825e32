//! PagerDuty, Events API v2: <https://developer.pagerduty.com/docs/send-alert-event>, with the schema of
//! <https://developer.pagerduty.com/api-reference/368ae3d938c9e-send-an-event-to-pager-duty>.

use serde_json::{Value, json};

use super::{EventMessage, cut};
use crate::domain::integrations::event_type::Severity;

const SUMMARY_CHARS: usize = 1_024;

/// The body of an event: it opens an incident, or resolves the one of the same agent, job or schedule.
pub fn format(message: &EventMessage, routing_key: &str) -> Value {
    let severity = match message.event.severity() {
        Severity::Resolved => {
            return json!({"routing_key": routing_key, "event_action": "resolve",
                "dedup_key": message.problem_key()});
        }
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    let mut details = message.data.clone();
    if let Some(text) = &message.text {
        details["text"] = json!(text);
    }
    let mut event = json!({
        "routing_key": routing_key,
        "event_action": "trigger",
        "dedup_key": message.problem_key(),
        "client": "Muster",
        "payload": {
            "summary": cut(&message.title, SUMMARY_CHARS),
            "source": source(message),
            "severity": severity,
            "timestamp": message.at,
            "component": message.event.resource(),
            "class": message.event.as_str(),
            "custom_details": details,
        },
    });
    if let Some(link) = &message.link {
        event["client_url"] = json!(link);
        event["links"] = json!([{"href": link, "text": "Open in Muster"}]);
    }
    event
}

fn source(message: &EventMessage) -> String {
    let host = message.data.pointer("/agent/hostname").and_then(Value::as_str);
    let host = host.filter(|host| !host.is_empty()).map(|host| cut(host, 255));
    host.unwrap_or_else(|| "muster".to_owned())
}
