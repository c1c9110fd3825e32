//! What schedules of scripts with a trigger keep for each agent.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::commands::command_state::CommandState;
use crate::domain::ids::{AgentId, CommandId, ScheduleId};
use crate::domain::page::PageRequest;
use crate::domain::schedules::trigger_call::TriggerStateRecord;
use crate::store::StoreError;
use crate::store::entities::commands::command;
use crate::store::entities::schedules::trigger_state::{Column, Entity, Model};
use crate::store::queries::{SystemScope, TenantScope};

impl TenantScope {
    /// One page of a schedule's states, oldest first, with one more than the limit if there is one.
    pub async fn trigger_states(
        &self,
        schedule_id: ScheduleId,
        page: PageRequest,
    ) -> Result<Vec<TriggerStateRecord>, StoreError> {
        let mut query = Entity::find()
            .filter(Column::TenantId.eq(self.tenant_id))
            .filter(Column::ScheduleId.eq(schedule_id))
            .order_by_asc(Column::Id)
            .limit(page.limit + 1);
        if let Some(after) = page.after {
            query = query.filter(Column::Id.gt(after));
        }
        let rows = query.all(&self.reader).await?;
        let calls: Vec<CommandId> = rows.iter().map(|row| row.last_command_id).collect();
        let states: Vec<(CommandId, CommandState)> = command::Entity::find()
            .select_only()
            .columns([command::Column::Id, command::Column::State])
            .filter(command::Column::Id.is_in(calls))
            .filter(command::Column::TenantId.eq(self.tenant_id))
            .into_tuple()
            .all(&self.reader)
            .await?;
        let states: HashMap<_, _> = states.into_iter().collect();
        let record = |row: Model| {
            let state = states.get(&row.last_command_id).copied();
            row.into_record(state)
        };
        Ok(rows.into_iter().map(record).collect())
    }
}

impl SystemScope {
    /// The state of a schedule on an agent; `None` if the schedule was deleted.
    pub async fn trigger_state(
        &self,
        schedule_id: ScheduleId,
        agent_id: AgentId,
    ) -> Result<Option<Model>, StoreError> {
        let query = Entity::find()
            .filter(Column::ScheduleId.eq(schedule_id))
            .filter(Column::AgentId.eq(agent_id));
        Ok(query.all(&self.reader).await?.pop())
    }
}
