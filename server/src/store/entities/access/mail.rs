//! Table `mails`: mails that wait to be sent.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};

use crate::domain::ids::MailId;
use crate::domain::time::Timestamp;

/// A mail.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "mails")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: MailId,
    /// What it is about; `none` for one that is not sent.
    pub kind: String,
    /// Receiver and text, sealed under the master key for no tenant; empty once it failed.
    pub sealed: Vec<u8>,
    /// The server gave up.
    pub is_failed: bool,
    pub created_at: Timestamp,
    /// When the next attempt is made.
    pub due_at: Timestamp,
    /// No attempt is made after that.
    pub give_up_at: Timestamp,
    pub tries: i32,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
