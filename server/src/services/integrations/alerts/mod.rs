//! Alerts: use cases of the API. [`checks`] opens and resolves them.

mod checks;
mod request;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;

pub use self::checks::AlertWork;
pub use self::request::AlertRuleRequest;
use crate::domain::access::principal::Scope;
use crate::domain::ids::{AlertRuleId, TenantId};
use crate::domain::integrations::alert::{AlertRecord, AlertRuleRecord};
use crate::domain::integrations::tenant_event::TenantEvent;
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::{Clock, Timestamp};
use crate::hub::Hub;
use crate::services::Settings;
use crate::services::access::caller::{Caller, Subject};
use crate::services::access::work_guard::WorkGuard;
use crate::services::error::{Result, ServiceError};
use crate::store::entities::integrations::alert;
use crate::store::queries::{AlertFilter, AlertReset, TOO_MANY_ALERT_RULES};
use crate::store::{Store, StoreError};

/// Most alert rules of one tenant.
const MAX_ALERT_RULES: u64 = 100;
/// Longest silence of a rule: 366 days.
const MAX_SILENCE_MS: u64 = 366 * 24 * 3_600_000;
const UNKNOWN: ServiceError = ServiceError::NotFound("alert rule");

/// Use cases of alerts.
#[derive(Clone, Debug)]
pub struct Alerts {
    pub(in crate::services) store: Store,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) settings: Settings,
    pub(in crate::services) guard: WorkGuard,
    pub(in crate::services) hub: Arc<Hub>,
    /// Notified when a person changed a rule.
    pub(in crate::services) changed: Arc<Notify>,
}

/// An alert with the name of its agent.
#[derive(Debug, Clone)]
pub struct AlertSnapshot {
    pub row: AlertRecord,
    /// As it is now, also of a deleted agent.
    pub agent_name: Option<String>,
}

impl Alerts {
    /// Creates a rule. It is checked at once.
    ///
    /// # Errors
    /// 422 names the field; 409 `alert_rule_exists` or `too_many_alert_rules`.
    pub async fn create(
        &self,
        caller: &Caller,
        request: AlertRuleRequest,
    ) -> Result<AlertRuleRecord> {
        caller.require(Scope::IntegrationsWrite)?;
        request.check_bounds()?;
        let row = request.into_new(caller, self.clock.now())?;
        let audit =
            caller.audit("alert_rule.create", subject(row.id), &detail(&row), row.created_at);
        let tenant = self.store.tenant(row.tenant_id);
        match tenant.create_alert_rule(row.clone().into(), MAX_ALERT_RULES, audit).await {
            Err(StoreError::Refused(TOO_MANY_ALERT_RULES)) => return Err(too_many()),
            Err(StoreError::Refused(_)) => return Err(name_taken()),
            stored => stored?,
        }
        self.publish_rule(&row);
        self.changed.notify_one();
        Ok(row)
    }

    /// One page of rules, oldest first.
    pub async fn rules(&self, caller: &Caller, page: PageRequest) -> Result<Page<AlertRuleRecord>> {
        caller.require(Scope::IntegrationsRead)?;
        let rows = self.store.tenant(caller.principal.tenant_id).alert_rules(page).await?;
        Ok(Page::of(rows, page, |row| row.id.0).map(AlertRuleRecord::from))
    }

    /// One rule.
    pub async fn rule(&self, caller: &Caller, id: AlertRuleId) -> Result<AlertRuleRecord> {
        caller.require(Scope::IntegrationsRead)?;
        self.find(caller, id).await
    }

    /// One page of alerts, newest first.
    pub async fn list(
        &self,
        caller: &Caller,
        filter: AlertFilter,
        page: PageRequest,
    ) -> Result<Page<AlertSnapshot>> {
        caller.require(Scope::IntegrationsRead)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let rows = Page::of(tenant.alerts(filter, page).await?, page, |row| row.id.0);
        let agents: BTreeSet<_> = rows.items.iter().filter_map(|row| row.agent_id).collect();
        let names = tenant.agent_names(agents.into_iter().collect()).await?;
        Ok(rows.map(|row| {
            let agent_name = row.agent_id.and_then(|id| names.get(&id).cloned());
            AlertSnapshot { row: row.into(), agent_name }
        }))
    }

    /// Changes a rule. Another metric resolves its open alerts, and so does disabling it.
    ///
    /// # Errors
    /// As [`Alerts::create`]; 409 `alert_rule_changed`.
    pub async fn update(
        &self,
        caller: &Caller,
        id: AlertRuleId,
        request: AlertRuleRequest,
    ) -> Result<AlertRuleRecord> {
        caller.require(Scope::IntegrationsWrite)?;
        request.check_bounds()?;
        let known = self.find(caller, id).await?;
        let row = request.apply(known.clone())?;
        let reset = if row.condition.metric != known.condition.metric || !row.is_enabled {
            AlertReset::Alerts
        } else if row.condition != known.condition || row.target != known.target {
            AlertReset::Progress
        } else {
            AlertReset::Nothing
        };
        self.store_change(caller, "alert_rule.update", (known, row), reset).await
    }

