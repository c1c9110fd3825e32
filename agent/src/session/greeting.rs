//! The first frames: `connected`, `register`, `registered`.

use std::time::Duration;

use muster_protocol::Permissions;
use muster_protocol::frame::{AgentFrame, Registered, ServerFrame, decode_server_frame};
use tokio::time::timeout;

use super::{Ending, GREETING_TIMEOUT, looking_after};
use crate::agent::Agent;
use crate::link::{Incoming, Link, LinkError};
use crate::outbox::encode;

/// Before a host that was enrolled anew registers the ledger that it has begun. Not at once: a server
/// that enrols it each time must not be asked without a pause.
const REJOIN_PAUSE: Duration = Duration::from_secs(1);

/// Greets and registers; what the server says is durable when this returns.
///
/// # Errors
/// The [`Ending`] of a session that never was.
pub async fn exchange(
    link: &mut dyn Link,
    agent: &mut Agent,
    is_leaving: bool,
) -> Result<(Permissions, Registered), Ending> {
    // What jobs tell meanwhile is in the inventory anyway.
    let mut notices = Vec::new();
    let permissions = {
        let connected = expect(link, |frame| match frame {
            ServerFrame::Connected { permissions, .. } => Some(permissions),
            _ => None,
        });
        looking_after(&mut agent.custody, connected, &mut notices).await?
    };
    let register = AgentFrame::Register { data: Box::new(agent.registration()) };
    let registered = {
        let registered = async {
            if let Some(frame) = encode(&register) {
                link.send(frame).await.map_err(Ending::Broken)?;
            }
            expect(link, |frame| match frame {
                ServerFrame::Registered(registered) => Some(*registered),
                _ => None,
            })
            .await
        };
        looking_after(&mut agent.custody, registered, &mut notices).await?
    };
    let has_begun_anew = agent.registered(&registered).map_err(Ending::Failed)?;
    // A host that leaves is asked nothing any more.
    if has_begun_anew && !is_leaving {
        return Err(Ending::Drained(REJOIN_PAUSE));
    }
    if registered.server_restored {
        tracing::warn!("the server knows less than this agent: it was restored from a backup");
    }
    Ok((permissions, registered))
}

/// Waits for one frame; anything else before it is passed over.
async fn expect<T>(
    link: &mut dyn Link,
    wanted: impl Fn(ServerFrame) -> Option<T>,
) -> Result<T, Ending> {
    let waiting = async {
        loop {
            let text = match link.receive().await.map_err(Ending::Broken)? {
                Incoming::Text(text) => text,
                Incoming::Binary => continue,
                Incoming::Closed { code, reason } => return Err(Ending::closed(code, reason)),
            };
            match decode_server_frame(&text) {
                Ok(ServerFrame::Error { code, message }) => {
                    tracing::warn!(?code, %message, "the server did not understand");
                }
                Ok(frame) => {
                    if let Some(found) = wanted(frame) {
                        return Ok(found);
                    }
                }
                Err(error) => tracing::warn!(%error, "frame passed over"),
            }
        }
    };
    timeout(GREETING_TIMEOUT, waiting)
        .await
        .unwrap_or(Err(Ending::Broken(LinkError::TimedOut("greeting"))))
}
