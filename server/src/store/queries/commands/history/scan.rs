//! One walk down an index, from a cursor towards the past.

use std::cmp::Reverse;

use sea_orm::sea_query::{Expr, Query, SimpleExpr};
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, Order, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, Select,
};
use uuid::Uuid;

use super::predicate::matching;
use super::{CommandFilter, Effort};
use crate::domain::commands::command_state::CommandState;
use crate::domain::ids::{AgentId, CommandId, JobId, TenantId};
use crate::store::StoreError;
use crate::store::entities::commands::command;
use crate::store::entities::commands::command::Column;

/// The conditions of the partial indexes, exactly as in the migration: both databases compare the
/// text.
const UNINDEXED: &str = "NOT is_indexed";
const INDEXED: &str = "is_indexed";
const INDEXED_OF_AGENT: &str = "is_indexed = TRUE";
const INDEXED_OF_SCRIPT: &str = "is_indexed <> FALSE";
const UNSUCCESSFUL: &str = "finished_at IS NOT NULL AND state <> 'succeeded'";

/// A walk along one index, and where in it. New commands are in one index and indexed commands in
/// others, so both need a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Walk<'a> {
    /// New commands, which are not indexed yet.
    Unindexed,
    /// All indexed commands.
    Indexed,
    IndexedOfAgent(AgentId),
    IndexedOfScript(&'a str),
    /// Commands of a job in one state.
    OfJob(JobId, CommandState),
    /// Commands that ended in a state other than `succeeded`.
    Unsuccessful(CommandState),
    /// Open commands of one agent or of all agents, at most `most`.
    Open {
        of: Option<AgentId>,
        most: u64,
    },
}

/// The part of a tenant's history to read.
pub(super) struct Stretch<'a> {
    pub snapshot: &'a DatabaseTransaction,
    pub tenant_id: TenantId,
    pub filter: &'a CommandFilter,
    /// The smallest id that can match.
    pub first: Option<Uuid>,
    /// Ids must be below this one.
    pub before: Option<Uuid>,
    pub effort: Effort,
}

impl Stretch<'_> {
    /// The id at which a walk has taken all its steps. `None` if it reaches the end before that, or
    /// if everything that it meets matches.
    pub(super) async fn floor(&self, walk: &Walk<'_>) -> Result<Option<Uuid>, StoreError> {
        if walk.is_exact(self.filter) {
            return Ok(None);
        }
        Ok(self.floor_query(walk).into_tuple().all(self.snapshot).await?.pop())
    }

    pub(super) fn floor_query(&self, walk: &Walk<'_>) -> Select<command::Entity> {
        self.along(walk)
            .select_only()
            .column(Column::Id)
            .order_by_desc(Column::Id)
            .offset(self.effort.steps - 1)
            .limit(1)
    }

    /// The newest matching commands of a walk down to its floor, in any order.
    pub(super) async fn rows(
        &self,
        walk: &Walk<'_>,
        floor: Option<Uuid>,
        limit: u64,
    ) -> Result<Vec<command::Model>, StoreError> {
        if !matches!(walk, Walk::Open { .. }) {
            return Ok(self.rows_query(walk, floor, limit).all(self.snapshot).await?);
        }
        // Sorted here: with an `ORDER BY` the database may walk a whole index instead of reading
        // the few open commands.
        let query = self.open_query(walk, floor).into_tuple::<CommandId>();
        let mut ids = query.all(self.snapshot).await?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        ids.sort_unstable_by_key(|id| Reverse(*id));
        ids.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(command::Entity::find().filter(Column::Id.is_in(ids)).all(self.snapshot).await?)
    }

    pub(super) fn rows_query(
        &self,
        walk: &Walk<'_>,
        floor: Option<Uuid>,
        limit: u64,
    ) -> Select<command::Entity> {
        self.matching_commands(walk, floor).order_by_desc(Column::Id).limit(limit)
    }

    /// Ids of the matching open commands, in any order.
    pub(super) fn open_query(
        &self,
        walk: &Walk<'_>,
        floor: Option<Uuid>,
    ) -> Select<command::Entity> {
        self.matching_commands(walk, floor).select_only().column(Column::Id)
    }

    fn matching_commands(&self, walk: &Walk<'_>, floor: Option<Uuid>) -> Select<command::Entity> {
        // No condition twice: a database multiplies their estimates and takes another index.
        let mut query = matching(self.along(walk), &walk.rest(self.filter));
        if !walk.names_tenant() {
            query = query.filter(Column::TenantId.eq(self.tenant_id));
        }
        match floor {
            Some(floor) => query.filter(Column::Id.gte(floor)),
            None => query,
        }
    }

    /// True if more commands are open than may be read one by one.
    pub(super) async fn is_much_open(&self, agent_id: Option<AgentId>) -> Result<bool, StoreError> {
        let query = self.much_open_query(agent_id);
        Ok(query.into_tuple::<Uuid>().all(self.snapshot).await?.pop().is_some())
    }

    pub(super) fn much_open_query(&self, agent_id: Option<AgentId>) -> Select<command::Entity> {
        let mut query = command::Entity::find()
            .select_only()
            .column(Column::Id)
            .filter(Column::FinishedAt.is_null())
            .order_by_asc(Column::AgentId)
            .order_by_asc(Column::Id)
            .offset(self.effort.open)
            .limit(1);
        if let Some(agent_id) = agent_id {
            query = query.filter(Column::AgentId.eq(agent_id));
        }
        query
    }

    fn along(&self, walk: &Walk<'_>) -> Select<command::Entity> {
        let mut query = command::Entity::find();
        for condition in walk.conditions(self.tenant_id) {
            query = query.filter(condition);
        }
        if let Some(before) = self.before {
            query = query.filter(Column::Id.lt(before));
        }
        if let Some(first) = self.first {
            query = query.filter(Column::Id.gte(first));
        }
        query
    }
}