    /// Opens no alerts of a rule before an instant; `None` ends that. Repeatable.
    ///
    /// # Errors
    /// 409 `alert_rule_changed`; 422 if the instant has passed or is too far away.
    pub async fn silence(
        &self,
        caller: &Caller,
        id: AlertRuleId,
        until: Option<Timestamp>,
    ) -> Result<AlertRuleRecord> {
        caller.require(Scope::IntegrationsWrite)?;
        let now = self.clock.now();
        let latest = now.plus_ms(MAX_SILENCE_MS);
        if until.is_some_and(|until| until <= now || until > latest) {
            let problem = "must be in the future, at most 366 days from now";
            return Err(ServiceError::invalid_field("until", problem));
        }
        let known = self.find(caller, id).await?;
        let row = AlertRuleRecord { silenced_until: until, ..known.clone() };
        self.store_change(caller, "alert_rule.silence", (known, row), AlertReset::Nothing).await
    }

    /// Deletes a rule with its alerts. Open ones are resolved before, so integrations send that.
    pub async fn delete(&self, caller: &Caller, id: AlertRuleId) -> Result<()> {
        caller.require(Scope::IntegrationsWrite)?;
        let audit = caller.audit("alert_rule.delete", subject(id), &json!({}), self.clock.now());
        let tenant_id = caller.principal.tenant_id;
        let resolved = self.store.tenant(tenant_id).delete_alert_rule(id, audit).await?;
        self.publish(tenant_id, resolved.ok_or(UNKNOWN)?);
        let deleted = TenantEvent::AlertRule { id, silenced_until: None };
        self.hub.event_log.append(tenant_id, deleted);
        Ok(())
    }

    async fn store_change(
        &self,
        caller: &Caller,
        action: &str,
        (known, row): (AlertRuleRecord, AlertRuleRecord),
        reset: AlertReset,
    ) -> Result<AlertRuleRecord> {
        let now = self.clock.now();
        // Two changes within one millisecond must differ.
        let row = AlertRuleRecord { changed_at: now.max(known.changed_at.plus_ms(1)), ..row };
        let audit = caller.audit(action, subject(row.id), &detail(&row), now);
        let tenant = self.store.tenant(row.tenant_id);
        let stored = row.clone().into();
        let resolved = match tenant.change_alert_rule(stored, known.changed_at, reset, audit).await
        {
            Err(StoreError::Refused(_)) => return Err(name_taken()),
            Ok(None) => {
                return Err(ServiceError::Conflict {
                    code: "alert_rule_changed",
                    detail: "the alert rule was changed at the same time; read it and try again"
                        .into(),
                });
            }
            stored => stored?,
        };
        self.publish(row.tenant_id, resolved.into_iter().flatten());
        self.publish_rule(&row);
        self.changed.notify_one();
        Ok(row)
    }

    /// Publishes alerts that opened or were resolved.
    fn publish(&self, tenant_id: TenantId, changed: impl IntoIterator<Item = alert::Model>) {
        for alert in changed {
            let (id, rule_id, agent_id) = (alert.id, alert.rule_id, alert.agent_id);
            let is_open = alert.resolved_at.is_none();
            let event = TenantEvent::Alert { id, rule_id, agent_id, is_open };
            self.hub.event_log.append(tenant_id, event);
        }
    }

    fn publish_rule(&self, rule: &AlertRuleRecord) {
        let event = TenantEvent::AlertRule { id: rule.id, silenced_until: rule.silenced_until };
        self.hub.event_log.append(rule.tenant_id, event);
    }

    async fn find(&self, caller: &Caller, id: AlertRuleId) -> Result<AlertRuleRecord> {
        let found = self.store.tenant(caller.principal.tenant_id).alert_rule(id).await?;
        Ok(found.ok_or(UNKNOWN)?.into())
    }
}

fn name_taken() -> ServiceError {
    ServiceError::Conflict {
        code: "alert_rule_exists",
        detail: "an alert rule has this name already".into(),
    }
}

fn too_many() -> ServiceError {
    ServiceError::Conflict {
        code: "too_many_alert_rules",
        detail: format!("a tenant has at most {MAX_ALERT_RULES} alert rules; delete one first"),
    }
}

fn subject(id: AlertRuleId) -> Subject {
    Subject { kind: "alert_rule", id: id.0 }
}

fn detail(row: &AlertRuleRecord) -> Value {
    json!({"name": row.name, "metric": row.condition.metric, "threshold": row.condition.threshold,
        "is_enabled": row.is_enabled, "silenced_until": row.silenced_until})
}
