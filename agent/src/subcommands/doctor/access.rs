//! Whether the server takes the key, and over what. The key travels in a header; nothing is
//! registered: the first word of a session says all there is to know.

use std::time::Duration;

use muster_protocol::CloseCode;
use secrecy::SecretString;
use tokio::time::timeout;

use super::detail_and_hint;
use super::finding::{Check, Finding};
use crate::config::Fallback;
use crate::link::{Connector, Exchange, Incoming, Link, LinkError, WebSocket};

/// For the first word, over either transport.
const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a request may be held before the next one asks for the word.
const POLL_WAIT: Duration = Duration::from_secs(5);

/// What was found of the WebSocket and of the key.
pub async fn access(connector: &Connector, key: &SecretString, fallback: Fallback) -> [Finding; 2] {
    if fallback == Fallback::Only {
        let websocket = Finding::skipped(Check::Websocket, "HTTP only is configured");
        return [websocket, key_finding(first_frame_over_http(connector, key).await, "HTTP")];
    }
    let refusal = match first_frame(connector, key).await {
        Ok(word) => {
            let websocket = Finding::ok(Check::Websocket, "WebSockets get through");
            return [websocket, key_finding(Ok(word), "the WebSocket")];
        }
        Err(error) => error,
    };
    let (why, hint) = detail_and_hint(&refusal);
    let why = format!("no WebSocket gets through: {why}");
    let hint = match refusal {
        LinkError::Blocked(_) => hint,
        _ => "have proxies on the way pass the Upgrade and Connection headers (docs/NETWORK.md)"
            .to_owned(),
    };
    if fallback == Fallback::Never {
        let websocket = Finding::fail(Check::Websocket, why, hint);
        return [websocket, Finding::skipped_after(Check::Key, Check::Websocket)];
    }
    match first_frame_over_http(connector, key).await {
        Ok(word) => {
            let why = format!("{why}; HTTP takes its place");
            [Finding::warn(Check::Websocket, why, hint), key_finding(Ok(word), "HTTP")]
        }
        Err(error) => {
            // Where neither gets through it is hardly for want of a header.
            let (over_http, hint) = detail_and_hint(&error);
            let why = format!("{why}; nor does HTTP: {over_http}");
            let websocket = Finding::fail(Check::Websocket, why, hint);
            [websocket, Finding::skipped_after(Check::Key, Check::Websocket)]
        }
    }
}

/// How the server begins.
enum FirstFrame {
    Connected,
    Closed { code: u16, reason: String },
}

async fn first_frame(connector: &Connector, key: &SecretString) -> Result<FirstFrame, LinkError> {
    let probe = timeout(FIRST_FRAME_TIMEOUT, WebSocket::probe(connector, key));
    match probe.await.unwrap_or(Err(LinkError::TimedOut("opening a WebSocket"))) {
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
    let word = match first.await.unwrap_or(Err(LinkError::TimedOut("the exchange over HTTP")))? {
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
            return Finding::ok(check, format!("the server takes it, over {over}"));
        }
        Ok(FirstFrame::Closed { code, reason }) => (code, reason),
        Err(error) => {
            let (detail, hint) = detail_and_hint(&error);
            return Finding::fail(check, format!("could not be shown: {detail}"), hint);
        }
    };
    let Some(close) = CloseCode::from_wire(code, &reason) else {
        let detail = format!("the server closed with {code} ({})", reason.escape_debug());
        return Finding::fail(check, detail, "look into the server's log");
    };
    let (detail, hint) = meaning(close);
    // The server may say something else a little later, without anybody doing anything.
    match close {
        CloseCode::GoingAway | CloseCode::TryAgainLater | CloseCode::SessionReplaced => {
            Finding::warn(check, detail, hint)
        }
        _ => Finding::fail(check, detail, hint),
    }
}

/// A refusal in words, and what to do.
fn meaning(close: CloseCode) -> (&'static str, &'static str) {
    match close {
        CloseCode::KeyMissing => (
            "the key did not reach the server",
            "have proxies on the way pass the Authorization header",
        ),
        CloseCode::KeyDeleted => (
            "the key was deleted on the server",
            "make another and put it into MUSTER_API_KEY or the key file",
        ),
        CloseCode::KeyRegenerated => (
            "the key was replaced by a newer one on the server",
            "put the newer one into MUSTER_API_KEY or the key file",
        ),
        CloseCode::KeyUnknown => (
            "the server does not know the key",
            "check that it is whole, and that MUSTER_SERVER_URL leads to the server that made it",
        ),
        CloseCode::KeyDisabled => ("the key is disabled", "enable it on the server"),
        CloseCode::KeyExpired => ("the key has expired", "extend it on the server"),
        CloseCode::AgentLimit => (
            "the key has as many agents as it may",
            "raise its max_agents, delete an agent that is gone, or use another key",
        ),
        CloseCode::SessionReplaced => (
            "another session took this one's place",
            "look again; if it stays, another agent runs with this identity",
        ),
        CloseCode::IdentityConflict => (
            "another host has the same identity",
            "remove the state directory from the host that is the copy",
        ),
        CloseCode::GoingAway | CloseCode::TryAgainLater => {
            ("the server takes no sessions just now", "try again in a minute")
        }
        CloseCode::FrameTooBig | CloseCode::PolicyViolation | CloseCode::Deregistered => {
            ("the server did not understand", "update agent and server to one version")
        }
    }
}
