//! With whose rights a schedule runs.

use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::access::principal::Role;
use crate::domain::ids::PrincipalId;
use crate::store::StoreError;
use crate::store::entities::access::{api_key, audit_entry, member};
use crate::store::entities::schedules::schedule;
use crate::store::queries::{SystemScope, TenantScope};
use crate::store::writer::add_audit;

/// The row of a schedule's owner, as it is now.
#[derive(Debug, Clone)]
pub enum ScheduleOwner {
    ApiKey(Box<api_key::Model>),
    Member(member::Model),
}

impl TenantScope {
    /// The owner of this id; `None` if the tenant has none that is not revoked or removed.
    pub async fn schedule_owner(
        &self,
        id: PrincipalId,
    ) -> Result<Option<ScheduleOwner>, StoreError> {
        let keys = api_key::Entity::find()
            .filter(api_key::Column::Id.eq(id))
            .filter(api_key::Column::TenantId.eq(self.tenant_id))
            .filter(api_key::Column::RevokedAt.is_null());
        if let Some(key) = keys.all(&self.reader).await?.pop() {
            return Ok(Some(ScheduleOwner::ApiKey(Box::new(key))));
        }
        let members = member::Entity::find()
            .filter(member::Column::Id.eq(id))
            .filter(member::Column::TenantId.eq(self.tenant_id))
            .filter(member::Column::RemovedAt.is_null());
        Ok(members.all(&self.reader).await?.pop().map(ScheduleOwner::Member))
    }

    /// The owner of this id as it was, also if it was revoked or removed.
    pub async fn former_schedule_owner(
        &self,
        id: PrincipalId,
    ) -> Result<Option<ScheduleOwner>, StoreError> {
        let keys = api_key::Entity::find()
            .filter(api_key::Column::Id.eq(id))
            .filter(api_key::Column::TenantId.eq(self.tenant_id));
        if let Some(key) = keys.all(&self.reader).await?.pop() {
            return Ok(Some(ScheduleOwner::ApiKey(Box::new(key))));
        }
        let members = member::Entity::find()
            .filter(member::Column::Id.eq(id))
            .filter(member::Column::TenantId.eq(self.tenant_id));
        Ok(members.all(&self.reader).await?.pop().map(ScheduleOwner::Member))
    }

    /// The person who has been an owner of the tenant for the longest time; `None` without one.
    pub async fn oldest_owner(&self) -> Result<Option<PrincipalId>, StoreError> {
        let owners = member::Entity::find()
            .filter(member::Column::TenantId.eq(self.tenant_id))
            .filter(member::Column::Role.eq(Role::Owner))
            .filter(member::Column::RemovedAt.is_null())
            .order_by_asc(member::Column::Id)
            .limit(1);
        Ok(owners.all(&self.reader).await?.pop().map(|row| row.id.into()))
    }
}

impl SystemScope {
    /// Gives a schedule to another owner. Its open fires stay; false if it was changed since it was read.
    pub async fn pass_schedule_on(
        &self,
        row: schedule::Model,
        owner_id: PrincipalId,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let (id, was_changed_at, audit) = (row.id, row.changed_at, audit.clone());
                Box::pin(async move {
                    let changed_at = audit.at.max(was_changed_at.plus_ms(1));
                    let passed = schedule::Entity::update_many()
                        .col_expr(schedule::Column::OwnerId, Expr::value(owner_id.0))
                        .col_expr(schedule::Column::ChangedAt, Expr::value(changed_at.0))
                        .filter(schedule::Column::Id.eq(id))
                        .filter(schedule::Column::ChangedAt.eq(was_changed_at))
                        .exec(transaction)
                        .await?;
                    if passed.rows_affected == 0 {
                        return Ok(false);
                    }
                    add_audit(audit)?;
                    Ok(true)
                })
            })
            .await
    }
}
