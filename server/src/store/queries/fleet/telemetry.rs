//! Telemetry of agents.

use sea_orm::{
    ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::ids::AgentId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::fleet::telemetry_sample;
use crate::store::queries::TenantScope;

impl TenantScope {
    /// The newest `limit` samples of an agent since an instant, oldest first.
    pub async fn telemetry(
        &self,
        id: AgentId,
        since: Timestamp,
        limit: u64,
    ) -> Result<Vec<telemetry_sample::Model>, StoreError> {
        if self.agent(id).await?.is_none() {
            return Ok(Vec::new());
        }
        let mut rows = telemetry_sample::Entity::find()
            .filter(telemetry_sample::Column::AgentId.eq(id))
            .filter(telemetry_sample::Column::At.gte(since))
            .order_by_desc(telemetry_sample::Column::At)
            .limit(limit)
            .all(&self.reader)
            .await?;
        rows.reverse();
        Ok(rows)
    }
}
