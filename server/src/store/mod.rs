//! Everything that outlives the process: entities, queries, migrations, and the one writer.
//!
//! Tenant data is reachable only through [`Store::tenant`]; work across tenants (login, dispatch,
//! sweeps) takes [`Store::system`]. All writes go through the [`writer`]; reads have their own
//! connections.

pub mod backup;
pub mod blobs;
mod command_completion;
mod connect;
mod delivery_conditions;
pub mod entities;
mod error;
mod fire_start;
mod migrations;
pub mod queries;
mod requester;
mod trigger_calls;
pub mod writer;

use std::path::Path;
use std::sync::Arc;

use muster_protocol::identity::{AgentKeyPair, AgentPublicKey};
use sea_orm::DatabaseConnection;
use sea_orm_migration::MigratorTrait as _;

use self::blobs::Blobs;
pub use self::connect::Backend;
pub use self::error::StoreError;
pub use self::fire_start::FireStart;
pub use self::queries::{SystemScope, TenantScope};
pub use self::writer::Writer;
use crate::domain::ids::TenantId;

/// The database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    reader: DatabaseConnection,
    checkpointer: Option<DatabaseConnection>,
    writer: Writer,
    blobs: Blobs,
}

impl Store {
    /// As [`Self::open_with_password`], without a password and with a new key for audit logs, which is not
    /// stored. For tests.
    ///
    /// # Errors
    /// As [`Self::open_with_password`].
    pub async fn open(url: &str, data_dir: &Path) -> Result<Self, StoreError> {
        let store = Self::open_with_password(url, None, data_dir).await?;
        let no_key = |_| StoreError::Refused("the system has no randomness");
        let pkcs8 = AgentKeyPair::generate().map_err(no_key)?;
        store.set_audit_key(AgentKeyPair::read(&pkcs8).map_err(no_key)?, None);
        Ok(store)
    }

    /// Opens the database, brings its schema up to date and starts the writer. The password of a
    /// PostgreSQL database may be apart from its URL. Before [`Self::set_audit_key`], nothing that has an
    /// audit entry can be stored.
    ///
    /// # Errors
    /// [`StoreError::Url`], [`StoreError::Locked`] or [`StoreError::Database`].
    pub async fn open_with_password(
        url: &str,
        password: Option<&str>,
        data_dir: &Path,
    ) -> Result<Self, StoreError> {
        let connections = connect::open(url, password, data_dir).await?;
        migrations::Migrator::up(&connections.writer, None).await.map_err(StoreError::Database)?;
        let blobs = Blobs::open(&data_dir.join("output"))?;
        Ok(Self {
            reader: connections.reader,
            checkpointer: connections.checkpointer,
            writer: Writer::start(connections.writer, blobs.clone()),
            blobs,
        })
    }

    /// Sets the key that signs audit logs, and while it is being replaced the previous one, whose signatures
    /// are still valid.
    pub fn set_audit_key(&self, key: AgentKeyPair, previous: Option<AgentPublicKey>) {
        self.writer.set_audit_key(key, previous);
    }

    /// Ends the replacement of the key that signs audit logs.
    pub fn forget_previous_audit_key(&self) {
        self.writer.audit().forget_previous_key();
    }

    /// The key that signs audit logs, once it is set.
    pub fn audit_key(&self) -> Option<Arc<AgentKeyPair>> {
        self.writer.audit().key()
    }

    /// The data that one tenant may see and change.
    pub fn tenant(&self, tenant_id: TenantId) -> TenantScope {
        TenantScope::new(self.reader.clone(), self.writer.clone(), self.blobs.clone(), tenant_id)
    }

    /// Work that belongs to no tenant: authentication, sessions, dispatch, sweeps.
    pub fn system(&self) -> SystemScope {
        SystemScope::new(
            self.reader.clone(),
            self.checkpointer.clone(),
            self.writer.clone(),
            self.blobs.clone(),
        )
    }

    /// Free space of the disk with the data directory; `None` if the system does not report it.
    pub fn free_bytes(&self) -> Option<u64> {
        self.blobs.free_bytes()
    }

    /// Size of the disk with the data directory; `None` if the system does not report it.
    pub fn disk_bytes(&self) -> Option<u64> {
        self.blobs.disk_bytes()
    }

    /// The writer, for writes of the hot path.
    pub fn writer(&self) -> &Writer {
        &self.writer
    }
}
