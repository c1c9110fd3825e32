//! Who acts, and what it may do.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

use crate::domain::ids::{ApiKeyId, TenantId};

/// What a principal is within its tenant.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    utoipa::ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, other API keys included.
    Owner,
    /// Agents, agent keys and commands, ad-hoc ones included; no API keys.
    Admin,
    /// Looks, and runs scripts.
    Member,
}

/// One thing that may be done through the API.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    EnumIter,
    utoipa::ToSchema,
)]
pub enum Scope {
    #[serde(rename = "agents:read")]
    AgentsRead,
    #[serde(rename = "agents:write")]
    AgentsWrite,
    #[serde(rename = "agent_keys:read")]
    AgentKeysRead,
    #[serde(rename = "agent_keys:write")]
    AgentKeysWrite,
    #[serde(rename = "commands:read")]
    CommandsRead,
    #[serde(rename = "commands:run")]
    CommandsRun,
    /// Ad-hoc commands; beside `commands:run`.
    #[serde(rename = "commands:shell")]
    CommandsShell,
    #[serde(rename = "api_keys:read")]
    ApiKeysRead,
    #[serde(rename = "api_keys:write")]
    ApiKeysWrite,
    #[serde(rename = "audit:read")]
    AuditRead,
    /// The secrets that webhooks are signed with.
    #[serde(rename = "webhooks:write")]
    WebhooksWrite,
    /// Figures of the whole server, of every tenant together.
    #[serde(rename = "metrics:read")]
    MetricsRead,
    /// Releases, which hosts of every tenant may be given: only a key that was made for it.
    #[serde(rename = "releases:manage")]
    ReleasesManage,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 13] = [
        Self::AgentsRead,
        Self::AgentsWrite,
        Self::AgentKeysRead,
        Self::AgentKeysWrite,
        Self::CommandsRead,
        Self::CommandsRun,
        Self::CommandsShell,
        Self::ApiKeysRead,
        Self::ApiKeysWrite,
        Self::AuditRead,
        Self::WebhooksWrite,
        Self::MetricsRead,
        Self::ReleasesManage,
    ];

    /// The name in API and database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AgentsRead => "agents:read",
            Self::AgentsWrite => "agents:write",
            Self::AgentKeysRead => "agent_keys:read",
            Self::AgentKeysWrite => "agent_keys:write",
            Self::CommandsRead => "commands:read",
            Self::CommandsRun => "commands:run",
            Self::CommandsShell => "commands:shell",
            Self::ApiKeysRead => "api_keys:read",
            Self::ApiKeysWrite => "api_keys:write",
            Self::AuditRead => "audit:read",
            Self::WebhooksWrite => "webhooks:write",
            Self::MetricsRead => "metrics:read",
            Self::ReleasesManage => "releases:manage",
        }
    }

    /// True for what is nobody's by default: a new key has it only if it was asked for by name.
    pub const fn is_given_by_name(self) -> bool {
        matches!(self, Self::ReleasesManage)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown scope")]
pub struct UnknownScope;

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(UnknownScope)
    }
}

impl Role {
    /// The most that a principal of this role may do.
    pub fn scopes(self) -> BTreeSet<Scope> {
        let refused: &[Scope] = match self {
            Self::Owner => &[],
            Self::Admin => &[Scope::ApiKeysWrite, Scope::ReleasesManage],
            Self::Member => &[
                Scope::AgentsWrite,
                Scope::AgentKeysWrite,
                Scope::CommandsShell,
                Scope::ApiKeysRead,
                Scope::ApiKeysWrite,
                Scope::AuditRead,
                Scope::WebhooksWrite,
                Scope::MetricsRead,
                Scope::ReleasesManage,
            ],
        };
        Scope::ALL.into_iter().filter(|scope| !refused.contains(scope)).collect()
    }
}

/// Who acts. Made by authentication only, never from a payload.
#[derive(Debug, Clone)]
pub struct Principal {
    pub tenant_id: TenantId,
    pub id: ApiKeyId,
    pub name: String,
    pub role: Role,
    /// Never more than the role allows.
    pub scopes: BTreeSet<Scope>,
}

impl Principal {
    /// True if it may do this.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}

/// Who stands behind an audit entry.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    utoipa::ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    ApiKey,
    Agent,
    System,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_owner_makes_api_keys() {
        assert!(Role::Owner.scopes().contains(&Scope::ApiKeysWrite));
        assert!(!Role::Admin.scopes().contains(&Scope::ApiKeysWrite));
        assert!(!Role::Member.scopes().contains(&Scope::ApiKeysWrite));
    }

    #[test]
    fn scope_names_agree_in_json_and_text() {
        for scope in Scope::ALL {
            assert_eq!(serde_json::to_value(scope).expect("plain"), scope.as_str());
            assert_eq!(scope.as_str().parse(), Ok(scope));
        }
    }
}
