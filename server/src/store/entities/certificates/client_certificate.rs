//! Table `client_certificates`: certificates that this server has issued to clients.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, PrimaryKeyTrait,
};
use uuid::Uuid;

use crate::domain::certificates::client_certificate::{CertificateHolder, ClientCertificateRecord};
use crate::domain::ids::{CertificateId, TenantId};
use crate::domain::time::Timestamp;

/// The last certificate of a key. A renewal for the same key changes the row.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "client_certificates")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: CertificateId,
    pub tenant_id: TenantId,
    pub holder: CertificateHolder,
    /// Of the agent, the API key or the member.
    pub holder_id: Uuid,
    /// SHA-256 of the public key.
    pub key_hash: Vec<u8>,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    /// Until when its holder may get another one without showing a valid one.
    pub next_until: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for ClientCertificateRecord {
    fn from(row: Model) -> Self {
        let Model { id, holder, holder_id, issued_at, expires_at, revoked_at, .. } = row;
        Self { id, holder, holder_id, issued_at, expires_at, revoked_at }
    }
}
