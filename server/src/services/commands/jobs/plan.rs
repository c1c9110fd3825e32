//! From a roll-out as it is asked for to the places of its agents.

use super::{JobRequest, Jobs};
use crate::domain::commands::command_state::{CommandState, EndReason};
use crate::domain::commands::rollout::plan::{Place, Plan};
use crate::domain::commands::rollout::step::{Standing, Step};
use crate::domain::commands::rollout::{Rollout, RolloutError};
use crate::domain::ids::{AgentId, JobId, TenantId};
use crate::domain::time::Timestamp;
use crate::services::error::{Result, ServiceError};
use crate::store::entities::commands::{command, rollout};

/// A roll-out that was checked.
pub(super) struct Asked {
    /// As it was asked for, JSON.
    pub(super) text: String,
    rollout: Rollout,
}

/// A roll-out whose agents have their places.
pub(super) struct Planned {
    text: String,
    plan: Plan,
    /// Executions of the first wave that start with the job.
    released: u64,
}

/// What an agent's execution begins as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InitialState {
    /// It may be sent now.
    Free {
        wave: Option<i32>,
    },
    Held {
        wave: i32,
    },
    Skipped,
}

impl JobRequest {
    /// The roll-out, if there is one, checked.
    pub(super) fn asked_rollout(&self) -> Result<Option<Asked>> {
        let Some(spec) = &self.rollout else { return Ok(None) };
        let refused = |error: RolloutError| ServiceError::Invalid {
            code: "invalid_field",
            detail: error.to_string(),
        };
        let rollout = Rollout::try_from(spec).map_err(refused)?;
        Ok(Some(Asked { text: serde_json::json!(spec).to_string(), rollout }))
    }
}

impl Jobs {
    /// # Errors
    /// 422 `no_agents` if all of them are offline, and offline agents are left out.
    pub(super) async fn plan(&self, asked: Asked, agents: &[AgentId]) -> Result<Planned> {
        let online = self.store.system().online_agents(agents).await?;
        let is_online =
            agents.iter().map(|id| self.presence.is_online(*id, online.get(id).copied()));
        let plan = asked.rollout.plan(&is_online.collect::<Vec<_>>());
        if plan.wave_count == 0 {
            return Err(ServiceError::Invalid {
                code: "no_agents",
                detail: "every agent that the target means is offline, and the roll-out leaves \
                         such agents out"
                    .into(),
            });
        }
        let first = plan.places.iter().filter(|place| **place == Place::Wave(1)).count();
        let now = self.clock.now();
        let standing = Standing {
            agents: agents.len() as u64,
            wave: 1,
            wave_count: plan.wave_count,
            failures: 0,
            held: first as u64,
            in_flight: 0,
            has_begun: false,
            ended_at: None,
            waits_since: now,
            is_waived: false,
            health: &[],
        };
        let released = match asked.rollout.next_step(&standing, now) {
            Step::Release(count) => count,
            _ => 0,
        };
        Ok(Planned { text: asked.text, plan, released })
    }
}

impl Planned {
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

    /// What the executions begin as, in the order of their agents.
    pub(super) fn beginnings(&self) -> impl Iterator<Item = InitialState> {
        let mut free = self.released;
        self.plan.places.iter().map(move |place| match place {
            Place::Skipped => InitialState::Skipped,
            Place::Wave(1) if free > 0 => {
                free -= 1;
                InitialState::Free { wave: Some(1) }
            }
            Place::Wave(wave) => InitialState::Held { wave: wave.cast_signed() },
        })
    }
}

impl InitialState {
    /// Writes it into the row; true if the execution may be sent now.
    pub(super) fn apply(self, row: &mut command::Model) -> bool {
        match self {
            Self::Free { wave } => row.wave = wave,
            Self::Held { wave } => {
                row.wave = Some(wave);
                row.is_held = true;
                row.expires_at = Timestamp::NEVER;
            }
            Self::Skipped => {
                row.state = CommandState::Cancelled;
                row.end_reason = Some(EndReason::SkippedOffline);
                row.finished_at = Some(row.created_at);
                row.sealed_parameters = None;
            }
        }
        matches!(self, Self::Free { .. })
    }
}
