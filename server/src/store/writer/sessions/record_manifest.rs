//! Stores the manifests and policies that hosts report, within what a tenant may store.

use std::collections::{BTreeSet, HashMap, HashSet};

use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QuerySelect as _,
};

use crate::domain::fleet::agent::AgentEventKind;
use crate::domain::fleet::reported_manifest::ManifestInForce;
use crate::domain::ids::{AgentId, EventId, TenantId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::tenant;
use crate::store::entities::fleet::{agent, agent_event, agent_manifest};
use crate::store::writer::connection::WriteTx;
use crate::store::writer::epoch::Epochs;
use crate::store::writer::rows::pad_to_power_of_two;
use crate::store::writer::{BatchOperation, MAX_LIST, rows};

/// Replaces the last report of an agent.
pub struct RecordManifest {
    pub tenant_id: TenantId,
    pub agent_id: AgentId,
    pub epoch: i64,
    /// Its `in_force_since` is kept from the last report if that had the same manifest.
    pub row: agent_manifest::Model,
    /// Stored instead if the tenant has no room for the report.
    pub refused: agent_manifest::Model,
    /// Policy of the host, if it changed within this session.
    pub new_policy: Option<String>,
    /// What all manifests of the tenant may come to.
    pub limit: ManifestSize,
}

/// The size of manifests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ManifestSize {
    pub bytes: i64,
    pub scripts: i64,
}

/// What was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedManifest {
    /// The tenant has no room for the report.
    pub is_refused: bool,
    /// Which manifest is in force now, if the host has rejected or accepted one since the last
    /// report. The agent has an event then.
    pub changed: Option<ManifestInForce>,
}

/// What an agent reported before.
struct KnownManifest {
    size: ManifestSize,
    digest: Option<Vec<u8>>,
    error: Option<String>,
    in_force_since: Timestamp,
}

impl KnownManifest {
    fn in_force(&self) -> ManifestInForce {
        ManifestInForce::of(self.error.is_some(), self.size.scripts)
    }
}

impl ManifestSize {
    fn of(row: &agent_manifest::Model) -> Self {
        Self { bytes: row.size_bytes, scripts: row.script_count }
    }

    /// The sum without one manifest and with another one.
    fn replacing(self, old: Self, new: Self) -> Self {
        Self {
            bytes: self.bytes - old.bytes + new.bytes,
            scripts: self.scripts - old.scripts + new.scripts,
        }
    }

    fn is_within(self, limit: Self) -> bool {
        self.bytes <= limit.bytes && self.scripts <= limit.scripts
    }
}

impl BatchOperation for RecordManifest {
    type Done = RecordedManifest;

    fn session(&self) -> Option<(AgentId, i64)> {
        Some((self.agent_id, self.epoch))
    }

