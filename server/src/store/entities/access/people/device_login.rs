//! Table `device_logins`: sign-ins of programs that a person decides about elsewhere.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::access::records::DeviceLoginRecord;
use crate::domain::ids::{DeviceLoginId, SessionId};
use crate::domain::time::Timestamp;

/// A sign-in of a program. It makes one session, once, and belongs to no tenant before that.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "device_logins")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: DeviceLoginId,
    /// Of the secret that the program holds.
    pub device_hash: Vec<u8>,
    /// Of the code that the person types, under the master key.
    pub user_hash: Vec<u8>,
    pub user_agent: String,
    pub source: Option<String>,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    /// When it was approved or refused.
    pub decided_at: Option<Timestamp>,
    /// The session that approved it.
    pub approved_by: Option<SessionId>,
    /// When it made its session.
    pub used_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for DeviceLoginRecord {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            user_agent: row.user_agent,
            source: row.source,
            created_at: row.created_at,
            expires_at: row.expires_at,
        }
    }
}
