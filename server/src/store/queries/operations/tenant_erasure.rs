//! Deletes everything of a tenant whose grace period is over, slice by slice.
//!
//! Each slice is one transaction, so the server may stop at any moment: the next run continues with
//! what is left. The row of the tenant goes last. A test walks the schema and finds no row of it.

use sea_orm::sea_query::{Alias, Expr, ExprTrait as _, Query};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, DatabaseTransaction, EntityTrait as _,
    QueryFilter as _, QuerySelect as _, Select,
};

use super::sweeps::delete_commands;
use crate::domain::ids::{AgentId, CommandId, TenantId, UserId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::blobs::BlobName;
use crate::store::entities::access::{
    email_change, identity, member, passkey, password_reset, recovery_code, tenant, totp_secret,
    user,
};
use crate::store::entities::commands::command;
use crate::store::entities::fleet::{
    agent, agent_event, agent_fact, agent_fact_report, agent_ledger, agent_manifest,
    telemetry_sample,
};
use crate::store::queries::SystemScope;

/// Rows of a slice.
const SLICE_ROWS: u64 = 500;
/// Agents of a slice, each with its telemetry of a day.
const SLICE_AGENTS: u64 = 20;

/// Tables whose rows are deleted by `tenant_id` alone, with a column that distinguishes rows of a slice.
/// Commands, agents, members and the tenant itself have functions of their own.
const TABLES: [(&str, &str); 48] = [
    ("approvals", "id"),
    ("approval_rules", "id"),
    ("ladders", "tenant_id"),
    ("script_signatures", "id"),
    ("script_bodies", "id"),
    ("script_versions", "id"),
    ("scripts", "id"),
    ("service_controls", "agent_id"),
    ("assignment_states", "agent_id"),
    ("rollout_shares", "agent_id"),
    ("assignment_rollouts", "assignment_id"),
    ("assignments", "id"),
    ("package_signatures", "id"),
    ("packages", "id"),
    ("uploaded_files", "id"),
    ("calendars", "id"),
    ("fires", "id"),
    ("trigger_states", "id"),
    ("hook_deliveries", "id"),
    ("hooks", "id"),
    ("schedules", "id"),
    ("deliveries", "id"),
    ("alert_states", "rule_id"),
    ("alerts", "id"),
    ("alert_rules", "id"),
    ("key_notices", "key_id"),
    ("integrations", "id"),
    ("webhook_keys", "id"),
    ("idempotency_records", "key"),
    ("agent_updates", "agent_id"),
    ("client_certificates", "id"),
    ("agent_groups", "id"),
    ("rollouts", "job_id"),
    ("jobs", "id"),
    ("agent_events", "id"),
    ("invitations", "id"),
    ("user_sessions", "id"),
    ("retired_agent_secrets", "secret_hash"),
    ("agent_keys", "id"),
    ("api_keys", "id"),
    ("api_key_secrets", "secret_hash"),
    ("audit_entries", "id"),
    ("audit_links", "number"),
    ("audit_heads", "tenant_id"),
    ("audit_anchors", "tenant_id"),
    ("storage_usage", "tenant_id"),
    ("storage_days", "day"),
    ("storage_purges", "tenant_id"),
];

/// The result of a slice.
#[derive(Debug, Default)]
struct Erased {
    may_have_more: bool,
    /// Files that no row references after the commit.
    files: Vec<BlobName>,
}

impl SystemScope {
    /// Tenants whose grace period is over.
    pub async fn tenants_to_erase(&self, now: Timestamp) -> Result<Vec<TenantId>, StoreError> {
        Ok(tenant::Entity::find()
            .select_only()
            .column(tenant::Column::Id)
            .filter(tenant::Column::DeleteAt.lte(now))
            .into_tuple()
            .all(&self.reader)
            .await?)
    }

    /// Deletes a slice of such a tenant. True if there is more.
    pub async fn erase_slice(&self, id: TenantId, now: Timestamp) -> Result<bool, StoreError> {
        let erased = self
            .writer
            .change(move |transaction| Box::pin(erase_slice(transaction, id, now)))
            .await?;
        // After the commit. If the server crashes in between, a sweep deletes the files.
        self.delete_files(erased.files).await?;
        Ok(erased.may_have_more)
    }
}

async fn erase_slice(
    transaction: &DatabaseTransaction,
    id: TenantId,
    now: Timestamp,
) -> Result<Erased, StoreError> {
    let due = tenant::Entity::find_by_id(id).filter(tenant::Column::DeleteAt.lte(now));
    if due.all(transaction).await?.is_empty() {
        return Ok(Erased::default());
    }
    let more = |files| Erased { may_have_more: true, files };
    if let Some(files) = erase_commands(transaction, id).await? {
        return Ok(more(files));
    }
    if erase_agents(transaction, id).await? {
        return Ok(more(Vec::new()));
    }
    for (table, key) in TABLES {
        if erase_rows(transaction, table, key, id).await? {
            return Ok(more(Vec::new()));
        }
    }
    erase_members(transaction, id).await?;
    tenant::Entity::delete_by_id(id).exec(transaction).await?;
    Ok(Erased::default())
}

/// Commands with their reports and output. `None` if there are none.
async fn erase_commands(
    transaction: &DatabaseTransaction,
    id: TenantId,
) -> Result<Option<Vec<BlobName>>, StoreError> {
    // The two indexes of a tenant's commands have these conditions.
    for condition in ["NOT is_indexed", "is_indexed"] {
        let ids: Vec<CommandId> = command::Entity::find()
            .select_only()
            .column(command::Column::Id)
            .filter(command::Column::TenantId.eq(id))
            .filter(Expr::cust(condition))
            .limit(SLICE_ROWS)
            .into_tuple()
            .all(transaction)
            .await?;
        if !ids.is_empty() {
            return Ok(Some(delete_commands(transaction, ids).await?));
        }
    }
    Ok(None)
}

/// Agents with what they reported. True if there were any.
async fn erase_agents(transaction: &DatabaseTransaction, id: TenantId) -> Result<bool, StoreError> {
    let agents: Vec<AgentId> = agent::Entity::find()
        .select_only()
        .column(agent::Column::Id)
        .filter(agent::Column::TenantId.eq(id))
        .limit(SLICE_AGENTS)
        .into_tuple()
        .all(transaction)
        .await?;
    if agents.is_empty() {
        return Ok(false);
    }
    let of = || agents.iter().copied();
    let events: Select<agent_event::Entity> =
        agent_event::Entity::find().filter(agent_event::Column::AgentId.is_in(of()));
    let events: Vec<uuid::Uuid> = events
        .select_only()
        .column(agent_event::Column::Id)
        .limit(SLICE_ROWS)
        .into_tuple()
        .all(transaction)
        .await?;
    if !events.is_empty() {
        agent_event::Entity::delete_many()
            .filter(agent_event::Column::Id.is_in(events))
            .exec(transaction)
            .await?;
        return Ok(true);
    }
    agent_ledger::Entity::delete_many()
        .filter(agent_ledger::Column::AgentId.is_in(of()))
        .exec(transaction)
        .await?;
    agent_manifest::Entity::delete_many()
        .filter(agent_manifest::Column::AgentId.is_in(of()))
        .exec(transaction)
        .await?;
    agent_fact::Entity::delete_many()
        .filter(agent_fact::Column::AgentId.is_in(of()))
        .exec(transaction)
        .await?;
    agent_fact_report::Entity::delete_many()
        .filter(agent_fact_report::Column::AgentId.is_in(of()))
        .exec(transaction)
        .await?;
    telemetry_sample::Entity::delete_many()
        .filter(telemetry_sample::Column::AgentId.is_in(of()))
        .exec(transaction)
        .await?;
    agent::Entity::delete_many().filter(agent::Column::Id.is_in(of())).exec(transaction).await?;
    Ok(true)
}

/// A slice of one table. True if there was one.
async fn erase_rows(
    transaction: &DatabaseTransaction,
    table: &'static str,
    key: &'static str,
    id: TenantId,
) -> Result<bool, StoreError> {
    let is_own = || Expr::col(Alias::new("tenant_id")).eq(id);
    let slice = Query::select()
        .column(Alias::new(key))
        .from(Alias::new(table))
        .and_where(is_own())
        .limit(SLICE_ROWS)
        .take();
    let delete = Query::delete()
        .from_table(Alias::new(table))
        .and_where(is_own())
        .and_where(Expr::col(Alias::new(key)).in_subquery(slice))
        .take();
    Ok(transaction.execute(&delete).await?.rows_affected() > 0)
}

/// Members, and the people who are in no other tenant.
async fn erase_members(transaction: &DatabaseTransaction, id: TenantId) -> Result<(), StoreError> {
    let users: Vec<UserId> = member::Entity::find()
        .select_only()
        .column(member::Column::UserId)
        .distinct()
        .filter(member::Column::TenantId.eq(id))
        .into_tuple()
        .all(transaction)
        .await?;
    member::Entity::delete_many().filter(member::Column::TenantId.eq(id)).exec(transaction).await?;
    identity::Entity::update_many()
        .col_expr(identity::Column::FollowsIn, Expr::value(Option::<uuid::Uuid>::None))
        .filter(identity::Column::FollowsIn.eq(id))
        .exec(transaction)
        .await?;
    for users in users.chunks(usize::try_from(SLICE_ROWS).unwrap_or(1)) {
        let in_other_tenants = Query::select()
            .column(member::Column::UserId)
            .from(member::Entity)
            .and_where(member::Column::UserId.is_in(users.iter().copied()))
            .take();
        macro_rules! erase_of_users {
            ($($entity:ident),+) => {$(
                $entity::Entity::delete_many()
                    .filter($entity::Column::UserId.is_in(users.iter().copied()))
                    .filter($entity::Column::UserId.not_in_subquery(in_other_tenants.clone()))
                    .exec(transaction)
                    .await?;
            )+};
        }
        erase_of_users!(
            password_reset,
            email_change,
            identity,
            totp_secret,
            recovery_code,
            passkey
        );
        user::Entity::delete_many()
            .filter(user::Column::Id.is_in(users.iter().copied()))
            .filter(user::Column::Id.not_in_subquery(in_other_tenants))
            .exec(transaction)
            .await?;
    }
    Ok(())
}
