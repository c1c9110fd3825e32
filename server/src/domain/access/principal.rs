//! Principals, roles and scopes.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

use super::credential::SecretHash;
use super::keys::key_limits::KeyLimits;
use crate::domain::ids::{ApiKeyId, PrincipalId, SessionId, TenantId};
use crate::domain::time::Timestamp;

/// The role of a principal within its tenant.
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
    /// Everything, including API keys and members.
    Owner,
    /// Agents, agent keys and commands, including ad-hoc commands; no API keys, and no members.
    Admin,
    /// Reads, and runs scripts.
    Member,
    /// Reads everything, including the audit log, and changes nothing.
    Auditor,
}

/// One right of the API.
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
    /// Life-cycle commands: `restart`, `update`, `redeploy` and `shutdown`.
    #[serde(rename = "agents:manage")]
    AgentsManage,
    #[serde(rename = "agent_keys:read")]
    AgentKeysRead,
    #[serde(rename = "agent_keys:write")]
    AgentKeysWrite,
    #[serde(rename = "commands:read")]
    CommandsRead,
    #[serde(rename = "commands:run")]
    CommandsRun,
    /// Ad-hoc commands, in addition to `commands:run`.
    #[serde(rename = "commands:shell")]
    CommandsShell,
    /// Cancels, pauses, resumes and aborts what other keys requested.
    #[serde(rename = "commands:manage")]
    CommandsManage,
    /// Approves or refuses what another person requested.
    #[serde(rename = "approvals:decide")]
    ApprovalsDecide,
    /// The rules that make work wait for an approval.
    #[serde(rename = "approvals:manage")]
    ApprovalsManage,
    #[serde(rename = "api_keys:read")]
    ApiKeysRead,
    #[serde(rename = "api_keys:write")]
    ApiKeysWrite,
    #[serde(rename = "audit:read")]
    AuditRead,
    #[serde(rename = "schedules:read")]
    SchedulesRead,
    /// Schedules, whose jobs run with the rights of who changed them last.
    #[serde(rename = "schedules:write")]
    SchedulesWrite,
    /// Scripts of the library with their text.
    #[serde(rename = "scripts:read")]
    ScriptsRead,
    /// Scripts of the library: what hosts that allow it run.
    #[serde(rename = "scripts:write")]
    ScriptsWrite,
    /// Reads files of hosts whose policy allows it, in addition to `commands:run`, and the pulled files.
    #[serde(rename = "files:read")]
    FilesRead,
    /// Uploads files, and writes them on hosts whose policy allows it, in addition to `commands:run`.
    #[serde(rename = "files:write")]
    FilesWrite,
    /// The people of the tenant, with their addresses and roles.
    #[serde(rename = "members:read")]
    MembersRead,
    /// Invites people, changes their roles and removes them. Only for a person who is signed in.
    #[serde(rename = "members:write")]
    MembersWrite,
    /// The secrets that webhooks are signed with.
    #[serde(rename = "webhooks:write")]
    WebhooksWrite,
    /// Integrations, without their secrets, and what they sent.
    #[serde(rename = "integrations:read")]
    IntegrationsRead,
    /// Creates, changes, tests and deletes integrations, and sends their messages again.
    #[serde(rename = "integrations:write")]
    IntegrationsWrite,
    /// The tenant itself: its name, its export and its deletion.
    #[serde(rename = "tenant:manage")]
    TenantManage,
    /// Metrics of the whole server, for all tenants. Only for keys that were created with it.
    #[serde(rename = "metrics:read")]
    MetricsRead,
    /// Releases, which hosts of every tenant may install. Only for keys that were created with it.
    #[serde(rename = "releases:manage")]
    ReleasesManage,
    /// All tenants of the server, and their plans. Only for keys that were created with it.
    #[serde(rename = "tenants:manage")]
    TenantsManage,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 29] = [
        Self::AgentsRead,
        Self::AgentsWrite,
        Self::AgentsManage,
        Self::AgentKeysRead,
        Self::AgentKeysWrite,
        Self::CommandsRead,
        Self::CommandsRun,
        Self::CommandsShell,
        Self::CommandsManage,
        Self::ApprovalsDecide,
        Self::ApprovalsManage,
        Self::ApiKeysRead,
        Self::ApiKeysWrite,
        Self::AuditRead,
        Self::SchedulesRead,
        Self::SchedulesWrite,
        Self::ScriptsRead,
        Self::ScriptsWrite,
        Self::FilesRead,
        Self::FilesWrite,
        Self::MembersRead,
        Self::MembersWrite,
        Self::WebhooksWrite,
        Self::IntegrationsRead,
        Self::IntegrationsWrite,
        Self::TenantManage,
        Self::MetricsRead,
        Self::ReleasesManage,
        Self::TenantsManage,
    ];

    /// The name in API and database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AgentsRead => "agents:read",
            Self::AgentsWrite => "agents:write",
            Self::AgentsManage => "agents:manage",
            Self::AgentKeysRead => "agent_keys:read",
            Self::AgentKeysWrite => "agent_keys:write",
            Self::CommandsRead => "commands:read",
            Self::CommandsRun => "commands:run",
            Self::CommandsShell => "commands:shell",
            Self::CommandsManage => "commands:manage",
            Self::ApprovalsDecide => "approvals:decide",
            Self::ApprovalsManage => "approvals:manage",
            Self::ApiKeysRead => "api_keys:read",
            Self::ApiKeysWrite => "api_keys:write",
            Self::AuditRead => "audit:read",
            Self::SchedulesRead => "schedules:read",
            Self::SchedulesWrite => "schedules:write",
            Self::ScriptsRead => "scripts:read",
            Self::ScriptsWrite => "scripts:write",
            Self::FilesRead => "files:read",
            Self::FilesWrite => "files:write",
            Self::MembersRead => "members:read",
            Self::MembersWrite => "members:write",
            Self::WebhooksWrite => "webhooks:write",
            Self::IntegrationsRead => "integrations:read",
            Self::IntegrationsWrite => "integrations:write",
            Self::TenantManage => "tenant:manage",
            Self::MetricsRead => "metrics:read",
            Self::ReleasesManage => "releases:manage",
            Self::TenantsManage => "tenants:manage",
        }
    }

    /// True for rights over the whole server, which belong to its operator and to no tenant. The first
    /// key of a server has them. No role includes them by default: another key only has one if a key
    /// with it created that key, and requested it by name.
    pub const fn is_operators(self) -> bool {
        matches!(self, Self::ReleasesManage | Self::MetricsRead | Self::TenantsManage)
    }

    /// The roles that have it within a tenant, the least first.
    pub fn roles(self) -> impl Iterator<Item = Role> {
        let roles = [Role::Auditor, Role::Member, Role::Admin, Role::Owner];
        roles.into_iter().filter(move |role| role.tenant_scopes().contains(&self))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not a scope.
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
    /// The name in API and database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Member => "member",
            Self::Auditor => "auditor",
        }
    }

    /// Orders roles: a role with a higher rank may have more scopes.
    pub const fn rank(self) -> u8 {
        match self {
            Self::Auditor => 0,
            Self::Member => 1,
            Self::Admin => 2,
            Self::Owner => 3,
        }
    }

    /// The scopes that a role has within its tenant.
    pub fn tenant_scopes(self) -> BTreeSet<Scope> {
        self.scopes().into_iter().filter(|scope| !scope.is_operators()).collect()
    }

    /// The scopes that a role may have at most.
    pub fn scopes(self) -> BTreeSet<Scope> {
        let refused: &[Scope] = match self {
            Self::Owner => &[],
            Self::Admin => &[
                Scope::ApprovalsManage,
                Scope::ApiKeysWrite,
                Scope::MembersWrite,
                Scope::TenantManage,
                Scope::ReleasesManage,
                Scope::TenantsManage,
            ],
            Self::Member => &[
                Scope::ScriptsWrite,
                Scope::FilesRead,
                Scope::FilesWrite,
                Scope::AgentsWrite,
                Scope::AgentsManage,
                Scope::AgentKeysWrite,
                Scope::CommandsShell,
                Scope::CommandsManage,
                Scope::ApprovalsDecide,
                Scope::ApprovalsManage,
                Scope::ApiKeysRead,
                Scope::ApiKeysWrite,
                Scope::AuditRead,
                Scope::MembersRead,
                Scope::MembersWrite,
                Scope::WebhooksWrite,
                Scope::IntegrationsWrite,
                Scope::TenantManage,
                Scope::MetricsRead,
                Scope::ReleasesManage,
                Scope::TenantsManage,
            ],
            Self::Auditor => {
                return BTreeSet::from([
                    Scope::AgentsRead,
                    Scope::AgentKeysRead,
                    Scope::CommandsRead,
                    Scope::ApiKeysRead,
                    Scope::AuditRead,
                    Scope::SchedulesRead,
                    Scope::ScriptsRead,
                    Scope::FilesRead,
                    Scope::MembersRead,
                    Scope::IntegrationsRead,
                ]);
            }
        };
        Scope::ALL.into_iter().filter(|scope| !refused.contains(scope)).collect()
    }
}

