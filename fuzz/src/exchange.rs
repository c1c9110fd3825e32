//! Bodies of the HTTP link: what is read and written again is the same bytes.

use muster_protocol::frame::exchange::{Answer, Part, Request};

pub fn request(bytes: &[u8]) {
    let Ok(request) = Request::decode(bytes) else { return };
    check_parts(&request.parts, bytes);
    assert_eq!(request.encode(), bytes);
}

pub fn answer(bytes: &[u8]) {
    let Ok(answer) = Answer::decode(bytes) else { return };
    check_parts(&answer.parts, bytes);
    assert_eq!(answer.encode(), bytes);
}

/// Parts take no more room than the body that they came in.
fn check_parts(parts: &[Part], body: &[u8]) {
    let encoded: usize = parts.iter().map(Part::encoded_bytes).sum();
    assert!(encoded <= body.len());
}
