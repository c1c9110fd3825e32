//! Alerts of a tenant.

use sea_orm::{
    ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::ids::AlertRuleId;
use crate::domain::page::PageRequest;
use crate::store::StoreError;
use crate::store::entities::integrations::alert;
use crate::store::queries::TenantScope;

/// Which alerts a list shows.
#[derive(Debug, Clone, Copy, Default)]
pub struct AlertFilter {
    pub is_open: Option<bool>,
    pub rule_id: Option<AlertRuleId>,
}

impl TenantScope {
    /// One page of alerts, newest first, with one row more than the limit if there is one.
    pub async fn alerts(
        &self,
        filter: AlertFilter,
        page: PageRequest,
    ) -> Result<Vec<alert::Model>, StoreError> {
        let mut query = alert::Entity::find()
            .filter(alert::Column::TenantId.eq(self.tenant_id))
            .order_by_desc(alert::Column::Id)
            .limit(page.limit + 1);
        query = match filter.is_open {
            Some(true) => query.filter(alert::Column::ResolvedAt.is_null()),
            Some(false) => query.filter(alert::Column::ResolvedAt.is_not_null()),
            None => query,
        };
        if let Some(rule_id) = filter.rule_id {
            query = query.filter(alert::Column::RuleId.eq(rule_id));
        }
        if let Some(after) = page.after {
            query = query.filter(alert::Column::Id.lt(after));
        }
        Ok(query.all(&self.reader).await?)
    }
}
