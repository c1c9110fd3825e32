//! Table `registrations`: who wants an account, until the address is verified.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::access::people::verification_code::StoredCode;
use crate::domain::ids::RegistrationId;
use crate::domain::time::Timestamp;

/// A person who wants an account and a tenant.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "registrations")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RegistrationId,
    /// In lower case.
    pub email: String,
    pub name: String,
    pub tenant_name: String,
    /// Argon2id, in the PHC format.
    pub password_hash: String,
    pub code_hash: Vec<u8>,
    /// How often a code was tried.
    pub tries: i32,
    pub codes_sent: i32,
    /// The address had an account, so the code is unknown.
    pub is_known: bool,
    pub created_at: Timestamp,
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
