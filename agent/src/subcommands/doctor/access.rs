//! Checks whether the server accepts the key, and over which transport. The key is sent in a header
//! and nothing is registered: the first frame of a session shows the result.

use std::time::Duration;

use muster_protocol::CloseCode;
use secrecy::SecretString;
use tokio::time::timeout;

use super::bodies::limit_of_bodies;
use super::detail_and_hint;
use super::finding::{Check, Finding};
use crate::config::Fallback;
use crate::link::{Connector, Exchange, Incoming, Link, LinkError, WebSocket};

/// Time limit for the first frame, over either transport.
const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the server may hold one request.
const POLL_WAIT: Duration = Duration::from_secs(5);

/// The findings for the WebSocket and the key.
pub async fn access(connector: &Connector, key: &SecretString, fallback: Fallback) -> [Finding; 2] {
    if fallback == Fallback::Only {
        let websocket = match limit_of_bodies(connector).await {
            Some(bytes) => Finding::warn(Check::Websocket, small_bodies(bytes), BODIES_HINT),
            None => Finding::skipped(Check::Websocket, "HTTP only is configured"),
        };
        return [websocket, key_finding(first_frame_over_http(connector, key).await, "HTTP")];
    }
    let refusal = match first_frame(connector, key).await {
        Ok(word) => {
            let websocket = Finding::ok(Check::Websocket, "WebSockets work");
            return [websocket, key_finding(Ok(word), "the WebSocket")];
        }
        Err(error) => error,
    };
    let (why, hint) = detail_and_hint(&refusal);
    let why = format!("WebSockets fail: {why}");
    let hint = match refusal {
        LinkError::Blocked(_) => hint,
        _ => "configure proxies in between to pass the Upgrade and Connection headers (docs/NETWORK.md)"
            .to_owned(),
    };
    if fallback == Fallback::Never {
        let websocket = Finding::fail(Check::Websocket, why, hint);
        return [websocket, Finding::skipped_after(Check::Key, Check::Websocket)];
    }
    match first_frame_over_http(connector, key).await {
        Ok(word) => {
            let (why, hint) = match limit_of_bodies(connector).await {
                Some(bytes) => (
                    format!("{why}; HTTP is used instead, and {}", small_bodies(bytes)),
                    BODIES_HINT.to_owned(),
                ),
                None => (format!("{why}; HTTP is used instead"), hint),
            };
            [Finding::warn(Check::Websocket, why, hint), key_finding(Ok(word), "HTTP")]
        }
        Err(error) => {
            // If neither transport works, a missing header is an unlikely cause.
            let (over_http, hint) = detail_and_hint(&error);
            let why = format!("{why}; HTTP fails too: {over_http}");
            let websocket = Finding::fail(Check::Websocket, why, hint);
            [websocket, Finding::skipped_after(Check::Key, Check::Websocket)]
        }
    }
}

const BODIES_HINT: &str = "raise the proxy's limit of request bodies, in nginx `client_max_body_size 3m`, and restart the agent (docs/NETWORK.md)";

fn small_bodies(bytes: usize) -> String {
    format!("a proxy refuses bodies above about {bytes} bytes, so agents send small ones")
}

/// The first frame that the server sends.
enum FirstFrame {
    Connected,
    Closed { code: u16, reason: String },
}

async fn first_frame(connector: &Connector, key: &SecretString) -> Result<FirstFrame, LinkError> {
    let probe = timeout(FIRST_FRAME_TIMEOUT, WebSocket::probe(connector, key));
    match probe.await.unwrap_or(Err(LinkError::TimedOut("open a WebSocket"))) {
        Ok(mut link) => {
            link.close().await;
            Ok(FirstFrame::Connected)
        }
        Err(LinkError::Closed { code, reason }) => Ok(FirstFrame::Closed { code, reason }),
        Err(error) => Err(error),
    }
}

