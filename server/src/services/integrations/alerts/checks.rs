//! Checks of rules: what is there becomes alerts. Each check is one transaction, decided from what is
//! stored: a server that stops in between leaves nothing undone, and two servers do nothing twice.

use std::collections::HashMap;

use muster_protocol::error_chain;
use uuid::Uuid;

use super::Alerts;
use crate::domain::fleet::target::facts::Facts;
use crate::domain::fleet::target::{Target, TargetSpec};
use crate::domain::ids::AgentId;
use crate::domain::integrations::alert::{
    AlertChange, AlertEndReason, AlertProgress, AlertRuleRecord, Reading,
};
use crate::domain::time::Timestamp;
use crate::services::error::{Result, ServiceError};
use crate::store::StoreError;
use crate::store::entities::integrations::alert_rule;
use crate::store::queries::{AlertCheck, AlertSubjects, OpenedAlert};

/// Rules that one query returns.
const RULES_AT_ONCE: u64 = 100;
/// Most open alerts of a rule. Further ones open when others are resolved.
const MAX_OPEN_ALERTS: usize = 1_000;
/// Time between two checks of telemetry, which arrives with heartbeats.
const TELEMETRY_CHECK_MS: u64 = 15_000;
/// Longest time between two checks of how many agents are online. A change on this server is checked at
/// once; other servers and changes of tags are found by this.
const PRESENCE_CHECK_MS: u64 = 60_000;
/// Next check of a rule that can't be checked.
const RETRY_MS: u64 = 60_000;

/// What there is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlertWork {
    /// In how many milliseconds the next rule is checked; `None` without an enabled rule.
    pub due_in_ms: Option<u64>,
}

/// A subject of a rule and its value now.
#[derive(Debug, Clone, Copy)]
struct Observed {
    agent_id: Option<AgentId>,
    value: Option<f64>,
    is_held: bool,
}

impl Alerts {
    /// Waits until a person changed a rule.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Waits until agents of this server are online or offline that were not.
    pub async fn presence_changed(&self) {
        self.store.writer().presence_changed().await;
    }

    /// Checks all rules whose time has come. `with_presence`: agents connected or disconnected, so check
    /// all rules that count them.
    ///
    /// # Errors
    /// [`StoreError`]; the next call checks what this one did not.
    pub async fn check_due(
        &self,
        with_presence: bool,
    ) -> std::result::Result<AlertWork, StoreError> {
        let system = self.store.system();
        // Those that this round has checked are not found again.
        let changed_at = with_presence.then(|| self.clock.now());
        loop {
            let now = self.clock.now();
            let due = system.due_alert_rules(now, changed_at, RULES_AT_ONCE).await?;
            let is_full = due.len() as u64 == RULES_AT_ONCE;
            for rule in due {
                self.check(rule).await?;
            }
            if !is_full {
                break;
            }
        }
        let next = system.next_alert_check().await?;
        Ok(AlertWork { due_in_ms: next.map(|next| next.ms_since(self.clock.now())) })
    }

    async fn check(&self, rule: alert_rule::Model) -> std::result::Result<(), StoreError> {
        let now = self.clock.now();
        let check = match self.decide(&rule, now).await {
            Ok(check) => check,
            Err(ServiceError::Store(error)) => return Err(error),
            Err(error) => {
                let (id, error) = (rule.id, error_chain(&error));
                tracing::warn!(rule = %id, error, "failed to check an alert rule");
                AlertCheck {
                    rule,
                    now,
                    check_at: now.plus_ms(RETRY_MS),
                    since: vec![],
                    opened: vec![],
                    resolved: vec![],
                }
            }
        };
        for opened in &check.opened {
            tracing::info!(rule = %check.rule.id, subject = %opened.subject_id, value = opened.value, "opened an alert");
        }
        self.store.system().store_alert_check(check).await?;
        Ok(())
    }

