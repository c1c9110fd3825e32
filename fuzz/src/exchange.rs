//! Exchange bodies: a decoded body encodes to the same bytes.

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

/// Parts are not larger than the body that contained them.
fn check_parts(parts: &[ExchangePart], body: &[u8]) {
    let encoded: usize = parts.iter().map(ExchangePart::encoded_bytes).sum();
    assert!(encoded <= body.len());
}
