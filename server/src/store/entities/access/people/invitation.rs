//! Table `invitations`: each makes one member, once.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::access::principal::Role;
use crate::domain::access::records::InvitationRecord;
use crate::domain::ids::{InvitationId, MemberId, TenantId};
use crate::domain::time::Timestamp;

/// An invitation to become a member of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "invitations")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: InvitationId,
    pub tenant_id: TenantId,
    /// In lower case.
    pub email: String,
    pub role: Role,
    pub token_hash: Vec<u8>,
    pub created_at: Timestamp,
    pub created_by: MemberId,
    pub expires_at: Timestamp,
    /// When it was accepted or withdrawn.
    pub ended_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for InvitationRecord {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            email: row.email,
            role: row.role,
            created_at: row.created_at,
            created_by: row.created_by,
            expires_at: row.expires_at,
        }
    }
}
