//! Reconciles groups: compares the version that each group wants with what its agents run, and takes
//! the next step. Each round decides from what is stored, so the server may stop at any time.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::timeout;

use super::update_attempts::Updates;
use super::{Groups, is_compatible, rollout_policy};
use crate::domain::ids::{GroupId, TenantId};
use crate::domain::releases::group::attempt::BUSY;
use crate::domain::releases::group::cohort::Cohort;
use crate::domain::releases::group::plan::{NextStep, plan_group};
use crate::domain::releases::group::{
    CurrentWave, GroupState, Member, MemberProgress, UpdateState,
};
use crate::domain::time::Timestamp;
use crate::domain::waves::INVALID_API_KEY;
use crate::services::fleet::group_membership::GroupMember;
use crate::store::StoreError;
use crate::store::entities::releases::group;
use muster_protocol::error_chain;

/// Delay between two rounds while updates are under way.
const BUSY_INTERVAL: Duration = Duration::from_millis(500);
/// Delay between two rounds otherwise.
const IDLE_INTERVAL: Duration = Duration::from_secs(30);
/// Delay before a group is tried again that failed to reconcile.
const RETRY_MS: u64 = 5_000;

/// When another round is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReconcileOutcome {
    /// Updates are under way.
    Busy,
    /// At that instant, or when something changes.
    Idle { until: Option<Timestamp> },
}

/// The agents of each group, by tenant; read at most once a round.
type MembersByTenant = HashMap<TenantId, HashMap<GroupId, Vec<GroupMember>>>;

impl Groups {
    /// Waits until the next round is needed. `took` is the length of the last round: rounds use at
    /// most a tenth of the time, however large the fleets.
    pub async fn wait(&self, outcome: ReconcileOutcome, took: Duration) {
        let mut arrivals = self.hub.subscribe_connects();
        let shortest = BUSY_INTERVAL.max(took.saturating_mul(9));
        let interval = match outcome {
            ReconcileOutcome::Busy => shortest,
            ReconcileOutcome::Idle { until: None } => IDLE_INTERVAL,
            ReconcileOutcome::Idle { until: Some(until) } => {
                IDLE_INTERVAL.min(Duration::from_millis(until.ms_since(self.clock.now())))
            }
        };
        let change = async {
            tokio::select! {
                () = self.changed.notified() => {}
                // An agent that connects may need an update.
                _ = arrivals.changed(), if outcome != ReconcileOutcome::Busy => {
                    tokio::time::sleep(shortest).await;
                }
            }
        };
        // Both a change and the timeout start another round.
        let _ = timeout(interval.max(shortest), change).await;
    }

    /// Takes the next step of every group. A group that fails does not affect the others.
    ///
    /// # Errors
    /// [`StoreError`] if the groups cannot be read; the next round tries again.
    pub async fn reconcile_all(&self) -> Result<ReconcileOutcome, StoreError> {
        let mut outcome = ReconcileOutcome::UNCHANGED;
        let mut members = MembersByTenant::new();
        for row in self.store.system().groups_under_way().await? {
            let group_id = row.id;
            let one = self.reconcile_one(row, &mut members).await;
            outcome = outcome.and(one.unwrap_or_else(|error| {
                let error = error_chain(&error);
                tracing::warn!(%group_id, error, "failed to reconcile a group; retrying");
                let until = Some(self.clock.now().plus_ms(RETRY_MS));
                ReconcileOutcome::Idle { until }
            }));
        }
        Ok(outcome)
    }

    async fn reconcile_one(
        &self,
        row: group::Model,
        members: &mut MembersByTenant,
    ) -> Result<ReconcileOutcome, StoreError> {
        let tenant = self.store.tenant(row.tenant_id);
        let updates = tenant.group_updates(row.id).await?;
        let updates = updates.into_iter().filter(|update| update.generation == row.generation);
        let mut updates: Updates = updates.map(|update| (update.agent_id, update)).collect();
        let Some(version) = row.desired_version.clone() else {
            return Ok(ReconcileOutcome::UNCHANGED);
        };
        if row.state != GroupState::Active {
            // No more updates are requested, but the results of earlier requests count.
            return self.record_outcomes(row, &mut updates).await;
        }
        if let Entry::Vacant(entry) = members.entry(row.tenant_id) {
            let is_online = |id| self.hub.is_connected(id);
            entry.insert(self.membership.members(row.tenant_id, is_online).await?);
        }
        let members = members.get(&row.tenant_id).and_then(|groups| groups.get(&row.id));
        self.reconcile_group(row, &version, members.map_or(&[], Vec::as_slice), updates).await
    }

    /// Records the results of agents in a group that requests no updates.
    async fn record_outcomes(
        &self,
        row: group::Model,
        updates: &mut Updates,
    ) -> Result<ReconcileOutcome, StoreError> {
        let now = self.clock.now();
        let evaluated = self.evaluate_updates(&row, updates, &BTreeSet::new(), now).await?;
        let changed = evaluated.changed;
        // A group that is paused or halted is resumed with a key that is valid.
        let _ = self.request_probes(&row, evaluated.unsent_probes).await?;
        let is_under_way = updates.values().any(|update| update.state == UpdateState::Updating);
        if !changed.is_empty() {
            let wave = row.wave;
            self.store.tenant(row.tenant_id).advance_group(row, wave, changed).await?;
        }
        Ok(if is_under_way { ReconcileOutcome::Busy } else { ReconcileOutcome::UNCHANGED })
    }

