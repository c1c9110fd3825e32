//! The exit code of `muster run` for a finished command.
//!
//! Pure: knows the JSON of a command and no transport.

use serde_json::Value;

/// The exit code, and a message where the code alone does not explain itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitStatus {
    pub code: u8,
    /// For standard error.
    pub message: Option<String>,
}

/// True for the states that are final.
pub fn is_terminal(state: &str) -> bool {
    !matches!(state, "queued" | "delivered" | "running")
}

/// The script's own code, 128 + n after signal n, 124 after a timeout, 130 if cancelled, else 1.
pub fn exit_status(command: &Value) -> ExitStatus {
    let state = command.get("state").and_then(Value::as_str).unwrap_or("unknown");
    let plain = |code| ExitStatus { code, message: None };
    let explained =
        |code, text: &str| ExitStatus { code, message: Some(with_reason(text, command)) };
    match state {
        "succeeded" | "failed" => match (number(command, "exit_code"), number(command, "signal")) {
            // The low byte as in shells, but never 0 for a failure.
            (Some(code), _) => match u8::try_from(code & 0xff).unwrap_or(1) {
                0 if state == "failed" => plain(1),
                code => plain(code),
            },
            (None, Some(signal)) => {
                let code = u8::try_from(signal).ok().and_then(|signal| signal.checked_add(128));
                explained(code.unwrap_or(1), &format!("the script was ended by signal {signal}"))
            }
            (None, None) if state == "succeeded" => plain(0),
            (None, None) => explained(1, "the script could not be started"),
        },
        "timed_out" => explained(124, "the script exceeded its timeout and was ended"),
        "cancelled" => explained(130, "the command was cancelled"),
        // The server's own sentence says who ended it and why; the host never had it.
        "rejected" | "expired" if is_ended_by_server(command) => {
            let sentence = command.get("error").and_then(Value::as_str).map(str::to_owned);
            ExitStatus { code: 1, message: sentence }
        }
        "rejected" => explained(1, "the host refused the command"),
        "expired" => explained(1, "the command expired before it could start"),
        "lost" => explained(1, "the command is lost: its result can't be known"),
        other => explained(1, &format!("the command ended in state {other}")),
    }
}

/// True if the server ended the command and never sent it.
fn is_ended_by_server(command: &Value) -> bool {
    let code = command.get("error_code").and_then(Value::as_str).unwrap_or_default();
    matches!(
        code,
        "approval_refused"
            | "approval_expired"
            | "api_key_invalid"
            | "outside_key_limits"
            | "permission_revoked"
    )
}

/// True if part of the script's output was not stored.
pub fn is_output_incomplete(command: &Value) -> bool {
    result_objects(command).any(|object| object.get("output_complete") == Some(&Value::Bool(false)))
}

/// A text of a command's result.
pub fn result_text<'a>(command: &'a Value, name: &str) -> Option<&'a str> {
    result_objects(command).find_map(|object| object.get(name)?.as_str())
}

fn number(command: &Value, name: &str) -> Option<i64> {
    result_objects(command).find_map(|object| object.get(name)?.as_i64())
}

fn with_reason(text: &str, command: &Value) -> String {
    let reason = ["error", "reason", "end_reason"].iter().find_map(|name| {
        result_objects(command).find_map(|object| {
            let reason = object.get(*name)?;
            reason.as_str().or_else(|| reason.get("message")?.as_str())
        })
    });
    match reason {
        // The reason is already a whole sentence.
        Some(reason) if reason.starts_with("the script ") => reason.to_owned(),
        Some(reason) if !reason.is_empty() => format!("{text}: {reason}"),
        _ => text.to_owned(),
    }
}

/// The objects of a command's JSON that may hold its result: the top, `result` and its `data`.
fn result_objects(command: &Value) -> impl Iterator<Item = &Value> {
    let result = command.get("result");
    [Some(command), result, result.and_then(|result| result.get("data"))].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn exit_code_is_that_of_the_script() {
        assert_eq!(exit_status(&json!({"state": "succeeded", "exit_code": 0})).code, 0);
        assert_eq!(exit_status(&json!({"state": "failed", "result": {"exit_code": 7}})).code, 7);
        assert_eq!(
            exit_status(&json!({"state": "failed", "result": {"data": {"exit_code": 9}}})).code,
            9
        );
        assert_eq!(exit_status(&json!({"state": "failed", "exit_code": -1})).code, 255);
        assert_eq!(
            exit_status(&json!({"state": "failed", "exit_code": 256})).code,
            1,
            "never a success"
        );
    }

    #[test]
    fn signals_timeouts_and_cancellations_have_the_codes_that_shells_use() {
        assert_eq!(
            exit_status(&json!({"state": "failed", "exit_code": null, "signal": 9})).code,
            137
        );
        assert_eq!(exit_status(&json!({"state": "timed_out", "exit_code": 0})).code, 124);
        assert_eq!(exit_status(&json!({"state": "cancelled"})).code, 130);
        for state in ["rejected", "expired", "lost", "failed", "unknown"] {
            let status = exit_status(&json!({"state": state, "error": {"message": "because"}}));
            assert_eq!(status.code, 1, "{state}");
            assert!(status.message.unwrap().ends_with(": because"), "{state}");
        }
    }

    #[test]
    fn what_the_server_ended_is_no_refusal_of_the_host() {
        let refused = json!({"state": "rejected", "error_code": "approval_refused",
            "error": "bob refused to approve it: not today. It was never sent"});
        let status = exit_status(&refused);
        let expected = "bob refused to approve it: not today. It was never sent";
        assert_eq!((status.code, status.message.as_deref()), (1, Some(expected)));
        let by_host = json!({"state": "rejected", "error_code": "unknown_script", "error": "no"});
        let message = exit_status(&by_host).message;
        assert_eq!(message.as_deref(), Some("the host refused the command: no"));
    }

    #[test]
    fn incomplete_output_is_detected() {
        assert!(is_output_incomplete(&json!({"result": {"output_complete": false}})));
        assert!(!is_output_incomplete(&json!({"result": {"output_complete": true}})));
        assert!(!is_output_incomplete(&json!({"state": "lost"})));
    }
}
