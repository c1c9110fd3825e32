//! Checks the server's certificate: its issuer, its name and its expiry.

use std::time::Duration;

use chrono::Utc;
use tokio::time::timeout;

use super::detail_and_hint;
use super::finding::{Check, Finding};
use crate::link::{Connector, LinkError, Socket, clock_difference, instant};

/// Time limit for the handshake.
const TLS_TIMEOUT: Duration = Duration::from_secs(8);
/// The certificate should be renewed when fewer days are left.
const WARNING_DAYS: i64 = 14;

/// Performs the TLS handshake over a connection to the server's port, if there is one.
pub async fn tls(connector: &Connector, socket: Option<Box<dyn Socket>>) -> Finding {
    let check = Check::Tls;
    let host = connector.endpoint.bare_host();
    if !connector.endpoint.is_secure {
        let detail = "TLS is not used: the server's address starts with ws:// or http://";
        return match connector.endpoint.is_local() {
            true => Finding::skipped(check, detail),
            false => {
                let hint = "use wss:// or https://, otherwise the agent key is sent unencrypted";
                Finding::warn(check, detail, hint)
            }
        };
    }
    let Some(socket) = socket else { return Finding::skipped_after(check, Check::Proxy) };
    let secured = timeout(TLS_TIMEOUT, connector.tls_handshake(socket)).await;
    let stream = match secured.unwrap_or(Err(LinkError::TimedOut("complete the TLS handshake"))) {
        Ok(stream) => stream,
        Err(error) => {
            let (detail, hint) = detail_and_hint(&error);
            let detail = match clock_difference(connector, &error).await {
                Some(difference) => format!("{detail}; {difference}"),
                None => detail,
            };
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
