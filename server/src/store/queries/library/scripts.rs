//! Scripts of a tenant's library: lists, and changes by people.

use sea_orm::sea_query::{Alias, Expr, ExprTrait as _, Func, LikeExpr};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, Condition, DatabaseTransaction, EntityTrait as _,
    IntoActiveModel as _, PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use super::script_uses::uses_of;
use super::versions::{NewVersion, insert_version};
use crate::domain::ids::{ScriptId, TenantId};
use crate::domain::library::records::ScriptUse;
use crate::domain::page::PageRequest;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::library::{script, script_body, script_signature, script_version};
use crate::store::queries::TenantScope;
use crate::store::requester::write_audit;

/// The tenant has as many scripts as it may have.
pub const TOO_MANY_SCRIPTS: &str = "the tenant has too many scripts";
/// The tenant has another script of this name.
pub const SCRIPT_NAME_TAKEN: &str = "the script's name is taken";

/// The result of a request to delete a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScriptDeletion {
    Deleted,
    Unknown,
    /// Not deleted, because these would fail.
    InUse(Vec<ScriptUse>),
}

/// Which scripts are listed.
#[derive(Debug, Clone, Default)]
pub struct ScriptFilter {
    /// A part of the name or of the description, in any case.
    pub search: Option<String>,
    /// The folder, and those in it.
    pub folder: Option<String>,
    pub tag: Option<String>,
    pub name: Option<String>,
}

impl TenantScope {
    /// Stores a new script with its first version.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the name is taken, the tenant has `most` scripts, or its bodies would
    /// be too large.
    pub async fn create_script(
        &self,
        row: script::Model,
        version: NewVersion,
        most: u64,
        audit: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let (row, version, audit) = (row.clone(), version.clone(), audit.clone());
                Box::pin(async move {
                    if of_tenant(row.tenant_id).count(transaction).await? >= most {
                        return Err(StoreError::Refused(TOO_MANY_SCRIPTS));
                    }
                    let name = script::Column::Name.eq(row.name.as_str());
                    if of_tenant(row.tenant_id).filter(name).count(transaction).await? > 0 {
                        return Err(StoreError::Refused(SCRIPT_NAME_TAKEN));
                    }
                    script::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    insert_version(transaction, version).await?;
                    write_audit(transaction, audit).await?;
                    Ok(())
                })
            })
            .await
    }

    /// One page of scripts, oldest first, with one row more than the limit if there is one.
    pub async fn scripts(
        &self,
        filter: &ScriptFilter,
        page: PageRequest,
    ) -> Result<Vec<script::Model>, StoreError> {
        let mut query = of_tenant(self.tenant_id)
            .filter(condition(filter))
            .order_by_asc(script::Column::Id)
            .limit(page.limit + 1);
        if let Some(after) = page.after {
            query = query.filter(script::Column::Id.gt(after));
        }
        Ok(query.all(&self.reader).await?)
    }

    /// One script.
    pub async fn script(&self, id: ScriptId) -> Result<Option<script::Model>, StoreError> {
        let query = of_tenant(self.tenant_id).filter(script::Column::Id.eq(id));
        Ok(query.all(&self.reader).await?.pop())
    }

    /// The script of this name.
    pub async fn script_by_name(&self, name: &str) -> Result<Option<script::Model>, StoreError> {
        let query = of_tenant(self.tenant_id).filter(script::Column::Name.eq(name));
        Ok(query.all(&self.reader).await?.pop())
    }

    /// Changes a script that is still as it was read; false if it is not. `version`: a new version.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the tenant's bodies would be too large.
    pub async fn change_script(
        &self,
        was: script::Model,
        row: script::Model,
        version: Option<NewVersion>,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let (was, row) = (was.clone(), row.clone());
                let (version, audit) = (version.clone(), audit.clone());
                Box::pin(async move {
                    let found = of_tenant(row.tenant_id)
                        .filter(script::Column::Id.eq(row.id))
                        .lock_exclusive()
                        .all(transaction)
                        .await?
                        .pop();
                    if found.is_none_or(|found| found != was) {
                        return Ok(false);
                    }
                    row.into_active_model().reset_all().update(transaction).await?;
                    if let Some(version) = version {
                        insert_version(transaction, version).await?;
                    }
                    write_audit(transaction, audit).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Deletes a script with its versions, unless schedules, hooks or assignments use it: these are returned. With
    /// `is_forced` it is deleted all the same.
    pub async fn delete_script(
        &self,
        id: ScriptId,
        is_forced: bool,
        audit: audit_entry::Model,
    ) -> Result<ScriptDeletion, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let found = script::Entity::find_by_id(id)
                        .filter(script::Column::TenantId.eq(tenant_id))
                        .all(transaction)
                        .await?
                        .pop();
                    let Some(found) = found else { return Ok(ScriptDeletion::Unknown) };
                    if !is_forced {
                        let uses = uses_of(transaction, tenant_id, &found.name).await?;
                        if !uses.is_empty() {
                            return Ok(ScriptDeletion::InUse(uses));
                        }
                    }
                    script::Entity::delete_by_id(id).exec(transaction).await?;
                    delete_versions(transaction, id).await?;
                    write_audit(transaction, audit).await?;
                    Ok(ScriptDeletion::Deleted)
                })
            })
            .await
    }
}

async fn delete_versions(
    transaction: &DatabaseTransaction,
    id: ScriptId,
) -> Result<(), StoreError> {
    let versions = || {
        let mut select = sea_orm::sea_query::Query::select();
        select
            .column(script_version::Column::Id)
            .from(script_version::Entity)
            .and_where(script_version::Column::ScriptId.eq(id));
        select
    };
    script_body::Entity::delete_many()
        .filter(script_body::Column::Id.in_subquery(versions()))
        .exec(transaction)
        .await?;
    script_signature::Entity::delete_many()
        .filter(script_signature::Column::VersionId.in_subquery(versions()))
        .exec(transaction)
        .await?;
    script_version::Entity::delete_many()
        .filter(script_version::Column::ScriptId.eq(id))
        .exec(transaction)
        .await?;
    Ok(())
}

fn condition(filter: &ScriptFilter) -> Condition {
    let mut all = Condition::all();
    if let Some(name) = &filter.name {
        all = all.add(script::Column::Name.eq(name.as_str()));
    }
    if let Some(folder) = &filter.folder {
        let inside = like(&format!("{}/", folder), "", "%");
        all = all.add(
            Condition::any()
                .add(script::Column::Folder.eq(folder.as_str()))
                .add(Expr::col(script::Column::Folder).like(inside)),
        );
    }
    if let Some(tag) = &filter.tag {
        let tags = Expr::col(script::Column::Tags).cast_as(Alias::new("text"));
        all = all.add(tags.like(like(&format!("\"{tag}\""), "%", "%")));
    }
    if let Some(search) = &filter.search {
        let contains = |column: script::Column| {
            let pattern = like(&search.to_lowercase(), "%", "%");
            Expr::expr(Func::lower(Expr::col(column))).like(pattern)
        };
        all = all.add(
            Condition::any()
                .add(contains(script::Column::Name))
                .add(contains(script::Column::Description)),
        );
    }
    all
}

/// A pattern for exactly this text.
fn like(text: &str, before: &str, after: &str) -> LikeExpr {
    let mut pattern = before.to_owned();
    for char in text.chars() {
        if matches!(char, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(char);
    }
    LikeExpr::new(pattern + after).escape('\\')
}

fn of_tenant(tenant_id: TenantId) -> sea_orm::Select<script::Entity> {
    script::Entity::find().filter(script::Column::TenantId.eq(tenant_id))
}
