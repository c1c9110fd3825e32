//! Starts the waves of rollouts: compares what agents have reported with what they are to have, and takes the next
//! step. Each round decides from what is stored, so the server may stop at any time.

use std::collections::HashMap;
use std::time::Duration;

use muster_protocol::{CommandName, error_chain};
use serde_json::json;
use tokio::time::timeout;

use super::request::policy_of;
use crate::domain::fleet::target::facts::Facts;
use crate::domain::ids::AgentId;
use crate::domain::library::assignment_records::{AssignmentRecord, AssignmentStateRecord};
use crate::domain::library::assignment_rollout::plan::{
    AssignmentStep, MemberShare, RolloutMember, RolloutWave, plan_rollout,
};
use crate::domain::library::assignment_rollout::{
    AssignmentRollout, RolloutShare, RolloutState, ShareState, next_state, state_of_report,
};
use crate::domain::time::Timestamp;
use crate::services::access::caller::AuditAction;
use crate::services::library::assignments::{Assignments, subject, target_of};
use crate::store::StoreError;
use crate::store::queries::RolloutDecision;

/// Delay between two rounds while a wave is under way.
const BUSY_INTERVAL: Duration = Duration::from_millis(500);
/// Delay between two rounds while rollouts wait for agents or people.
const IDLE_INTERVAL: Duration = Duration::from_secs(5);
/// Delay between two rounds without a rollout.
const QUIET_INTERVAL: Duration = Duration::from_secs(60);

/// What rollouts wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RolloutActivity {
    /// There is none.
    Quiet,
    /// Agents that are offline, or a person.
    Idle,
    /// A wave is under way.
    Busy,
}

/// An agent of the target, and when its current or last session started.
type AgentOfTarget = (Facts, Timestamp);

impl Assignments {
    /// Waits until the next round is needed. `took` is the length of the last round: rounds use at most a tenth of the
    /// time, however large the fleets.
    pub async fn next_rollout_round(&self, activity: RolloutActivity, took: Duration) {
        let interval = match activity {
            RolloutActivity::Busy => BUSY_INTERVAL,
            RolloutActivity::Idle => IDLE_INTERVAL,
            RolloutActivity::Quiet => QUIET_INTERVAL,
        };
        // Both a change and the timeout start another round.
        let longest = interval.max(took.saturating_mul(9));
        let _ = timeout(longest, self.rollouts_changed.notified()).await;
    }

    /// Takes the next step of every rollout. One that fails does not affect the others.
    ///
    /// # Errors
    /// [`StoreError`] if the rollouts can't be read; the next round tries again.
    pub async fn reconcile_rollouts(&self) -> Result<RolloutActivity, StoreError> {
        let mut activity = RolloutActivity::Quiet;
        for rollout in self.store.system().rollouts_under_way().await? {
            let assignment_id = rollout.assignment_id;
            let one = self.reconcile_rollout(rollout).await;
            activity = activity.max(one.unwrap_or_else(|error| {
                let error = error_chain(&error);
                tracing::warn!(%assignment_id, error, "failed to reconcile a rollout; retrying");
                RolloutActivity::Idle
            }));
        }
        Ok(activity)
    }

    async fn reconcile_rollout(
        &self,
        rollout: AssignmentRollout,
    ) -> Result<RolloutActivity, StoreError> {
        let tenant = self.store.tenant(rollout.tenant_id);
        let Some(row) = tenant.assignment(rollout.assignment_id).await? else {
            return Ok(RolloutActivity::Quiet);
        };
        let Ok(target) = target_of(&row) else { return Ok(RolloutActivity::Quiet) };
        let agents: Vec<AgentOfTarget> = tenant
            .all_agents(&target.fact_names(), |id| self.hub.is_connected(id))
            .await?
            .into_iter()
            .filter(|(facts, _)| target.matches(facts))
            .collect();
        let now = self.clock.now();
        let shares = tenant.rollout_shares(row.id).await?;
        let ids: Vec<AgentId> = shares.iter().map(|share| share.agent_id).collect();
        let reports = tenant.assignment_states(row.id, &ids).await?;
        let mut shares: HashMap<AgentId, RolloutShare> =
            shares.into_iter().map(|share| (share.agent_id, share)).collect();
        let changed = self.evaluate(&row, &mut shares, &reports, now);
        let is_current = changed.is_empty()
            || tenant.advance_rollout(rollout.clone(), rollout.wave, changed).await?;
        if !is_current {
            return Ok(RolloutActivity::Busy);
        }
        if rollout.state == RolloutState::Halted {
            return Ok(RolloutActivity::Idle);
        }
        let members = self.members(&row, &agents, &shares).await?;
        self.advance(row, rollout, &members, now).await
    }

