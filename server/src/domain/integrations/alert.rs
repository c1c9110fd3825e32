//! Alerts: conditions on the agents that are online, on their telemetry and their certificates. Pure: the next step of a subject
//! follows from what was read and from how long it has been so.
//!
//! A condition that holds for `for_ms` opens an alert. An open one is resolved once its value is at the clear
//! value, or beyond it, for `clear_for_ms`. Values in between change nothing, so a value that moves around
//! the threshold opens one alert and not many.

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

use crate::domain::fleet::records::TelemetryRecord;
use crate::domain::ids::{AgentId, AlertId, AlertRuleId, PrincipalId, TenantId};
use crate::domain::time::Timestamp;

/// Longest time that a condition must hold, or must not hold: 24 h, as telemetry is kept.
pub const MAX_HOLD_MS: u64 = 24 * 3_600_000;
/// Time that a condition must hold by default.
pub const DEFAULT_FOR_MS: u64 = 300_000;
/// Largest threshold.
pub const MAX_THRESHOLD: u32 = 1_000_000;
/// A longer time between two checks interrupts what is measured, because the values in between are not known.
pub const MAX_GAP_MS: u64 = 180_000;

/// What a rule looks at.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    utoipa::ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum AlertMetric {
    /// How many agents of the target are online: fewer than the threshold open an alert.
    AgentsOnline,
    /// Of the processors, 0 to 100: more than the threshold opens an alert of the agent.
    CpuPercent,
    /// 0 to 100, as `cpu_percent`.
    MemoryPercent,
    /// 0 to 100 of the file system with the state directory, as `cpu_percent`.
    DiskPercent,
    /// The load average of one minute, as `cpu_percent`.
    #[strum(serialize = "load_1m")]
    #[serde(rename = "load_1m")]
    Load1m,
    /// Days until the certificate of an agent ends: fewer than the threshold open an alert of the agent.
    CertificateDays,
}

/// Why an alert is resolved.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    utoipa::ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum AlertEndReason {
    /// The value was at the clear value, or beyond it, for long enough.
    Cleared,
    /// The target matches the agent no more, or the agent was deleted.
    OutsideTarget,
    /// The rule looks at something else now, was disabled or was deleted.
    RuleChanged,
}

/// When an alert of a rule opens and when it is resolved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AlertCondition {
    pub metric: AlertMetric,
    pub threshold: f64,
    pub clear_threshold: f64,
    pub for_ms: u64,
    pub clear_for_ms: u64,
}

/// A value compared with a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// The condition holds.
    Breached,
    /// It does not hold, and the clear value is not reached.
    Between,
    /// At the clear value or beyond it.
    Clear,
    /// There is no recent value.
    Unknown,
}

/// How far a subject is on the way to its next change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AlertProgress {
    /// An alert is open.
    pub is_open: bool,
    /// Since when it holds that ends the present state; `None` if it does not.
    pub since: Option<Timestamp>,
}

/// What changes for a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertChange {
    Open,
    Resolve,
}

/// The next step of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlertStep {
    pub progress: AlertProgress,
    pub change: Option<AlertChange>,
    /// In how many milliseconds it changes if nothing else does.
    pub due_in_ms: Option<u64>,
}

/// A rule that opens alerts.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertRuleRecord {
    pub id: AlertRuleId,
    pub tenant_id: TenantId,
    pub name: String,
    pub condition: AlertCondition,
    /// A `TargetSpec`, JSON.
    pub target: String,
    pub is_enabled: bool,
    /// No alert opens before.
    pub silenced_until: Option<Timestamp>,
    pub created_by: PrincipalId,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
    pub checked_at: Timestamp,
}

/// An alert.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertRecord {
    pub id: AlertId,
    pub rule_id: AlertRuleId,
    pub rule_name: String,
    /// `None` for the agents of a target together.
    pub agent_id: Option<AgentId>,
    pub metric: AlertMetric,
    pub threshold: f64,
    /// The value with which it opened.
    pub value: f64,
    pub opened_at: Timestamp,
    pub resolved_at: Option<Timestamp>,
    pub end_reason: Option<AlertEndReason>,
}

impl AlertMetric {
    /// The name in API and database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// True for values of one agent each.
    pub fn is_of_agents(self) -> bool {
        self != Self::AgentsOnline
    }

