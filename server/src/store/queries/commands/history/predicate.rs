//! A filter as conditions on rows.

use sea_orm::sea_query::{Expr, ExprTrait as _, Func};
use sea_orm::{ColumnTrait as _, QueryFilter as _, Select};

use super::CommandFilter;
use crate::store::entities::commands::command;
use crate::store::entities::commands::command::Column;

/// Limits a query to the commands that the filter matches.
pub(super) fn matching(
    query: Select<command::Entity>,
    filter: &CommandFilter,
) -> Select<command::Entity> {
    let mut query = query;
    if filter.is_execution {
        query = query.filter(Column::Script.is_not_null());
    }
    if let Some(id) = filter.agent_id {
        query = query.filter(Column::AgentId.eq(id));
    }
    if let Some(ids) = &filter.agents {
        // As that of the job: the index of agents would be read agent by agent, and then sorted.
        let agent_id = Expr::col((command::Entity, Column::AgentId));
        let agent_id = Func::coalesce([agent_id.clone(), agent_id]);
        query = query.filter(agent_id.is_in(ids.iter().copied()));
    }
    if let Some(id) = filter.job_id {
        // Written so that no index serves it: the index of jobs is in the order of states, and a
        // database that takes it for a page sorts the whole job. A walk along it names its state.
        let job_id = Expr::col((command::Entity, Column::JobId));
        query = query.filter(Func::coalesce([job_id.clone(), job_id]).eq(id));
    }
    if let Some(script) = &filter.script {
        query = query.filter(Column::Script.eq(script));
    }
    if !filter.states.is_empty() {
        query = query.filter(Column::State.is_in(filter.states.iter().copied()));
    }
    if let Some(at) = filter.created_after {
        query = query.filter(Column::CreatedAt.gte(at));
    }
    if let Some(at) = filter.created_before {
        query = query.filter(Column::CreatedAt.lt(at));
    }
    if let Some(trigger) = filter.trigger {
        query = query.filter(Column::Trigger.eq(trigger));
    }
    if let Some(id) = filter.requested_by {
        query = query.filter(Column::RequestedBy.eq(id));
    }
    query
}
