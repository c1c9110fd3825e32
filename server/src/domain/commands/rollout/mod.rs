//! Rollouts: a job in waves, which halts when too many executions fail. Pure: the caller passes in
//! the state of executions and agents. `domain/waves` decides each step.

pub mod plan;
#[cfg(test)]
mod simulation;
pub mod step;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::field_error::{FieldError, FieldErrorCode};
use crate::domain::waves::amount::{Amount, AmountError};
use crate::domain::waves::gate::HealthGate;

/// Longest pause between two waves: 24 h.
pub const MAX_PAUSE_MS: i64 = 24 * 3_600_000;
/// Longest `for_ms` and `within_ms` of a health gate: 24 h.
pub const MAX_GATE_MS: i64 = 24 * 3_600_000;
/// Default of `within_ms`: 10 minutes.
pub const DEFAULT_WITHIN_MS: i64 = 10 * 60_000;

/// A number, or a percentage of all agents such as "25%".
#[derive(utoipa::ToSchema)]
#[serde(untagged)]
pub enum RolloutAmount {
    Number(u64),
    Share(String),
}

/// Runs the job in waves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutSpec {
    /// Agents in a wave: a number from 1, or a percentage of all agents such as "25%", rounded up.
    /// A wave starts when every execution of the previous wave has ended.
    #[schema(value_type = RolloutAmount)]
    #[serde(default)]
    pub wave_size: Value,
    /// Pause between the end of a wave and the start of the next, at most 24 h. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_ms: Option<i64>,
    /// Failures that the rollout tolerates: a number from 0, or a percentage of all agents such as
    /// "5%", rounded down. One more failure halts it. Every end other than `succeeded` is a failure,
    /// except for skipped agents. Default: failures never halt the rollout.
    #[schema(value_type = Option<RolloutAmount>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failures: Option<Value>,
    /// If true, each execution in flight counts as a possible failure: an execution starts only
    /// while failures and executions in flight together are at most `max_failures`, so the limit is
    /// exceeded by one at most. If false, a wave starts as a whole, and all of it may fail. Needs
    /// `max_failures`. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count_in_flight: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_gate: Option<GateSpec>,
    /// How to treat agents that are offline when the job is created or when their wave starts. By
    /// default they stay in their wave, which waits for them until their executions expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline: Option<Offline>,
}

/// The health that the agents of a wave must show before the next wave starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GateSpec {
    /// Each agent is connected and sends heartbeats. Must be true if given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online: Option<bool>,
    /// How long each agent must stay connected without interruption, counted from the end of the
    /// wave, pause included. At most 24 h.
    pub for_ms: i64,
    /// The rollout halts if the agents are not healthy within this time after the pause. At most
    /// 24 h. Default: 10 minutes, or `for_ms` if that is longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<i64>,
}

/// How a rollout treats agents that are offline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Offline {
    /// They form the last wave.
    LastWave,
    /// They are skipped: their executions end as `cancelled`, with the code `skipped_offline`.
    Skip,
}

/// A validated rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rollout {
    pub wave_size: Amount,
    pub pause_ms: u64,
    pub max_failures: Option<Amount>,
    pub counts_in_flight: bool,
    pub gate: Option<HealthGate>,
    pub offline: Option<Offline>,
}

/// A field of a rollout is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` {problem}", error.field)]
pub struct RolloutError {
    pub error: FieldError,
    pub problem: String,
}

impl RolloutError {
    fn new(field: &str, code: FieldErrorCode, problem: impl Into<String>) -> Self {
        Self { error: FieldError::new(field, code), problem: problem.into() }
    }
}

impl TryFrom<&RolloutSpec> for Rollout {
    type Error = RolloutError;

    fn try_from(spec: &RolloutSpec) -> Result<Self, RolloutError> {
        let wave_size = amount("rollout.wave_size", &spec.wave_size, 1)?;
        let max_failures = spec.max_failures.as_ref();
        let max_failures =
            max_failures.map(|value| amount("rollout.max_failures", value, 0)).transpose()?;
        if spec.count_in_flight.is_some() && max_failures.is_none() {
            let (field, code) = ("rollout.count_in_flight", FieldErrorCode::Conflict);
            let error = FieldError::with_limit(field, code, "rollout.max_failures");
            return Err(RolloutError { error, problem: "needs `max_failures`".into() });
        }
        Ok(Self {
            wave_size,
            pause_ms: within("rollout.pause_ms", spec.pause_ms.unwrap_or(0), 0..=MAX_PAUSE_MS)?,
            max_failures,
            counts_in_flight: spec.count_in_flight.unwrap_or(true),
            gate: spec.health_gate.as_ref().map(HealthGate::try_from).transpose()?,
            offline: spec.offline,
        })
    }
}

impl TryFrom<&GateSpec> for HealthGate {
    type Error = RolloutError;

