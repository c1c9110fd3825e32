//! Connected hosts, asked for their rules as they stand now. An agent reads them again when it is sent
//! `scripts`, and tells what has changed before it answers.

use futures_util::future::join_all;
use muster_protocol::CommandName;
use muster_protocol::frame::Command;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::domain::ids::CommandId;
use crate::domain::time::Timestamp;
use crate::hub::{SessionHandle, SessionMessage};

/// Asks all at once; says of each whether its rules are now as fresh as can be.
pub(super) async fn ask_all<'a>(
    sessions: impl Iterator<Item = &'a SessionHandle>,
    now: Timestamp,
    until: Instant,
) -> Vec<bool> {
    let timestamp = now.to_string();
    join_all(sessions.map(|session| ask(session, until, &timestamp))).await
}

async fn ask(session: &SessionHandle, until: Instant, timestamp: &str) -> bool {
    // Where the key does not allow the question, what the host said before is all there is.
    if !session.grant().permissions.allows(CommandName::Scripts)
        || !session.supports(CommandName::Scripts)
    {
        return true;
    }
    let command_id = CommandId::new();
    let Ok(answer) = session.waiters.wait_for(command_id) else { return false };
    let frame = Command {
        command_id: command_id.0,
        command: CommandName::Scripts.as_str().to_owned(),
        data: Value::Object(serde_json::Map::new()),
        timestamp: timestamp.to_owned(),
        start_within_ms: None,
    };
    let message = SessionMessage::Command { frame: Box::new(frame), held: false };
    let asked = async { session.send(message).await.is_ok() && answer.await.is_ok() };
    let has_answered = timeout_at(until, asked).await.unwrap_or(false);
    session.waiters.forget(command_id);
    has_answered
}
