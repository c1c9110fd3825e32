//! Table `email_changes`: the address that a person wants to have, until it is verified.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use uuid::Uuid;

use crate::domain::access::people::verification_code::StoredCode;
use crate::domain::ids::UserId;
use crate::domain::time::Timestamp;

/// A new address.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "email_changes")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: UserId,
    /// What the hash of the code is for.
    pub request_id: Uuid,
    /// In lower case.
    pub email: String,
    pub code_hash: Vec<u8>,
    /// How often a code was tried since `tried_since`.
    pub tries: i32,
    pub tried_since: Timestamp,
    /// Another account has the address, so the code is unknown.
    pub is_known: bool,
    /// Of the code.
    pub expires_at: Timestamp,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// Its code.
    pub fn code(&self) -> StoredCode {
        StoredCode { hash: self.code_hash.clone(), expires_at: self.expires_at, tries: self.tries }
    }
}
