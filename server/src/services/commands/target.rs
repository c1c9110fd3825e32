//! Whom a command is for, and whether it may be sent there.

use std::sync::Arc;

use muster_protocol::CommandName;
use muster_protocol::secret_parameters::{CAPABILITY, SecretParameters};

use super::Commands;
use super::preflight::Host;
use crate::domain::fleet::agent::AgentLevel;
use crate::domain::ids::AgentId;
use crate::hub::{HostRules, KeyGrant, SessionHandle};
use crate::services::access::authentication::to_grant;
use crate::services::access::caller::Caller;
use crate::services::access::key_cache::OfflineAgentKey;
use crate::services::error::{Result, ServiceError};

/// An agent that a command is for, with what decides whether it may be sent.
pub(super) struct Target {
    pub agent_id: AgentId,
    pub grant: Arc<KeyGrant>,
    pub session: Option<Arc<SessionHandle>>,
    /// Of a full agent: what it can carry out.
    pub capabilities: Option<Vec<String>>,
    /// Of a full agent that is away: what its host said last.
    pub away_rules: Option<HostRules>,
}

impl Commands {
    pub(super) async fn target(&self, caller: &Caller, agent_id: AgentId) -> Result<Target> {
        let tenant_id = caller.principal.tenant_id;
        if let Some(session) = self.hub.session(agent_id) {
            // Whoever is connected is known without a query.
            if session.tenant_id != tenant_id {
                return Err(UNKNOWN);
            }
            let grant = session.grant();
            let session = Some(session);
            let known = Target { agent_id, grant, session, capabilities: None, away_rules: None };
            return Ok(known);
        }
        let away = match self.cache.away_agent(agent_id) {
            Some(away) => away,
            None => {
                let read_at = self.cache.revision();
                let away = Arc::new(self.read_away(caller, agent_id).await?);
                self.cache.remember_away_agent(agent_id, Arc::clone(&away), read_at);
                away
            }
        };
        if away.grant.tenant_id != tenant_id {
            return Err(UNKNOWN);
        }
        Ok(Target {
            agent_id,
            grant: Arc::clone(&away.grant),
            session: None,
            capabilities: away.capabilities.clone(),
            away_rules: away.rules.clone(),
        })
    }

    async fn read_away(&self, caller: &Caller, agent_id: AgentId) -> Result<OfflineAgentKey> {
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let agent = tenant.agent(agent_id).await?.ok_or(UNKNOWN)?;
        let key = tenant.agent_key(agent.key_id).await?.ok_or_else(|| ServiceError::Forbidden {
            code: "permission_denied",
            detail: "this agent's key was deleted; install the agent again with a new key".into(),
        })?;
        let capabilities = (agent.level == AgentLevel::Full).then_some(agent.capabilities.0);
        let rules = tenant.host_rules(&[agent_id]).await?.pop().map(Into::into);
        Ok(OfflineAgentKey { grant: Arc::new(to_grant(&key)), capabilities, rules })
    }
}

pub(super) const UNKNOWN: ServiceError = ServiceError::NotFound("agent");

pub(super) fn check_permission(grant: &KeyGrant, name: CommandName) -> Result<()> {
    if grant.permissions.allows(name) {
        return Ok(());
    }
    Err(ServiceError::Forbidden {
        code: "permission_denied",
        detail: format!("the agent's key does not allow `{name}`; add it to the key's permissions"),
    })
}

impl Target {
    /// As far as its host is known to judge.
    pub fn host(&self) -> Option<Host> {
        match (&self.session, &self.away_rules) {
            (Some(session), _) => Some(Host::connected(Arc::clone(session))),
            (None, rules) => rules.clone().map(|rules| Host::away(self.agent_id, rules)),
        }
    }

    /// The key's permission first, then what the agent can do.
    pub fn check(&self, name: CommandName) -> Result<()> {
        check_permission(&self.grant, name)?;
        let is_able = match (&self.session, &self.capabilities) {
            (Some(session), _) => session.supports(name),
            (None, Some(capabilities)) => capabilities.iter().any(|known| known == name.as_str()),
            (None, None) => true,
        };
        if !is_able {
            return Err(ServiceError::Conflict {
                code: "unsupported_command",
                detail: format!("this agent can't carry out `{name}`; update the agent"),
            });
        }
        Ok(())
    }

    /// True if it speaks the full protocol.
    pub fn is_full(&self) -> bool {
        match &self.session {
            Some(session) => session.is_full,
            None => self.capabilities.is_some(),
        }
    }

    /// Secrets are for agents alone that keep them and mask them.
    pub fn check_secrets(&self, secrets: &SecretParameters) -> Result<()> {
        let is_able = match (&self.session, &self.capabilities) {
            (Some(session), _) => session.takes_secrets,
            (None, Some(capabilities)) => capabilities.iter().any(|known| known == CAPABILITY),
            (None, None) => false,
        };
        if !secrets.is_empty() && !is_able {
            return Err(ServiceError::Conflict {
                code: "secrets_unsupported",
                detail:
                    "this agent can't keep secret parameters; run muster-agent of this version \
                         on its host"
                        .into(),
            });
        }
        Ok(())
    }
}
