//! Checks of rules: what is there becomes alerts. Each check is one transaction, decided from what is
//! stored: a server that stops in between leaves nothing undone, and two servers do nothing twice.

use std::collections::{BTreeSet, HashMap};

use muster_protocol::error_chain;
use tokio::task::yield_now;
use uuid::Uuid;

use super::Alerts;
use crate::domain::fleet::records::TelemetryRecord;
use crate::domain::fleet::target::facts::Facts;
use crate::domain::fleet::target::{Target, TargetSpec};
use crate::domain::ids::{AgentId, TenantId};
use crate::domain::integrations::alert::{
    AlertChange, AlertEndReason, AlertMetric, AlertProgress, AlertRuleRecord, Reading,
};
use crate::domain::time::Timestamp;
use crate::services::error::{Result, ServiceError};
use crate::store::StoreError;
use crate::store::entities::integrations::alert_rule;
use crate::store::queries::{AlertCheck, AlertSubjects, OpenedAlert};

/// Rules of a tenant that are checked before those of the next tenant. They share what is read of its
/// agents.
const RULES_PER_BATCH: u64 = 10;
/// Agents that are compared with a target before other tasks run. Some patterns take milliseconds.
const MATCHED_AT_ONCE: usize = 8;
/// Most open alerts of a rule. Further ones open when others are resolved.
const MAX_OPEN_ALERTS: usize = 1_000;
/// Time between two checks of telemetry, which arrives with heartbeats.
const TELEMETRY_CHECK_MS: u64 = 15_000;
/// Longest time between two checks of how many agents are online, or of certificates. A change on this server is checked at
/// once; other servers and changes of tags are found by this.
const PRESENCE_CHECK_MS: u64 = 60_000;
const DAY_MS: f64 = 86_400_000.0;
/// Next check of a rule that can't be checked.
const RETRY_MS: u64 = 60_000;

/// What there is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlertWork {
    /// A tenant has more rules to check now than one batch takes.
    pub has_more: bool,
    /// In how many milliseconds the next rule is checked; `None` without an enabled rule.
    pub due_in_ms: Option<u64>,
}

/// What the rules of one batch look at.
struct TenantSnapshot {
    at: Timestamp,
    agents: Vec<Facts>,
    /// The newest recent sample of each agent that a rule about telemetry matches.
    samples: HashMap<AgentId, TelemetryRecord>,
    /// When the certificate of each agent ends that a rule about certificates matches.
    certificate_ends: HashMap<AgentId, Timestamp>,
    /// The calendars that hold back alerts, as in `WorkGuard::alert_holds`.
    holds: Vec<Option<Target>>,
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

