//! `deregister`: an agent asks to be deleted because its host leaves the fleet.

use std::sync::Arc;

use futures_util::StreamExt as _;
use muster_protocol::CloseCode;
use muster_protocol::frame::{ErrorCode, ServerFrame};
use serde_json::json;

use super::live::LiveSession;
use super::{AgentTransport, SessionEnd, Sessions};
use crate::hub::SessionHandle;
use crate::services::access::caller::{AuditAction, Subject};
use crate::store::StoreError;
use crate::store::queries::Deletion;

impl LiveSession {
    /// Deletes the agent of this session, and confirms it after the commit.
    ///
    /// # Errors
    /// The end of the session, unless the request came too early and was refused.
    pub(super) async fn deregister<T: AgentTransport>(
        &mut self,
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        // Reports before it count, and one of them may be the inventory.
        while let Some(committed) = self.pending.next().await {
            self.acknowledge_commit(committed, transport).await?;
        }
        if !self.is_ready {
            let message = "send the inventory before `deregister`".into();
            return self.refuse(ErrorCode::UnexpectedFrame, message, transport).await;
        }
        // In a task of its own, so that the notifications follow the commit even if this session is
        // closed meanwhile.
        let deleting = delete(Arc::clone(&self.service), Arc::clone(&self.handle));
        match tokio::spawn(deleting).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return Err(SessionEnd::Closed(CloseCode::SessionReplaced)),
            Ok(Err(error)) => {
                tracing::warn!(agent_id = %self.handle.agent_id, %error, "failed to deregister");
                return Err(SessionEnd::Closed(CloseCode::TryAgainLater));
            }
            Err(_) => return Err(SessionEnd::Closed(CloseCode::TryAgainLater)),
        }
        transport.feed(&ServerFrame::Deregistered).await?;
        transport.flush().await?;
        Err(SessionEnd::Closed(CloseCode::Deregistered))
    }
}

/// Deletes the agent. False if this session was replaced or the agent is already deleted.
async fn delete(service: Arc<Sessions>, session: Arc<SessionHandle>) -> Result<bool, StoreError> {
    let agent_id = session.agent_id;
    let now = service.clock.now();
    let action = AuditAction {
        tenant_id: session.tenant_id,
        action: "agent.deregister",
        subject: Subject { kind: "agent", id: agent_id.0 },
        detail: &json!({}),
        at: now,
    };
    let audit = action.by_agent(agent_id);
    let deletion = Deletion::Agent { epoch: session.epoch };
    let tenant = service.store.tenant(session.tenant_id);
    let Some(ended) = tenant.delete_agent(agent_id, deletion, now, audit).await? else {
        return Ok(false);
    };
    service.cache.forget_agent(agent_id);
    for command_id in ended {
        service.hub.notify_maybe_ended(command_id);
    }
    tracing::info!(%agent_id, "deregistered");
    Ok(true)
}
