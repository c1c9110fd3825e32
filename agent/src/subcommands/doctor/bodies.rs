//! Checks whether proxies pass the largest body that agents send over HTTP.

use std::time::Duration;

use muster_protocol::frame::exchange::{CONTENT_TYPE, MAX_BODY_BYTES};
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE as CONTENT_TYPE_HEADER;

use crate::link::path_limits::MIN_BODY_BYTES;
use crate::link::{Connector, http_client};

/// Time limit for one body.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The largest body that passes, if the largest that agents send does not. The bodies contain zeros
/// and no key, so the server refuses them without reading them.
pub async fn limit_of_bodies(connector: &Connector) -> Option<usize> {
    let client = http_client(connector, TIMEOUT).ok()?;
    let mut bytes = MAX_BODY_BYTES;
    loop {
        let request = client
            .post(connector.endpoint.exchange_url())
            .header(CONTENT_TYPE_HEADER, CONTENT_TYPE)
            .body(vec![0; bytes]);
        let answer = request.send().await.ok()?;
        if answer.status() != StatusCode::PAYLOAD_TOO_LARGE {
            return (bytes < MAX_BODY_BYTES).then_some(bytes);
        }
        if bytes <= MIN_BODY_BYTES {
            return Some(0);
        }
        bytes /= 2;
    }
}