    /// Compares shares with reports, and returns those that have changed.
    fn evaluate(
        &self,
        row: &AssignmentRecord,
        shares: &mut HashMap<AgentId, RolloutShare>,
        reports: &HashMap<AgentId, AssignmentStateRecord>,
        now: Timestamp,
    ) -> Vec<RolloutShare> {
        let mut changed = Vec::new();
        for share in shares.values_mut() {
            let report = reports.get(&share.agent_id);
            let reported = state_of_report(report, &row.content_version, row.kind);
            let is_online = self.hub.is_connected(share.agent_id);
            let next = next_state(share, reported, is_online, now);
            if next != share.state {
                (share.state, share.changed_at) = (next, now);
                changed.push(share.clone());
            }
        }
        changed
    }

    async fn members(
        &self,
        row: &AssignmentRecord,
        agents: &[AgentOfTarget],
        shares: &HashMap<AgentId, RolloutShare>,
    ) -> Result<Vec<RolloutMember>, StoreError> {
        let facts = agents.iter().map(|(facts, _)| facts);
        let holds = self.holds(row, facts, agents.len()).await?;
        let member = |(facts, connected_at): &AgentOfTarget| {
            let session = self.hub.session(facts.id);
            let takes_it = session.is_some_and(|session| {
                session.takes_assignments()
                    && session.grant().permissions.allows(CommandName::Execute)
            });
            RolloutMember {
                id: facts.id,
                is_online: facts.is_online,
                connected_at: *connected_at,
                is_permitted: takes_it && !holds.contains_key(&facts.id),
                share: shares.get(&facts.id).map(|share| MemberShare {
                    wave: share.wave,
                    state: share.state,
                    changed_at: share.changed_at,
                }),
            }
        };
        Ok(agents.iter().map(member).collect())
    }

    async fn advance(
        &self,
        row: AssignmentRecord,
        mut rollout: AssignmentRollout,
        members: &[RolloutMember],
        now: Timestamp,
    ) -> Result<RolloutActivity, StoreError> {
        let tenant = self.store.tenant(rollout.tenant_id);
        loop {
            let is_healthy = rollout.wave <= rollout.healthy_wave;
            let wave = RolloutWave { number: rollout.wave, is_healthy };
            match plan_rollout(policy_of(&rollout), wave, members, now) {
                AssignmentStep::Idle => return Ok(RolloutActivity::Idle),
                AssignmentStep::Wait => return Ok(RolloutActivity::Busy),
                AssignmentStep::WaveHealthy
                    if tenant.pass_rollout_wave(rollout.clone()).await? =>
                {
                    rollout.healthy_wave = rollout.wave;
                }
                AssignmentStep::WaveHealthy => return Ok(RolloutActivity::Busy),
                AssignmentStep::StartWave(chosen) => {
                    self.start_wave(&row, rollout, chosen, now).await?;
                    return Ok(RolloutActivity::Busy);
                }
                AssignmentStep::Halt(reason) => {
                    self.halt(&row, rollout, reason, now).await?;
                    return Ok(RolloutActivity::Idle);
                }
                AssignmentStep::Finish => {
                    self.finish(&row, rollout, now).await?;
                    return Ok(RolloutActivity::Busy);
                }
            }
        }
    }

    async fn start_wave(
        &self,
        row: &AssignmentRecord,
        rollout: AssignmentRollout,
        chosen: Vec<AgentId>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (wave, agents) = (rollout.wave + 1, chosen.len());
        let state = ShareState::Updating;
        let share = |agent_id| RolloutShare { agent_id, wave, state, changed_at: now };
        let shares = chosen.into_iter().map(share).collect();
        if self.store.tenant(row.tenant_id).advance_rollout(rollout, wave, shares).await? {
            let version = row.content_version.as_str();
            tracing::info!(assignment_id = %row.id, wave, agents, version, "started a wave of an assignment");
            self.changed.notify_one();
        }
        Ok(())
    }

    async fn halt(
        &self,
        row: &AssignmentRecord,
        rollout: AssignmentRollout,
        reason: String,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        tracing::info!(assignment_id = %row.id, wave = rollout.wave, reason, "rollout of an assignment halted");
        let detail = json!({"wave": rollout.wave, "reason": reason});
        let audit = AuditAction {
            tenant_id: row.tenant_id,
            action: "assignment.halt",
            subject: subject(row.id),
            detail: &detail,
            at: now,
        }
        .by_system();
        let now = now.max(rollout.changed_at.plus_ms(1));
        self.store.tenant(row.tenant_id).halt_rollout(rollout, reason, now, audit).await?;
        Ok(())
    }

    async fn finish(
        &self,
        row: &AssignmentRecord,
        rollout: AssignmentRollout,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let detail = json!({"name": row.name, "script": row.reference(), "wave": rollout.wave});
        let audit = AuditAction {
            tenant_id: row.tenant_id,
            action: "assignment.finish",
            subject: subject(row.id),
            detail: &detail,
            at: now,
        }
        .by_system();
        let decision = RolloutDecision::Finish(rollout);
        if self.store.tenant(row.tenant_id).decide_rollout(decision, audit).await? {
            self.changed.notify_one();
        }
        Ok(())
    }
}