    /// The present, for [`Self::check_round`].
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Checks rules whose time has come: of each tenant at most [`RULES_PER_BATCH`], so that a tenant with
    /// many rules and agents does not delay those of others. `presence_changed_at`: agents connected or
    /// disconnected then, so check all rules that count them and were checked before.
    ///
    /// # Errors
    /// [`StoreError`]; the next call checks what this one did not.
    pub async fn check_round(
        &self,
        presence_changed_at: Option<Timestamp>,
    ) -> std::result::Result<AlertWork, StoreError> {
        let system = self.store.system();
        let tenants =
            system.tenants_with_due_alert_rules(self.clock.now(), presence_changed_at).await?;
        let (mut has_more, mut failed) = (false, None);
        for tenant_id in tenants {
            match self.check_batch(tenant_id, presence_changed_at).await {
                Ok(is_full) => has_more |= is_full,
                // The rules of the other tenants are checked all the same.
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        let next = system.next_alert_check().await?;
        let due_in_ms = next.map(|next| next.ms_since(self.clock.now()));
        Ok(AlertWork { has_more, due_in_ms })
    }

    /// Checks some rules of a tenant; true if it may have more.
    async fn check_batch(
        &self,
        tenant_id: TenantId,
        presence_changed_at: Option<Timestamp>,
    ) -> std::result::Result<bool, StoreError> {
        let now = self.clock.now();
        let tenant = self.store.tenant(tenant_id);
        let due = tenant.due_alert_rules(now, presence_changed_at, RULES_PER_BATCH).await?;
        let is_full = due.len() as u64 == RULES_PER_BATCH;
        let rules: Vec<_> = due.into_iter().map(|row| (target_of(&row), row)).collect();
        let snapshot = match self.snapshot(tenant_id, &rules, now).await {
            Ok(snapshot) => Some(snapshot),
            Err(ServiceError::Store(error)) => return Err(error),
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(tenant = %tenant_id, error, "failed to read what alert rules look at");
                None
            }
        };
        for (target, rule) in rules {
            self.check(rule, target, snapshot.as_ref(), now).await?;
        }
        Ok(is_full)
    }

    async fn check(
        &self,
        rule: alert_rule::Model,
        target: Result<Target>,
        snapshot: Option<&TenantSnapshot>,
        now: Timestamp,
    ) -> std::result::Result<(), StoreError> {
        let check = match (target, snapshot) {
            (Ok(target), Some(snapshot)) => self.decide(&rule, &target, snapshot).await?,
            (target, _) => {
                if let Err(error) = target {
                    let (id, error) = (rule.id, error_chain(&error));
                    tracing::warn!(rule = %id, error, "failed to check an alert rule");
                }
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
        let tenant_id = check.rule.tenant_id;
        let changed = self.store.system().store_alert_check(check).await?;
        self.publish(tenant_id, changed.into_iter().flatten());
        Ok(())
    }

    async fn decide(
        &self,
        row: &alert_rule::Model,
        target: &Target,
        snapshot: &TenantSnapshot,
    ) -> std::result::Result<AlertCheck, StoreError> {
        let now = snapshot.at;
        let known = self.store.tenant(row.tenant_id).alert_subjects(row.id).await?;
        let rule = AlertRuleRecord::from(row.clone());
        let observed = snapshot.observe(&rule, target).await;
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

    /// Reads what the rules of a batch look at, once for all of them.
    async fn snapshot(
        &self,
        tenant_id: TenantId,
        rules: &[(Result<Target>, alert_rule::Model)],
        now: Timestamp,
    ) -> Result<TenantSnapshot> {
        let tenant = self.store.tenant(tenant_id);
        let holds = self.guard.alert_holds(tenant_id, now).await?;
        let targets = rules.iter().filter_map(|(target, _)| target.as_ref().ok());
        let targets = targets.chain(holds.iter().flatten());
        let names = targets.flat_map(Target::fact_names).collect();
        let agents = tenant.alert_agents(&names).await?;
        let mut snapshot = TenantSnapshot {
            at: now,
            agents,
            samples: HashMap::new(),
            certificate_ends: HashMap::new(),
            holds,
        };
        let mut certified = BTreeSet::new();
        let mut measured = BTreeSet::new();
        for (target, rule) in rules {
            let Ok(target) = target else { continue };
            if rule.metric.is_telemetry() {
                let matched = snapshot.matched(target).await;
                measured.extend(matched.iter().filter(|facts| facts.is_online).map(|one| one.id));
            } else if rule.metric == AlertMetric::CertificateDays {
                certified.extend(snapshot.matched(target).await.iter().map(|one| one.id));
            }
        }
        // Older samples are of agents that were silent since.
        let since = now.minus_ms(self.settings.silence_ms());
        let measured: Vec<AgentId> = measured.into_iter().collect();
        snapshot.samples = tenant.newest_telemetry(&measured, since).await?;
        let certified: Vec<AgentId> = certified.into_iter().collect();
        snapshot.certificate_ends = tenant.agent_certificate_ends(&certified).await?;
        Ok(snapshot)
    }
}

impl TenantSnapshot {
    async fn matched(&self, target: &Target) -> Vec<&Facts> {
        let mut matched = Vec::new();
        for facts in self.agents.chunks(MATCHED_AT_ONCE) {
            matched.extend(facts.iter().filter(|facts| target.matches(facts)));
            yield_now().await;
        }
        matched
    }

    /// The value of one agent.
    fn value_of(&self, agent: &Facts, metric: AlertMetric) -> Option<f64> {
        if metric == AlertMetric::CertificateDays {
            // Also of an agent that is offline: it can't renew its certificate.
            let ends = self.certificate_ends.get(&agent.id)?;
            return Some(days_until(*ends, self.at));
        }
        let sample = self.samples.get(&agent.id).filter(|_| agent.is_online)?;
        metric.of(sample)
    }

    /// The subjects of a rule with their values.
    async fn observe(&self, rule: &AlertRuleRecord, target: &Target) -> HashMap<Uuid, Observed> {
        let agents = self.matched(target).await;
        let is_held = |facts: &Facts| {
            self.holds.iter().any(|hold| hold.as_ref().is_none_or(|target| target.matches(facts)))
        };
        if !rule.condition.metric.is_of_agents() {
            let online = agents.iter().filter(|agent| agent.is_online).count();
            // An alert is held back only if each agent that is missing is expected to be away.
            let mut missing = agents.iter().filter(|agent| !agent.is_online).peekable();
            let is_held = self.holds.contains(&None)
                || missing.peek().is_some() && missing.all(|one| is_held(one));
            let value = u32::try_from(online).ok().map(f64::from);
            return HashMap::from([(rule.id.0, Observed { agent_id: None, value, is_held })]);
        }
        let observed = agents.into_iter().map(|agent| {
            let value = self.value_of(agent, rule.condition.metric);
            let agent_id = Some(agent.id);
            (agent.id.0, Observed { agent_id, value, is_held: is_held(agent) })
        });
        observed.collect()
    }
}

/// Days, rounded down to hundredths; less than zero if the time has passed.
fn days_until(end: Timestamp, now: Timestamp) -> f64 {
    let (left, sign) =
        if end >= now { (end.ms_since(now), 1.0) } else { (now.ms_since(end), -1.0) };
    let days = sign * left as f64 / DAY_MS;
    (days * 100.0).floor() / 100.0
}

fn target_of(rule: &alert_rule::Model) -> Result<Target> {
    let spec: TargetSpec = serde_json::from_str(&rule.target)
        .map_err(|_| ServiceError::invalid_field("target", "can't be read; set it again"))?;
    Ok(Target::try_from(spec)?)
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