impl Walk<'_> {
    /// The index of the walk.
    pub(super) const fn index(&self) -> &'static str {
        match self {
            Self::Unindexed => "commands_unindexed",
            Self::Indexed => "commands_history",
            Self::IndexedOfAgent(_) => "commands_agent",
            Self::IndexedOfScript(_) => "commands_script",
            Self::OfJob(..) => "commands_job",
            Self::Unsuccessful(_) => "commands_unsuccessful",
            Self::Open { .. } => "commands_open",
        }
    }

    /// The conditions that select the index, and the position in it.
    fn conditions(&self, tenant_id: TenantId) -> Vec<SimpleExpr> {
        let tenant = || Column::TenantId.eq(tenant_id);
        match *self {
            Self::Unindexed => vec![tenant(), Expr::cust(UNINDEXED)],
            Self::Indexed => vec![tenant(), Expr::cust(INDEXED)],
            Self::IndexedOfAgent(id) => {
                vec![tenant(), Column::AgentId.eq(id), Expr::cust(INDEXED_OF_AGENT)]
            }
            Self::IndexedOfScript(name) => {
                vec![tenant(), Column::Script.eq(name), Expr::cust(INDEXED_OF_SCRIPT)]
            }
            Self::OfJob(id, state) => vec![Column::JobId.eq(id), Column::State.eq(state)],
            Self::Unsuccessful(state) => {
                vec![tenant(), Column::State.eq(state), Expr::cust(UNSUCCESSFUL)]
            }
            Self::Open { of, most } => {
                let mut open = Query::select()
                    .column(Column::Id)
                    .from(command::Entity)
                    .and_where(Column::FinishedAt.is_null())
                    .order_by(Column::AgentId, Order::Asc)
                    .order_by(Column::Id, Order::Asc)
                    .limit(most)
                    .take();
                if let Some(agent_id) = of {
                    open.and_where(Column::AgentId.eq(agent_id));
                }
                vec![Column::Id.in_subquery(open)]
            }
        }
    }

    /// True if the conditions of the walk name the tenant.
    const fn names_tenant(&self) -> bool {
        !matches!(self, Self::OfJob(..) | Self::Open { .. })
    }

    /// True if everything that the walk meets matches the filter.
    fn is_exact(&self, filter: &CommandFilter) -> bool {
        // Open commands are few.
        matches!(self, Self::Open { .. }) || self.rest(filter) == CommandFilter::default()
    }

    /// What the conditions of the walk leave of the filter.
    fn rest(&self, filter: &CommandFilter) -> CommandFilter {
        let mut rest = filter.clone();
        match self {
            Self::Open { .. } | Self::Unindexed | Self::Indexed => {}
            Self::IndexedOfAgent(_) => rest.agent_id = None,
            Self::IndexedOfScript(_) => (rest.script, rest.is_execution) = (None, false),
            Self::OfJob(..) => {
                (rest.job_id, rest.is_execution) = (None, false);
                rest.states.clear();
            }
            Self::Unsuccessful(_) => rest.states.clear(),
        }
        rest
    }
}
