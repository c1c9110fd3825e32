//! Commands that are answered now or failed now.

use std::time::Duration;

use muster_protocol::CommandName;
use muster_protocol::frame::Command;
use serde_json::json;

use super::request::Checked;
use super::target::Target;
use super::{Commands, Sent};
use crate::domain::ids::CommandId;
use crate::hub::{CantWait, SessionMessage};
use crate::services::access::caller::{Caller, Subject};
use crate::services::error::{Result, ServiceError};
use crate::store::writer::AppendAudit;

impl Commands {
    /// Asks a connected agent and waits for its answer. The audit entry is committed meanwhile:
    /// nobody learns the answer before.
    pub(super) async fn ask(
        &self,
        caller: &Caller,
        target: Target,
        name: CommandName,
        checked: Checked,
    ) -> Result<Sent> {
        let offline = || ServiceError::Conflict {
            code: "agent_offline",
            detail: format!("the agent is not connected; `{name}` is answered now or not at all"),
        };
        let session = target.session.ok_or_else(offline)?;
        let command_id = CommandId::new();
        let now = self.clock.now();
        let subject = Subject { kind: "agent", id: target.agent_id.0 };
        let detail = json!({"command": name, "command_id": command_id});
        let audit = caller.audit("command.send", subject, &detail, now);
        let audited = self.store.writer().enqueue(AppendAudit(audit)).await?;
        let answer = session.waiters.wait_for(command_id).map_err(|why| match why {
            CantWait::Over => offline(),
            CantWait::TooMany => ServiceError::Busy {
                code: "agent_busy",
                detail: "too many commands wait for this agent's answer; try again later",
            },
        })?;
        let frame = Command {
            command_id: command_id.0,
            command: name.as_str().to_owned(),
            data: checked.data,
            timestamp: now.to_string(),
            start_within_ms: None,
        };
        let message = SessionMessage::Command { frame: Box::new(frame), held: false };
        let wait = Duration::from_millis(checked.wait_ms);
        let answer = tokio::time::timeout(wait, async {
            session.send(message).await.map_err(|_| offline())?;
            answer.await.map_err(|_| offline())
        })
        .await;
        session.waiters.forget(command_id);
        audited.await?;
        match answer {
            Ok(answer) => Ok(Sent::Answered { command_id, answer: answer? }),
            Err(_) => Err(ServiceError::Timeout {
                code: "agent_timeout",
                detail: format!("the agent did not answer within {} ms", checked.wait_ms),
            }),
        }
    }
}
