//! What hosts get of the packages and scripts that are assigned to them.

use std::collections::{BTreeMap, BTreeSet};

use muster_protocol::library::{ScriptDocument, ScriptPin, ScriptSignature, sha256_hex};
use muster_protocol::package::PackagePin;
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, PaginatorTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};

use super::assignment_rollouts::former_contents;
use crate::domain::ids::{ContentId, PackageId, ScriptVersionId, TenantId};
use crate::domain::library::assignment_records::{AssignedContent, AssignedKind};
use crate::store::StoreError;
use crate::store::entities::library::{
    assignment, package, script_body, script_signature, script_version,
};
use crate::store::queries::TenantScope;

/// The package or the script was deleted at the same time.
pub const CONTENT_GONE: &str = "what the assignment names is gone";

impl TenantScope {
    /// What hosts get of these packages and versions of scripts, as far as they exist.
    pub(super) async fn assigned_contents(
        &self,
        ids: BTreeSet<ContentId>,
    ) -> Result<BTreeMap<ContentId, AssignedContent>, StoreError> {
        let mut contents = self.assigned_packages(&ids).await?;
        if contents.len() < ids.len() {
            contents.extend(self.assigned_scripts(&ids).await?);
        }
        Ok(contents)
    }

    async fn assigned_packages(
        &self,
        ids: &BTreeSet<ContentId>,
    ) -> Result<BTreeMap<ContentId, AssignedContent>, StoreError> {
        let ids: Vec<PackageId> = ids.iter().map(|id| PackageId(id.0)).collect();
        let mut signatures = self.package_signatures(ids.clone()).await?;
        let packages = package::Entity::find()
            .filter(package::Column::TenantId.eq(self.tenant_id))
            .filter(package::Column::Id.is_in(ids))
            .all(&self.reader)
            .await?;
        let contents = packages.into_iter().map(|package| {
            let pin = PackagePin {
                version: package.version,
                sha256: package.sha256,
                document_sha256: sha256_hex(package.document.as_bytes()),
            };
            let signatures = signatures.remove(&package.id).unwrap_or_default();
            let document = package.document;
            let content = AssignedContent { document, signatures, pin, body_bytes: None };
            (package.id.into(), content)
        });
        Ok(contents.collect())
    }

    async fn assigned_scripts(
        &self,
        ids: &BTreeSet<ContentId>,
    ) -> Result<BTreeMap<ContentId, AssignedContent>, StoreError> {
        let ids: Vec<ScriptVersionId> = ids.iter().map(|id| ScriptVersionId(id.0)).collect();
        let mut signatures: BTreeMap<ScriptVersionId, Vec<ScriptSignature>> = BTreeMap::new();
        let signed = script_signature::Entity::find()
            .filter(script_signature::Column::TenantId.eq(self.tenant_id))
            .filter(script_signature::Column::VersionId.is_in(ids.iter().copied()))
            .order_by_asc(script_signature::Column::Id);
        for row in signed.all(&self.reader).await? {
            let signature = ScriptSignature { statement: row.statement, signature: row.signature };
            signatures.entry(row.version_id).or_default().push(signature);
        }
        let versions = script_version::Entity::find()
            .filter(script_version::Column::TenantId.eq(self.tenant_id))
            .filter(script_version::Column::Id.is_in(ids))
            .all(&self.reader)
            .await?;
        let contents = versions.into_iter().filter_map(|row| {
            let document: ScriptDocument = serde_json::from_str(&row.document).ok()?;
            let pin = PackagePin::for_script(ScriptPin {
                version: row.version.unsigned_abs(),
                sha256: document.sha256,
                document_sha256: sha256_hex(row.document.as_bytes()),
            });
            let content = AssignedContent {
                signatures: signatures.remove(&row.id).unwrap_or_default(),
                document: row.document,
                pin,
                body_bytes: Some(row.body_bytes.unsigned_abs()),
            };
            Some((row.id.into(), content))
        });
        Ok(contents.collect())
    }

    /// The body with this SHA-256, if a version that has it is assigned now.
    pub async fn assigned_body(&self, sha256: &str) -> Result<Option<String>, StoreError> {
        let assigned: Vec<ContentId> = current(self.tenant_id)
            .select_only()
            .column(assignment::Column::ContentId)
            .filter(assignment::Column::Kind.eq(AssignedKind::Script))
            .into_tuple()
            .all(&self.reader)
            .await?;
        let former = former_contents(&self.reader, self.tenant_id).await?;
        let ids = assigned.into_iter().chain(former).map(|id| ScriptVersionId(id.0));
        let versions = script_version::Entity::find()
            .filter(script_version::Column::TenantId.eq(self.tenant_id))
            .filter(script_version::Column::Id.is_in(ids))
            .filter(script_version::Column::Document.contains(sha256))
            .all(&self.reader)
            .await?;
        let is_meant = |row: &script_version::Model| {
            serde_json::from_str::<ScriptDocument>(&row.document)
                .is_ok_and(|document| document.sha256 == sha256)
        };
        let Some(version) = versions.into_iter().find(is_meant) else { return Ok(None) };
        let body = script_body::Entity::find_by_id(version.id).all(&self.reader).await?.pop();
        Ok(body.map(|row| row.body))
    }
}

/// Checks that what is assigned was not deleted meanwhile.
///
/// # Errors
/// [`StoreError::Refused`]
pub(super) async fn require_content(
    transaction: &DatabaseTransaction,
    row: &assignment::Model,
) -> Result<(), StoreError> {
    let count = match row.kind {
        AssignedKind::Task | AssignedKind::Service => {
            let packages = package::Entity::find()
                .filter(package::Column::TenantId.eq(row.tenant_id))
                .filter(package::Column::Id.eq(row.content_id));
            packages.count(transaction).await?
        }
        AssignedKind::Script => {
            let versions = script_version::Entity::find()
                .filter(script_version::Column::TenantId.eq(row.tenant_id))
                .filter(script_version::Column::Id.eq(row.content_id));
            versions.count(transaction).await?
        }
    };
    match count {
        0 => Err(StoreError::Refused(CONTENT_GONE)),
        _ => Ok(()),
    }
}

/// All assignments of a tenant, also deleted ones.
pub(super) fn of_tenant(tenant_id: TenantId) -> sea_orm::Select<assignment::Entity> {
    assignment::Entity::find().filter(assignment::Column::TenantId.eq(tenant_id))
}

/// Those that hold.
pub(super) fn current(tenant_id: TenantId) -> sea_orm::Select<assignment::Entity> {
    of_tenant(tenant_id).filter(assignment::Column::DeletedAt.is_null())
}
