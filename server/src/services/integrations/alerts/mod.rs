//! Alerts: use cases of the API. [`checks`] opens and resolves them.

mod checks;
mod request;

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;

pub use self::checks::AlertWork;
pub use self::request::AlertRuleRequest;
use crate::domain::access::principal::Scope;
use crate::domain::ids::AlertRuleId;
use crate::domain::integrations::alert::{AlertRecord, AlertRuleRecord};
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::{Clock, Timestamp};
use crate::services::Settings;
use crate::services::access::caller::{Caller, Subject};
use crate::services::access::work_guard::WorkGuard;
use crate::services::error::{Result, ServiceError};
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
    /// Notified when a person changed a rule.
    pub(in crate::services) changed: Arc<Notify>,
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
        self.changed.notify_one();
        Ok(row)
    }

    /// All rules, oldest first.
    pub async fn rules(&self, caller: &Caller) -> Result<Vec<AlertRuleRecord>> {
        caller.require(Scope::IntegrationsRead)?;
        let rows = self.store.tenant(caller.principal.tenant_id).alert_rules().await?;
        Ok(rows.into_iter().map(AlertRuleRecord::from).collect())
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
    ) -> Result<Page<AlertRecord>> {
        caller.require(Scope::IntegrationsRead)?;
        let rows = self.store.tenant(caller.principal.tenant_id).alerts(filter, page).await?;
        Ok(Page::of(rows, page, |row| row.id.0).map(AlertRecord::from))
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
        match self.store.tenant(caller.principal.tenant_id).delete_alert_rule(id, audit).await? {
            true => Ok(()),
            false => Err(UNKNOWN),
        }
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
        match tenant.change_alert_rule(stored, known.changed_at, reset, audit).await {
            Err(StoreError::Refused(_)) => return Err(name_taken()),
            Ok(false) => {
                return Err(ServiceError::Conflict {
                    code: "alert_rule_changed",
                    detail: "the alert rule was changed at the same time; read it and try again"
                        .into(),
                });
            }
            stored => stored?,
        };
        self.changed.notify_one();
        Ok(row)
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
