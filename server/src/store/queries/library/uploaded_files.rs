//! Files that were uploaded to be pushed to hosts.

use std::collections::BTreeSet;

use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::ids::{FileId, TenantId};
use crate::domain::library::uploaded_file::UploadedFileRecord;
use crate::domain::page::PageRequest;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::library::uploaded_file;
use crate::store::queries::{SystemScope, TenantScope};
use crate::store::requester::write_audit;

/// The tenant has as many files as it may have.
pub const TOO_MANY_FILES: &str = "the tenant has too many files";
/// The files of the tenant would be larger.
pub const FILES_FULL: &str = "the tenant's files are full";

/// What a tenant may have.
#[derive(Debug, Clone, Copy)]
pub struct FileLimits {
    pub count: u64,
    pub bytes: i64,
}

impl TenantScope {
    /// Starts an upload, or returns the one with the same hash, complete or not. True if it is new.
    ///
    /// # Errors
    /// [`StoreError::Refused`] at a limit.
    pub async fn create_file(
        &self,
        row: UploadedFileRecord,
        limits: FileLimits,
    ) -> Result<(UploadedFileRecord, bool), StoreError> {
        let row = uploaded_file::Model::from(row);
        self.writer
            .change(move |transaction| {
                let row = row.clone();
                Box::pin(async move {
                    let known = of_tenant(row.tenant_id)
                        .filter(uploaded_file::Column::Sha256.eq(row.sha256.as_str()))
                        .one(transaction)
                        .await?;
                    if let Some(known) = known {
                        extend(transaction, known.id, row.expires_at).await?;
                        return Ok((known.into(), false));
                    }
                    if of_tenant(row.tenant_id).count(transaction).await? >= limits.count {
                        return Err(StoreError::Refused(TOO_MANY_FILES));
                    }
                    let held_bytes = size_bytes(transaction, row.tenant_id).await?;
                    if held_bytes.saturating_add(row.size_bytes) > limits.bytes {
                        return Err(StoreError::Refused(FILES_FULL));
                    }
                    uploaded_file::Entity::insert(row.clone().into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    Ok((row.into(), true))
                })
            })
            .await
    }

    /// Marks an upload as complete; false if it was deleted meanwhile.
    pub async fn complete_file(
        &self,
        id: FileId,
        completed_at: Timestamp,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let completed = uploaded_file::Entity::update_many()
                        .col_expr(
                            uploaded_file::Column::CompletedAt,
                            Expr::value(Some(completed_at)),
                        )
                        .filter(uploaded_file::Column::Id.eq(id))
                        .filter(uploaded_file::Column::TenantId.eq(tenant_id))
                        .exec(transaction)
                        .await?;
                    if completed.rows_affected == 0 {
                        return Ok(false);
                    }
                    write_audit(transaction, audit).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Keeps a complete file until `expires_at` at least, and returns it.
    pub async fn keep_file(
        &self,
        sha256: &str,
        expires_at: Timestamp,
    ) -> Result<Option<UploadedFileRecord>, StoreError> {
        let Some(found) = self.file_by_sha256(sha256).await? else { return Ok(None) };
        let (id, tenant_id) = (found.id, self.tenant_id);
        let is_there = self
            .writer
            .change(move |transaction| {
                Box::pin(async move {
                    extend(transaction, id, expires_at).await?;
                    let rows = of_tenant(tenant_id).filter(uploaded_file::Column::Id.eq(id));
                    Ok(rows.count(transaction).await? > 0)
                })
            })
            .await?;
        Ok(is_there.then_some(found))
    }

    /// The complete file with this hash.
    pub async fn file_by_sha256(
        &self,
        sha256: &str,
    ) -> Result<Option<UploadedFileRecord>, StoreError> {
        let query = of_tenant(self.tenant_id)
            .filter(uploaded_file::Column::Sha256.eq(sha256))
            .filter(uploaded_file::Column::CompletedAt.is_not_null());
        Ok(query.one(&self.reader).await?.map(Into::into))
    }

    /// One page of files, newest first, with one row more than the limit if there is one.
    pub async fn files(&self, page: PageRequest) -> Result<Vec<UploadedFileRecord>, StoreError> {
        let column = uploaded_file::Column::Id;
        let mut query = of_tenant(self.tenant_id).order_by_desc(column).limit(page.limit + 1);
        if let Some(after) = page.after {
            query = query.filter(column.lt(after));
        }
        Ok(query.all(&self.reader).await?.into_iter().map(Into::into).collect())
    }

    /// One file.
    pub async fn file(&self, id: FileId) -> Result<Option<UploadedFileRecord>, StoreError> {
        let query = of_tenant(self.tenant_id).filter(uploaded_file::Column::Id.eq(id));
        Ok(query.one(&self.reader).await?.map(Into::into))
    }

    /// Deletes a file; false if it does not exist.
    pub async fn delete_file(
        &self,
        id: FileId,
        audit: Option<audit_entry::Model>,
    ) -> Result<bool, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let deleted = uploaded_file::Entity::delete_many()
                        .filter(uploaded_file::Column::Id.eq(id))
                        .filter(uploaded_file::Column::TenantId.eq(tenant_id))
                        .exec(transaction)
                        .await?;
                    if deleted.rows_affected == 0 {
                        return Ok(false);
                    }
                    if let Some(audit) = audit {
                        write_audit(transaction, audit).await?;
                    }
                    Ok(true)
                })
            })
            .await
    }
}

impl SystemScope {
    /// Those of these files that exist.
    pub async fn known_files(&self, ids: Vec<FileId>) -> Result<BTreeSet<FileId>, StoreError> {
        let known: Vec<FileId> = uploaded_file::Entity::find()
            .select_only()
            .column(uploaded_file::Column::Id)
            .filter(uploaded_file::Column::Id.is_in(ids))
            .into_tuple()
            .all(&self.reader)
            .await?;
        Ok(known.into_iter().collect())
    }

    /// Deletes the files that were not used for too long.
    pub async fn delete_expired_files(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.writer
            .change(move |transaction| {
                Box::pin(async move {
                    let deleted = uploaded_file::Entity::delete_many()
                        .filter(uploaded_file::Column::ExpiresAt.lt(now))
                        .exec(transaction)
                        .await?;
                    Ok(deleted.rows_affected)
                })
            })
            .await
    }
}

async fn extend(
    transaction: &DatabaseTransaction,
    id: FileId,
    expires_at: Timestamp,
) -> Result<(), StoreError> {
    uploaded_file::Entity::update_many()
        .col_expr(uploaded_file::Column::ExpiresAt, Expr::value(expires_at))
        .filter(uploaded_file::Column::Id.eq(id))
        .filter(uploaded_file::Column::ExpiresAt.lt(expires_at))
        .exec(transaction)
        .await?;
    Ok(())
}

async fn size_bytes(
    transaction: &DatabaseTransaction,
    tenant_id: TenantId,
) -> Result<i64, StoreError> {
    // The sum of big integers is a numeric in PostgreSQL.
    let sum = Expr::col(uploaded_file::Column::SizeBytes).sum().cast_as("bigint");
    let bytes: Option<Option<i64>> = uploaded_file::Entity::find()
        .select_only()
        .column_as(sum, "bytes")
        .filter(uploaded_file::Column::TenantId.eq(tenant_id))
        .into_tuple()
        .one(transaction)
        .await?;
    Ok(bytes.flatten().unwrap_or(0))
}

fn of_tenant(tenant_id: TenantId) -> sea_orm::Select<uploaded_file::Entity> {
    uploaded_file::Entity::find().filter(uploaded_file::Column::TenantId.eq(tenant_id))
}
