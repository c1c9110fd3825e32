//! Table `passkeys`: key pairs of people's devices.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::access::people::passkey::PasskeyRecord;
use crate::domain::ids::{PasskeyId, UserId};
use crate::domain::time::Timestamp;

/// The public half of a key pair. The other half never leaves the device.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "passkeys")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: PasskeyId,
    pub user_id: UserId,
    /// Chosen by the device, and unique.
    pub credential_id: Vec<u8>,
    /// Given by the person.
    pub name: String,
    /// Public key and properties, as JSON.
    pub credential: String,
    /// How often the device signed; 0 for one that does not count.
    pub sign_count: i64,
    pub created_at: Timestamp,
    pub last_used_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for PasskeyRecord {
    fn from(row: Model) -> Self {
        let Model { id, name, created_at, last_used_at, .. } = row;
        Self { id, name, created_at, last_used_at }
    }
}
