//! What the API shows of stored rows: plain data, without hashes, sealed values and columns that only
//! the store needs. The entities convert their rows.

use uuid::Uuid;

use super::keys::key_limits::KeyLimits;
use super::principal::Role;
use crate::domain::ids::{
    AgentKeyId, ApiKeyId, AuditId, DeviceLoginId, IdentityId, InvitationId, MemberId, PrincipalId,
    SessionId, TenantId,
};
use crate::domain::time::Timestamp;

/// An agent key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentKeyRecord {
    pub id: AgentKeyId,
    pub name: String,
    /// The first characters of the secret.
    pub prefix: String,
    pub permissions: Vec<String>,
    pub tags: Vec<String>,
    pub max_agents: i32,
    pub is_disabled: bool,
    /// True if its holders may take over each other's offline agents.
    pub trusts_holders: bool,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    /// When the previous secret becomes invalid.
    pub previous_valid_until: Option<Timestamp>,
}

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyRecord {
    pub id: ApiKeyId,
    pub name: String,
    /// The first characters of the secret.
    pub prefix: String,
    pub role: Role,
    pub scopes: Vec<String>,
    pub created_at: Timestamp,
    /// The key or the member that created it; `None` for the first one.
    pub created_by: Option<PrincipalId>,
    /// Its current name, where a service added it.
    pub created_by_name: Option<String>,
    pub expires_at: Option<Timestamp>,
    pub limits: KeyLimits,
    /// When one of its secrets was last used.
    pub last_used_at: Option<Timestamp>,
    /// Who rotated it last.
    pub rotated_by: Option<PrincipalId>,
    pub previous_secret: Option<PreviousSecret>,
}

/// The secret of an API key before its last rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviousSecret {
    /// The first characters.
    pub prefix: String,
    pub valid_until: Timestamp,
    pub last_used_at: Option<Timestamp>,
}

/// A person in a tenant, without what belongs to the person elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRecord {
    pub id: MemberId,
    pub tenant_id: TenantId,
    pub tenant_name: String,
    /// In lower case.
    pub email: String,
    pub name: String,
    pub role: Role,
    pub created_at: Timestamp,
}

/// A session of a person, without its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserSessionRecord {
    pub id: SessionId,
    pub member_id: MemberId,
    pub tenant_id: TenantId,
    pub created_at: Timestamp,
    pub refreshed_at: Timestamp,
    pub expires_at: Timestamp,
    pub confirmed_at: Timestamp,
    /// The address of the sign-in.
    pub source: Option<String>,
}

/// A person as a provider of single sign-on knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityRecord {
    pub id: IdentityId,
    pub issuer: String,
    pub subject: String,
    pub created_at: Timestamp,
    /// Where the person is a member because the provider grants it.
    pub follows_in: Option<TenantId>,
}

/// A sign-in of a program that waits for a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceLoginRecord {
    pub id: DeviceLoginId,
    /// What the program reports about itself.
    pub user_agent: String,
    /// The address that it asks from.
    pub source: Option<String>,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

/// An open invitation, without its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvitationRecord {
    pub id: InvitationId,
    /// In lower case.
    pub email: String,
    pub role: Role,
    pub created_at: Timestamp,
    pub created_by: MemberId,
    pub expires_at: Timestamp,
}

/// An entry of the audit log. `String`s are returned as stored, even if they were changed in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    pub id: AuditId,
    /// The link of the hash chain that it belongs to.
    pub link: u64,
    pub at: Timestamp,
    pub actor_kind: String,
    pub actor_id: Option<Uuid>,
    /// The name that the actor has now.
    pub actor_name: Option<String>,
    /// The session of a member.
    pub session_id: Option<SessionId>,
    pub action: String,
    pub subject_kind: String,
    pub subject_id: Option<Uuid>,
    /// The name that the subject has now.
    pub subject_name: Option<String>,
    /// JSON.
    pub detail: String,
    /// The client's address.
    pub source: Option<String>,
}