    /// True for values that agents measure.
    pub fn is_telemetry(self) -> bool {
        !matches!(self, Self::AgentsOnline | Self::CertificateDays)
    }

    /// True if the condition holds below the threshold.
    pub fn opens_below(self) -> bool {
        matches!(self, Self::AgentsOnline | Self::CertificateDays)
    }

    /// The largest value, of those that are a percentage.
    pub fn max_percent(self) -> Option<f64> {
        match self {
            Self::CpuPercent | Self::MemoryPercent | Self::DiskPercent => Some(100.0),
            Self::AgentsOnline | Self::Load1m | Self::CertificateDays => None,
        }
    }

    /// The value of a sample; `None` if it has none.
    pub fn of(self, sample: &TelemetryRecord) -> Option<f64> {
        match self {
            Self::AgentsOnline | Self::CertificateDays => None,
            Self::CpuPercent => sample.cpu_percent,
            Self::MemoryPercent => sample.memory_percent,
            Self::DiskPercent => sample.disk_percent,
            Self::Load1m => sample.load_1m,
        }
    }
}

impl AlertCondition {
    /// Compares a value with the condition.
    pub fn read(&self, value: Option<f64>) -> Reading {
        let Some(value) = value else { return Reading::Unknown };
        let (is_breached, is_clear) = if self.metric.opens_below() {
            (value < self.threshold, value >= self.clear_threshold)
        } else {
            (value > self.threshold, value <= self.clear_threshold)
        };
        match (is_breached, is_clear) {
            (true, _) => Reading::Breached,
            (false, true) => Reading::Clear,
            (false, false) => Reading::Between,
        }
    }

    /// The next step. `checked_at`: of the check before. `may_open`: no silence and no calendar holds it.
    ///
    /// Without a value, nothing opens and nothing is resolved.
    pub fn step(
        &self,
        known: AlertProgress,
        reading: Reading,
        (checked_at, now): (Timestamp, Timestamp),
        may_open: bool,
    ) -> AlertStep {
        let (towards, hold_ms) = match known.is_open {
            false => (Reading::Breached, self.for_ms),
            true => (Reading::Clear, self.clear_for_ms),
        };
        if reading != towards {
            let progress = AlertProgress { since: None, ..known };
            return AlertStep { progress, change: None, due_in_ms: None };
        }
        let is_continued = checked_at <= now && now.ms_since(checked_at) <= MAX_GAP_MS;
        let since = known.since.filter(|since| is_continued && *since <= now).unwrap_or(now);
        let held_ms = now.ms_since(since);
        if held_ms < hold_ms {
            let progress = AlertProgress { since: Some(since), ..known };
            return AlertStep { progress, change: None, due_in_ms: Some(hold_ms - held_ms) };
        }
        if !known.is_open && !may_open {
            let progress = AlertProgress { since: Some(since), ..known };
            return AlertStep { progress, change: None, due_in_ms: None };
        }
        let change = if known.is_open { AlertChange::Resolve } else { AlertChange::Open };
        let progress = AlertProgress { is_open: !known.is_open, since: None };
        AlertStep { progress, change: Some(change), due_in_ms: None }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);
    const MINUTE: u64 = 60_000;

    fn disk() -> AlertCondition {
        AlertCondition {
            metric: AlertMetric::DiskPercent,
            threshold: 90.0,
            clear_threshold: 80.0,
            for_ms: 10 * MINUTE,
            clear_for_ms: 5 * MINUTE,
        }
    }

    /// Checks once a minute; returns the minutes at which an alert opened or was resolved.
    fn changes(condition: AlertCondition, values: &[Option<f64>]) -> Vec<(usize, AlertChange)> {
        let mut progress = AlertProgress::default();
        let mut found = Vec::new();
        for (minute, value) in values.iter().enumerate() {
            let now = NOW.plus_ms(minute as u64 * MINUTE);
            let times = (now.minus_ms(MINUTE), now);
            let step = condition.step(progress, condition.read(*value), times, true);
            progress = step.progress;
            found.extend(step.change.map(|change| (minute, change)));
        }
        found
    }

