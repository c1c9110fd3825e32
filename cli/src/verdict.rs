//! What a finished command means for the exit code of `muster run`.
//!
//! Pure: knows the shape of a command's answer and no transport.

use serde_json::Value;

use crate::wording::in_options;

/// The exit code, and a sentence if it alone would not explain itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What to exit with.
    pub code: u8,
    /// For standard error.
    pub sentence: Option<String>,
}

/// True for the states that never change.
pub fn is_terminal(state: &str) -> bool {
    !matches!(state, "queued" | "delivered" | "running")
}

/// The script's own code, 128 + n after signal n, 124 after its time, 130 when cancelled, else 1.
pub fn of(command: &Value) -> Verdict {
    let state = command.get("state").and_then(Value::as_str).unwrap_or("unknown");
    let plain = |code| Verdict { code, sentence: None };
    let said = |code, text: &str| Verdict { code, sentence: Some(with_reason(text, command)) };
    match state {
        "succeeded" | "failed" => match (number(command, "exit_code"), number(command, "signal")) {
            // As a shell has it: the low byte, and never 0 for a failure.
            (Some(code), _) => match u8::try_from(code & 0xff).unwrap_or(1) {
                0 if state == "failed" => plain(1),
                code => plain(code),
            },
            (None, Some(signal)) => {
                let code = u8::try_from(signal).ok().and_then(|signal| signal.checked_add(128));
                said(code.unwrap_or(1), &format!("signal {signal} ended the script"))
            }
            (None, None) if state == "succeeded" => plain(0),
            (None, None) => said(1, "the script could not be started"),
        },
        "timed_out" => said(124, "the script ran out of time and was ended"),
        "cancelled" => said(130, "the command was cancelled"),
        "rejected" => said(1, "the host refused the command"),
        "expired" => said(1, "the command expired before it could start"),
        "lost" => said(1, "the command is lost: what came of it can't be known"),
        other => said(1, &format!("the command ended as {other}")),
    }
}

/// True if the output that was kept is not all that the script wrote.
pub fn is_output_incomplete(command: &Value) -> bool {
    places(command).any(|place| place.get("output_complete") == Some(&Value::Bool(false)))
}

fn number(command: &Value, name: &str) -> Option<i64> {
    places(command).find_map(|place| place.get(name)?.as_i64())
}

fn with_reason(text: &str, command: &Value) -> String {
    let reason = ["error", "reason", "end_reason"].iter().find_map(|name| {
        places(command).find_map(|place| {
            let reason = place.get(*name)?;
            reason.as_str().or_else(|| reason.get("message")?.as_str())
        })
    });
    let code = places(command).find_map(|place| place.get("error_code")?.as_str());
    let reason = reason.map(|reason| in_options(code.unwrap_or_default(), reason));
    match reason {
        // A reason that is a sentence of its own says it all.
        Some(reason) if reason.starts_with("the script ") => reason,
        Some(reason) if !reason.is_empty() => format!("{text}: {reason}"),
        _ => text.to_owned(),
    }
}

/// Where a command's answer may keep its result: at the top, or under `result` as reported.
fn places(command: &Value) -> impl Iterator<Item = &Value> {
    let result = command.get("result");
    [Some(command), result, result.and_then(|result| result.get("data"))].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn exit_code_is_the_scripts_own() {
        assert_eq!(of(&json!({"state": "succeeded", "exit_code": 0})).code, 0);
        assert_eq!(of(&json!({"state": "failed", "result": {"exit_code": 7}})).code, 7);
        assert_eq!(of(&json!({"state": "failed", "result": {"data": {"exit_code": 9}}})).code, 9);
        assert_eq!(of(&json!({"state": "failed", "exit_code": -1})).code, 255);
        assert_eq!(of(&json!({"state": "failed", "exit_code": 256})).code, 1, "never a success");
    }

    #[test]
    fn signals_and_other_ends_have_the_codes_that_shells_use() {
        assert_eq!(of(&json!({"state": "failed", "exit_code": null, "signal": 9})).code, 137);
        assert_eq!(of(&json!({"state": "timed_out", "exit_code": 0})).code, 124);
        assert_eq!(of(&json!({"state": "cancelled"})).code, 130);
        for state in ["rejected", "expired", "lost", "failed", "whatever"] {
            let verdict = of(&json!({"state": state, "error": {"message": "because"}}));
            assert_eq!(verdict.code, 1, "{state}");
            assert!(verdict.sentence.unwrap().ends_with(": because"), "{state}");
        }
    }

    #[test]
    fn missing_output_is_noticed() {
        assert!(is_output_incomplete(&json!({"result": {"output_complete": false}})));
        assert!(!is_output_incomplete(&json!({"result": {"output_complete": true}})));
        assert!(!is_output_incomplete(&json!({"state": "lost"})));
    }
}
