//! Adoption: a person decides that a host with a new key pair is an agent that exists.

use muster_protocol::CloseCode;
use muster_protocol::identity::Fingerprint;
use serde_json::json;

use super::agents::{AgentSnapshot, Agents};
use crate::domain::access::principal::Scope;
use crate::domain::commands::work::WorkKind;
use crate::domain::ids::AgentId;
use crate::services::access::caller::{Caller, Subject};
use crate::services::error::{Result, ServiceError};
use crate::store::queries::{Adopted, Adoption};

const UNKNOWN: ServiceError = ServiceError::NotFound("agent");

impl Agents {
    /// Gives an offline agent the key pair of a reinstalled host. The agent that the host was
    /// enrolled as is deleted, and its session ends: the host comes back as the former agent.
    ///
    /// The fingerprint says which host: what hosts report about themselves may be an impostor's. If
    /// no agent has it, the next host that proves this key pair with the same agent key becomes the
    /// agent.
    ///
    /// # Errors
    /// [`ServiceError::Conflict`] if the agent is online, has this key pair already or is a basic
    /// agent, or if several agents have the key pair.
    pub async fn adopt(
        &self,
        caller: &Caller,
        id: AgentId,
        fingerprint: Fingerprint,
    ) -> Result<AgentSnapshot> {
        caller.require(Scope::AgentsManage)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let former = tenant.agent(id).await?.ok_or(UNKNOWN)?;
        // The host that becomes the agent gets its commands, so it must be within the limits too.
        self.guard.check_limits(caller, WorkKind::AgentChange, &[id]).await?;
        let own = former.public_key().ok_or_else(basic_agent)?.fingerprint();
        if fingerprint == own {
            return Err(already_own(own));
        }
        if former.is_online || self.hub.is_connected(id) {
            return Err(online());
        }
        let keys = tenant.agent_public_keys().await?;
        let mut same = keys.into_iter().filter(|(_, key)| key.fingerprint() == fingerprint);
        let successor = same.next().map(|(id, _)| id);
        if same.next().is_some() {
            return Err(shared_key_pair(fingerprint));
        }
        if let Some(successor) = successor {
            self.guard.check_limits(caller, WorkKind::AgentChange, &[successor]).await?;
        }
        let now = self.clock.now();
        let detail = json!({"fingerprint": fingerprint, "from": own, "replaced_agent": successor});
        let audit = caller.audit("agent.adopt", Subject { kind: "agent", id: id.0 }, &detail, now);
        let adoption = Adoption { id, fingerprint, successor, now };
        let (row, ended) = match tenant.adopt_agent(adoption, audit).await? {
            Adopted::Done { row, ended } => (*row, ended),
            Adopted::UnknownAgent => return Err(UNKNOWN),
            Adopted::Online => return Err(online()),
            Adopted::SuccessorChanged => return Err(successor_changed()),
        };
        self.cache.forget_agent(id);
        if let Some(successor) = successor {
            self.cache.forget_agent(successor);
            if let Some(session) = self.hub.session(successor) {
                session.close(CloseCode::GoingAway);
            }
        }
        ended.into_iter().for_each(|command_id| self.hub.notify_maybe_ended(command_id));
        Ok(AgentSnapshot { is_connected: self.hub.is_connected(row.id), record: row.into() })
    }
}

fn basic_agent() -> ServiceError {
    ServiceError::Conflict {
        code: "basic_agent",
        detail:
            "a basic agent has no key pair, so it can't be adopted; its agent key is its identity"
                .into(),
    }
}

fn online() -> ServiceError {
    ServiceError::Conflict {
        code: "agent_online",
        detail: "the agent is online with its own key pair; only an offline agent can be adopted by another host".into(),
    }
}

fn already_own(fingerprint: Fingerprint) -> ServiceError {
    ServiceError::Conflict {
        code: "already_adopted",
        detail: format!("the agent has the key pair {fingerprint} already"),
    }
}

fn shared_key_pair(fingerprint: Fingerprint) -> ServiceError {
    ServiceError::Conflict {
        code: "ambiguous_successor",
        detail: format!(
            "several agents have the key pair {fingerprint}, with different agent keys; delete all but one of them"
        ),
    }
}

fn successor_changed() -> ServiceError {
    ServiceError::Conflict {
        code: "successor_changed",
        detail: "the agent of that host was changed or deleted meanwhile; try again".into(),
    }
}