    #[test]
    fn value_around_the_threshold_opens_one_alert() {
        let around: Vec<_> = (0..60).map(|n| Some(if n % 2 == 0 { 91.0 } else { 89.0 })).collect();
        assert_eq!(changes(disk(), &around), [], "it never held for ten minutes");
        let mut values = vec![Some(95.0); 11];
        values.extend(around);
        assert_eq!(changes(disk(), &values), [(10, AlertChange::Open)]);
        values.extend([Some(80.0); 6]);
        assert_eq!(changes(disk(), &values), [(10, AlertChange::Open), (76, AlertChange::Resolve)]);
    }

    #[test]
    fn agent_without_values_opens_and_resolves_nothing() {
        let mut values = vec![Some(95.0); 8];
        values.extend([None; 30]);
        values.extend([Some(95.0); 10]);
        assert_eq!(changes(disk(), &values), []);
        values.push(Some(95.0));
        values.extend([None; 30]);
        assert_eq!(changes(disk(), &values), [(48, AlertChange::Open)]);
    }

    #[test]
    fn fewer_agents_than_the_threshold_open_and_enough_resolve() {
        let condition = AlertCondition {
            metric: AlertMetric::AgentsOnline,
            threshold: 1.0,
            clear_threshold: 2.0,
            for_ms: 0,
            clear_for_ms: 0,
        };
        let values = [Some(1.0), Some(0.0), Some(1.0), Some(2.0), Some(1.0)];
        let expected = [(1, AlertChange::Open), (3, AlertChange::Resolve)];
        assert_eq!(changes(condition, &values), expected);
    }

    #[test]
    fn certificate_with_fewer_days_opens_and_its_renewal_resolves() {
        let condition = AlertCondition {
            metric: AlertMetric::CertificateDays,
            threshold: 7.0,
            clear_threshold: 7.0,
            for_ms: 0,
            clear_for_ms: 0,
        };
        let values = [Some(7.0), Some(6.9), None, Some(-1.0), Some(30.0)];
        let expected = [(1, AlertChange::Open), (4, AlertChange::Resolve)];
        assert_eq!(changes(condition, &values), expected);
    }

    #[test]
    fn silence_delays_the_opening_and_not_the_resolution() {
        let condition = AlertCondition { for_ms: 0, clear_for_ms: 0, ..disk() };
        let times = (NOW, NOW);
        let held = condition.step(AlertProgress::default(), Reading::Breached, times, false);
        assert_eq!((held.change, held.progress.since), (None, Some(NOW)));
        let opened = condition.step(held.progress, Reading::Breached, times, true);
        assert_eq!(opened.change, Some(AlertChange::Open));
        let ended = condition.step(opened.progress, Reading::Clear, times, false);
        assert_eq!(ended.change, Some(AlertChange::Resolve));
    }

    #[test]
    fn time_without_a_check_does_not_count() {
        let known = AlertProgress { is_open: false, since: Some(NOW) };
        let late = NOW.plus_ms(60 * MINUTE);
        let step = disk().step(known, Reading::Breached, (NOW, late), true);
        assert_eq!((step.change, step.progress.since), (None, Some(late)));
        let set_back = NOW.minus_ms(MINUTE);
        let step = disk().step(known, Reading::Breached, (NOW, set_back), true);
        assert_eq!((step.change, step.progress.since), (None, Some(set_back)));
    }

    proptest! {
        /// However the value moves: openings and resolutions alternate, each opening follows a time of
        /// breached values only, and each resolution a time of clear values only.
        #[test]
        fn changes_alternate_and_each_follows_its_whole_time(
            values in prop::collection::vec(prop::option::weighted(0.95, 60.0..100.0_f64), 1..200),
            for_minutes in 0..8_u64,
            clear_minutes in 0..8_u64,
        ) {
            let condition = AlertCondition {
                for_ms: for_minutes * MINUTE,
                clear_for_ms: clear_minutes * MINUTE,
                ..disk()
            };
            let found = changes(condition, &values);
            for (place, (minute, change)) in found.iter().enumerate() {
                let expected = if place % 2 == 0 { AlertChange::Open } else { AlertChange::Resolve };
                prop_assert_eq!(*change, expected);
                let (towards, minutes) = match change {
                    AlertChange::Open => (Reading::Breached, for_minutes),
                    AlertChange::Resolve => (Reading::Clear, clear_minutes),
                };
                let first = minute - usize::try_from(minutes).expect("small");
                for value in &values[first..=*minute] {
                    prop_assert_eq!(condition.read(*value), towards);
                }
            }
        }
    }
}
