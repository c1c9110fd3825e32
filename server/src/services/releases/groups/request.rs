//! Requests that create or change a group: validates them and writes them into the row.

use muster_protocol::release::Version;
use serde_json::{Value, json};

use super::Groups;
use crate::domain::commands::ladder::Confirmation;
use crate::domain::fleet::target::{Target, TargetSpec};
use crate::domain::name::check_name;
use crate::domain::releases::group::RolloutPolicy;
use crate::domain::waves::amount::Amount;
use crate::domain::waves::gate::MAX_HEALTHY_MS;
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};
use crate::store::entities::releases::group;

/// Changes to a group. `None` keeps the value, or takes the default in a new group.
#[derive(Debug, Clone, Default)]
pub struct GroupRequest {
    pub name: Option<String>,
    pub target: Option<TargetSpec>,
    /// `Some(None)` removes the desired version.
    pub desired_version: Option<Option<String>>,
    pub wave_size: Option<Value>,
    pub max_failures: Option<Value>,
    pub healthy_for_ms: Option<u64>,
    /// The number of agents that the caller expects.
    pub confirmation: Option<Confirmation>,
}

impl Groups {
    /// The row with the requested changes.
    ///
    /// # Errors
    /// 422 names the field; 409 `no_release`.
    pub(super) async fn with_changes(
        &self,
        caller: &Caller,
        row: group::Model,
        request: GroupRequest,
    ) -> Result<group::Model> {
        let mut row = row;
        let changes_reach = request.target.is_some() || request.desired_version.is_some();
        if let Some(name) = request.name {
            check_name(&name).map_err(|problem| ServiceError::invalid_field("name", problem))?;
            row.name = name;
        }
        if let Some(spec) = request.target {
            row.target = json!(spec).to_string();
            Target::try_from(spec)?;
        }
        let amount = |field: &'static str, value: &Value, least| {
            Amount::read(value, least)
                .map_err(|error| ServiceError::field(error.of(field), &error.to_string()))
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
                let bounds = 0..=MAX_HEALTHY_MS;
                return Err(ServiceError::out_of_range("healthy_for_ms", ms, bounds));
            }
            row.healthy_for_ms = ms.cast_signed();
        }
        if let Some(desired) = request.desired_version {
            self.guard.require_free_life_cycle(caller).await?;
            if let Some(version) = &desired {
                self.check_desired_version(version).await?;
            }
            row.requested_by = caller.principal.id;
            row.desired_version = desired;
        }
        if changes_reach && row.desired_version.is_some() {
            self.check_reach(caller, &row, request.confirmation).await?;
        }
        Ok(row)
    }

    /// Checks the agents that the target matches now. Those that join later come one by one.
    pub(super) async fn check_reach(
        &self,
        caller: &Caller,
        row: &group::Model,
        confirmation: Option<Confirmation>,
    ) -> Result<()> {
        let spec: TargetSpec = serde_json::from_str(&row.target).unwrap_or_default();
        let target = Target::try_from(spec)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let resolved = tenant.resolve(&target, |id| self.hub.is_connected(id)).await?;
        let agents: Vec<_> = resolved.agents.into_iter().map(|facts| facts.id).collect();
        self.guard.check_group(caller, &agents, confirmation).await
    }

    async fn check_desired_version(&self, version: &str) -> Result<()> {
        let version: Version = version.parse().map_err(|_| {
            ServiceError::invalid_field("desired_version", "must be a version such as 0.2.0")
        })?;
        match self.catalog.find(&version).await? {
            Some(_) => Ok(()),
            None => Err(ServiceError::Conflict {
                code: "no_release",
                detail: format!(
                    "release {version} is not published, or was withdrawn; publish it first"
                ),
            }),
        }
    }
}

/// The rollout policy of a group. Its values were validated before they were stored.
pub(super) fn rollout_policy(row: &group::Model) -> RolloutPolicy {
    let amount = |text: &str, least, default| {
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        Amount::read(&value, least).unwrap_or(default)
    };
    RolloutPolicy {
        wave_size: amount(&row.wave_size, 1, Amount::Count(1)),
        max_failures: amount(&row.max_failures, 0, Amount::Count(0)),
        healthy_for_ms: row.healthy_for_ms.unsigned_abs(),
    }
}
