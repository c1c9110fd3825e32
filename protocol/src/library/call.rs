//! Calls: a schedule runs a script that has a trigger. The trigger decides whether main runs, and both get
//! the data that the server keeps for this schedule and agent.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Largest data of a schedule on one agent, as JSON, in bytes.
pub const MAX_CALL_DATA_BYTES: usize = 16 * 1024;
/// Deepest nesting of the data.
pub const MAX_CALL_DATA_DEPTH: usize = 64;

/// What a call starts from. It travels beside the command, because it is read when the command is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TriggerCall {
    /// The version of the data, from 0. A result counts only while the data has it.
    pub data_version: u64,
    /// JSON.
    pub data: String,
    /// No call of this schedule has changed the data on this agent yet.
    pub is_first: bool,
    /// Main runs without the trigger.
    pub is_forced: bool,
}

impl TriggerCall {
    /// The call of a script that was started without a schedule: main runs, with empty data.
    pub fn without_schedule() -> Self {
        Self { data_version: 0, data: "{}".into(), is_first: true, is_forced: true }
    }
}

/// The two parts of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CallPart {
    Trigger,
    Main,
}

impl CallPart {
    /// The value of `MUSTER_PART`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trigger => "trigger",
            Self::Main => "main",
        }
    }
}

/// How far a call came, and its new data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CallReport {
    /// The version of the data that the call got.
    pub data_version: u64,
    /// The last part that was started; absent if none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_part: Option<CallPart>,
    /// JSON; absent if the data must not change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Why the script's data can't be stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_problem: Option<CallDataProblem>,
}

/// Why data can't be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CallDataProblem {
    #[error("the data is not valid JSON")]
    NotJson,
    #[error("the data is larger than 16 KiB")]
    TooLarge,
    #[error("the data is not there, or is not a file of the script's user")]
    Missing,
}

/// The data as it is stored: without spaces, and with sorted keys.
///
/// # Errors
/// [`CallDataProblem`].
pub fn check_call_data(bytes: &[u8]) -> Result<String, CallDataProblem> {
    if bytes.len() > MAX_CALL_DATA_BYTES {
        return Err(CallDataProblem::TooLarge);
    }
    // The parser refuses values that are nested too deeply.
    let value: Value = serde_json::from_slice(bytes).map_err(|_| CallDataProblem::NotJson)?;
    if depth(&value) > MAX_CALL_DATA_DEPTH {
        return Err(CallDataProblem::NotJson);
    }
    let text = value.to_string();
    // Numbers such as 1e5 get longer.
    if text.len() > MAX_CALL_DATA_BYTES {
        return Err(CallDataProblem::TooLarge);
    }
    Ok(text)
}

fn depth(value: &Value) -> usize {
    let inner = match value {
        Value::Array(values) => values.iter().map(depth).max(),
        Value::Object(fields) => fields.values().map(depth).max(),
        _ => return 0,
    };
    inner.unwrap_or(0) + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn data_that_was_accepted_is_accepted_again_unchanged(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(text) = check_call_data(&bytes) {
                prop_assert_eq!(check_call_data(text.as_bytes()), Ok(text));
            }
        }
    }

    #[test]
    fn data_is_bounded_json() {
        assert_eq!(
            check_call_data(b" {\"b\": 1, \"a\": [true]} "),
            Ok(r#"{"a":[true],"b":1}"#.into())
        );
        for wrong in ["", "{", "{'a': 1}", "NaN", "\u{fffd}x"] {
            assert_eq!(check_call_data(wrong.as_bytes()), Err(CallDataProblem::NotJson), "{wrong}");
        }
        let of_length = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
        let longest = of_length(MAX_CALL_DATA_BYTES);
        assert_eq!(check_call_data(longest.as_bytes()), Ok(longest));
        let longer = of_length(MAX_CALL_DATA_BYTES + 1);
        assert_eq!(check_call_data(longer.as_bytes()), Err(CallDataProblem::TooLarge));
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(check_call_data(nested(MAX_CALL_DATA_DEPTH).as_bytes()).is_ok());
        assert!(check_call_data(nested(MAX_CALL_DATA_DEPTH + 1).as_bytes()).is_err());
    }
}
