//! A delivery: checked, recorded, and turned into a job with the rights that the hook's owner has now.
//! The key of the delivery makes a repeated one the same, and the job has it as its idempotency key: a
//! server that stops in between submits nothing twice.

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::{Hooks, UNKNOWN, current_owner, subject, template};
use crate::domain::access::principal::Scope;
use crate::domain::commands::trigger::Trigger;
use crate::domain::ids::{HookDeliveryId, HookId, JobId};
use crate::domain::schedules::hook::proof::{PresentedDelivery, check};
use crate::domain::schedules::hook::template::{Fields, parameters, unfulfilled};
use crate::domain::schedules::hook::{HookDeliveryRecord, HookDeliveryState, HookRecord};
use crate::services::access::caller::{AuditAction, Caller, Client};
use crate::services::commands::jobs::JobRequest;
use crate::services::error::{Result, ServiceError};
use crate::store::entities::access::audit_entry;
use crate::store::entities::schedules::hook_delivery;
use crate::store::queries::HookOutcome;

/// The result of a delivery that was taken.
#[derive(Debug, Clone)]
pub struct Delivered {
    pub delivery: HookDeliveryRecord,
    /// The same delivery came before.
    pub is_repeated: bool,
}

/// The result of a test.
#[derive(Debug, Clone)]
pub struct TestedHook {
    /// `None` for a dry run.
    pub delivery: Option<HookDeliveryRecord>,
    /// The parameters of the job; `None` if the body does not fulfil the conditions.
    pub parameters: Option<Value>,
    /// The first condition that the body does not fulfil.
    pub unfulfilled: Option<String>,
}

/// The work that a body requests.
enum RequestedWork {
    Job(Box<JobRequest>),
    /// Nothing; the sentence says why.
    Nothing(String),
}

impl Hooks {
    /// Counts a delivery of an address, before its body is read.
    ///
    /// # Errors
    /// 429 `too_many_deliveries`.
    pub fn admit(&self, client: &Client) -> Result<()> {
        self.limiter.attempt(client.limited_as)
    }

    /// Takes a delivery and submits its job. Repeatable: the same delivery gets the same job.
    ///
    /// # Errors
    /// 401 `hook_not_authenticated` for an unknown hook and without a proof, which an answer does not
    /// distinguish; 429; 409 `hook_disabled`; 403 `hook_owner_invalid`; 422 for a body that does not fit; as
    /// the submission of a job.
    pub async fn deliver(
        &self,
        client: &Client,
        id: HookId,
        presented: PresentedDelivery<'_>,
    ) -> Result<Delivered> {
        let Some(hook) = self.store.system().hook(id).await? else {
            return Err(not_authenticated());
        };
        let now = self.clock.now();
        let secret = self.secret_box.open(hook.tenant_id, super::FIELD, &hook.sealed)?;
        let hook = HookRecord::from(hook);
        let window_ms = hook.replay_window_ms.unsigned_abs();
        let proof = check(hook.authentication, &secret, window_ms, now, &presented);
        let key = match proof {
            Ok(key) => key,
            Err(reason) => {
                tracing::info!(hook = %id, %reason, "refused a delivery without proof");
                if self.limiter.may_record(id) {
                    let refused = HookDeliveryRecord {
                        state: HookDeliveryState::Refused,
                        detail: Some(reason.to_string()),
                        ..self.record(&hook, client, None)
                    };
                    let row = hook_delivery::Model::of(hook.tenant_id, refused);
                    self.store.tenant(hook.tenant_id).record_hook_delivery(row).await?;
                }
                return Err(not_authenticated());
            }
        };
        self.limiter.deliver(id)?;
        let tenant = self.store.tenant(hook.tenant_id);
        let new = self.record(&hook, client, key);
        let new_id = new.id;
        let row = hook_delivery::Model::of(hook.tenant_id, new);
        let stored = tenant.record_hook_delivery(row).await?.ok_or_else(not_authenticated)?;
        let delivery = HookDeliveryRecord::from(stored);
        let is_repeated = delivery.id != new_id;
        // One without a job is tried again: its sender repeats it because it was refused.
        if is_repeated && delivery.job_id.is_some() {
            return Ok(Delivered { delivery, is_repeated });
        }
        let result = self.submit(&hook, client, &delivery, &presented).await;
        let detail = json!({"delivery_id": delivery.id, "job_id": result.as_ref().ok().and_then(|outcome| outcome.job_id)});
        let action = AuditAction {
            tenant_id: hook.tenant_id,
            action: "hook.deliver",
            subject: subject(id),
            detail: &detail,
            at: now,
        };
        let audit = audit_entry::Model { source: client.source.clone(), ..action.by_system() };
        let delivery = self.finish(&hook, delivery, &result, audit).await?;
        result.map(|_| Delivered { delivery, is_repeated })
    }

