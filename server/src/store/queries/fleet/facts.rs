//! Facts that hosts report.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::fleet::records::FactReportRecord;
use crate::domain::fleet::target::facts::{FactNames, HostFacts};
use crate::domain::ids::AgentId;
use crate::store::StoreError;
use crate::store::entities::column::StringList;
use crate::store::entities::fleet::{agent_fact, agent_fact_report};
use crate::store::queries::TenantScope;

/// Ids in one statement.
const IDS_AT_ONCE: usize = 500;

type FactRow = (AgentId, String, StringList);

impl TenantScope {
    /// The facts that a host reported last; `None` if it never has.
    pub async fn agent_facts(&self, id: AgentId) -> Result<Option<FactReportRecord>, StoreError> {
        let report = agent_fact_report::Entity::find_by_id(id)
            .filter(agent_fact_report::Column::TenantId.eq(self.tenant_id))
            .one(&self.reader)
            .await?;
        let Some(report) = report else { return Ok(None) };
        let rows = agent_fact::Entity::find()
            .filter(agent_fact::Column::AgentId.eq(id))
            .filter(agent_fact::Column::TenantId.eq(self.tenant_id))
            .all(&self.reader)
            .await?;
        Ok(Some(FactReportRecord {
            facts: rows.into_iter().map(|row| (row.name, row.fact_values.0)).collect(),
            errors: serde_json::from_str(&report.errors).unwrap_or_default(),
            changed_at: report.changed_at,
        }))
    }

    /// The facts of these names that hosts report: of these agents, or of all.
    pub async fn host_facts(
        &self,
        names: &FactNames,
        agents: Option<&[AgentId]>,
    ) -> Result<HashMap<AgentId, HostFacts>, StoreError> {
        let mut found: HashMap<AgentId, HostFacts> = HashMap::new();
        if names.is_empty() {
            return Ok(found);
        }
        let query = agent_fact::Entity::find()
            .select_only()
            .columns([
                agent_fact::Column::AgentId,
                agent_fact::Column::Name,
                agent_fact::Column::FactValues,
            ])
            .filter(agent_fact::Column::TenantId.eq(self.tenant_id))
            .filter(agent_fact::Column::Name.is_in(names.iter().map(String::as_str)));
        let mut rows: Vec<FactRow> = Vec::new();
        match agents {
            None => rows = query.into_tuple().all(&self.reader).await?,
            Some(agents) => {
                for ids in agents.chunks(IDS_AT_ONCE) {
                    let own = agent_fact::Column::AgentId.is_in(ids.iter().copied());
                    let page = query.clone().filter(own).into_tuple::<FactRow>();
                    rows.extend(page.all(&self.reader).await?);
                }
            }
        }
        for (id, name, values) in rows {
            found.entry(id).or_default().insert(name, values.0);
        }
        Ok(found)
    }

    /// Names of facts that hosts of the tenant report, the most common first, with the number of
    /// agents.
    pub async fn fact_names(&self, limit: u64) -> Result<Vec<(String, i64)>, StoreError> {
        let query = agent_fact::Entity::find()
            .select_only()
            .column(agent_fact::Column::Name)
            .column_as(agent_fact::Column::AgentId.count(), "agents")
            .filter(agent_fact::Column::TenantId.eq(self.tenant_id))
            .group_by(agent_fact::Column::Name)
            .order_by_desc(agent_fact::Column::AgentId.count())
            .order_by_asc(agent_fact::Column::Name)
            .limit(limit);
        Ok(query.into_tuple().all(&self.reader).await?)
    }
}
