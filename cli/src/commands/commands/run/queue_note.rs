//! The note about a command that its agent does not take at once.

use std::convert::Infallible;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use crate::output::printer::print_note;
use crate::session::Session;

/// A command that is still queued after this time gets a note. An idle agent takes it much sooner.
const NOTE_DELAY: Duration = Duration::from_secs(2);

/// Prints why a command waits if it is still queued after [`NOTE_DELAY`]. Never returns.
pub async fn print_when_queued(session: &Session, agent_id: &str, id: &str) -> Infallible {
    tokio::time::sleep(NOTE_DELAY).await;
    let get = async |segments: &[&str]| {
        let request = session.api.request(Method::GET, segments);
        // Without an answer there is nothing to print; the command runs all the same.
        session.api.json(request).await.unwrap_or_default()
    };
    let command = get(&["commands", id]).await;
    if is_waiting(&command) {
        print_note(&note(&command, &get(&["agents", agent_id]).await));
    }
    std::future::pending().await
}

/// Queued, and not for an approval.
fn is_waiting(command: &Value) -> bool {
    command["state"] == "queued" && command["approval"]["state"] != "pending"
}

/// Until when it waits, and why by the agent's status.
fn note(command: &Value, agent: &Value) -> String {
    let text = |value: &Value, field: &str| {
        value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let reason = match (text(agent, "status").as_str(), text(agent, "name")) {
        ("offline", name) => {
            format!("{name}, which is offline since {}", text(agent, "last_seen_at"))
        }
        ("online", name) => format!("{name}, which is busy with other commands"),
        _ => "the agent".to_owned(),
    };
    format!("waiting until {} for {reason}; ^C cancels", text(command, "expires_at"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn note_names_the_reason_from_the_status_of_the_agent() {
        let command = json!({"state": "queued", "expires_at": "T"});
        assert!(is_waiting(&command));
        let offline = json!({"name": "web-1", "status": "offline", "last_seen_at": "S"});
        assert_eq!(
            note(&command, &offline),
            "waiting until T for web-1, which is offline since S; ^C cancels"
        );
        let online = json!({"name": "web-1", "status": "online"});
        assert!(note(&command, &online).contains("web-1, which is busy"));
        assert_eq!(note(&command, &Value::Null), "waiting until T for the agent; ^C cancels");
        for command in [
            json!({"state": "running"}),
            json!({"state": "queued", "approval": {"state": "pending"}}),
            Value::Null,
        ] {
            assert!(!is_waiting(&command), "{command}");
        }
    }
}