    async fn decide(&self, row: &alert_rule::Model, now: Timestamp) -> Result<AlertCheck> {
        let known = self.store.tenant(row.tenant_id).alert_subjects(row.id).await?;
        let rule = AlertRuleRecord::from(row.clone());
        let observed = self.observe(&rule, now).await?;
        let mut check = AlertCheck {
            rule: row.clone(),
            now,
            check_at: now,
            since: vec![],
            opened: vec![],
            resolved: vec![],
        };
        let mut next_ms = match rule.condition.metric.is_telemetry() {
            true => TELEMETRY_CHECK_MS,
            false => PRESENCE_CHECK_MS,
        };
        forget_gone(&known, &observed, &mut check);
        let mut open_count = known.open.len();
        let is_silenced = rule.silenced_until.is_some_and(|until| now < until);
        for (subject_id, observed) in observed {
            let open = known.open.get(&subject_id);
            let stored = known.since.get(&subject_id).copied();
            // The clock may have been set back.
            let since = stored.map(|since| since.min(now));
            let progress = AlertProgress { is_open: open.is_some(), since };
            let reading = rule.condition.read(observed.value);
            if progress == AlertProgress::default() && reading != Reading::Breached {
                continue;
            }
            let may_open = !is_silenced && !observed.is_held && open_count < MAX_OPEN_ALERTS;
            let step =
                rule.condition.step(progress, reading, (row.checked_at.min(now), now), may_open);
            if step.progress.since != stored {
                check.since.push((subject_id, step.progress.since));
            }
            next_ms = step.due_in_ms.map_or(next_ms, |due_in_ms| next_ms.min(due_in_ms));
            match (step.change, open, observed.value) {
                (Some(AlertChange::Open), _, Some(value)) => {
                    open_count += 1;
                    let agent_id = observed.agent_id;
                    check.opened.push(OpenedAlert { subject_id, agent_id, value });
                }
                (Some(AlertChange::Resolve), Some(id), _) => {
                    check.resolved.push((*id, AlertEndReason::Cleared));
                }
                _ => {}
            }
        }
        check.check_at = now.plus_ms(next_ms);
        Ok(check)
    }

    /// The subjects of a rule with their values now.
    async fn observe(
        &self,
        rule: &AlertRuleRecord,
        now: Timestamp,
    ) -> Result<HashMap<Uuid, Observed>> {
        let spec: TargetSpec = serde_json::from_str(&rule.target)
            .map_err(|_| ServiceError::invalid_field("target", "can't be read; set it again"))?;
        let target = Target::try_from(spec)?;
        let tenant = self.store.tenant(rule.tenant_id);
        let agents = tenant.alert_agents(&target).await?;
        let holds = self.guard.alert_holds(rule.tenant_id, now).await?;
        let is_held = |facts: &Facts| {
            holds.iter().any(|hold| hold.as_ref().is_none_or(|target| target.matches(facts)))
        };
        if !rule.condition.metric.is_telemetry() {
            let online = agents.iter().filter(|agent| agent.is_online).count();
            // An alert is held back only if each agent that is missing is expected to be away.
            let mut missing = agents.iter().filter(|agent| !agent.is_online).peekable();
            let is_held = holds.contains(&None) || missing.peek().is_some() && missing.all(is_held);
            let value = u32::try_from(online).ok().map(f64::from);
            return Ok(HashMap::from([(rule.id.0, Observed { agent_id: None, value, is_held })]));
        }
        // Older samples are of agents that were silent since.
        let since = now.minus_ms(self.settings.silence_ms());
        let ids: Vec<AgentId> = agents.iter().map(|agent| agent.id).collect();
        let samples = tenant.newest_telemetry(&ids, since).await?;
        let observed = agents.iter().map(|agent| {
            let sample = samples.get(&agent.id).filter(|_| agent.is_online);
            let value = sample.and_then(|sample| rule.condition.metric.of(sample));
            let agent_id = Some(agent.id);
            (agent.id.0, Observed { agent_id, value, is_held: is_held(agent) })
        });
        Ok(observed.collect())
    }
}

/// Ends what concerns subjects that the rule does not have any more.
fn forget_gone(known: &AlertSubjects, observed: &HashMap<Uuid, Observed>, check: &mut AlertCheck) {
    for (subject_id, id) in &known.open {
        if !observed.contains_key(subject_id) {
            check.resolved.push((*id, AlertEndReason::OutsideTarget));
        }
    }
    let gone = known.since.keys().filter(|subject_id| !observed.contains_key(*subject_id));
    check.since.extend(gone.map(|subject_id| (*subject_id, None)));
}