    /// Does with a body what a delivery would do, with the rights of the caller. A dry run submits no job.
    ///
    /// # Errors
    /// 422 for a body that does not fit; as the submission of a job.
    pub async fn test(
        &self,
        caller: &Caller,
        id: HookId,
        body: &Value,
        is_dry_run: bool,
    ) -> Result<TestedHook> {
        caller.require(Scope::CommandsRun)?;
        let hook = HookRecord::from(self.find_to_change(caller, id).await?);
        let (shown, unfulfilled) = match requested_work(&hook, body)? {
            RequestedWork::Job(request) => {
                (Some(request.parameters.unwrap_or_else(|| json!({}))), None)
            }
            RequestedWork::Nothing(reason) => (None, Some(reason)),
        };
        if is_dry_run {
            return Ok(TestedHook { delivery: None, parameters: shown, unfulfilled });
        }
        let record =
            HookDeliveryRecord { is_test: true, ..self.record(&hook, &caller.client(), None) };
        let row = hook_delivery::Model::of(hook.tenant_id, record);
        let tenant = self.store.tenant(hook.tenant_id);
        let delivery = tenant.record_hook_delivery(row).await?.ok_or(UNKNOWN)?.into();
        let result = self.submit_as(caller, &hook, &delivery, body).await;
        let now = self.clock.now();
        let detail = json!({"delivery_id": delivery.id, "job_id": result.as_ref().ok().and_then(|outcome| outcome.job_id)});
        let audit = caller.audit("hook.test", subject(id), &detail, now);
        let delivery = self.finish(&hook, delivery, &result, audit).await?;
        result.map(|_| TestedHook { delivery: Some(delivery), parameters: shown, unfulfilled })
    }

    async fn submit(
        &self,
        hook: &HookRecord,
        client: &Client,
        delivery: &HookDeliveryRecord,
        presented: &PresentedDelivery<'_>,
    ) -> Result<HookOutcome> {
        if !hook.is_enabled {
            return Err(ServiceError::Conflict {
                code: "hook_disabled",
                detail: "the hook is disabled".into(),
            });
        }
        if presented.github_event == Some("ping") {
            return Ok(ignored("GitHub only asks whether the hook answers".into()));
        }
        let body = serde_json::from_slice(presented.body).map_err(|_| ServiceError::Invalid {
            code: "invalid_delivery",
            detail: "the body is not JSON".into(),
        })?;
        let now = self.clock.now();
        let owner = current_owner(&self.store, hook.tenant_id, hook.owner_id, now).await?;
        let Some(owner) = owner else {
            return Err(ServiceError::Forbidden {
                code: "hook_owner_invalid",
                detail: "the API key of the hook's owner was revoked or has expired, or its owner left; replace its secret to become its owner".into(),
            });
        };
        let (source, request_id) = (client.source.clone(), client.request_id.clone());
        let owner = Caller { source, request_id, ..owner };
        self.submit_as(&owner, hook, delivery, &body).await
    }