    fn try_from(spec: &GateSpec) -> Result<Self, RolloutError> {
        if spec.online == Some(false) {
            let problem = "must be true";
            return Err(RolloutError::new(
                "rollout.health_gate.online",
                FieldErrorCode::Invalid,
                problem,
            ));
        }
        let for_ms = within("rollout.health_gate.for_ms", spec.for_ms, 0..=MAX_GATE_MS)?;
        let within_ms = spec.within_ms.unwrap_or(DEFAULT_WITHIN_MS.max(spec.for_ms));
        let within_ms = within("rollout.health_gate.within_ms", within_ms, 1..=MAX_GATE_MS)?;
        if within_ms < for_ms {
            let problem = "must be at least `for_ms`";
            let (field, code) = ("rollout.health_gate.within_ms", FieldErrorCode::TooSmall);
            let error = FieldError::with_limit(field, code, for_ms);
            return Err(RolloutError { error, problem: problem.into() });
        }
        Ok(Self { for_ms, within_ms })
    }
}

impl Rollout {
    /// Failures that do not halt a rollout to this many agents; `None`: failures never halt it.
    pub fn failure_limit(&self, agents: u64) -> Option<u64> {
        self.max_failures.map(|amount| amount.failure_limit(agents))
    }
}

fn amount(field: &'static str, value: &Value, least: u64) -> Result<Amount, RolloutError> {
    Amount::read(value, least).map_err(|error: AmountError| RolloutError {
        error: error.of(field),
        problem: error.to_string(),
    })
}

fn within(
    field: &'static str,
    value: i64,
    range: std::ops::RangeInclusive<i64>,
) -> Result<u64, RolloutError> {
    if let Ok(fits) = u64::try_from(value)
        && range.contains(&value)
    {
        return Ok(fits);
    }
    let (code, limit) = match value < *range.start() {
        true => (FieldErrorCode::TooSmall, *range.start()),
        false => (FieldErrorCode::TooLarge, *range.end()),
    };
    let error = FieldError::with_limit(field, code, limit.unsigned_abs());
    Err(RolloutError {
        error,
        problem: format!("must be from {} to {}", range.start(), range.end()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(spec: Value) -> Result<Rollout, RolloutError> {
        Rollout::try_from(&serde_json::from_value::<RolloutSpec>(spec).expect("its shape"))
    }

    #[test]
    fn an_invalid_rollout_is_refused_with_the_name_of_its_field() {
        for (spec, field) in [
            (json!({}), "wave_size"),
            (json!({"wave_size": 0}), "wave_size"),
            (json!({"wave_size": -1}), "wave_size"),
            (json!({"wave_size": 1.5}), "wave_size"),
            (json!({"wave_size": "0%"}), "wave_size"),
            (json!({"wave_size": "101%"}), "wave_size"),
            (json!({"wave_size": "-5%"}), "wave_size"),
            (json!({"wave_size": "ten"}), "wave_size"),
            (json!({"wave_size": 10_001}), "wave_size"),
            (json!({"wave_size": 1, "max_failures": -1}), "max_failures"),
            (json!({"wave_size": 1, "max_failures": "101%"}), "max_failures"),
            (json!({"wave_size": 1, "max_failures": [3]}), "max_failures"),
            (json!({"wave_size": 1, "count_in_flight": false}), "count_in_flight"),
            (json!({"wave_size": 1, "pause_ms": -1}), "pause_ms"),
            (json!({"wave_size": 1, "pause_ms": MAX_PAUSE_MS + 1}), "pause_ms"),
            (json!({"wave_size": 1, "health_gate": {"for_ms": -1}}), "health_gate.for_ms"),
            (
                json!({"wave_size": 1, "health_gate": {"for_ms": 0, "online": false}}),
                "health_gate.online",
            ),
            (
                json!({"wave_size": 1, "health_gate": {"for_ms": 9, "within_ms": 8}}),
                "health_gate.within_ms",
            ),
        ] {
            let error = read(spec.clone()).expect_err(&spec.to_string());
            assert_eq!(error.error.field, format!("rollout.{field}"), "{spec}");
        }
    }

    #[test]
    fn a_rollout_survives_writing_and_reading() {
        let request = json!({"wave_size": "25%", "pause_ms": 5, "max_failures": 3,
            "health_gate": {"for_ms": 1_000}, "offline": "last_wave"});
        let spec: RolloutSpec = serde_json::from_value(request.clone()).expect("its shape");
        assert_eq!(serde_json::to_value(&spec).expect("plain"), request);
        let rollout = Rollout::try_from(&spec).expect("fits");
        let within_ms = DEFAULT_WITHIN_MS.unsigned_abs();
        assert_eq!(rollout.gate, Some(HealthGate { for_ms: 1_000, within_ms }));
        assert_eq!((rollout.failure_limit(10), rollout.counts_in_flight), (Some(3), true));
    }
}
