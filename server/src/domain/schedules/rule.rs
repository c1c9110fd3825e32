//! When a schedule is due: a cron entry, an interval, or once. Pure: every due time follows from the
//! rule and the instant after which it is sought.

use serde::{Deserialize, Serialize};

use super::cron::{ClockChange, CronEntry};
use super::rule_error::RuleError;
use super::sentence;
use crate::domain::field_error::FieldErrorCode;
use crate::domain::time::Timestamp;

/// Shortest interval: 1 s.
pub const MIN_INTERVAL_MS: u64 = 1_000;
/// Longest interval: 366 days.
pub const MAX_INTERVAL_MS: u64 = 366 * 86_400_000;
/// Zone of a cron entry that names none.
const DEFAULT_ZONE: &str = "UTC";

/// When a schedule is due. Exactly one of `cron`, `every_ms` and `at`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    /// Minute, hour, day of the month, month and day of the week; or `@hourly`, `@daily`, `@weekly`,
    /// `@monthly` or `@yearly`. At most 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "0 9 * * MON-FRI")]
    pub cron: Option<String>,
    /// The IANA name of the zone of `cron`. Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "Europe/Berlin")]
    pub time_zone: Option<String>,
    /// An interval, from 1 s to 366 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_ms: Option<u64>,
    /// An instant from which intervals are counted. Default: the creation of the schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor_at: Option<Timestamp>,
    /// The only due time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// A valid rule.
#[derive(Debug, Clone)]
enum Rule {
    Cron(Box<CronEntry>),
    Interval { every_ms: u64, anchor_at: Timestamp },
    Once { at: Timestamp },
}

/// A rule with the time in which it applies.
#[derive(Debug, Clone)]
pub struct DueTimes {
    rule: Rule,
    /// Not due before.
    starts_at: Option<Timestamp>,
    /// Not due at this instant or later.
    ends_at: Option<Timestamp>,
}

/// A due time as people read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PreviewedFire {
    pub at: Timestamp,
    /// The same instant in the zone of the rule, with its offset.
    #[schema(example = "2026-03-29T03:00:00+02:00")]
    pub local: String,
    /// Set if the clocks change at this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_change: Option<ClockChange>,
}

impl RuleSpec {
    /// The rule with its defaults, as it is stored: without them, later versions could read it
    /// differently.
    #[must_use]
    pub fn with_defaults(mut self, now: Timestamp) -> Self {
        if self.cron.is_some() && self.time_zone.is_none() {
            self.time_zone = Some(DEFAULT_ZONE.to_owned());
        }
        if self.every_ms.is_some() && self.anchor_at.is_none() {
            self.anchor_at = Some(now);
        }
        self
    }

    fn rule(&self) -> Result<Rule, RuleError> {
        let conflict = |field: &str, other: &str| {
            let problem = format!("can't be combined with `{other}`");
            Err(RuleError::new(field, FieldErrorCode::Conflict, problem).with_limit(other))
        };
        match (&self.cron, self.every_ms, self.at) {
            (Some(_), Some(_), _) => return conflict("rule.cron", "rule.every_ms"),
            (Some(_), _, Some(_)) => return conflict("rule.cron", "rule.at"),
            (None, Some(_), Some(_)) => return conflict("rule.every_ms", "rule.at"),
            _ => {}
        }
        if self.time_zone.is_some() && self.cron.is_none() {
            let problem = "is the zone of `rule.cron`, which is missing";
            return Err(RuleError::new("rule.time_zone", FieldErrorCode::Conflict, problem));
        }
        if self.anchor_at.is_some() && self.every_ms.is_none() {
            let problem = "belongs to `rule.every_ms`, which is missing";
            return Err(RuleError::new("rule.anchor_at", FieldErrorCode::Conflict, problem));
        }
        if let Some(cron) = &self.cron {
            let zone = self.time_zone.as_deref().unwrap_or(DEFAULT_ZONE);
            return Ok(Rule::Cron(Box::new(CronEntry::parse(cron, zone)?)));
        }
        if let Some(every_ms) = self.every_ms {
            let (code, limit) = match every_ms {
                ..MIN_INTERVAL_MS => (FieldErrorCode::TooSmall, MIN_INTERVAL_MS),
                MIN_INTERVAL_MS..=MAX_INTERVAL_MS => {
                    let anchor_at = self.anchor_at.unwrap_or_default();
                    return Ok(Rule::Interval { every_ms, anchor_at });
                }
                _ => (FieldErrorCode::TooLarge, MAX_INTERVAL_MS),
            };
            let problem = format!("must be {MIN_INTERVAL_MS} to {MAX_INTERVAL_MS}");
            return Err(RuleError::new("rule.every_ms", code, problem).with_limit(limit));
        }
        match self.at {
            Some(at) => Ok(Rule::Once { at }),
            None => {
                let problem = "must have one of `cron`, `every_ms` and `at`";
                Err(RuleError::new("rule", FieldErrorCode::Required, problem))
            }
        }
    }
}

impl DueTimes {
    /// Checks a rule.
    ///
    /// # Errors
    /// [`RuleError`] names the field.
    pub fn new(
        spec: &RuleSpec,
        starts_at: Option<Timestamp>,
        ends_at: Option<Timestamp>,
    ) -> Result<Self, RuleError> {
        let rule = spec.rule()?;
        if starts_at.zip(ends_at).is_some_and(|(start, end)| start >= end) {
            let problem = "must be later than `starts_at`";
            return Err(RuleError::new("ends_at", FieldErrorCode::Conflict, problem)
                .with_limit("starts_at"));
        }
        Ok(Self { rule, starts_at, ends_at })
    }

