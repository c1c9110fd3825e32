//! Packages of a tenant: lists, and changes by people.

use std::collections::BTreeSet;

use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::ids::{PackageId, TenantId};
use crate::domain::library::package_records::PackageRecord;
use crate::domain::page::PageRequest;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::library::{assignment, package};
use crate::store::queries::library::assignment_rollouts::is_former;
use crate::store::queries::library::package_signatures::delete_signatures;
use crate::store::queries::{SystemScope, TenantScope};
use crate::store::requester::write_audit;

/// The tenant has as many packages as it may have.
pub const TOO_MANY_PACKAGES: &str = "the tenant has too many packages";
/// The archives of the tenant would be larger.
pub const PACKAGES_FULL: &str = "the tenant's packages are full";

/// Hosts still have to get the package.
pub const PACKAGE_ASSIGNED: &str = "the package is assigned";

/// What a tenant may have.
#[derive(Debug, Clone, Copy)]
pub struct PackageLimits {
    pub count: u64,
    pub bytes: i64,
}

/// What became of a package that was to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredPackage {
    New,
    /// The tenant has this name and version already.
    Known(PackageRecord),
}

impl TenantScope {
    /// Stores a package, unless the tenant has one with its name and version.
    ///
    /// # Errors
    /// [`StoreError::Refused`] at a limit.
    pub async fn create_package(
        &self,
        row: package::Model,
        limits: PackageLimits,
        audit: audit_entry::Model,
    ) -> Result<StoredPackage, StoreError> {
        self.writer
            .change(move |transaction| {
                let (row, audit) = (row.clone(), audit.clone());
                Box::pin(async move {
                    let known = of_tenant(row.tenant_id)
                        .filter(package::Column::Name.eq(row.name.as_str()))
                        .filter(package::Column::Version.eq(row.version.as_str()))
                        .all(transaction)
                        .await?
                        .pop();
                    if let Some(known) = known {
                        return Ok(StoredPackage::Known(known.into()));
                    }
                    if of_tenant(row.tenant_id).count(transaction).await? >= limits.count {
                        return Err(StoreError::Refused(TOO_MANY_PACKAGES));
                    }
                    let held_bytes = archive_bytes(transaction, row.tenant_id).await?;
                    if held_bytes.saturating_add(row.archive_bytes) > limits.bytes {
                        return Err(StoreError::Refused(PACKAGES_FULL));
                    }
                    package::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    write_audit(transaction, audit).await?;
                    Ok(StoredPackage::New)
                })
            })
            .await
    }

    /// One page of packages, newest first, with one row more than the limit if there is one.
    pub async fn packages(
        &self,
        name: Option<&str>,
        page: PageRequest,
    ) -> Result<Vec<package::Model>, StoreError> {
        let mut query =
            of_tenant(self.tenant_id).order_by_desc(package::Column::Id).limit(page.limit + 1);
        if let Some(name) = name {
            query = query.filter(package::Column::Name.eq(name));
        }
        if let Some(after) = page.after {
            query = query.filter(package::Column::Id.lt(after));
        }
        Ok(query.all(&self.reader).await?)
    }

    /// The versions with these ids, in no order.
    pub async fn packages_of(&self, ids: Vec<PackageId>) -> Result<Vec<PackageRecord>, StoreError> {
        let found = package::Entity::find()
            .filter(package::Column::TenantId.eq(self.tenant_id))
            .filter(package::Column::Id.is_in(ids));
        Ok(found.all(&self.reader).await?.into_iter().map(Into::into).collect())
    }

    /// One package.
    pub async fn package(&self, id: PackageId) -> Result<Option<PackageRecord>, StoreError> {
        let query = of_tenant(self.tenant_id).filter(package::Column::Id.eq(id));
        Ok(query.all(&self.reader).await?.pop().map(Into::into))
    }

    /// The package of this name with this version, or the newest one.
    pub async fn named_package(
        &self,
        name: &str,
        version: Option<&str>,
    ) -> Result<Option<PackageRecord>, StoreError> {
        let mut query = of_tenant(self.tenant_id)
            .filter(package::Column::Name.eq(name))
            .order_by_desc(package::Column::Id)
            .limit(1);
        if let Some(version) = version {
            query = query.filter(package::Column::Version.eq(version));
        }
        Ok(query.all(&self.reader).await?.pop().map(Into::into))
    }

    /// A package with this archive.
    pub async fn package_by_archive(
        &self,
        sha256: &str,
    ) -> Result<Option<PackageRecord>, StoreError> {
        let query = of_tenant(self.tenant_id).filter(package::Column::Sha256.eq(sha256)).limit(1);
        Ok(query.all(&self.reader).await?.pop().map(Into::into))
    }

    /// Deletes a package; false if it does not exist.
    ///
    /// # Errors
    /// [`StoreError::Refused`] while it is assigned.
    pub async fn delete_package(
        &self,
        id: PackageId,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let assigned = assignment::Entity::find()
                        .filter(assignment::Column::TenantId.eq(tenant_id))
                        .filter(assignment::Column::ContentId.eq(id))
                        .filter(assignment::Column::DeletedAt.is_null());
                    if assigned.count(transaction).await? > 0
                        || is_former(transaction, id.into()).await?
                    {
                        return Err(StoreError::Refused(PACKAGE_ASSIGNED));
                    }
                    let deleted = package::Entity::delete_many()
                        .filter(package::Column::Id.eq(id))
                        .filter(package::Column::TenantId.eq(tenant_id))
                        .exec(transaction)
                        .await?;
                    if deleted.rows_affected == 0 {
                        return Ok(false);
                    }
                    delete_signatures(transaction, id).await?;
                    write_audit(transaction, audit).await?;
                    Ok(true)
                })
            })
            .await
    }
}

impl SystemScope {
    /// Those of these packages that exist.
    pub async fn known_packages(
        &self,
        ids: Vec<PackageId>,
    ) -> Result<BTreeSet<PackageId>, StoreError> {
        let known: Vec<PackageId> = package::Entity::find()
            .select_only()
            .column(package::Column::Id)
            .filter(package::Column::Id.is_in(ids))
            .into_tuple()
            .all(&self.reader)
            .await?;
        Ok(known.into_iter().collect())
    }
}

async fn archive_bytes(
    transaction: &DatabaseTransaction,
    tenant_id: TenantId,
) -> Result<i64, StoreError> {
    // The sum of big integers is a numeric in PostgreSQL.
    let sum = Expr::col(package::Column::ArchiveBytes).sum().cast_as("bigint");
    let bytes: Option<Option<i64>> = package::Entity::find()
        .select_only()
        .column_as(sum, "bytes")
        .filter(package::Column::TenantId.eq(tenant_id))
        .into_tuple()
        .one(transaction)
        .await?;
    Ok(bytes.flatten().unwrap_or(0))
}

fn of_tenant(tenant_id: TenantId) -> sea_orm::Select<package::Entity> {
    package::Entity::find().filter(package::Column::TenantId.eq(tenant_id))
}
