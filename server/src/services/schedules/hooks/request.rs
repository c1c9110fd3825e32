//! Requests that create or change a hook: validates them and writes them into the record.

use serde_json::{Value, json};

use super::{Hooks, template};
use crate::domain::ids::HookId;
use crate::domain::name::check_name;
use crate::domain::schedules::hook::proof::{
    DEFAULT_REPLAY_WINDOW_MS, MAX_REPLAY_WINDOW_MS, MIN_REPLAY_WINDOW_MS,
};
use crate::domain::schedules::hook::template::{
    Fields, MAX_CONDITIONS, MAX_FIELDS, MAX_POINTER_CHARS, pointer_problem,
};
use crate::domain::schedules::hook::{HookAuthentication, HookRecord};
use crate::domain::schedules::records::JobTemplate;
use crate::domain::time::Timestamp;
use crate::services::access::caller::Caller;
use crate::services::commands::jobs::JobRequest;
use crate::services::error::{Result, ServiceError};

/// Changes to a hook. `None` keeps the value, or takes the default in a new hook.
#[derive(Debug, Clone, Default)]
pub struct HookRequest {
    pub name: Option<String>,
    pub authentication: Option<HookAuthentication>,
    pub job: Option<JobTemplate>,
    pub parameters: Option<Fields>,
    pub conditions: Option<Fields>,
    pub replay_window_ms: Option<u64>,
    pub is_enabled: Option<bool>,
}

impl HookRequest {
    /// True unless it only renames or disables the hook.
    pub(super) fn changes_work(&self) -> bool {
        self.authentication.is_some()
            || self.job.is_some()
            || self.parameters.is_some()
            || self.conditions.is_some()
            || self.replay_window_ms.is_some()
            || self.is_enabled == Some(true)
    }
}

impl Hooks {
    pub(super) fn new_row(&self, caller: &Caller, request: HookRequest) -> Result<HookRecord> {
        if request.name.is_none() {
            return Err(ServiceError::required("name"));
        }
        let Some(authentication) = request.authentication else {
            return Err(ServiceError::required("authentication"));
        };
        if request.job.is_none() {
            return Err(ServiceError::required("job"));
        }
        let now = self.clock.now();
        let blank = HookRecord {
            id: HookId::new(),
            tenant_id: caller.principal.tenant_id,
            name: String::new(),
            authentication,
            job: String::new(),
            parameters: "{}".into(),
            conditions: "{}".into(),
            replay_window_ms: DEFAULT_REPLAY_WINDOW_MS.cast_signed(),
            is_enabled: true,
            owner_id: caller.principal.id,
            created_by: caller.principal.id,
            created_at: now,
            changed_at: now,
        };
        self.with_changes(caller, blank, request, now)
    }

    /// The record with the requested changes. Unless it is only renamed or disabled, the caller becomes the
    /// owner: otherwise a person could run a job with the rights of another.
    ///
    /// # Errors
    /// 403 if the caller may not submit the job; 422 names the field.
    pub(super) fn with_changes(
        &self,
        caller: &Caller,
        mut row: HookRecord,
        request: HookRequest,
        now: Timestamp,
    ) -> Result<HookRecord> {
        if request.changes_work() {
            row.owner_id = caller.principal.id;
        }
        if let Some(name) = request.name {
            check_name(&name).map_err(|problem| ServiceError::invalid_field("name", problem))?;
            row.name = name;
        }
        row.authentication = request.authentication.unwrap_or(row.authentication);
        row.is_enabled = request.is_enabled.unwrap_or(row.is_enabled);
        if let Some(job) = request.job {
            row.job = json!(job).to_string();
        }
        if let Some(fields) = request.parameters {
            check_fields("parameters", &fields)?;
            row.parameters = json!(fields).to_string();
        }
        if let Some(conditions) = request.conditions {
            check_conditions("conditions", &conditions)?;
            row.conditions = json!(conditions).to_string();
        }
        if let Some(window) = request.replay_window_ms {
            let bounds = MIN_REPLAY_WINDOW_MS..=MAX_REPLAY_WINDOW_MS;
            if !bounds.contains(&window) {
                return Err(ServiceError::out_of_range("replay_window_ms", window, bounds));
            }
            row.replay_window_ms = window.cast_signed();
        }
        self.jobs.check_template(caller, with_placeholders(&row)?)?;
        // Two changes within one millisecond must differ.
        row.changed_at = now.max(row.changed_at.plus_ms(1));
        Ok(row)
    }
}

/// The request of the job with a placeholder for each declared field, so that names of parameters are
/// checked before the first delivery.
fn with_placeholders(row: &HookRecord) -> Result<JobRequest> {
    let fields: Fields = serde_json::from_str(&row.parameters).unwrap_or_default();
    let mut request = template(row)?.request();
    if fields.is_empty() {
        return Ok(request);
    }
    // The check of the template refuses anything but an object.
    if let Value::Object(parameters) = request.parameters.get_or_insert_with(|| json!({})) {
        parameters.extend(fields.into_keys().map(|name| (name, "placeholder".into())));
    }
    Ok(request)
}

fn check_fields(field: &str, fields: &Fields) -> Result<()> {
    check_count(field, fields.len(), MAX_FIELDS)?;
    fields.values().try_for_each(|pointer| check_pointer(field, pointer))
}

fn check_conditions(field: &str, conditions: &Fields) -> Result<()> {
    check_count(field, conditions.len(), MAX_CONDITIONS)?;
    if conditions.values().any(|expected| expected.chars().count() > MAX_POINTER_CHARS) {
        return Err(ServiceError::invalid_field(
            field,
            "must have texts of at most 255 characters",
        ));
    }
    conditions.keys().try_for_each(|pointer| check_pointer(field, pointer))
}

fn check_count(field: &str, count: usize, most: usize) -> Result<()> {
    match count > most {
        true => Err(ServiceError::out_of_range(field, count as u64, 0..=most as u64)),
        false => Ok(()),
    }
}

fn check_pointer(field: &str, pointer: &str) -> Result<()> {
    match pointer_problem(pointer) {
        Some(problem) => Err(ServiceError::invalid_field(field, problem)),
        None => Ok(()),
    }
}
