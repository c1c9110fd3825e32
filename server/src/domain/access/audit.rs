//! Positions in an audit log, and which entries a reader wants.

use std::fmt;
use std::str::FromStr;

use muster_protocol::audit::{AuditHash, EntryFields};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::principal::{ActorKind, Scope};
use super::records::AuditRecord;
use crate::domain::ids::TenantId;
use crate::domain::time::Timestamp;

/// The place of an entry in the log, in the order of the commits. As text: the number of its link, a
/// dot, and its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditPosition {
    pub link: u64,
    pub id: Uuid,
}

/// The text is not a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text is not a position in the audit log")]
pub struct InvalidPosition;

impl AuditPosition {
    /// Behind every entry of a link.
    pub const fn end_of(link: u64) -> Self {
        Self { link, id: Uuid::max() }
    }
}

impl fmt::Display for AuditPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.link, self.id)
    }
}

impl FromStr for AuditPosition {
    type Err = InvalidPosition;

    /// Accepts only what [`fmt::Display`] writes.
    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let (link, id) = text.split_once('.').ok_or(InvalidPosition)?;
        let link: u64 = link.parse().map_err(|_| InvalidPosition)?;
        let id = Uuid::parse_str(id).map_err(|_| InvalidPosition)?;
        let position = Self { link, id };
        let is_plain = link <= i64::MAX.cast_unsigned() && position.to_string() == text;
        if is_plain { Ok(position) } else { Err(InvalidPosition) }
    }
}

/// Whose log is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogOwner {
    /// The tenant of the caller.
    #[default]
    Tenant,
    /// The server itself: what belongs to no tenant, such as failed sign-ins with unknown addresses. Only the
    /// operator may read it.
    Server,
}

impl LogOwner {
    /// The scope that reads it.
    pub fn scope(self) -> Scope {
        match self {
            Self::Tenant => Scope::AuditRead,
            Self::Server => Scope::TenantsManage,
        }
    }

    /// The id that its entries have.
    pub fn tenant_id(self, of_caller: TenantId) -> TenantId {
        match self {
            Self::Tenant => of_caller,
            Self::Server => TenantId(Uuid::nil()),
        }
    }
}

/// Which entries. `None` matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    pub actor_kind: Option<ActorKind>,
    pub actor_id: Option<Uuid>,
    /// The whole action, as `agent.update`.
    pub action: Option<String>,
    pub subject_kind: Option<String>,
    pub subject_id: Option<Uuid>,
    /// At this instant or later.
    pub after: Option<Timestamp>,
    /// Before this instant.
    pub before: Option<Timestamp>,
}

impl AuditFilter {
    /// True if it matches every entry.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl AuditRecord {
    pub fn position(&self) -> AuditPosition {
        AuditPosition { link: self.link, id: self.id.0 }
    }

    /// The digest of the entry as it is stored.
    pub fn digest(&self, tenant_id: TenantId) -> AuditHash {
        EntryFields {
            tenant_id: tenant_id.0,
            id: self.id.0,
            at: &self.at.to_string(),
            actor_kind: &self.actor_kind,
            actor_id: self.actor_id,
            session_id: self.session_id.map(|id| id.0),
            action: &self.action,
            subject_kind: &self.subject_kind,
            subject_id: self.subject_id,
            detail: &self.detail,
            source: self.source.as_deref(),
        }
        .digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_only_in_the_form_in_which_it_is_written() {
        let position = AuditPosition { link: 12, id: Uuid::from_u128(7) };
        assert_eq!(position.to_string().parse(), Ok(position));
        let id = position.id;
        for text in
            ["", "12", &format!("012.{id}"), &format!("+12.{id}"), &format!("12.{}", id.simple())]
        {
            assert_eq!(text.parse::<AuditPosition>(), Err(InvalidPosition), "{text}");
        }
        assert!(position < AuditPosition::end_of(12));
        assert!(AuditPosition::end_of(12) < AuditPosition { link: 13, id: Uuid::nil() });
    }
}
