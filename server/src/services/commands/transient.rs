//! Transient commands: the agent answers now, or the request fails now.

use std::time::Duration;

use muster_protocol::CommandName;
use muster_protocol::frame::Command;
use serde_json::json;

use super::request::ValidatedCommand;
use super::target_agent::TargetAgent;
use super::{Commands, SendResult};
use crate::domain::ids::CommandId;
use crate::hub::{ReplyError, SessionMessage};
use crate::services::access::caller::{Caller, Subject};
use crate::services::error::{Result, ServiceError};
use crate::store::writer::AppendAudit;

impl Commands {
    /// Sends a command to a connected agent and waits for the reply. The audit entry is committed
    /// at the same time; the caller gets the reply only after that commit, and none if its API key
    /// was revoked before it. Transient commands change nothing on the host.
    pub(super) async fn request_reply(
        &self,
        caller: &Caller,
        target: TargetAgent,
        name: CommandName,
        validated: ValidatedCommand,
    ) -> Result<SendResult> {
        let offline = || ServiceError::Conflict {
            code: "agent_offline",
            detail: format!(
                "the agent is not connected, and `{name}` is never queued; try again when it is online"
            ),
        };
        let session = target.session.ok_or_else(offline)?;
        let command_id = CommandId::new();
        let now = self.clock.now();
        let subject = Subject { kind: "agent", id: target.agent_id.0 };
        let detail = json!({"command": name, "command_id": command_id});
        let audit = caller.audit("command.send", subject, &detail, now);
        let audited = self.store.writer().enqueue(AppendAudit(audit)).await?;
        let reply = session.pending_replies.register(command_id).map_err(|error| match error {
            ReplyError::SessionOver => offline(),
            ReplyError::TooMany => ServiceError::Busy {
                code: "agent_busy",
                detail: "too many commands wait for this agent's reply; try again later",
            },
        })?;
        let frame = Command {
            command_id: command_id.0,
            command: name.as_str().to_owned(),
            data: validated.data,
            timestamp: now.to_string(),
            start_within_ms: None,
            capsule: None,
            content: None,
            step_contents: Vec::new(),
            call: None,
            request_id: None,
        };
        let message = SessionMessage::Command { frame: Box::new(frame), is_durable: false };
        let wait = Duration::from_millis(validated.wait_ms);
        let reply = tokio::time::timeout(wait, async {
            session.send(message).await.map_err(|_| offline())?;
            reply.await.map_err(|_| offline())
        })
        .await;
        session.pending_replies.cancel(command_id);
        audited.await?;
        match reply {
            Ok(reply) => Ok(SendResult::Replied { command_id, reply: reply? }),
            Err(_) => Err(ServiceError::Timeout {
                code: "agent_timeout",
                detail: format!("the agent did not reply within {} ms", validated.wait_ms),
            }),
        }
    }
}