    /// The first due time after an instant; `None` if there is none.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let after = self.starts_at.map_or(after, |start| after.max(start.minus_ms(1)));
        let next = match &self.rule {
            Rule::Cron(entry) => entry.next_after(after)?,
            Rule::Interval { every_ms, anchor_at } => {
                let every = i64::try_from(*every_ms).ok()?;
                let since = after.0.checked_sub(anchor_at.0)?;
                let steps = since.div_euclid(every).checked_add(1)?.max(0);
                Timestamp(anchor_at.0.checked_add(steps.checked_mul(every)?)?)
            }
            Rule::Once { at } => Some(*at).filter(|at| *at > after)?,
        };
        (next < Timestamp::NEVER && self.ends_at.is_none_or(|end| next < end)).then_some(next)
    }

    /// The next due times after an instant, at most `count`.
    pub fn preview(&self, after: Timestamp, count: usize) -> Vec<PreviewedFire> {
        let due = std::iter::successors(self.next_after(after), |last| self.next_after(*last));
        due.take(count).map(|at| self.previewed(at)).collect()
    }

    /// What a change of the clocks did to a due time.
    pub fn clock_change(&self, at: Timestamp) -> Option<ClockChange> {
        match &self.rule {
            Rule::Cron(entry) => entry.clock_change(at),
            Rule::Interval { .. } | Rule::Once { .. } => None,
        }
    }

    fn previewed(&self, at: Timestamp) -> PreviewedFire {
        let (local, clock_change) = match &self.rule {
            Rule::Cron(entry) => (entry.local(at), entry.clock_change(at)),
            Rule::Interval { .. } | Rule::Once { .. } => (None, None),
        };
        let local = local.map_or_else(|| at.to_string(), |local| local.to_rfc3339());
        PreviewedFire { at, local, clock_change }
    }

    /// The rule as a sentence, such as "every weekday at 09:00, Europe/Berlin".
    pub fn sentence(&self) -> String {
        match &self.rule {
            Rule::Cron(entry) => sentence::of_cron(entry),
            Rule::Interval { every_ms, .. } => sentence::of_interval(*every_ms),
            Rule::Once { at } => format!("once at {at}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("an instant")
    }

    fn interval(every_ms: u64, anchor_at: &str) -> RuleSpec {
        RuleSpec { every_ms: Some(every_ms), anchor_at: Some(at(anchor_at)), ..RuleSpec::default() }
    }

    #[test]
    fn intervals_count_from_their_anchor_whenever_they_are_asked() {
        let spec = interval(90_000, "2026-01-01T00:00:00Z");
        let due_times = DueTimes::new(&spec, None, None).expect("valid");
        let next = |text: &str| due_times.next_after(at(text)).expect("a due time");
        assert_eq!(next("2026-01-01T00:00:00Z"), at("2026-01-01T00:01:30Z"));
        assert_eq!(next("2026-01-01T00:01:29.999Z"), at("2026-01-01T00:01:30Z"));
        assert_eq!(next("2026-01-01T00:01:30Z"), at("2026-01-01T00:03:00Z"));
        assert_eq!(next("2025-06-01T00:00:00Z"), at("2026-01-01T00:00:00Z"), "the anchor is first");
    }

    #[test]
    fn nothing_is_due_before_the_start_or_from_the_end_on() {
        let spec = interval(60_000, "2026-01-01T00:00:00Z");
        let (start, end) = (at("2026-01-02T00:00:00Z"), at("2026-01-02T00:02:00Z"));
        let due_times = DueTimes::new(&spec, Some(start), Some(end)).expect("valid");
        let due: Vec<_> = due_times.preview(at("2026-01-01T12:00:00Z"), 9);
        let due: Vec<_> = due.into_iter().map(|fire| fire.at).collect();
        assert_eq!(due, [start, at("2026-01-02T00:01:00Z")]);
    }

    #[test]
    fn once_is_due_once() {
        let spec = RuleSpec { at: Some(at("2026-05-01T08:00:00Z")), ..RuleSpec::default() };
        let due_times = DueTimes::new(&spec, None, None).expect("valid");
        let due = due_times.next_after(at("2026-01-01T00:00:00Z")).expect("a due time");
        assert_eq!(due_times.next_after(due), None);
    }

    #[test]
    fn invalid_rules_name_their_field() {
        let cron = |cron: &str, zone: &str| RuleSpec {
            cron: Some(cron.into()),
            time_zone: Some(zone.into()),
            ..RuleSpec::default()
        };
        for (spec, field) in [
            (RuleSpec::default(), "rule"),
            (cron("0 9 * *", "UTC"), "rule.cron"),
            (cron("0 0 9 * * *", "UTC"), "rule.cron"),
            (cron("0 9 * * * 2027", "UTC"), "rule.cron"),
            (cron("61 9 * * *", "UTC"), "rule.cron"),
            (cron("0 0 30 2 *", "UTC"), "rule.cron"),
            (cron("@sometimes", "UTC"), "rule.cron"),
            (cron(&"1,".repeat(100), "UTC"), "rule.cron"),
            (cron("0 9 * * *", "Europe/Atlantis"), "rule.time_zone"),
            (interval(999, "2026-01-01T00:00:00Z"), "rule.every_ms"),
            (interval(MAX_INTERVAL_MS + 1, "2026-01-01T00:00:00Z"), "rule.every_ms"),
            (RuleSpec { every_ms: Some(5_000), ..cron("0 9 * * *", "UTC") }, "rule.cron"),
            (RuleSpec { time_zone: Some("UTC".into()), ..RuleSpec::default() }, "rule.time_zone"),
        ] {
            let refused = DueTimes::new(&spec, None, None).expect_err("it is invalid");
            assert_eq!(refused.error.field, field, "{spec:?}");
        }
    }
}