    /// True if the key that requests the updates of the group is revoked or has expired.
    async fn is_requester_invalid(
        &self,
        row: &group::Model,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let requesters = BTreeSet::from([row.requested_by]);
        Ok(!self.store.system().invalid_requesters(requesters, now).await?.is_empty())
    }

    async fn reconcile_group(
        &self,
        mut row: group::Model,
        version: &str,
        members: &[GroupMember],
        mut updates: Updates,
    ) -> Result<ReconcileOutcome, StoreError> {
        let now = self.clock.now();
        let tenant = self.store.tenant(row.tenant_id);
        let up_to_date = members.iter().filter(|member| member.facts.version == version);
        let up_to_date = up_to_date.map(|member| member.facts.id).collect();
        let evaluated = self.evaluate_updates(&row, &mut updates, &up_to_date, now).await?;
        let changed = evaluated.changed;
        let is_requester_valid = self.request_probes(&row, evaluated.unsent_probes).await?;
        if !changed.is_empty() && !tenant.advance_group(row.clone(), row.wave, changed).await? {
            return Ok(ReconcileOutcome::Busy);
        }
        if !is_requester_valid {
            self.halt(row, invalid_requester(), now).await?;
            return Ok(ReconcileOutcome::UNCHANGED);
        }
        let release = self.desired_release(version).await?;
        let all = members;
        let members: Vec<_> = members
            .iter()
            .filter(|member| is_compatible(&member.facts, release.as_ref()))
            .map(|member| planned_member(member, version, &updates))
            .collect();
        let facts: Vec<_> = all.iter().map(|member| &member.facts).collect();
        let block = self.guard.calendar_block(row.tenant_id, &facts, now).await;
        // Updates wait if it is not known.
        let Ok(block) = block else { return Ok(ReconcileOutcome::UNCHANGED) };
        loop {
            let wave = CurrentWave { number: row.wave, is_healthy: row.wave <= row.healthy_wave };
            match plan_group(rollout_policy(&row), wave, &members, now) {
                NextStep::Idle { until } => return Ok(ReconcileOutcome::Idle { until }),
                NextStep::WaveHealthy if tenant.end_group_wave(row.clone()).await? => {
                    row.healthy_wave = row.wave;
                    continue;
                }
                NextStep::Wait | NextStep::WaveHealthy => {}
                NextStep::Halt(reason) => {
                    self.halt(row, reason, now).await?;
                    return Ok(ReconcileOutcome::UNCHANGED);
                }
                // The next round asks again.
                NextStep::StartWave(_) if block.is_some() => {
                    let reason = block.map(|block| block.to_string());
                    tracing::debug!(group_id = %row.id, reason, "a calendar holds back a wave");
                    return Ok(ReconcileOutcome::UNCHANGED);
                }
                NextStep::StartWave(_) if release.is_none() => {
                    self.halt(row, withdrawn(version), now).await?;
                    return Ok(ReconcileOutcome::UNCHANGED);
                }
                NextStep::StartWave(_) if self.is_requester_invalid(&row, now).await? => {
                    self.halt(row, invalid_requester(), now).await?;
                    return Ok(ReconcileOutcome::UNCHANGED);
                }
                NextStep::StartWave(chosen) => {
                    self.start_wave(row, version, chosen, &updates, now).await?;
                }
            }
            return Ok(ReconcileOutcome::Busy);
        }
    }
}

fn invalid_requester() -> String {
    format!("Halted: {INVALID_API_KEY}. Resume the group with another key.")
}

fn withdrawn(version: &str) -> String {
    format!(
        "Halted: release {version} was withdrawn. Set another version, or publish the release \
         again and resume the group."
    )
}

impl ReconcileOutcome {
    /// Nothing to do until something changes.
    const UNCHANGED: Self = Self::Idle { until: None };

    /// The earlier need of two groups.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Idle { until: one }, Self::Idle { until: another }) => {
                Self::Idle { until: one.into_iter().chain(another).min() }
            }
            _ => Self::Busy,
        }
    }
}

pub(super) fn planned_member(member: &GroupMember, version: &str, updates: &Updates) -> Member {
    let facts = &member.facts;
    let update = updates.get(&facts.id);
    Member {
        id: facts.id,
        is_online: facts.is_online,
        connected_at: member.connected_at,
        is_up_to_date: facts.version == version,
        // A new version may report more, and stays in the cohort that it was chosen from.
        cohort: update.map_or_else(|| Cohort::of(facts), |update| Cohort::parse(&update.cohort)),
        progress: update.map(|update| MemberProgress {
            wave: update.wave,
            state: update.state,
            is_busy: update.code.as_deref() == Some(BUSY),
            due_at: update.due_at,
            changed_at: update.changed_at,
            is_canary: update.is_canary,
            is_probed: update.probe_command_id.is_some(),
        }),
    }
}
