//! Table `totp_secrets`: the second factor of people.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::UserId;
use crate::domain::time::Timestamp;

/// The secret that a person's device shares with this server.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "totp_secrets")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: UserId,
    /// Under the master key.
    pub sealed: Vec<u8>,
    pub created_at: Timestamp,
    /// When the first code of it was typed. Until then no codes are required.
    pub confirmed_at: Option<Timestamp>,
    /// The step of the last code that counted: a code counts once.
    pub last_step: i64,
    /// Codes that were tried since `tried_since`, without one that counted.
    pub tries: i32,
    pub tried_since: Timestamp,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