    async fn apply(
        tx: &WriteTx<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<RecordedManifest, StoreError>>, DbErr> {
        let transaction = tx.transaction;
        let epochs = Epochs::read(tx, operations.iter().map(|op| op.agent_id)).await?;
        // One statement can't touch a row twice: of several reports of one agent the last counts.
        let mut last: Vec<&Self> = Vec::with_capacity(operations.len());
        for operation in operations.iter().filter(|op| epochs.may_write(op.agent_id, op.epoch)) {
            last.retain(|row| row.agent_id != operation.agent_id);
            last.push(operation);
        }
        for row in last.iter().filter(|row| row.new_policy.is_some()) {
            agent::Entity::update_many()
                .col_expr(agent::Column::Policy, row.new_policy.clone().into())
                .filter(agent::Column::Id.eq(row.agent_id))
                .exec(transaction)
                .await?;
        }
        let known = known(transaction, &last).await?;
        let refused = count(transaction, &last, &known).await?;
        let mut changed = HashMap::new();
        let (mut stored, mut events) = (Vec::with_capacity(last.len()), Vec::new());
        for operation in last {
            let is_refused = refused.contains(&operation.agent_id);
            let mut row = if is_refused { &operation.refused } else { &operation.row }.clone();
            let known = known.get(&operation.agent_id);
            if let Some(known) = known.filter(|it| it.digest.is_some() && it.digest == row.digest) {
                row.in_force_since = known.in_force_since;
            }
            if let Some((in_force, event)) = operation.event(&row, known) {
                changed.insert(operation.agent_id, in_force);
                events.push(event.into_active_model());
            }
            stored.push(row.into_active_model());
        }
        let replace = OnConflict::column(agent_manifest::Column::AgentId)
            .update_columns([
                agent_manifest::Column::Manifest,
                agent_manifest::Column::Digest,
                agent_manifest::Column::Error,
                agent_manifest::Column::ForbiddenCommands,
                agent_manifest::Column::ReportedAt,
                agent_manifest::Column::SizeBytes,
                agent_manifest::Column::ScriptCount,
                agent_manifest::Column::InForceSince,
            ])
            .to_owned();
        rows::insert(transaction, stored, Some(replace)).await?;
        rows::insert(transaction, events, None).await?;
        let result = |op: &Self| {
            epochs.check(op.agent_id, op.epoch)?;
            let is_refused = refused.contains(&op.agent_id);
            Ok(RecordedManifest { is_refused, changed: changed.get(&op.agent_id).copied() })
        };
        Ok(operations.iter().map(result).collect())
    }
}

impl RecordManifest {
    /// The event of a manifest that was rejected, or accepted after a rejected one.
    fn event(
        &self,
        row: &agent_manifest::Model,
        known: Option<&KnownManifest>,
    ) -> Option<(ManifestInForce, agent_event::Model)> {
        let in_force = ManifestInForce::of(row.error.is_some(), row.script_count);
        let before = known.map(|it| (it.in_force(), it.error.as_deref()));
        if before.unwrap_or((ManifestInForce::Newest, None)) == (in_force, row.error.as_deref()) {
            return None;
        }
        let detail = in_force.explain(row.error.as_deref().unwrap_or_default());
        let kind = match in_force {
            ManifestInForce::Newest => AgentEventKind::ManifestAccepted,
            _ => AgentEventKind::ManifestRejected,
        };
        let event = agent_event::Model {
            id: EventId::new(),
            tenant_id: self.tenant_id,
            agent_id: self.agent_id,
            kind,
            detail,
            at: row.reported_at,
        };
        Some((in_force, event))
    }
}

/// Adds the reports to the sums of their tenants, and returns the agents whose reports have no room.
/// A report that is no larger than the last one of its agent always has.
async fn count(
    transaction: &DatabaseTransaction,
    operations: &[&RecordManifest],
    known: &HashMap<AgentId, KnownManifest>,
) -> Result<HashSet<AgentId>, DbErr> {
    let before = sums(transaction, operations).await?;
    let mut sums = before.clone();
    let mut refused = HashSet::new();
    for operation in operations {
        // Without a row there is no tenant, and nothing to limit.
        let Some(sum) = sums.get_mut(&operation.tenant_id) else { continue };
        let old = known.get(&operation.agent_id).map(|it| it.size).unwrap_or_default();
        let new = ManifestSize::of(&operation.row);
        let after = sum.replacing(old, new);
        *sum = if after.is_within(operation.limit) || new.is_within(old) {
            after
        } else {
            refused.insert(operation.agent_id);
            sum.replacing(old, ManifestSize::of(&operation.refused))
        };
    }
    for (id, sum) in sums.into_iter().filter(|(id, sum)| before.get(id) != Some(sum)) {
        tenant::Entity::update_many()
            .col_expr(tenant::Column::ManifestBytes, sum.bytes.into())
            .col_expr(tenant::Column::ManifestScripts, sum.scripts.into())
            .filter(tenant::Column::Id.eq(id))
            .exec(transaction)
            .await?;
    }
    Ok(refused)
}

/// What these agents have reported before.
async fn known(
    transaction: &DatabaseTransaction,
    operations: &[&RecordManifest],
) -> Result<HashMap<AgentId, KnownManifest>, DbErr> {
    type Row = (AgentId, i64, i64, Option<Vec<u8>>, Option<String>, Timestamp);
    let mut found = HashMap::with_capacity(operations.len());
    for operations in operations.chunks(MAX_LIST) {
        let ids = pad_to_power_of_two(operations.iter().map(|op| op.agent_id));
        let rows: Vec<Row> = agent_manifest::Entity::find()
            .select_only()
            .column(agent_manifest::Column::AgentId)
            .column(agent_manifest::Column::SizeBytes)
            .column(agent_manifest::Column::ScriptCount)
            .column(agent_manifest::Column::Digest)
            .column(agent_manifest::Column::Error)
            .column(agent_manifest::Column::InForceSince)
            .filter(agent_manifest::Column::AgentId.is_in(ids))
            .into_tuple()
            .all(transaction)
            .await?;
        found.extend(rows.into_iter().map(
            |(id, bytes, scripts, digest, error, in_force_since)| {
                let size = ManifestSize { bytes, scripts };
                (id, KnownManifest { size, digest, error, in_force_since })
            },
        ));
    }
    Ok(found)
}

/// The sums of these agents' tenants.
async fn sums(
    transaction: &DatabaseTransaction,
    operations: &[&RecordManifest],
) -> Result<HashMap<TenantId, ManifestSize>, DbErr> {
    let ids: BTreeSet<TenantId> = operations.iter().map(|op| op.tenant_id).collect();
    let rows: Vec<(TenantId, i64, i64)> = tenant::Entity::find()
        .select_only()
        .column(tenant::Column::Id)
        .column(tenant::Column::ManifestBytes)
        .column(tenant::Column::ManifestScripts)
        .filter(tenant::Column::Id.is_in(pad_to_power_of_two(ids)))
        .into_tuple()
        .all(transaction)
        .await?;
    let size = |(id, bytes, scripts)| (id, ManifestSize { bytes, scripts });
    Ok(rows.into_iter().map(size).collect())
}
