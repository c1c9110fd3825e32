//! What a caller sends for an alert rule, validated.

use serde_json::json;

use crate::domain::fleet::target::{Target, TargetSpec};
use crate::domain::ids::AlertRuleId;
use crate::domain::integrations::alert::{
    AlertCondition, AlertMetric, AlertRuleRecord, DEFAULT_FOR_MS, MAX_HOLD_MS, MAX_THRESHOLD,
};
use crate::domain::name::check_name;
use crate::domain::time::Timestamp;
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};

/// Fields of a rule. `None` keeps the value, or takes the default in a new rule.
#[derive(Debug, Clone, Default)]
pub struct AlertRuleRequest {
    pub name: Option<String>,
    pub metric: Option<AlertMetric>,
    pub threshold: Option<f64>,
    /// The inner `None`: the threshold.
    pub clear_threshold: Option<Option<f64>>,
    pub for_ms: Option<u64>,
    pub clear_for_ms: Option<u64>,
    pub target: Option<TargetSpec>,
    pub is_enabled: Option<bool>,
}

impl AlertRuleRequest {
    /// Checks the bounds that hold for every metric, before anything is looked up.
    pub(super) fn check_bounds(&self) -> Result<()> {
        for (field, ms) in [("for_ms", self.for_ms), ("clear_for_ms", self.clear_for_ms)] {
            if let Some(ms) = ms.filter(|ms| *ms > MAX_HOLD_MS) {
                return Err(ServiceError::out_of_range(field, ms, 0..=MAX_HOLD_MS));
            }
        }
        let values =
            [("threshold", self.threshold), ("clear_threshold", self.clear_threshold.flatten())];
        for (field, value) in values {
            if value.is_some_and(|value| value > f64::from(MAX_THRESHOLD)) {
                return Err(ServiceError::out_of_range(field, u64::MAX, 0..=MAX_THRESHOLD.into()));
            }
        }
        Ok(())
    }

    pub(super) fn into_new(self, caller: &Caller, now: Timestamp) -> Result<AlertRuleRecord> {
        if self.name.is_none() {
            return Err(ServiceError::required("name"));
        }
        let metric = self.metric.ok_or_else(|| ServiceError::required("metric"))?;
        let threshold = self.threshold.ok_or_else(|| ServiceError::required("threshold"))?;
        let blank = AlertRuleRecord {
            id: AlertRuleId::new(),
            tenant_id: caller.principal.tenant_id,
            name: String::new(),
            condition: AlertCondition {
                metric,
                threshold,
                clear_threshold: threshold,
                for_ms: DEFAULT_FOR_MS,
                clear_for_ms: 0,
            },
            target: json!({"expression": "all"}).to_string(),
            is_enabled: true,
            silenced_until: None,
            created_by: caller.principal.id,
            created_at: now,
            changed_at: now,
            checked_at: now,
        };
        self.apply(blank)
    }

    pub(super) fn apply(self, mut row: AlertRuleRecord) -> Result<AlertRuleRecord> {
        if let Some(name) = self.name {
            check_name(&name).map_err(|problem| ServiceError::invalid_field("name", problem))?;
            row.name = name;
        }
        let condition = &mut row.condition;
        condition.metric = self.metric.unwrap_or(condition.metric);
        if let Some(threshold) = self.threshold {
            // A clear value that was never set on its own follows the threshold.
            if condition.clear_threshold == condition.threshold {
                condition.clear_threshold = threshold;
            }
            condition.threshold = threshold;
        }
        match self.clear_threshold {
            Some(Some(clear_threshold)) => condition.clear_threshold = clear_threshold,
            Some(None) => condition.clear_threshold = condition.threshold,
            None => {}
        }
        condition.for_ms = self.for_ms.unwrap_or(condition.for_ms);
        condition.clear_for_ms = self.clear_for_ms.unwrap_or(condition.clear_for_ms);
        check(condition)?;
        if let Some(spec) = self.target {
            Target::try_from(spec.clone())?;
            row.target = json!(spec).to_string();
        }
        row.is_enabled = self.is_enabled.unwrap_or(row.is_enabled);
        Ok(row)
    }
}

fn check(condition: &AlertCondition) -> Result<()> {
    let metric = condition.metric;
    let values =
        [("threshold", condition.threshold), ("clear_threshold", condition.clear_threshold)];
    for (field, value) in values {
        let is_count = metric != AlertMetric::AgentsOnline || value.fract() == 0.0 && value >= 1.0;
        // No value is above the largest one, so that alert would never open.
        let is_in_range = match metric.max_percent() {
            Some(most) => (0.0..most).contains(&value),
            None => (0.0..=f64::from(MAX_THRESHOLD)).contains(&value),
        };
        if !is_in_range || !is_count {
            let problem = match metric {
                AlertMetric::AgentsOnline => "must be a number of agents, 1 to 1000000",
                AlertMetric::Load1m | AlertMetric::CertificateDays => "must be 0 to 1000000",
                _ => {
                    "must be at least 0 and less than 100 percent, because an alert opens above it"
                }
            };
            return Err(ServiceError::invalid_field(field, problem));
        }
    }
    let (is_beyond, problem) = match metric.opens_below() {
        true => (
            condition.clear_threshold < condition.threshold,
            "must be the threshold or more, because a smaller value opens the alert",
        ),
        false => (
            condition.clear_threshold > condition.threshold,
            "must be the threshold or less, because a larger value opens the alert",
        ),
    };
    if is_beyond {
        return Err(ServiceError::conflicting("clear_threshold", "threshold", problem));
    }
    Ok(())
}
