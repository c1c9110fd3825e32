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
pub async fn print_when_queued(session: &Session, id: &str) -> Infallible {
    tokio::time::sleep(NOTE_DELAY).await;
    let request = session.api.request(Method::GET, &["executions", id]);
    // Without an answer there is nothing to print; the command runs all the same.
    let execution = session.api.json(request).await.unwrap_or_default();
    if let Some(note) = note(&execution) {
        print_note(&session.output.time.sentence(&note));
    }
    std::future::pending().await
}

/// Why it is queued; none if it waits for an approval, which has a note of its own.
fn note(execution: &Value) -> Option<String> {
    let text = |value: &Value, field: &str| {
        value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let is_waiting = text(execution, "state") == "queued"
        && execution.pointer("/approval/state").and_then(Value::as_str) != Some("pending");
    let explanation = text(execution, "explanation");
    (is_waiting && !explanation.is_empty()).then(|| format!("queued: {explanation} ^C cancels it."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn note_is_the_explanation_of_the_server() {
        let execution = json!({"state": "queued", "explanation": "web-1 is offline."});
        assert_eq!(note(&execution).as_deref(), Some("queued: web-1 is offline. ^C cancels it."));
        for other in [
            json!({"state": "running", "explanation": "It runs."}),
            json!({"state": "queued", "explanation": "x", "approval": {"state": "pending"}}),
            Value::Null,
        ] {
            assert_eq!(note(&other), None, "{other}");
        }
    }
}
