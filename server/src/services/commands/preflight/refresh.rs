//! Asks connected hosts for their current rules.

use futures_util::future::join_all;
use muster_protocol::CommandName;
use muster_protocol::frame::Command;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::domain::ids::CommandId;
use crate::domain::time::Timestamp;
use crate::hub::{SessionHandle, SessionMessage};

/// Asks all agents at once for the current manifest and policy of their hosts: on `scripts` an agent
/// reads both again, and reports changes before it replies. Returns for each whether its last report
/// is now current.
pub(super) async fn refresh_all<'a>(
    sessions: impl Iterator<Item = &'a SessionHandle>,
    now: Timestamp,
    until: Instant,
) -> Vec<bool> {
    let timestamp = now.to_string();
    join_all(sessions.map(|session| refresh(session, until, &timestamp))).await
}

async fn refresh(session: &SessionHandle, until: Instant, timestamp: &str) -> bool {
    // If the key or the agent does not allow the query, the last report is all there is.
    if !session.grant().permissions.allows(CommandName::Scripts)
        || !session.supports(CommandName::Scripts)
    {
        return true;
    }
    let command_id = CommandId::new();
    let Ok(reply) = session.pending_replies.register(command_id) else { return false };
    let frame = Command {
        command_id: command_id.0,
        command: CommandName::Scripts.as_str().to_owned(),
        data: Value::Object(serde_json::Map::new()),
        timestamp: timestamp.to_owned(),
        start_within_ms: None,
        capsule: None,
        content: None,
        step_contents: Vec::new(),
        call: None,
        request_id: None,
    };
    let message = SessionMessage::Command { frame: Box::new(frame), is_durable: false };
    let query = async { session.send(message).await.is_ok() && reply.await.is_ok() };
    let has_replied = timeout_at(until, query).await.unwrap_or(false);
    session.pending_replies.cancel(command_id);
    has_replied
}
