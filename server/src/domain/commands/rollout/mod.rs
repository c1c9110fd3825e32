//! Roll-outs: a job in waves, that stops by itself when too much goes wrong. Pure: what is known of
//! executions and agents is passed in.

pub mod amount;
pub mod gate;
pub mod plan;
#[cfg(test)]
mod simulation;
pub mod step;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::amount::{Amount, AmountError, Rounding};

/// Longest pause between two waves: 24 h.
pub const MAX_PAUSE_MS: i64 = 24 * 3_600_000;
/// Longest time that a gate may ask for, or be waited for: 24 h.
pub const MAX_GATE_MS: i64 = 24 * 3_600_000;
/// How long a gate is waited for, unless asked otherwise: 10 minutes.
pub const DEFAULT_WITHIN_MS: i64 = 10 * 60_000;
/// Most agents of a wave.
const MAX_WAVE: u64 = 10_000;

/// A number, or a share of all such as "25%"; for the API's description alone.
#[derive(utoipa::ToSchema)]
#[serde(untagged)]
pub enum RolloutAmount {
    Number(u64),
    Share(String),
}

/// A roll-out as the API takes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutSpec {
    /// Agents of a wave: a number from 1, or a share of all such as "25%", rounded up. The next wave
    /// starts when every execution of the one before has ended.
    #[schema(value_type = RolloutAmount)]
    #[serde(default)]
    pub wave_size: Value,
    /// Between the end of a wave and the next: at most 24 h, 0 unless asked otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_ms: Option<i64>,
    /// Failures that are borne: a number from 0, or a share of all such as "5%", rounded down. With
    /// one more the roll-out halts. Whatever ended otherwise than `succeeded` is a failure, but for
    /// agents that were skipped. Unless it is given, failures halt nothing.
    #[schema(value_type = Option<RolloutAmount>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failures: Option<Value>,
    /// True unless asked otherwise: each execution in flight counts as one that may fail, so that an
    /// execution starts only while failures and those in flight together are not above
    /// `max_failures`, and there is never more than one failure too many. False: a wave starts as a
    /// whole, and all of it may fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count_in_flight: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_gate: Option<GateSpec>,
    /// What becomes of agents that are offline when the job is made, or when the turn of their wave
    /// comes: they form the last wave, or are left out. Unless it is given, they keep their place,
    /// and the wave waits for them until their executions expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline: Option<Offline>,
}

/// What has to be true of a wave's agents before the next wave starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GateSpec {
    /// Each is connected and heard of. True: there is nothing else to ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online: Option<bool>,
    /// For how long without a break, counted from the end of the wave: at most 24 h. The pause counts.
    pub for_ms: i64,
    /// The roll-out halts if it is not so by then, counted from the end of the pause: at most 24 h,
    /// 10 minutes unless asked otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<i64>,
}

/// What becomes of agents that are offline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Offline {
    /// They form the last wave.
    LastWave,
    /// They are left out: their executions end as `cancelled`, with `skipped_offline`.
    Skip,
}

/// A roll-out that makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rollout {
    pub wave_size: Amount,
    pub pause_ms: u64,
    pub max_failures: Option<Amount>,
    pub counts_in_flight: bool,
    pub gate: Option<Gate>,
    pub offline: Option<Offline>,
}

/// A gate that makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    pub for_ms: u64,
    pub within_ms: u64,
}

/// Which field of a roll-out does not fit, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub struct RolloutError {
    pub field: &'static str,
    pub problem: String,
}

impl TryFrom<&RolloutSpec> for Rollout {
    type Error = RolloutError;

    fn try_from(spec: &RolloutSpec) -> Result<Self, RolloutError> {
        let wave_size = amount("rollout.wave_size", &spec.wave_size, 1)?;
        let max_failures = spec.max_failures.as_ref();
        let max_failures =
            max_failures.map(|value| amount("rollout.max_failures", value, 0)).transpose()?;
        if spec.count_in_flight.is_some() && max_failures.is_none() {
            return Err(RolloutError {
                field: "rollout.count_in_flight",
                problem: "means nothing without `max_failures`: give that too".into(),
            });
        }
        Ok(Self {
            wave_size,
            pause_ms: within("rollout.pause_ms", spec.pause_ms.unwrap_or(0), 0..=MAX_PAUSE_MS)?,
            max_failures,
            counts_in_flight: spec.count_in_flight.unwrap_or(true),
            gate: spec.health_gate.as_ref().map(Gate::try_from).transpose()?,
            offline: spec.offline,
        })
    }
}

impl TryFrom<&GateSpec> for Gate {
    type Error = RolloutError;

    fn try_from(spec: &GateSpec) -> Result<Self, RolloutError> {
        let error = |field, problem: &str| RolloutError { field, problem: problem.into() };
        if spec.online == Some(false) {
            let problem = "must be true: there is nothing else that a gate can ask for";
            return Err(error("rollout.health_gate.online", problem));
        }
        let for_ms = within("rollout.health_gate.for_ms", spec.for_ms, 0..=MAX_GATE_MS)?;
        let within_ms = spec.within_ms.unwrap_or(DEFAULT_WITHIN_MS.max(spec.for_ms));
        let within_ms = within("rollout.health_gate.within_ms", within_ms, 1..=MAX_GATE_MS)?;
        if within_ms < for_ms {
            let problem = "is less than `for_ms`: no wave could ever pass";
            return Err(error("rollout.health_gate.within_ms", problem));
        }
        Ok(Self { for_ms, within_ms })
    }
}

impl Rollout {
    /// Failures that are borne with this many agents; `None` if any number is.
    pub fn budget(&self, agents: u64) -> Option<u64> {
        self.max_failures.map(|amount| amount.of(agents, Rounding::Down))
    }
}

fn amount(field: &'static str, value: &Value, least: u64) -> Result<Amount, RolloutError> {
    Amount::read(value, least, MAX_WAVE)
        .map_err(|error: AmountError| RolloutError { field, problem: error.to_string() })
}

fn within(
    field: &'static str,
    value: i64,
    range: std::ops::RangeInclusive<i64>,
) -> Result<u64, RolloutError> {
    match u64::try_from(value) {
        Ok(fits) if range.contains(&value) => Ok(fits),
        _ => Err(RolloutError {
            field,
            problem: format!("must be {} to {}", range.start(), range.end()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(spec: Value) -> Result<Rollout, RolloutError> {
        Rollout::try_from(&serde_json::from_value::<RolloutSpec>(spec).expect("its shape"))
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_field() {
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
            assert_eq!(error.field, format!("rollout.{field}"), "{spec}");
        }
    }

    #[test]
    fn what_was_asked_for_can_be_written_and_read_again() {
        let asked = json!({"wave_size": "25%", "pause_ms": 5, "max_failures": 3,
            "health_gate": {"for_ms": 1_000}, "offline": "last_wave"});
        let spec: RolloutSpec = serde_json::from_value(asked.clone()).expect("its shape");
        assert_eq!(serde_json::to_value(&spec).expect("plain"), asked);
        let rollout = Rollout::try_from(&spec).expect("fits");
        let within_ms = DEFAULT_WITHIN_MS.unsigned_abs();
        assert_eq!(rollout.gate, Some(Gate { for_ms: 1_000, within_ms }));
        assert_eq!((rollout.budget(10), rollout.counts_in_flight), (Some(3), true));
    }
}
