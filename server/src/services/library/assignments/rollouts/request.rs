//! Reads and checks how a version is to reach the agents.

use serde_json::{Value, json};

use crate::domain::library::assignment_records::AssignmentRecord;
use crate::domain::library::assignment_rollout::{
    AssignmentRollout, FormerVersion, RolloutState, WavePolicy,
};
use crate::domain::waves::amount::Amount;
use crate::domain::waves::gate::MAX_HEALTHY_MS;
use crate::services::error::{Result, ServiceError};

/// How a version is to reach the agents.
#[derive(Debug, Clone)]
pub struct RolloutRequest {
    /// A number, or a percentage.
    pub wave_size: Value,
    /// A number, or a percentage.
    pub max_failures: Option<Value>,
    pub healthy_for_ms: Option<u64>,
}

impl RolloutRequest {
    /// The rollout of an assignment that begins now.
    ///
    /// # Errors
    /// 422 names the field.
    pub(in crate::services::library::assignments) fn begin(
        &self,
        row: &AssignmentRecord,
        former: Option<FormerVersion>,
    ) -> Result<AssignmentRollout> {
        let amount = |field: &'static str, value: &Value, least| {
            Amount::read(value, least)
                .map_err(|error| ServiceError::field(error.of(field), &error.to_string()))
        };
        amount("rollout.wave_size", &self.wave_size, 1)?;
        let max_failures = self.max_failures.clone().unwrap_or_else(|| json!(0));
        amount("rollout.max_failures", &max_failures, 0)?;
        let healthy_for_ms = self.healthy_for_ms.unwrap_or_default();
        if healthy_for_ms > MAX_HEALTHY_MS {
            let bounds = 0..=MAX_HEALTHY_MS;
            let field = "rollout.healthy_for_ms";
            return Err(ServiceError::out_of_range(field, healthy_for_ms, bounds));
        }
        Ok(AssignmentRollout {
            assignment_id: row.id,
            tenant_id: row.tenant_id,
            former,
            wave_size: self.wave_size.to_string(),
            max_failures: max_failures.to_string(),
            healthy_for_ms: healthy_for_ms.cast_signed(),
            state: RolloutState::Running,
            halt_reason: None,
            wave: 0,
            healthy_wave: 0,
            started_at: row.changed_at,
            changed_at: row.changed_at,
        })
    }
}

/// The policy of a rollout. Its values were validated before they were stored.
pub(super) fn policy_of(rollout: &AssignmentRollout) -> WavePolicy {
    let amount = |text: &str, least, default| {
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        Amount::read(&value, least).unwrap_or(default)
    };
    WavePolicy {
        wave_size: amount(&rollout.wave_size, 1, Amount::Count(1)),
        max_failures: amount(&rollout.max_failures, 0, Amount::Count(0)),
        healthy_for_ms: rollout.healthy_for_ms.unsigned_abs(),
    }
}
