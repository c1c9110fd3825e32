//! What users read about work that waits for another person's approval.
//!
//! Pure.

use serde_json::Value;

use crate::output::text::sanitize;
use crate::output::time_format::TimeFormat;

/// The note about a job or a command that waits for a decision: by which rules, until when, and what
/// another person has to do. `None` if it does not wait.
pub fn approval_note(work: &Value, time: TimeFormat) -> Option<String> {
    let approval = work.get("approval")?;
    let text = |field: &str| approval.get(field).and_then(Value::as_str).unwrap_or_default();
    if text("state") != "pending" {
        return None;
    }
    let rules = approval.get("rules").and_then(Value::as_array);
    let rules: Vec<_> = rules.into_iter().flatten().filter_map(Value::as_str).collect();
    let noun = if rules.len() == 1 { "rule" } else { "rules" };
    Some(sanitize(&format!(
        "waiting for an approval ({noun} {}, until {}): another person runs \"muster approvals approve {}\"",
        rules.join(", "),
        time.instant(text("expires_at")),
        text("id"),
    )))
}

/// Why no approval came: who refused it and why, or that its time is over. `None` otherwise.
pub fn missing_approval(work: &Value) -> Option<String> {
    let approval = work.get("approval")?;
    let text = |field: &str| approval.get(field).and_then(Value::as_str).unwrap_or_default();
    let sentence = match text("state") {
        "refused" => {
            let name = match text("decided_by_name") {
                "" => "another person",
                name => name,
            };
            let reason = text("reason").trim().trim_end_matches('.');
            format!("{name} refused to approve it: {reason}. It was never sent")
        }
        "expired" => "it was not approved in time, and was never sent".to_owned(),
        _ => return None,
    };
    Some(sanitize(&sentence))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn note_names_the_rules_the_time_and_the_command() {
        let work = |state: &str, rules: Value| {
            json!({"approval": {"id": "7", "state": state,
            "rules": rules, "expires_at": "2020-01-31T22:58:09Z"}})
        };
        assert_eq!(
            approval_note(&work("pending", json!(["prod-deploy"])), TimeFormat::Utc).as_deref(),
            Some(
                "waiting for an approval (rule prod-deploy, until 2020-01-31 22:58:09Z): another person runs \"muster approvals approve 7\""
            )
        );
        let two = approval_note(&work("pending", json!(["a", "b"])), TimeFormat::Utc);
        assert!(two.is_some_and(|note| note.contains("(rules a, b, until")));
        for state in ["approved", "refused", "withdrawn"] {
            assert_eq!(approval_note(&work(state, json!(["a"])), TimeFormat::Utc), None);
        }
        assert_eq!(approval_note(&json!({"approval": null}), TimeFormat::Utc), None);
    }

    #[test]
    fn refusal_names_who_and_why() {
        let work = json!({"approval": {"state": "refused", "decided_by_name": "bob",
            "reason": "not today."}});
        assert_eq!(
            missing_approval(&work).as_deref(),
            Some("bob refused to approve it: not today. It was never sent")
        );
        assert_eq!(missing_approval(&json!({"approval": {"state": "approved"}})), None);
    }
}
