//! Decodes text frames. Errors distinguish unknown types from invalid frames.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::agent::AgentFrame;
use super::server::{ErrorCode, ServerFrame};
use crate::object;

const AGENT_TYPES: [&str; 14] = [
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
    "assignment_states",
    "task_run",
    "authorities_stored",
    "facts",
];
const SERVER_TYPES: [&str; 13] = [
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
    "assignments",
    "certificate",
    "authorities",
];
/// Longest `type` that an error quotes.
const MAX_ECHOED_TYPE_CHARS: usize = 64;

/// Why a text is not a valid frame. The message can be sent back to the peer.
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
    /// The code for the `error` frame in response.
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

/// Decodes a frame from an agent. Unknown fields are ignored.
///
/// # Errors
/// [`DecodeError`] distinguishes malformed JSON, unknown types and invalid fields.
pub fn decode_agent_frame(text: &str) -> Result<AgentFrame, DecodeError> {
    decode(text, &AGENT_TYPES)
}

/// Decodes a frame from a server. Unknown fields are ignored.
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
    // Only a failure is parsed twice.
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
    fn malformed_unknown_and_invalid_frames_have_different_codes() {
        let code = |text: &str| decode_agent_frame(text).expect_err("no frame").code();
        assert_eq!(code("{"), ErrorCode::MalformedJson);
        assert_eq!(code("[]"), ErrorCode::MalformedJson);
        assert_eq!(code(r#"{"type":"dance"}"#), ErrorCode::UnknownType);
        assert_eq!(code(r#"{"type":"response"}"#), ErrorCode::InvalidFrame);
    }

    #[test]
    fn list_of_a_frames_values_is_rejected() {
        let refused = decode_agent_frame(r#"["inventory_end"]"#).expect_err("a list");
        assert_eq!(refused.code(), ErrorCode::MalformedJson);
    }

    #[test]
    fn error_that_quotes_a_frame_is_bounded() {
        let text = format!(r#"{{"type":"inventory","items":["{}"]}}"#, "x".repeat(100_000));
        let refused = decode_agent_frame(&text).expect_err("no item").to_string();
        assert!(refused.chars().count() < 400, "{refused}");
    }

    #[test]
    fn numbers_round_trip_exactly() {
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
    fn excessive_nesting_is_rejected() {
        let deep = format!(r#"{{"type":"heartbeat","status":{{"x":{}"#, "[".repeat(100_000));
        assert!(decode_agent_frame(&deep).is_err());
    }

    proptest! {
        #[test]
        fn decoding_arbitrary_text_never_panics(text in "\\PC{0,200}") {
            let _ = decode_agent_frame(&text);
            let _ = decode_server_frame(&text);
        }
    }
}
