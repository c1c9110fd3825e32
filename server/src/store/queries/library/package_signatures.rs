//! Signatures of publishers about packages.

use std::collections::BTreeMap;

use muster_protocol::library::ScriptSignature;
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::ids::PackageId;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::library::{package, package_signature};
use crate::store::queries::TenantScope;
use crate::store::requester::write_audit;

impl TenantScope {
    /// The signatures of these packages, oldest first.
    pub async fn package_signatures(
        &self,
        ids: Vec<PackageId>,
    ) -> Result<BTreeMap<PackageId, Vec<ScriptSignature>>, StoreError> {
        let mut signatures: BTreeMap<PackageId, Vec<ScriptSignature>> = BTreeMap::new();
        if ids.is_empty() {
            return Ok(signatures);
        }
        let rows = package_signature::Entity::find()
            .filter(package_signature::Column::TenantId.eq(self.tenant_id))
            .filter(package_signature::Column::PackageId.is_in(ids))
            .order_by_asc(package_signature::Column::Id)
            .all(&self.reader)
            .await?;
        for row in rows {
            signatures.entry(row.package_id).or_default().push(row.into());
        }
        Ok(signatures)
    }

    /// Stores a signature instead of an earlier one of the same publisher. False if the package has `most`
    /// signatures of others, or does not exist any more.
    pub async fn sign_package(
        &self,
        row: package_signature::Model,
        most: u64,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let (row, audit) = (row.clone(), audit.clone());
                Box::pin(async move {
                    let found = package::Entity::find_by_id(row.package_id)
                        .filter(package::Column::TenantId.eq(row.tenant_id))
                        .lock_exclusive()
                        .all(transaction)
                        .await?;
                    let others = package_signature::Entity::find()
                        .filter(package_signature::Column::PackageId.eq(row.package_id))
                        .filter(package_signature::Column::Publisher.ne(row.publisher.as_str()))
                        .count(transaction)
                        .await?;
                    if found.is_empty() || others >= most {
                        return Ok(false);
                    }
                    package_signature::Entity::delete_many()
                        .filter(package_signature::Column::PackageId.eq(row.package_id))
                        .filter(package_signature::Column::Publisher.eq(row.publisher.as_str()))
                        .exec(transaction)
                        .await?;
                    package_signature::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    write_audit(transaction, audit).await?;
                    Ok(true)
                })
            })
            .await
    }
}

/// Deletes the signatures of a package that is deleted.
pub(super) async fn delete_signatures(
    transaction: &DatabaseTransaction,
    id: PackageId,
) -> Result<(), StoreError> {
    package_signature::Entity::delete_many()
        .filter(package_signature::Column::PackageId.eq(id))
        .exec(transaction)
        .await?;
    Ok(())
}
