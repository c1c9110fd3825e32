//! Messages for tests.

use serde_json::{Value, json};
use uuid::Uuid;

use super::EventMessage;
use crate::domain::integrations::event_type::EventType;
use crate::domain::time::Timestamp;

/// A text that each provider would read as markup.
pub const ODD: &str = "<!channel> @everyone [x](http://evil.example) **db** & \u{202e}";

/// What a host and people may have written, with a job that failed.
pub fn data(name: &str) -> Value {
    json!({
        "agent": {"id": Uuid::nil(), "name": name, "hostname": name, "tags": ["web"]},
        "job": {"id": Uuid::nil(), "script": name, "state": "failed", "agent_count": 2,
            "counts": {"failed": 1, "succeeded": 1}, "duration_ms": 1_500,
            "failed_executions": [{"agent_name": name}]},
        "schedule_name": name,
        "reason": name,
    })
}

/// A message of each type.
pub fn of(event: EventType, name: &str) -> EventMessage {
    let head = ("0198-1".to_owned(), event, Timestamp(1_800_000_000_123), Uuid::from_u128(7));
    let others = vec![name.repeat(50); 30];
    let mut message = EventMessage::new(head, data(name), &others, 3, Some("https://m.example"));
    if event == EventType::JobCancelled {
        message.text = Some(name.repeat(100));
    }
    message
}
