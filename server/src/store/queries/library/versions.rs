//! Versions of scripts, with their bodies and signatures.

use muster_protocol::library::ScriptSignature;
use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::ids::{ScriptId, ScriptVersionId, TenantId};
use crate::domain::library::records::ScriptVersionContent;
use crate::domain::page::PageRequest;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::library::{script_body, script_signature, script_version};
use crate::store::queries::TenantScope;
use crate::store::requester::write_audit;

/// Size of all bodies of a tenant.
pub const MAX_LIBRARY_BYTES: i64 = 268_435_456;
/// The bodies of the tenant would be larger.
pub const LIBRARY_FULL: &str = "the tenant's library is full";

/// A version that is about to be stored.
#[derive(Debug, Clone)]
pub struct NewVersion {
    pub row: script_version::Model,
    pub body: String,
}

impl TenantScope {
    /// One page of a script's versions, newest first, with one row more than the limit if there is one.
    pub async fn script_versions(
        &self,
        script_id: ScriptId,
        page: PageRequest,
    ) -> Result<Vec<script_version::Model>, StoreError> {
        let mut query = self
            .versions()
            .filter(script_version::Column::ScriptId.eq(script_id))
            .order_by_desc(script_version::Column::Id)
            .limit(page.limit + 1);
        if let Some(after) = page.after {
            query = query.filter(script_version::Column::Id.lt(after));
        }
        Ok(query.all(&self.reader).await?)
    }

    /// The current versions of these scripts.
    pub async fn current_versions(
        &self,
        scripts: Vec<ScriptId>,
    ) -> Result<Vec<script_version::Model>, StoreError> {
        if scripts.is_empty() {
            return Ok(Vec::new());
        }
        let is_current = Expr::cust(
            "EXISTS (SELECT 1 FROM scripts WHERE scripts.id = script_versions.script_id AND scripts.current_version = script_versions.version)",
        );
        let query = self.versions().filter(script_version::Column::ScriptId.is_in(scripts));
        Ok(query.filter(is_current).all(&self.reader).await?)
    }

    /// One version with its body and its signatures, oldest first.
    pub async fn script_version(
        &self,
        script_id: ScriptId,
        version: u32,
    ) -> Result<Option<ScriptVersionContent>, StoreError> {
        let query = self
            .versions()
            .filter(script_version::Column::ScriptId.eq(script_id))
            .filter(script_version::Column::Version.eq(version.cast_signed()));
        let Some(row) = query.all(&self.reader).await?.pop() else { return Ok(None) };
        let body = script_body::Entity::find_by_id(row.id).all(&self.reader).await?.pop();
        let signatures = script_signature::Entity::find()
            .filter(script_signature::Column::VersionId.eq(row.id))
            .order_by_asc(script_signature::Column::Id)
            .all(&self.reader)
            .await?;
        let signature = |row: script_signature::Model| ScriptSignature {
            statement: row.statement,
            signature: row.signature,
        };
        Ok(body.map(|body| ScriptVersionContent {
            row: row.into(),
            body: body.body,
            signatures: signatures.into_iter().map(signature).collect(),
        }))
    }

    /// Stores a signature instead of an earlier one of the same publisher. False if the version has
    /// `most` signatures of others, or does not exist any more.
    pub async fn sign_script_version(
        &self,
        row: script_signature::Model,
        most: u64,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let (row, audit) = (row.clone(), audit.clone());
                Box::pin(async move {
                    let found = script_version::Entity::find_by_id(row.version_id)
                        .filter(script_version::Column::TenantId.eq(row.tenant_id))
                        .lock_exclusive()
                        .all(transaction)
                        .await?;
                    script_signature::Entity::delete_many()
                        .filter(script_signature::Column::VersionId.eq(row.version_id))
                        .filter(script_signature::Column::Publisher.eq(row.publisher.as_str()))
                        .exec(transaction)
                        .await?;
                    let count = script_signature::Entity::find()
                        .filter(script_signature::Column::VersionId.eq(row.version_id))
                        .count(transaction)
                        .await?;
                    if found.is_empty() || count >= most {
                        return Ok(false);
                    }
                    script_signature::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    write_audit(transaction, audit).await?;
                    Ok(true)
                })
            })
            .await
    }

    fn versions(&self) -> sea_orm::Select<script_version::Entity> {
        let tenant = script_version::Column::TenantId.eq(self.tenant_id);
        script_version::Entity::find().filter(tenant)
    }
}

/// Inserts a version with its body.
///
/// # Errors
/// [`StoreError::Refused`] if the tenant's bodies would be too large.
pub(super) async fn insert_version(
    transaction: &DatabaseTransaction,
    version: NewVersion,
) -> Result<(), StoreError> {
    let NewVersion { row, body } = version;
    let (id, tenant_id) = (row.id, row.tenant_id);
    if body_bytes(transaction, tenant_id).await? + row.body_bytes > MAX_LIBRARY_BYTES {
        return Err(StoreError::Refused(LIBRARY_FULL));
    }
    script_version::Entity::insert(row.into_active_model())
        .exec_without_returning(transaction)
        .await?;
    insert_body(transaction, id, tenant_id, body).await
}

async fn insert_body(
    transaction: &DatabaseTransaction,
    id: ScriptVersionId,
    tenant_id: TenantId,
    body: String,
) -> Result<(), StoreError> {
    script_body::Entity::insert(script_body::Model { id, tenant_id, body }.into_active_model())
        .exec_without_returning(transaction)
        .await?;
    Ok(())
}

async fn body_bytes(
    transaction: &DatabaseTransaction,
    tenant_id: TenantId,
) -> Result<i64, StoreError> {
    // The sum of big integers is a numeric in PostgreSQL.
    let sum = Expr::col(script_version::Column::BodyBytes).sum().cast_as("bigint");
    let bytes: Option<Option<i64>> = script_version::Entity::find()
        .select_only()
        .column_as(sum, "bytes")
        .filter(script_version::Column::TenantId.eq(tenant_id))
        .into_tuple()
        .one(transaction)
        .await?;
    Ok(bytes.flatten().unwrap_or(0))
}