/// What a principal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrincipalKind {
    ApiKey,
    /// A person who is signed in.
    Member {
        session_id: SessionId,
    },
    /// A member whose schedule is due. It asks for the job without a session.
    AbsentMember,
    /// The operator of the server, at its terminal.
    Operator,
}

/// The authenticated actor. Only authentication creates it, never a payload.
#[derive(Debug, Clone)]
pub struct Principal {
    pub tenant_id: TenantId,
    pub id: PrincipalId,
    pub kind: PrincipalKind,
    pub name: String,
    pub role: Role,
    /// At most the scopes of the role.
    pub scopes: BTreeSet<Scope>,
    /// When its key, the secret of it, or the access token expires.
    pub expires_at: Option<Timestamp>,
    /// Of an API key; a member has none.
    pub limits: KeyLimits,
    /// The secret with which an API key authenticated: it may have two for a while.
    pub secret_hash: Option<SecretHash>,
    /// True for a member whose tenant requires a second factor that the person does not have. It has no
    /// scopes then.
    pub lacks_second_factor: bool,
}

impl Principal {
    /// True if the principal has the scope.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// The id of an API key.
    pub fn api_key_id(&self) -> Option<ApiKeyId> {
        (self.kind == PrincipalKind::ApiKey).then_some(ApiKeyId(self.id.0))
    }

    /// The session of a member.
    pub fn session_id(&self) -> Option<SessionId> {
        match self.kind {
            PrincipalKind::Member { session_id } => Some(session_id),
            PrincipalKind::ApiKey | PrincipalKind::AbsentMember | PrincipalKind::Operator => None,
        }
    }

    /// What the audit log names it as.
    pub fn actor_kind(&self) -> ActorKind {
        match self.kind {
            PrincipalKind::ApiKey => ActorKind::ApiKey,
            PrincipalKind::Member { .. } | PrincipalKind::AbsentMember => ActorKind::Member,
            PrincipalKind::Operator => ActorKind::Operator,
        }
    }
}

/// The kind of actor of an audit entry.
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
    Member,
    /// At the terminal of the server.
    Operator,
    Agent,
    System,
}

#[cfg(test)]
mod tests;
