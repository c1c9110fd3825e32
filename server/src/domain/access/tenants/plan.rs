//! Plans: how much a tenant may have, in one table.
//!
//! A limit is checked before something is created, in the transaction that creates it. Agents and
//! schedules beyond a limit stay: a lower plan refuses only new ones.

use std::fmt;

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

/// Agents of a tenant with the plan `starter`.
const STARTER_AGENTS: u64 = 3;
/// Schedules of a tenant with the plan `starter`.
const STARTER_SCHEDULES: u64 = 5;
/// Days that its history is kept.
const STARTER_HISTORY_DAYS: u64 = 7;
/// Bytes of history and output that it may store: 5 GiB.
const STARTER_STORAGE_BYTES: u64 = 5 * 1024 * 1024 * 1024;
/// A day in milliseconds.
const DAY_MS: u64 = 24 * 3_600_000;

/// How much a tenant may have. The operator of the server sets it.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    utoipa::ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// 3 agents, 5 schedules, 7 days of history, and 5 GiB of history and output.
    Starter,
    /// Any number of agents and schedules, and as much history as the server keeps: 90 days by default.
    Pro,
}

/// The limits of a plan. `None`: there is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanLimits {
    pub max_agents: Option<u64>,
    pub max_schedules: Option<u64>,
    /// The setting of the server is the upper bound.
    pub history_days: Option<u64>,
    /// Of history and output. The operator may set another one for a tenant.
    pub storage_bytes: Option<u64>,
}

/// What a plan counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanResource {
    Agents,
    Schedules,
}

/// The tenant has reached or exceeded a limit of its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the plan `{plan}` of this tenant allows {limit} {resource}; delete one that is not needed, or ask the operator of the server for a larger plan"
)]
pub struct PlanLimitReached {
    pub plan: Plan,
    pub resource: PlanResource,
    pub limit: u64,
}

impl Plan {
    /// The plan of a tenant for which none was chosen, such as the first one of a server.
    pub const DEFAULT: Self = Self::Pro;

    /// The table.
    pub const fn limits(self) -> PlanLimits {
        match self {
            Self::Starter => PlanLimits {
                max_agents: Some(STARTER_AGENTS),
                max_schedules: Some(STARTER_SCHEDULES),
                history_days: Some(STARTER_HISTORY_DAYS),
                storage_bytes: Some(STARTER_STORAGE_BYTES),
            },
            Self::Pro => PlanLimits {
                max_agents: None,
                max_schedules: None,
                history_days: None,
                storage_bytes: None,
            },
        }
    }

    /// Checks that one more fits. `count` is read in the transaction that creates it.
    ///
    /// # Errors
    /// [`PlanLimitReached`] if the tenant has as many as the plan allows, or more.
    pub fn check_limit(self, resource: PlanResource, count: u64) -> Result<(), PlanLimitReached> {
        let limits = self.limits();
        let limit = match resource {
            PlanResource::Agents => limits.max_agents,
            PlanResource::Schedules => limits.max_schedules,
        };
        match limit {
            Some(limit) if count >= limit => Err(PlanLimitReached { plan: self, resource, limit }),
            _ => Ok(()),
        }
    }

    /// How long history is kept. The setting of the server is the upper bound.
    pub fn history_ms(self, server_ms: u64) -> u64 {
        let days = self.limits().history_days;
        days.map_or(server_ms, |days| server_ms.min(days * DAY_MS))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.into())
    }
}

impl fmt::Display for PlanResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agents => "agents",
            Self::Schedules => "schedules",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starter_has_room_for_three_agents_and_five_schedules() {
        for (resource, limit) in [(PlanResource::Agents, 3), (PlanResource::Schedules, 5)] {
            assert_eq!(Plan::Starter.check_limit(resource, limit - 1), Ok(()));
            // More than the limit: the plan was lowered.
            for count in [limit, limit + 7] {
                let refused = PlanLimitReached { plan: Plan::Starter, resource, limit };
                assert_eq!(Plan::Starter.check_limit(resource, count), Err(refused));
            }
            assert_eq!(Plan::Pro.check_limit(resource, 1_000_000), Ok(()));
        }
    }

    #[test]
    fn refusal_names_the_limit_and_what_to_do() {
        let refused = Plan::Starter.check_limit(PlanResource::Agents, 3).expect_err("full");
        let text = refused.to_string();
        assert!(text.contains("`starter` of this tenant allows 3 agents"), "{text}");
    }

    #[test]
    fn setting_of_the_server_bounds_the_history_of_a_plan() {
        assert_eq!(Plan::Starter.history_ms(90 * DAY_MS), 7 * DAY_MS);
        assert_eq!(Plan::Starter.history_ms(DAY_MS), DAY_MS);
        assert_eq!(Plan::Pro.history_ms(365 * DAY_MS), 365 * DAY_MS);
    }
}
