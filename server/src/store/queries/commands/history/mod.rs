//! All commands of a tenant, filtered, newest first, in pages.
//!
//! The cost of a page does not grow with the history. Every filter is answered by walking an index
//! downwards from the cursor ([`scan`]). If an index also contains other commands, the walk stops
//! after [`Effort::steps`] entries, and the next page continues there. If several indexes are
//! possible, the one whose walk reaches furthest back is used ([`choose`]).

mod choose;
mod explain;
mod predicate;
mod scan;

use std::cmp::Reverse;
use std::collections::HashMap;

use sea_orm::{
    AccessMode, ColumnTrait as _, ConnectionTrait, DatabaseTransaction, DbBackend,
    EntityTrait as _, IsolationLevel, QueryFilter as _, TransactionTrait as _,
};

pub use self::explain::Explained;
use self::scan::Stretch;
use super::commands::CommandWithReport;
use crate::domain::commands::command_state::CommandState;
use crate::domain::commands::records::ReportRecord;
use crate::domain::commands::trigger::Trigger;
use crate::domain::ids::{AgentId, JobId, PrincipalId, first_id_at};
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::commands::{command, command_report};
use crate::store::queries::TenantScope;

/// How much later than `created_at` an id may be created: all executions of a large job have the
/// same `created_at`.
const ID_LAG_MS: u64 = 1_000;

/// For PostgreSQL, until the end of the transaction.
const INDEXES_ONLY: &str = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; \
    SET LOCAL enable_sort = off";

/// Most agents of a filter: SQLite binds at most 32,766 values in one statement.
pub const MAX_FILTER_AGENTS: usize = 30_000;

/// Which commands to return. By default all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandFilter {
    /// Only `execute` commands.
    pub is_execution: bool,
    pub agent_id: Option<AgentId>,
    /// On one of these agents, at most [`MAX_FILTER_AGENTS`].
    pub agents: Option<Vec<AgentId>>,
    pub job_id: Option<JobId>,
    pub script: Option<String>,
    /// In one of these states. If empty, in any state.
    pub states: Vec<CommandState>,
    /// At this instant or later.
    pub created_after: Option<Timestamp>,
    /// Before this instant.
    pub created_before: Option<Timestamp>,
    pub trigger: Option<Trigger>,
    pub requested_by: Option<PrincipalId>,
}

/// How much one page may cost.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Index entries that one walk reads, whether they match or not.
    pub steps: u64,
    /// Open commands that are read one by one. If there are more, another index is used.
    pub open: u64,
}

impl Default for Effort {
    fn default() -> Self {
        Self { steps: 4_000, open: 2_000 }
    }
}

impl TenantScope {
    /// One page of commands, newest first. It may be short or empty although more follow: only a
    /// page without a next cursor is the last.
    pub async fn commands(
        &self,
        filter: &CommandFilter,
        page: PageRequest,
    ) -> Result<Page<CommandWithReport>, StoreError> {
        self.commands_within(filter, page, Effort::default()).await
    }

    /// [`Self::commands`] with another effort.
    pub async fn commands_within(
        &self,
        filter: &CommandFilter,
        page: PageRequest,
        effort: Effort,
    ) -> Result<Page<CommandWithReport>, StoreError> {
        if let Some(job_id) = filter.job_id
            && self.job(job_id).await?.is_none()
        {
            return Ok(Page { items: Vec::new(), next_cursor: None });
        }
        let snapshot = self.snapshot().await?;
        let stretch = self.stretch(&snapshot, filter, page, effort);
        let page = read(&stretch, page).await;
        // It only read, so a failed rollback loses nothing.
        let _ = snapshot.rollback().await;
        page
    }

    fn stretch<'a>(
        &self,
        snapshot: &'a DatabaseTransaction,
        filter: &'a CommandFilter,
        page: PageRequest,
        effort: Effort,
    ) -> Stretch<'a> {
        let end = filter.created_before.map(|at| first_id_at(at.plus_ms(ID_LAG_MS)));
        Stretch {
            snapshot,
            tenant_id: self.tenant_id,
            filter,
            first: filter.created_after.map(first_id_at),
            before: [page.after, end].into_iter().flatten().min(),
            effort,
        }
    }

    /// A consistent view. Commands are indexed and change their states in the meantime, and several
    /// walks together must meet each command once.
    async fn snapshot(&self) -> Result<DatabaseTransaction, StoreError> {
        Ok(match self.reader.get_database_backend() {
            DbBackend::Postgres => {
                let (isolation, access) = (IsolationLevel::RepeatableRead, AccessMode::ReadOnly);
                let snapshot = self.reader.begin_with_config(Some(isolation), Some(access)).await?;
                // The walks must use their indexes, even if the planner's statistics suggest
                // otherwise.
                snapshot.execute_unprepared(INDEXES_ONLY).await?;
                snapshot
            }
            _ => self.reader.begin().await?,
        })
    }
}

async fn read(
    stretch: &Stretch<'_>,
    page: PageRequest,
) -> Result<Page<CommandWithReport>, StoreError> {
    let choice = stretch.choose().await?;
    let mut rows = Vec::new();
    for walk in &choice.walks {
        rows.extend(stretch.rows(walk, choice.floor, page.limit + 1).await?);
    }
    rows.sort_unstable_by_key(|row| Reverse(row.id));
    rows.truncate(usize::try_from(page.limit + 1).unwrap_or(usize::MAX));
    let rows = with_reports(stretch.snapshot, rows).await?;
    let page = Page::of(rows, page, |row| row.command.id.0);
    let next_cursor = page.next_cursor.or(choice.floor.map(|id| id.to_string()));
    Ok(Page { next_cursor, ..page })
}

/// Adds to each command the report of its agent.
pub(in crate::store::queries) async fn with_reports(
    snapshot: &impl ConnectionTrait,
    commands: Vec<command::Model>,
) -> Result<Vec<CommandWithReport>, StoreError> {
    let mut reports = HashMap::with_capacity(commands.len());
    if !commands.is_empty() {
        let found = command_report::Entity::find()
            .filter(command_report::Column::CommandId.is_in(commands.iter().map(|row| row.id)))
            .all(snapshot)
            .await?;
        reports.extend(found.into_iter().map(|report| (report.command_id, report)));
    }
    let with_report = |command: command::Model| {
        let report = reports.remove(&command.id).map(ReportRecord::from);
        CommandWithReport { command: command.into(), report, approval: None }
    };
    Ok(commands.into_iter().map(with_report).collect())
}
