//! Plans the rollout of a new job: validates the request and assigns each agent to a wave.

use super::{JobRequest, Jobs};
use crate::domain::commands::command_state::{CommandState, EndReason};
use crate::domain::commands::rollout::plan::{Placement, WavePlan};
use crate::domain::commands::rollout::step::RolloutSnapshot;
use crate::domain::commands::rollout::{Rollout, RolloutError};
use crate::domain::ids::{AgentId, JobId, TenantId};
use crate::domain::time::Timestamp;
use crate::domain::waves::WaveStep;
use crate::services::error::{Result, ServiceError};
use crate::store::entities::commands::{command, rollout};

/// A validated rollout request.
pub(super) struct ValidRollout {
    /// The request, JSON.
    pub(super) text: String,
    rollout: Rollout,
}

/// A rollout with a wave for each agent.
pub(super) struct PlannedRollout {
    text: String,
    plan: WavePlan,
    /// Executions of the first wave that start when the job is created.
    ready_count: u64,
}

/// The state in which an agent's execution is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InitialState {
    /// It may be sent now.
    Ready {
        wave: Option<i32>,
    },
    Held {
        wave: i32,
    },
    Skipped(EndReason),
}

impl JobRequest {
    /// Validates the rollout, if there is one.
    pub(super) fn valid_rollout(&self) -> Result<Option<ValidRollout>> {
        let Some(spec) = &self.rollout else { return Ok(None) };
        let refused = |refused: RolloutError| ServiceError::field(refused.error, &refused.problem);
        let rollout = Rollout::try_from(spec).map_err(refused)?;
        Ok(Some(ValidRollout { text: serde_json::json!(spec).to_string(), rollout }))
    }
}

impl Jobs {
    /// Assigns each agent to a wave.
    ///
    /// # Errors
    /// 422 `all_agents_skipped` if every agent is offline and the rollout skips offline agents.
    pub(super) async fn plan_rollout(
        &self,
        request: ValidRollout,
        agents: &[AgentId],
    ) -> Result<PlannedRollout> {
        let online = self.store.system().online_agents(agents).await?;
        let is_online =
            agents.iter().map(|id| self.presence.is_online(*id, online.get(id).copied()));
        let plan = request.rollout.plan(&is_online.collect::<Vec<_>>());
        if plan.wave_count == 0 {
            return Err(ServiceError::Invalid {
                code: "all_agents_skipped",
                detail: "every agent that the target matches is offline, and the rollout skips \
                         offline agents"
                    .into(),
            });
        }
        let first =
            plan.placements.iter().filter(|placement| **placement == Placement::Wave(1)).count();
        let now = self.clock.now();
        let snapshot = RolloutSnapshot {
            agents: agents.len() as u64,
            wave: 1,
            wave_count: plan.wave_count,
            failures: 0,
            held: first as u64,
            in_flight: 0,
            has_started: false,
            ended_at: None,
            waits_since: now,
            is_waived: false,
            agent_health: &[],
        };
        let ready_count = match request.rollout.next_step(&snapshot, now) {
            WaveStep::Start(count) => count,
            _ => 0,
        };
        Ok(PlannedRollout { text: request.text, plan, ready_count })
    }
}

impl PlannedRollout {
    pub(super) fn row(&self, tenant_id: TenantId, id: JobId, expires_in_ms: u64) -> rollout::Model {
        rollout::Model {
            job_id: id,
            tenant_id,
            spec: self.text.clone(),
            expires_in_ms: expires_in_ms.cast_signed(),
            wave: 1,
            wave_count: self.plan.wave_count.cast_signed(),
            offline_wave: self.plan.offline_wave.map(u32::cast_signed),
            wave_ended_at: None,
            resumed_at: None,
            gate_waived_wave: None,
            ignored_failures: 0,
            halt_reason: None,
        }
    }

    /// The initial states of the executions, in the order of their agents.
    pub(super) fn initial_states(&self) -> impl Iterator<Item = InitialState> {
        let mut ready_left = self.ready_count;
        self.plan.placements.iter().map(move |placement| match placement {
            Placement::Skipped => InitialState::Skipped(EndReason::SkippedOffline),
            Placement::Wave(1) if ready_left > 0 => {
                ready_left -= 1;
                InitialState::Ready { wave: Some(1) }
            }
            Placement::Wave(wave) => InitialState::Held { wave: wave.cast_signed() },
        })
    }
}

impl InitialState {
    /// Writes it into the row; true if the execution may be sent now.
    pub(super) fn apply(self, row: &mut command::Model) -> bool {
        match self {
            Self::Ready { wave } => row.wave = wave,
            Self::Held { wave } => {
                row.wave = Some(wave);
                row.is_held = true;
                row.expires_at = Timestamp::NEVER;
            }
            Self::Skipped(reason) => {
                row.state = CommandState::Skipped;
                row.end_reason = Some(reason);
                row.finished_at = Some(row.created_at);
                row.sealed_parameters = None;
            }
        }
        matches!(self, Self::Ready { .. })
    }
}