async fn first_frame_over_http(
    connector: &Connector,
    key: &SecretString,
) -> Result<FirstFrame, LinkError> {
    let mut link = Exchange::open(connector, key, POLL_WAIT)?;
    let first = timeout(FIRST_FRAME_TIMEOUT, link.receive());
    let word = match first.await.unwrap_or(Err(LinkError::TimedOut("exchange frames over HTTP")))? {
        Incoming::Closed { code, reason } => FirstFrame::Closed { code, reason },
        Incoming::Text(_) | Incoming::Binary => FirstFrame::Connected,
    };
    link.close().await;
    Ok(word)
}

fn key_finding(word: Result<FirstFrame, LinkError>, over: &str) -> Finding {
    let check = Check::Key;
    let (code, reason) = match word {
        Ok(FirstFrame::Connected) => {
            return Finding::ok(check, format!("the server accepts the key over {over}"));
        }
        Ok(FirstFrame::Closed { code, reason }) => (code, reason),
        Err(error) => {
            let (detail, hint) = detail_and_hint(&error);
            return Finding::fail(check, format!("the key could not be checked: {detail}"), hint);
        }
    };
    let Some(close) = CloseCode::from_wire(code, &reason) else {
        let detail = format!("the server closed with {code} ({})", reason.escape_debug());
        return Finding::fail(check, detail, "check the server's log");
    };
    let (detail, hint) = meaning(close);
    // These refusals may end by themselves after a while.
    match close {
        CloseCode::GoingAway | CloseCode::TryAgainLater | CloseCode::SessionReplaced => {
            Finding::warn(check, detail, hint)
        }
        _ => Finding::fail(check, detail, hint),
    }
}

/// The meaning of a close code, and what to do about it.
fn meaning(close: CloseCode) -> (&'static str, &'static str) {
    match close {
        CloseCode::KeyMissing => (
            "the key did not reach the server",
            "configure proxies in between to pass the Authorization header",
        ),
        CloseCode::KeyDeleted => (
            "the key was deleted on the server",
            "create a new key and set it in MUSTER_API_KEY or the key file",
        ),
        CloseCode::KeyRegenerated => (
            "the key was replaced by a newer one on the server",
            "set the newer key in MUSTER_API_KEY or the key file",
        ),
        CloseCode::KeyUnknown => (
            "the server does not know the key",
            "check that the key is complete, and that MUSTER_SERVER_URL is the server that created it",
        ),
        CloseCode::KeyDisabled => ("the key is disabled", "enable it on the server"),
        CloseCode::KeyExpired => ("the key has expired", "extend its validity on the server"),
        CloseCode::TenantClosed => (
            "the tenant of the key is being deleted",
            "restore the tenant on the server, or uninstall the agent",
        ),
        CloseCode::AgentLimit => (
            "the key has reached its limit of agents",
            "raise its max_agents, delete an unused agent, or use another key",
        ),
        CloseCode::PlanLimit => (
            "the plan of the tenant allows no more agents",
            "delete an unused agent, or ask the operator of the server for a larger plan",
        ),
        CloseCode::SessionReplaced => (
            "another session replaced this one",
            "run the doctor again; if the problem persists, another agent uses this identity",
        ),
        CloseCode::IdentityConflict => (
            "another host has the same identity",
            "delete the state directory on the host that has the copy",
        ),
        CloseCode::CertificateMissing => (
            "the server requires a certificate of the agent and received none that is valid",
            "check that no proxy on the way ends TLS, and that the agent can write its state directory",
        ),
        CloseCode::CertificateMismatch => (
            "the server received the certificate of another agent",
            "delete the state directory on the host that has a copy of it",
        ),
        CloseCode::CertificateRevoked => (
            "the certificate of this agent was revoked",
            "delete the agent on the server and install it again",
        ),
        CloseCode::GoingAway | CloseCode::TryAgainLater => {
            ("the server accepts no sessions at the moment", "try again in a minute")
        }
        CloseCode::FrameTooBig
        | CloseCode::PolicyViolation
        | CloseCode::HeartbeatsMissed
        | CloseCode::Deregistered => {
            ("the server rejected a frame", "update the agent and the server to the same version")
        }
    }
}
