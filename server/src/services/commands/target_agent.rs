//! The agent that a command is for, and whether the command may be sent to it.

use std::sync::Arc;

use muster_protocol::CommandName;
use muster_protocol::parameter::secret_parameters::{CAPABILITY, SecretParameters};

use super::Commands;
use super::preflight::PreflightHost;
use crate::domain::fleet::agent::AgentLevel;
use crate::domain::ids::AgentId;
use crate::hub::{HostRules, KeyGrant, SessionHandle};
use crate::services::access::authentication::to_grant;
use crate::services::access::caller::Caller;
use crate::services::access::keys::key_cache::OfflineAgentKey;
use crate::services::error::{Result, ServiceError};

/// The agent that a command is for, with what decides whether it may be sent.
pub(super) struct TargetAgent {
    pub agent_id: AgentId,
    pub grant: Arc<KeyGrant>,
    pub session: Option<Arc<SessionHandle>>,
    /// Commands that a full agent supports, if it is offline.
    pub capabilities: Option<Vec<String>>,
    /// Last report of the host, if the agent is full and offline.
    pub offline_rules: Option<HostRules>,
}

impl Commands {
    pub(super) async fn find_target(
        &self,
        caller: &Caller,
        agent_id: AgentId,
    ) -> Result<TargetAgent> {
        let tenant_id = caller.principal.tenant_id;
        if let Some(session) = self.hub.session(agent_id) {
            // A connected agent is known without a query.
            if session.tenant_id != tenant_id {
                return Err(UNKNOWN_AGENT);
            }
            let grant = session.grant();
            let session = Some(session);
            return Ok(TargetAgent {
                agent_id,
                grant,
                session,
                capabilities: None,
                offline_rules: None,
            });
        }
        let offline = match self.cache.offline_agent(agent_id) {
            Some(offline) => offline,
            None => {
                let read_at = self.cache.revision();
                let offline = Arc::new(self.read_offline(caller, agent_id).await?);
                self.cache.remember_offline_agent(agent_id, Arc::clone(&offline), read_at);
                offline
            }
        };
        if offline.grant.tenant_id != tenant_id {
            return Err(UNKNOWN_AGENT);
        }
        Ok(TargetAgent {
            agent_id,
            grant: Arc::clone(&offline.grant),
            session: None,
            capabilities: offline.capabilities.clone(),
            offline_rules: offline.rules.clone(),
        })
    }

    async fn read_offline(&self, caller: &Caller, agent_id: AgentId) -> Result<OfflineAgentKey> {
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let agent = tenant.agent(agent_id).await?.ok_or(UNKNOWN_AGENT)?;
        let key = tenant.agent_key(agent.key_id).await?.ok_or_else(|| ServiceError::Forbidden {
            code: "permission_denied",
            detail: "this agent's key was deleted; install the agent again with a new key".into(),
        })?;
        let capabilities = (agent.level == AgentLevel::Full).then_some(agent.capabilities.0);
        let rules = tenant.host_rules(&[agent_id]).await?.pop().map(Into::into);
        Ok(OfflineAgentKey { grant: Arc::new(to_grant(&key)), capabilities, rules })
    }
}

pub(super) const UNKNOWN_AGENT: ServiceError = ServiceError::NotFound("agent");

pub(super) fn check_permission(grant: &KeyGrant, name: CommandName) -> Result<()> {
    if grant.permissions.allows(name) {
        return Ok(());
    }
    Err(ServiceError::Forbidden {
        code: "permission_denied",
        detail: format!(
            "the agent's key does not allow `{name}`; allow it with `muster keys set {} --add-permission {name}`",
            grant.key_id
        ),
    })
}

impl TargetAgent {
    /// The host for the preflight; `None` if it never reported its manifest and policy.
    pub fn host(&self) -> Option<PreflightHost> {
        match (&self.session, &self.offline_rules) {
            (Some(session), _) => Some(PreflightHost::connected(Arc::clone(session))),
            (None, rules) => {
                rules.clone().map(|rules| PreflightHost::offline(self.agent_id, rules))
            }
        }
    }

    /// Checks the permission of the agent's key, then what the agent supports.
    pub fn check(&self, name: CommandName) -> Result<()> {
        check_permission(&self.grant, name)?;
        if self.is_forbidden(name) {
            return Err(ServiceError::Conflict {
                code: "forbidden_by_policy",
                detail: format!(
                    "the policy of the agent's host forbids `{name}`; remove it from `forbid` in policy.json on the host, or do it on the host"
                ),
            });
        }
        let is_supported = match (&self.session, &self.capabilities) {
            (Some(session), _) => session.supports(name),
            (None, Some(capabilities)) => capabilities.iter().any(|known| known == name.as_str()),
            (None, None) => true,
        };
        if !is_supported {
            return Err(ServiceError::Conflict {
                code: "unsupported_command",
                detail: format!("this agent does not support `{name}`; update the agent"),
            });
        }
        Ok(())
    }

    /// True if the host's policy forbids the command, by its last report.
    fn is_forbidden(&self, name: CommandName) -> bool {
        match (&self.session, &self.offline_rules) {
            (Some(session), _) => session.rules.get().forbidden.contains(name),
            (None, Some(rules)) => rules.forbidden.contains(name),
            (None, None) => false,
        }
    }

    /// True if the agent uses the full protocol.
    pub fn is_full(&self) -> bool {
        match &self.session {
            Some(session) => session.is_full,
            None => self.capabilities.is_some(),
        }
    }

    /// Secrets are sent only to agents that protect and mask them.
    pub fn check_secrets(&self, secrets: &SecretParameters) -> Result<()> {
        let is_supported = match (&self.session, &self.capabilities) {
            (Some(session), _) => session.supports_secrets,
            (None, Some(capabilities)) => capabilities.iter().any(|known| known == CAPABILITY),
            (None, None) => false,
        };
        if !secrets.is_empty() && !is_supported {
            return Err(ServiceError::Conflict {
                code: "secrets_unsupported",
                detail: "this agent does not support secret parameters; update the agent".into(),
            });
        }
        Ok(())
    }
}
