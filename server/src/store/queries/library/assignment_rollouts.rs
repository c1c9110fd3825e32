//! Rollouts of assignments: their waves, and the agents that waves have reached.

use std::collections::{HashMap, HashSet};

use sea_orm::sea_query::OnConflict;
use sea_orm::{
    AccessMode, ActiveModelTrait as _, ColumnTrait as _, DatabaseConnection, DatabaseTransaction,
    DbBackend, EntityTrait as _, IntoActiveModel as _, IsolationLevel, PaginatorTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, TransactionTrait as _,
};

use crate::domain::ids::{AgentId, AssignmentId, ContentId, TenantId};
use crate::domain::library::assignment_records::AssignmentRecord;
use crate::domain::library::assignment_rollout::{
    AssignmentRollout, RolloutShare, RolloutState, ShareState,
};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::library::{assignment, assignment_rollout, rollout_share};
use crate::store::queries::{SystemScope, TenantScope};
use crate::store::requester::write_audit;

/// The version can't change while a rollout is under way.
pub const ROLLOUT_UNDER_WAY: &str = "a rollout of the assignment is under way";
/// Rows in one statement.
const ROWS_AT_ONCE: usize = 500;

/// What a person decides about a rollout.
#[derive(Debug, Clone)]
pub enum RolloutDecision {
    /// Go on: what has failed counts no more, and the health gate of the last wave is waived.
    Resume(AssignmentRollout),
    /// All agents get the version that the assignment names.
    Finish(AssignmentRollout),
    /// The assignment names the former version again.
    Abort { rollout: AssignmentRollout, row: Box<AssignmentRecord>, was_changed_at: Timestamp },
}

impl TenantScope {
    /// A view in which assignments and their rollouts belong together.
    pub(super) async fn assignment_view(&self) -> Result<DatabaseTransaction, StoreError> {
        Ok(match self.reader.get_database_backend() {
            DbBackend::Postgres => {
                let (isolation, access) = (IsolationLevel::RepeatableRead, AccessMode::ReadOnly);
                self.reader.begin_with_config(Some(isolation), Some(access)).await?
            }
            _ => self.reader.begin().await?,
        })
    }

    /// The rollouts of the tenant that are under way, with the agents that their waves have reached.
    pub(super) async fn reached_by_rollouts(
        &self,
        snapshot: &DatabaseTransaction,
    ) -> Result<HashMap<AssignmentId, (AssignmentRollout, HashSet<AgentId>)>, StoreError> {
        let rollouts = of_tenant(self.tenant_id).all(snapshot).await?;
        let mut rollouts: HashMap<AssignmentId, (AssignmentRollout, HashSet<AgentId>)> = rollouts
            .into_iter()
            .map(|row| (row.assignment_id, (row.into(), HashSet::new())))
            .collect();
        if rollouts.is_empty() {
            return Ok(rollouts);
        }
        let shares = rollout_share::Entity::find()
            .filter(rollout_share::Column::TenantId.eq(self.tenant_id))
            .all(snapshot)
            .await?;
        for share in shares {
            if let Some((_, reached)) = rollouts.get_mut(&share.assignment_id) {
                reached.insert(share.agent_id);
            }
        }
        Ok(rollouts)
    }

    /// The rollouts of the tenant that are under way, by assignment.
    pub async fn assignment_rollouts(
        &self,
    ) -> Result<HashMap<AssignmentId, AssignmentRollout>, StoreError> {
        let rows = of_tenant(self.tenant_id).all(&self.reader).await?;
        Ok(rows.into_iter().map(|row| (row.assignment_id, row.into())).collect())
    }

    /// The rollout of one assignment.
    pub async fn assignment_rollout(
        &self,
        id: AssignmentId,
    ) -> Result<Option<AssignmentRollout>, StoreError> {
        let query =
            of_tenant(self.tenant_id).filter(assignment_rollout::Column::AssignmentId.eq(id));
        Ok(query.one(&self.reader).await?.map(Into::into))
    }

    /// The agents that waves of an assignment have reached.
    pub async fn rollout_shares(&self, id: AssignmentId) -> Result<Vec<RolloutShare>, StoreError> {
        let query = rollout_share::Entity::find()
            .filter(rollout_share::Column::TenantId.eq(self.tenant_id))
            .filter(rollout_share::Column::AssignmentId.eq(id))
            .order_by_asc(rollout_share::Column::AgentId);
        Ok(query.all(&self.reader).await?.into_iter().map(Into::into).collect())
    }