    async fn submit_as(
        &self,
        caller: &Caller,
        hook: &HookRecord,
        delivery: &HookDeliveryRecord,
        body: &Value,
    ) -> Result<HookOutcome> {
        let request = match requested_work(hook, body)? {
            RequestedWork::Job(request) => *request,
            RequestedWork::Nothing(reason) => return Ok(ignored(reason)),
        };
        let idempotency_key = Some(idempotency_key(hook.id, delivery));
        let request = JobRequest { idempotency_key, ..request };
        let job = self.jobs.submit(caller, request).await?;
        Ok(started(job.row.id))
    }

    /// Records the outcome. A delivery that the server could not decide about is tried again.
    async fn finish(
        &self,
        hook: &HookRecord,
        delivery: HookDeliveryRecord,
        result: &Result<HookOutcome>,
        audit: audit_entry::Model,
    ) -> Result<HookDeliveryRecord> {
        let outcome = match result {
            Ok(outcome) => outcome.clone(),
            Err(ServiceError::Store(_) | ServiceError::Unready) => return Ok(delivery),
            Err(refusal) => HookOutcome {
                state: HookDeliveryState::Refused,
                detail: Some(refusal.to_string()),
                job_id: None,
            },
        };
        let tenant = self.store.tenant(hook.tenant_id);
        tenant.finish_hook_delivery(delivery.id, outcome.clone(), audit).await?;
        let HookOutcome { state, detail, job_id } = outcome;
        Ok(HookDeliveryRecord { state, detail, job_id, ..delivery })
    }

    fn record(
        &self,
        hook: &HookRecord,
        client: &Client,
        delivery_key: Option<String>,
    ) -> HookDeliveryRecord {
        HookDeliveryRecord {
            id: HookDeliveryId::new(),
            hook_id: hook.id,
            delivery_key,
            is_test: false,
            state: HookDeliveryState::Received,
            detail: None,
            job_id: None,
            source: client.source.clone(),
            received_at: self.clock.now(),
        }
    }
}

/// The job that a body asks for.
fn requested_work(hook: &HookRecord, body: &Value) -> Result<RequestedWork> {
    let conditions: Fields = serde_json::from_str(&hook.conditions).unwrap_or_default();
    if let Some(pointer) = unfulfilled(&conditions, body) {
        return Ok(RequestedWork::Nothing(format!(
            "{pointer} has another value than the hook expects"
        )));
    }
    let fields: Fields = serde_json::from_str(&hook.parameters).unwrap_or_default();
    let request = template(hook)?.request();
    let parameters = parameters(request.parameters.as_ref(), &fields, body).map_err(|missing| {
        ServiceError::Invalid { code: "invalid_delivery", detail: missing.to_string() }
    })?;
    Ok(RequestedWork::Job(Box::new(JobRequest { parameters, trigger: Trigger::Hook, ..request })))
}

/// The key with which the job of a delivery is submitted. Its prefix keeps it apart from keys that the owner
/// chooses.
fn idempotency_key(id: HookId, delivery: &HookDeliveryRecord) -> String {
    let id_text = delivery.id.to_string();
    let key = delivery.delivery_key.as_deref().unwrap_or(&id_text);
    let digest = digest(&SHA256, key.as_bytes());
    format!("hook:{id}:{}", data_encoding::HEXLOWER.encode(digest.as_ref()))
}

fn started(job_id: JobId) -> HookOutcome {
    HookOutcome { state: HookDeliveryState::Started, detail: None, job_id: Some(job_id) }
}

fn ignored(reason: String) -> HookOutcome {
    HookOutcome { state: HookDeliveryState::Ignored, detail: Some(reason), job_id: None }
}

fn not_authenticated() -> ServiceError {
    ServiceError::Unauthenticated {
        code: "hook_not_authenticated",
        detail: "there is no such hook, or the request does not prove that it knows its secret; check secret, headers and clock",
    }
}
