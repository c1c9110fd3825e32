//! The handshake: `connected`, `register`, `registered`.

use std::time::Duration;

use muster_protocol::Permissions;
use muster_protocol::frame::{AgentFrame, Registered, ServerFrame, decode_server_frame};
use muster_protocol::identity::Challenge;
use tokio::time::timeout;

use super::{HANDSHAKE_TIMEOUT, SessionEnd, poll_with};
use crate::agent::Agent;
use crate::agent::frame_log::FrameLog;
use crate::link::{Incoming, Link, LinkError};
use crate::sessions::outbox::encode;

/// Delay before a host that was enrolled again registers its new ledger. A server that enrols it
/// every time must not be contacted without a pause.
const REREGISTER_DELAY: Duration = Duration::from_secs(1);

/// Performs the handshake; the content of `registered` is durable when this returns.
///
/// # Errors
/// The [`SessionEnd`] of a session that was not registered.
pub async fn perform(
    link: &mut dyn Link,
    agent: &mut Agent,
    is_deregistering: bool,
) -> Result<(Permissions, Registered), SessionEnd> {
    // The inventory covers these events.
    let mut events = Vec::new();
    let (permissions, agent_key_id, challenge) = {
        let connected = expect_frame(link, &mut agent.frame_log, |frame| match frame {
            ServerFrame::Connected { permissions, agent_key_id, challenge, .. } => {
                // Without one the proof is for no connection, and no server accepts it.
                let challenge = challenge.unwrap_or(Challenge::from_bytes([0; 32]));
                Some((permissions, agent_key_id, challenge))
            }
            _ => None,
        });
        poll_with(&mut agent.executions, connected, &mut events).await?
    };
    let register =
        AgentFrame::Register { data: Box::new(agent.registration(&challenge, agent_key_id)) };
    let registered = {
        let registered = async {
            if let Some(frame) = encode(&register) {
                link.send(frame).await.map_err(SessionEnd::Broken)?;
            }
            expect_frame(link, &mut agent.frame_log, |frame| match frame {
                ServerFrame::Registered(registered) => Some(*registered),
                _ => None,
            })
            .await
        };
        poll_with(&mut agent.executions, registered, &mut events).await?
    };
    let was_reset = agent.apply_registered(&registered).map_err(SessionEnd::Failed)?;
    // The server sends no commands to a host that is deregistered.
    if was_reset && !is_deregistering {
        return Err(SessionEnd::Drained(REREGISTER_DELAY));
    }
    if registered.server_restored {
        tracing::warn!("the server was restored from a backup and lacks data that this agent has");
    }
    if registered.tags_ignored {
        tracing::warn!(
            "the server ignored the chosen tags, because the agent key does not trust its holders"
        );
    }
    Ok((permissions, registered))
}

/// Waits for one frame and skips all others.
async fn expect_frame<T>(
    link: &mut dyn Link,
    frame_log: &mut FrameLog,
    wanted: impl Fn(ServerFrame) -> Option<T>,
) -> Result<T, SessionEnd> {
    let waiting = async {
        loop {
            let text = match link.receive().await.map_err(SessionEnd::Broken)? {
                Incoming::Text(text) => text,
                Incoming::Binary => continue,
                Incoming::Closed { code, reason } => return Err(SessionEnd::closed(code, reason)),
            };
            match decode_server_frame(&text) {
                Ok(ServerFrame::Error { code, message }) => {
                    frame_log.rejected(code, &message);
                }
                Ok(frame) => {
                    if let Some(found) = wanted(frame) {
                        return Ok(found);
                    }
                }
                Err(error) => frame_log.ignored("handshake", &error.to_string()),
            }
        }
    };
    timeout(HANDSHAKE_TIMEOUT, waiting)
        .await
        .unwrap_or(Err(SessionEnd::Broken(LinkError::TimedOut("complete the handshake"))))
}