    /// Stores how far agents are, and which wave was started. False if the rollout is no longer equal to
    /// `decided_on`.
    pub async fn advance_rollout(
        &self,
        decided_on: AssignmentRollout,
        wave: i32,
        shares: Vec<RolloutShare>,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let (decided_on, shares) = (decided_on.clone(), shares.clone());
                Box::pin(async move {
                    if !is_still(transaction, &decided_on).await? {
                        return Ok(false);
                    }
                    write_shares(transaction, &decided_on, &shares).await?;
                    if wave != decided_on.wave {
                        write(transaction, AssignmentRollout { wave, ..decided_on }).await?;
                    }
                    Ok(true)
                })
            })
            .await
    }

    /// Marks the last wave as healthy. False if the rollout is no longer equal to `decided_on`.
    pub async fn pass_rollout_wave(
        &self,
        decided_on: AssignmentRollout,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let decided_on = decided_on.clone();
                Box::pin(async move {
                    if !is_still(transaction, &decided_on).await? {
                        return Ok(false);
                    }
                    let healthy_wave = decided_on.wave;
                    write(transaction, AssignmentRollout { healthy_wave, ..decided_on }).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Halts a rollout. False if it is no longer equal to `decided_on`.
    pub async fn halt_rollout(
        &self,
        decided_on: AssignmentRollout,
        reason: String,
        now: Timestamp,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let (decided_on, reason) = (decided_on.clone(), reason.clone());
                let audit = audit.clone();
                Box::pin(async move {
                    if !is_still(transaction, &decided_on).await? {
                        return Ok(false);
                    }
                    let halted = AssignmentRollout {
                        state: RolloutState::Halted,
                        halt_reason: Some(reason),
                        changed_at: now,
                        ..decided_on
                    };
                    write(transaction, halted).await?;
                    write_audit(transaction, audit).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Carries out what a person, or the last wave, decides. False if the rollout or its assignment has changed.
    pub async fn decide_rollout(
        &self,
        decision: RolloutDecision,
        audit: audit_entry::Model,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let (decision, audit) = (decision.clone(), audit.clone());
                Box::pin(async move {
                    if !is_still(transaction, decision.rollout()).await? {
                        return Ok(false);
                    }
                    match decision {
                        RolloutDecision::Resume(rollout) => {
                            resume(transaction, rollout, audit.at).await?;
                        }
                        RolloutDecision::Finish(rollout) => {
                            end_rollout(transaction, rollout.assignment_id).await?;
                        }
                        RolloutDecision::Abort { rollout, row, was_changed_at } => {
                            let found = assignment::Entity::find_by_id(row.id)
                                .filter(assignment::Column::ChangedAt.eq(was_changed_at))
                                .filter(assignment::Column::DeletedAt.is_null());
                            if found.count(transaction).await? == 0 {
                                return Ok(false);
                            }
                            let row = assignment::Model::from(*row);
                            row.into_active_model().reset_all().update(transaction).await?;
                            end_rollout(transaction, rollout.assignment_id).await?;
                        }
                    }
                    write_audit(transaction, audit).await?;
                    Ok(true)
                })
            })
            .await
    }
}

impl RolloutDecision {
    fn rollout(&self) -> &AssignmentRollout {
        match self {
            Self::Resume(rollout) | Self::Finish(rollout) | Self::Abort { rollout, .. } => rollout,
        }
    }
}

impl SystemScope {
    /// Every rollout that is under way.
    pub async fn rollouts_under_way(&self) -> Result<Vec<AssignmentRollout>, StoreError> {
        let query = assignment_rollout::Entity::find()
            .order_by_asc(assignment_rollout::Column::AssignmentId);
        Ok(query.all(&self.reader).await?.into_iter().map(Into::into).collect())
    }
}

fn of_tenant(tenant_id: TenantId) -> sea_orm::Select<assignment_rollout::Entity> {
    assignment_rollout::Entity::find().filter(assignment_rollout::Column::TenantId.eq(tenant_id))
}

/// Stores a new rollout.
///
/// # Errors
/// [`StoreError::Refused`] if the assignment has one already.
pub(super) async fn start_rollout(
    transaction: &DatabaseTransaction,
    rollout: AssignmentRollout,
) -> Result<(), StoreError> {
    refuse_under_way(transaction, rollout.assignment_id).await?;
    let row = assignment_rollout::Model::from(rollout);
    assignment_rollout::Entity::insert(row.into_active_model())
        .exec_without_returning(transaction)
        .await?;
    Ok(())
}

/// # Errors
/// [`StoreError::Refused`] while a rollout of the assignment is under way.
pub(super) async fn refuse_under_way(
    transaction: &DatabaseTransaction,
    id: AssignmentId,
) -> Result<(), StoreError> {
    match assignment_rollout::Entity::find_by_id(id).count(transaction).await? {
        0 => Ok(()),
        _ => Err(StoreError::Refused(ROLLOUT_UNDER_WAY)),
    }
}

/// What agents of this tenant have until their wave starts.
pub(super) async fn former_contents(
    reader: &DatabaseConnection,
    tenant_id: TenantId,
) -> Result<Vec<ContentId>, StoreError> {
    let found: Vec<Option<ContentId>> = assignment_rollout::Entity::find()
        .select_only()
        .column(assignment_rollout::Column::FormerContentId)
        .filter(assignment_rollout::Column::TenantId.eq(tenant_id))
        .into_tuple()
        .all(reader)
        .await?;
    Ok(found.into_iter().flatten().collect())
}

/// True if agents have this until their wave starts.
pub(super) async fn is_former(
    transaction: &DatabaseTransaction,
    id: ContentId,
) -> Result<bool, StoreError> {
    let found = assignment_rollout::Entity::find()
        .filter(assignment_rollout::Column::FormerContentId.eq(id));
    Ok(found.count(transaction).await? > 0)
}

/// Deletes the rollout of an assignment and its shares, if there is one.
pub(super) async fn end_rollout(
    transaction: &DatabaseTransaction,
    id: AssignmentId,
) -> Result<(), StoreError> {
    assignment_rollout::Entity::delete_by_id(id).exec(transaction).await?;
    rollout_share::Entity::delete_many()
        .filter(rollout_share::Column::AssignmentId.eq(id))
        .exec(transaction)
        .await?;
    Ok(())
}

async fn resume(
    transaction: &DatabaseTransaction,
    rollout: AssignmentRollout,
    now: Timestamp,
) -> Result<(), StoreError> {
    rollout_share::Entity::update_many()
        .col_expr(rollout_share::Column::State, ShareState::Accepted.as_str().into())
        .filter(rollout_share::Column::AssignmentId.eq(rollout.assignment_id))
        .filter(rollout_share::Column::State.is_in([ShareState::Failed, ShareState::Unreachable]))
        .exec(transaction)
        .await?;
    let resumed = AssignmentRollout {
        state: RolloutState::Running,
        halt_reason: None,
        healthy_wave: rollout.wave,
        changed_at: now.max(rollout.changed_at.plus_ms(1)),
        ..rollout
    };
    write(transaction, resumed).await
}

async fn is_still(
    transaction: &DatabaseTransaction,
    decided_on: &AssignmentRollout,
) -> Result<bool, StoreError> {
    let query = assignment_rollout::Entity::find_by_id(decided_on.assignment_id);
    let found = query.one(transaction).await?.map(AssignmentRollout::from);
    Ok(found.as_ref() == Some(decided_on))
}

async fn write(
    transaction: &DatabaseTransaction,
    rollout: AssignmentRollout,
) -> Result<(), StoreError> {
    let row = assignment_rollout::Model::from(rollout);
    row.into_active_model().reset_all().update(transaction).await?;
    Ok(())
}

async fn write_shares(
    transaction: &DatabaseTransaction,
    rollout: &AssignmentRollout,
    shares: &[RolloutShare],
) -> Result<(), StoreError> {
    use rollout_share::Column;
    for shares in shares.chunks(ROWS_AT_ONCE) {
        let rows = shares.iter().map(|share| {
            rollout_share::Model {
                assignment_id: rollout.assignment_id,
                agent_id: share.agent_id,
                tenant_id: rollout.tenant_id,
                wave: share.wave,
                state: share.state,
                changed_at: share.changed_at,
            }
            .into_active_model()
        });
        let columns = [Column::AssignmentId, Column::AgentId];
        let replaced = [Column::Wave, Column::State, Column::ChangedAt];
        rollout_share::Entity::insert_many(rows)
            .on_conflict(OnConflict::columns(columns).update_columns(replaced).to_owned())
            .exec_without_returning(transaction)
            .await?;
    }
    Ok(())
}
