//! What a caller sends for an integration, validated.

use super::{FIELD, Integrations};
use crate::domain::fleet::target::{Target, TargetSpec};
use crate::domain::ids::IntegrationId;
use crate::domain::integrations::event_type::EventType;
use crate::domain::integrations::integration::{
    DEFAULT_OFFLINE_AFTER_MS, IntegrationKind, IntegrationSettings, MAX_OFFLINE_AFTER_MS,
};
use crate::domain::name::check_name;
use crate::domain::time::Timestamp;
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};
use crate::services::integrations::template;
use crate::store::entities::column::{StoredEventTypes, StoredSettings};
use crate::store::entities::integrations::integration;

/// Fields of an integration. `None` keeps the value; the inner `None` removes it.
#[derive(Debug, Clone, Default)]
pub struct IntegrationRequest {
    pub kind: Option<IntegrationKind>,
    pub name: Option<String>,
    pub settings: Option<IntegrationSettings>,
    pub event_types: Option<Vec<EventType>>,
    pub target: Option<Option<TargetSpec>>,
    pub template: Option<Option<String>>,
    pub is_enabled: Option<bool>,
    pub offline_after_ms: Option<u64>,
}

impl Integrations {
    pub(super) async fn new_row(
        &self,
        caller: &Caller,
        request: IntegrationRequest,
    ) -> Result<integration::Model> {
        let kind = request.kind.ok_or_else(|| ServiceError::required("kind"))?;
        let now = self.clock.now();
        if request.name.is_none() {
            return Err(ServiceError::required("name"));
        }
        if request.settings.is_none() {
            return Err(ServiceError::required("settings"));
        }
        if request.event_types.is_none() {
            return Err(ServiceError::required("event_types"));
        }
        let row = integration::Model {
            id: IntegrationId::new(),
            tenant_id: caller.principal.tenant_id,
            kind,
            name: String::new(),
            host: String::new(),
            shown: StoredSettings::default(),
            sealed: Vec::new(),
            event_types: StoredEventTypes::default(),
            target: None,
            template: None,
            is_enabled: true,
            offline_after_ms: DEFAULT_OFFLINE_AFTER_MS.cast_signed(),
            failing_since: None,
            retry_at: None,
            last_error: None,
            queue_changes: 0,
            created_by: caller.principal.id,
            created_at: now,
            changed_at: now,
        };
        self.changed_row(caller, row, IntegrationRequest { kind: None, ..request }, now).await
    }

    pub(super) async fn changed_row(
        &self,
        caller: &Caller,
        mut row: integration::Model,
        request: IntegrationRequest,
        now: Timestamp,
    ) -> Result<integration::Model> {
        if request.kind.is_some_and(|kind| kind != row.kind) {
            return Err(ServiceError::invalid_field("kind", "can't be changed"));
        }
        if let Some(name) = request.name {
            check_name(&name).map_err(|odd| ServiceError::invalid_field("name", odd))?;
            row.name = name;
        }
        if let Some(settings) = request.settings {
            self.check_settings(caller, row.kind, &settings).await?;
            let plain = serde_json::to_vec(&settings).unwrap_or_default();
            row.sealed = self.secret_box.seal(row.tenant_id, FIELD, &plain)?;
            row.host = settings.host(row.kind);
            row.shown = StoredSettings(settings.shown());
            // Another receiver starts without the failures of the one before.
            (row.failing_since, row.retry_at, row.last_error) = (None, None, None);
        }
        if let Some(mut types) = request.event_types {
            types.sort_unstable();
            types.dedup();
            if types.is_empty() {
                return Err(ServiceError::required("event_types"));
            }
            if types.contains(&EventType::IntegrationTest) {
                let problem = "must not contain integration.test, which is sent on request";
                return Err(ServiceError::invalid_field("event_types", problem));
            }
            row.event_types = StoredEventTypes(types);
        }
        if let Some(target) = request.target {
            row.target = target.map(stored_target).transpose()?;
        }
        if let Some(source) = request.template {
            if let Some(source) = &source {
                check_template(row.kind, source)?;
            }
            row.template = source;
        }
        row.is_enabled = request.is_enabled.unwrap_or(row.is_enabled);
        if let Some(offline_after_ms) = request.offline_after_ms {
            let bounds = 0..=MAX_OFFLINE_AFTER_MS;
            if !bounds.contains(&offline_after_ms) {
                let field = "offline_after_ms";
                return Err(ServiceError::out_of_range(field, offline_after_ms, bounds));
            }
            row.offline_after_ms = offline_after_ms.cast_signed();
        }
        row.changed_at = now;
        Ok(row)
    }

    async fn check_settings(
        &self,
        caller: &Caller,
        kind: IntegrationKind,
        settings: &IntegrationSettings,
    ) -> Result<()> {
        let checked = settings.check(kind, self.webhooks.client.reach());
        checked.map_err(|odd| {
            ServiceError::invalid_field(&format!("settings.{}", odd.field), &odd.problem)
        })?;
        let Some(to) = &settings.to else { return Ok(()) };
        self.webhooks.mails.require()?;
        let to: Vec<_> = to.iter().map(|to| to.to_ascii_lowercase()).collect();
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let members = tenant.addresses_of_members(to.clone()).await?;
        match to.iter().all(|to| members.contains(to)) {
            true => Ok(()),
            false => Err(ServiceError::invalid_field(
                "settings.to",
                "must only have addresses of members of the tenant",
            )),
        }
    }
}

fn stored_target(spec: TargetSpec) -> Result<String> {
    Target::try_from(spec.clone())?;
    Ok(serde_json::to_string(&spec).unwrap_or_default())
}

fn check_template(kind: IntegrationKind, source: &str) -> Result<()> {
    if !kind.has_text() {
        let problem = "can't be set for this kind, whose body is the event";
        return Err(ServiceError::invalid_field("template", problem));
    }
    template::check(source)
        .map_err(|error| ServiceError::invalid_field("template", &error.to_string()))
}
