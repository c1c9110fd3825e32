//! Bodies of the HTTP link: what is read and written again is the same bytes.

use muster_protocol::frame::exchange::{ExchangePart, ExchangeRequest, ExchangeResponse};

pub fn request(bytes: &[u8]) {
    let Ok(request) = ExchangeRequest::decode(bytes) else { return };
    check_parts(&request.parts, bytes);
    assert_eq!(request.encode(), bytes);
}

pub fn response(bytes: &[u8]) {
    let Ok(response) = ExchangeResponse::decode(bytes) else { return };
    check_parts(&response.parts, bytes);
    assert_eq!(response.encode(), bytes);
}

/// Parts take no more room than the body that they came in.
fn check_parts(parts: &[ExchangePart], body: &[u8]) {
    let encoded: usize = parts.iter().map(ExchangePart::encoded_bytes).sum();
    assert!(encoded <= body.len());
}
