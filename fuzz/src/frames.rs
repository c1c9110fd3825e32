//! Text frames of both directions: decoded, or rejected with a bounded message. A decoded frame
//! round-trips.

use std::fmt::Debug;

use muster_protocol::frame::{DecodeError, decode_agent_frame, decode_server_frame};
use serde::Serialize;

pub fn agent_frame(bytes: &[u8]) {
    check(bytes, decode_agent_frame);
}

pub fn server_frame(bytes: &[u8]) {
    check(bytes, decode_server_frame);
}

fn check<Frame: Debug + PartialEq + Serialize>(
    bytes: &[u8],
    decode: fn(&str) -> Result<Frame, DecodeError>,
) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match decode(text) {
        Ok(frame) => {
            let written = serde_json::to_string(&frame).expect("plain data");
            assert_eq!(decode(&written).as_ref(), Ok(&frame), "{written}");
        }
        Err(refusal) => {
            super::check_refusal(&refusal);
            if let DecodeError::UnknownType(kind) | DecodeError::InvalidFrame { kind, .. } =
                &refusal
            {
                assert!(kind.chars().count() <= 64, "{kind}");
            }
        }
    }
}
