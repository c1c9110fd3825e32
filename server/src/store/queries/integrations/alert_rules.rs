//! Rules that open alerts: changes by people. What ends a rule resolves its open alerts in the same
//! transaction.

use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, DatabaseTransaction, EntityTrait as _,
    IntoActiveModel as _, PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
    Select,
};

use super::alert_checks::{drop_oldest_resolved, resolve};
use crate::domain::ids::{AlertRuleId, TenantId};
use crate::domain::integrations::alert::AlertEndReason;
use crate::domain::page::PageRequest;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::integrations::{alert, alert_rule, alert_state};
use crate::store::queries::TenantScope;
use crate::store::requester::write_audit;

/// What a change of a rule does to what its checks have found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertReset {
    Nothing,
    /// What held until now does not count. Open alerts stay.
    Progress,
    /// Open alerts are resolved too.
    Alerts,
}

/// The tenant has as many rules as it may have.
pub const TOO_MANY_ALERT_RULES: &str = "the tenant has too many alert rules";

impl TenantScope {
    /// Stores a new rule.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if another rule has the name, or the tenant has `most` rules.
    pub async fn create_alert_rule(
        &self,
        row: alert_rule::Model,
        most: u64,
        audit: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let (row, audit) = (row.clone(), audit.clone());
                Box::pin(async move {
                    if of_tenant(row.tenant_id).count(transaction).await? >= most {
                        return Err(StoreError::Refused(TOO_MANY_ALERT_RULES));
                    }
                    check_name(transaction, &row).await?;
                    alert_rule::Entity::insert(row.into_active_model())
                        .exec_without_returning(transaction)
                        .await?;
                    write_audit(transaction, audit).await
                })
            })
            .await
    }

    /// One page of rules, oldest first, with one row more than the limit if there is one.
    pub async fn alert_rules(
        &self,
        page: PageRequest,
    ) -> Result<Vec<alert_rule::Model>, StoreError> {
        let mut query =
            of_tenant(self.tenant_id).order_by_asc(alert_rule::Column::Id).limit(page.limit + 1);
        if let Some(after) = page.after {
            query = query.filter(alert_rule::Column::Id.gt(after));
        }
        Ok(query.all(&self.reader).await?)
    }

    /// One rule.
    pub async fn alert_rule(
        &self,
        id: AlertRuleId,
    ) -> Result<Option<alert_rule::Model>, StoreError> {
        let query = of_tenant(self.tenant_id).filter(alert_rule::Column::Id.eq(id));
        Ok(query.all(&self.reader).await?.pop())
    }

    /// Changes a rule, and returns the alerts that this resolved; `None` if it does not exist or was
    /// changed since `was_changed_at`.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if another rule has the name.
    pub async fn change_alert_rule(
        &self,
        row: alert_rule::Model,
        was_changed_at: Timestamp,
        reset: AlertReset,
        audit: audit_entry::Model,
    ) -> Result<Option<Vec<alert::Model>>, StoreError> {
        self.writer
            .change(move |transaction| {
                let (row, audit) = (row.clone(), audit.clone());
                Box::pin(async move {
                    check_name(transaction, &row).await?;
                    let found = of_tenant(row.tenant_id)
                        .filter(alert_rule::Column::Id.eq(row.id))
                        .filter(alert_rule::Column::ChangedAt.eq(was_changed_at))
                        .lock_exclusive()
                        .all(transaction)
                        .await?;
                    if found.is_empty() {
                        return Ok(None);
                    }
                    let resolved = match reset {
                        AlertReset::Alerts => {
                            end_alerts(transaction, row.id, row.changed_at).await?
                        }
                        AlertReset::Nothing | AlertReset::Progress => Vec::new(),
                    };
                    if reset != AlertReset::Nothing {
                        forget_progress(transaction, row.id).await?;
                    }
                    row.into_active_model().reset_all().update(transaction).await?;
                    write_audit(transaction, audit).await?;
                    Ok(Some(resolved))
                })
            })
            .await
    }

    /// Deletes a rule with its alerts, and returns those that were open; `None` if it does not exist.
    pub async fn delete_alert_rule(
        &self,
        id: AlertRuleId,
        audit: audit_entry::Model,
    ) -> Result<Option<Vec<alert::Model>>, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let deleted = alert_rule::Entity::delete_many()
                        .filter(alert_rule::Column::Id.eq(id))
                        .filter(alert_rule::Column::TenantId.eq(tenant_id))
                        .exec(transaction)
                        .await?;
                    if deleted.rows_affected == 0 {
                        return Ok(None);
                    }
                    let resolved = end_alerts(transaction, id, audit.at).await?;
                    forget_progress(transaction, id).await?;
                    alert::Entity::delete_many()
                        .filter(alert::Column::RuleId.eq(id))
                        .exec(transaction)
                        .await?;
                    write_audit(transaction, audit).await?;
                    Ok(Some(resolved))
                })
            })
            .await
    }
}

/// Resolves all open alerts of a rule, and returns them.
async fn end_alerts(
    transaction: &DatabaseTransaction,
    id: AlertRuleId,
    now: Timestamp,
) -> Result<Vec<alert::Model>, StoreError> {
    let open = alert::Entity::find()
        .filter(alert::Column::RuleId.eq(id))
        .filter(alert::Column::ResolvedAt.is_null())
        .all(transaction)
        .await?;
    let mut resolved = Vec::with_capacity(open.len());
    for row in open {
        resolved.extend(resolve(transaction, row, AlertEndReason::RuleChanged, now).await?);
    }
    drop_oldest_resolved(transaction, id).await?;
    Ok(resolved)
}

async fn forget_progress(
    transaction: &DatabaseTransaction,
    id: AlertRuleId,
) -> Result<(), StoreError> {
    alert_state::Entity::delete_many()
        .filter(alert_state::Column::RuleId.eq(id))
        .exec(transaction)
        .await?;
    Ok(())
}

async fn check_name(
    transaction: &DatabaseTransaction,
    row: &alert_rule::Model,
) -> Result<(), StoreError> {
    let others = of_tenant(row.tenant_id)
        .filter(alert_rule::Column::Name.eq(row.name.as_str()))
        .filter(alert_rule::Column::Id.ne(row.id));
    match others.count(transaction).await? {
        0 => Ok(()),
        _ => Err(StoreError::Refused("the name of the alert rule is taken")),
    }
}

fn of_tenant(tenant_id: TenantId) -> Select<alert_rule::Entity> {
    alert_rule::Entity::find().filter(alert_rule::Column::TenantId.eq(tenant_id))
}
