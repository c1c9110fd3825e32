//! Agents that ask to be deleted, since their hosts leave the fleet.

use std::sync::Arc;

use futures_util::StreamExt as _;
use muster_protocol::CloseCode;
use muster_protocol::frame::{ErrorCode, ServerFrame};

use super::live::Live;
use super::{AgentTransport, SessionEnd, Sessions};
use crate::domain::access::principal::ActorKind;
use crate::domain::ids::AuditId;
use crate::hub::SessionHandle;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::queries::Deletion;

impl Live {
    /// Deletes the agent of this session, and says so after the commit.
    ///
    /// Always an error: the end of the session, unless it came too early and was refused.
    pub(super) async fn deregister<T: AgentTransport>(
        &mut self,
        transport: &mut T,
    ) -> Result<(), SessionEnd> {
        // What it has reported counts, and may be its inventory.
        while let Some(answer) = self.pending.next().await {
            self.answer(answer, transport).await?;
        }
        if !self.is_ready {
            let message = "send the inventory before `deregister`".into();
            return self.refuse(ErrorCode::UnexpectedFrame, message, transport).await;
        }
        // In a task of its own: a commit is followed by what it calls for, also if this session is
        // told to end meanwhile.
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

/// False if this session is no longer its agent's newest, or the agent is gone already.
async fn delete(service: Arc<Sessions>, session: Arc<SessionHandle>) -> Result<bool, StoreError> {
    let agent_id = session.agent_id;
    let now = service.clock.now();
    let audit = audit_entry::Model {
        id: AuditId::new(),
        tenant_id: session.tenant_id,
        at: now,
        actor_kind: ActorKind::Agent,
        actor_id: Some(agent_id.0),
        action: "agent.deregister".to_owned(),
        subject_kind: "agent".to_owned(),
        subject_id: Some(agent_id.0),
        detail: "{}".to_owned(),
        source: None,
    };
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
