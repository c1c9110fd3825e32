//! The server's certificate: who vouches for it, for which name, and for how long yet.

use std::time::Duration;

use chrono::Utc;
use tokio::time::timeout;

use super::detail_and_hint;
use super::finding::{Check, Finding};
use crate::link::{Connector, LinkError, Socket, instant};

/// For the handshake.
const TLS_TIMEOUT: Duration = Duration::from_secs(8);
/// Below this it is time to renew.
const WARNING_DAYS: i64 = 14;

/// Agrees on TLS over a connection to the server's port, if there is one.
pub async fn tls(connector: &Connector, socket: Option<Box<dyn Socket>>) -> Finding {
    let check = Check::Tls;
    let host = connector.endpoint.bare_host();
    if !connector.endpoint.is_secure {
        let detail = "none: the server's address begins with ws:// or http://";
        return match connector.endpoint.is_local() {
            true => Finding::skipped(check, detail),
            false => {
                let hint = "use wss:// or https://: the agent key can be read on the way";
                Finding::warn(check, detail, hint)
            }
        };
    }
    let Some(socket) = socket else { return Finding::skipped_after(check, Check::Proxy) };
    let secured = timeout(TLS_TIMEOUT, connector.tls_handshake(socket)).await;
    let stream = match secured.unwrap_or(Err(LinkError::TimedOut("agreeing on TLS"))) {
        Ok(stream) => stream,
        Err(error) => {
            let (detail, hint) = detail_and_hint(&error);
            return Finding::fail(check, detail, hint);
        }
    };
    let expiry = connector.tls.as_ref().and_then(|tls| tls.expiry(host, &stream));
    let Some(expiry) = expiry else {
        return Finding::ok(check, format!("the certificate of {host} is trusted"));
    };
    let left = i64::try_from(expiry).unwrap_or(i64::MAX).saturating_sub(Utc::now().timestamp());
    let days = left / (24 * 3600);
    let detail =
        format!("the certificate of {host} is trusted until {} ({days} days)", instant(expiry));
    if days < WARNING_DAYS {
        return Finding::warn(check, detail, "renew the certificate in time");
    }
    Finding::ok(check, detail)
}
