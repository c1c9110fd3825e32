//! What callers say of a group: read, checked, and put into its row.

use muster_protocol::release::Version;
use serde_json::{Value, json};

use super::Groups;
use crate::domain::commands::rollout::amount::Amount;
use crate::domain::fleet::target::{Target, TargetSpec};
use crate::domain::name::check_name;
use crate::domain::releases::group::RolloutPolicy;
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};
use crate::store::entities::releases::group;

/// Agents of a wave.
const MAX_WAVE: u64 = 10_000;
/// The longest that agents have to be connected before the next wave: 24 h.
const MAX_HEALTHY_MS: u64 = 24 * 3_600_000;

/// What a caller says of a group; `None` stays, or is the default of a new one.
#[derive(Debug, Clone, Default)]
pub struct GroupRequest {
    pub name: Option<String>,
    pub target: Option<TargetSpec>,
    /// `Some(None)` wants none.
    pub desired_version: Option<Option<String>>,
    pub wave_size: Option<Value>,
    pub max_failures: Option<Value>,
    pub healthy_for_ms: Option<u64>,
}

impl Groups {
    /// The row as it is to be.
    pub(super) async fn changed_by(
        &self,
        caller: &Caller,
        row: group::Model,
        request: GroupRequest,
    ) -> Result<group::Model> {
        let mut row = row;
        if let Some(name) = request.name {
            check_name(&name).map_err(|problem| ServiceError::invalid_field("name", problem))?;
            row.name = name;
        }
        if let Some(spec) = request.target {
            row.target = json!(spec).to_string();
            Target::try_from(spec)?;
        }
        let amount = |field: &'static str, value: &Value, least| {
            Amount::read(value, least, MAX_WAVE)
                .map_err(|problem| ServiceError::invalid_field(field, &problem.to_string()))
        };
        if let Some(value) = request.wave_size {
            amount("wave_size", &value, 1)?;
            row.wave_size = value.to_string();
        }
        if let Some(value) = request.max_failures {
            amount("max_failures", &value, 0)?;
            row.max_failures = value.to_string();
        }
        if let Some(ms) = request.healthy_for_ms {
            if ms > MAX_HEALTHY_MS {
                return Err(ServiceError::invalid_field(
                    "healthy_for_ms",
                    "must be at most 86400000",
                ));
            }
            row.healthy_for_ms = ms.cast_signed();
        }
        if let Some(wanted) = request.desired_version {
            if let Some(version) = &wanted {
                self.check_wanted(version).await?;
            }
            row.requested_by = caller.principal.id;
            row.desired_version = wanted;
        }
        Ok(row)
    }

    async fn check_wanted(&self, version: &str) -> Result<()> {
        let version: Version = version.parse().map_err(|_| {
            ServiceError::invalid_field("desired_version", "must be a version such as 0.2.0")
        })?;
        match self.catalog.find(&version).await? {
            Some(_) => Ok(()),
            None => Err(ServiceError::Conflict {
                code: "no_release",
                detail: format!(
                    "release {version} is not published here, or withdrawn; publish it first"
                ),
            }),
        }
    }
}

/// How a group goes about it; it was read when it was stored.
pub(super) fn pace(row: &group::Model) -> RolloutPolicy {
    let amount = |text: &str, least, default| {
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        Amount::read(&value, least, MAX_WAVE).unwrap_or(default)
    };
    RolloutPolicy {
        wave_size: amount(&row.wave_size, 1, Amount::Count(1)),
        max_failures: amount(&row.max_failures, 0, Amount::Count(0)),
        healthy_for_ms: row.healthy_for_ms.unsigned_abs(),
    }
}
