//! From text to frames, with errors that tell unknown from broken.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{AgentFrame, ErrorCode, ServerFrame};
use crate::object;

const AGENT_TYPES: [&str; 10] = [
    "register",
    "heartbeat",
    "response",
    "accepted",
    "started",
    "manifest",
    "inventory",
    "inventory_end",
    "deregister",
    "update_result",
];
const SERVER_TYPES: [&str; 10] = [
    "connected",
    "registered",
    "heartbeat_ack",
    "error",
    "command",
    "cancel",
    "ack",
    "drain",
    "rekey",
    "deregistered",
];
/// Longest `type` that is repeated in an error.
const MAX_ECHOED_TYPE_CHARS: usize = 64;

/// Why a text is no frame. The message is fit to be sent back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the frame is not a JSON object with a string `type`: {0}")]
    MalformedJson(String),
    #[error("unknown frame type `{0}`")]
    UnknownType(String),
    #[error("invalid `{kind}` frame: {message}")]
    InvalidFrame { kind: String, message: String },
}

impl DecodeError {
    /// The code of the `error` frame that answers it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::MalformedJson(_) => ErrorCode::MalformedJson,
            Self::UnknownType(_) => ErrorCode::UnknownType,
            Self::InvalidFrame { .. } => ErrorCode::InvalidFrame,
        }
    }
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
}

/// Reads a frame from an agent. Unknown fields are ignored.
///
/// # Errors
/// [`DecodeError`] tells broken JSON, unknown types and unfit fields apart.
pub fn decode_agent_frame(text: &str) -> Result<AgentFrame, DecodeError> {
    decode(text, &AGENT_TYPES)
}

/// Reads a frame from a server. Unknown fields are ignored.
///
/// # Errors
/// As [`decode_agent_frame`].
pub fn decode_server_frame(text: &str) -> Result<ServerFrame, DecodeError> {
    decode(text, &SERVER_TYPES)
}

fn decode<Frame: DeserializeOwned>(text: &str, known: &[&str]) -> Result<Frame, DecodeError> {
    let error = match object::read(text) {
        Ok(frame) => return Ok(frame),
        Err(error) => error,
    };
    // Only the failure pays for a second look.
    let envelope: Envelope =
        object::read(text).map_err(|error| DecodeError::MalformedJson(error.to_string()))?;
    if known.contains(&envelope.kind.as_str()) {
        Err(DecodeError::InvalidFrame { kind: envelope.kind, message: error.to_string() })
    } else {
        Err(DecodeError::UnknownType(envelope.kind.chars().take(MAX_ECHOED_TYPE_CHARS).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn broken_unknown_and_unfit_frames_are_told_apart() {
        let code = |text: &str| decode_agent_frame(text).expect_err("no frame").code();
        assert_eq!(code("{"), ErrorCode::MalformedJson);
        assert_eq!(code("[]"), ErrorCode::MalformedJson);
        assert_eq!(code(r#"{"type":"dance"}"#), ErrorCode::UnknownType);
        assert_eq!(code(r#"{"type":"response"}"#), ErrorCode::InvalidFrame);
    }

    #[test]
    fn a_list_of_a_frames_values_is_no_frame() {
        let refused = decode_agent_frame(r#"["inventory_end"]"#).expect_err("a list");
        assert_eq!(refused.code(), ErrorCode::MalformedJson);
    }

    #[test]
    fn what_is_refused_is_repeated_in_bounded_words() {
        let text = format!(r#"{{"type":"inventory","items":["{}"]}}"#, "x".repeat(100_000));
        let refused = decode_agent_frame(&text).expect_err("no item").to_string();
        assert!(refused.chars().count() < 400, "{refused}");
    }

    #[test]
    fn numbers_are_read_as_they_were_written() {
        let text =
            r#"{"type":"heartbeat","status":{"x":1.7e307,"y":0.1,"z":2.2250738585072011e-308}}"#;
        let frame = decode_agent_frame(text).expect("a heartbeat");
        let again = serde_json::to_string(&frame).expect("plain data");
        assert_eq!(decode_agent_frame(&again), Ok(frame));
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let frame = decode_agent_frame(r#"{"type":"heartbeat","status":{"x":1},"later":true}"#);
        assert!(matches!(frame, Ok(AgentFrame::Heartbeat(_))), "{frame:?}");
    }

    #[test]
    fn nesting_without_end_is_refused() {
        let deep = format!(r#"{{"type":"heartbeat","status":{{"x":{}"#, "[".repeat(100_000));
        assert!(decode_agent_frame(&deep).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_never_panics(text in "\\PC{0,200}") {
            let _ = decode_agent_frame(&text);
            let _ = decode_server_frame(&text);
        }
    }
}
