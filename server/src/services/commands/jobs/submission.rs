//! Validates a request for a job, resolves its target and stores it.

use muster_protocol::CommandName;
use serde_json::json;

use super::run_options::RunOptions;
use super::storage::NewJob;
use super::{JobRequest, JobSnapshot, Jobs, MAX_EXECUTIONS};
use crate::domain::access::principal::Scope;
use crate::domain::commands::job_state::JobState;
use crate::domain::commands::offline_policy::OfflinePolicy;
use crate::domain::fleet::target::Target;
use crate::domain::fleet::target::facts::Facts;
use crate::domain::ids::{AgentId, JobId};
use crate::domain::outbound::OutboundUrl;
use crate::domain::schedules::calendar::Start;
use crate::domain::schedules::trigger_call::PinnedCall;
use crate::hub::Hub;
use crate::services::access::caller::Caller;
use crate::services::access::work_guard::Clearance;
use crate::services::commands::CommandRequest;
use crate::services::commands::idempotency::{find_earlier, request_hash};
use crate::services::commands::library_pin::pin_script;
use crate::services::commands::preflight::{OnMismatch, PreflightHost};
use crate::services::commands::request::ValidatedCommand;
use crate::services::commands::secret_parameters::digest;
use crate::services::error::{Result, ServiceError};
use crate::services::integrations::webhooks::check_url;
use crate::store::entities::column::StringList;
use crate::store::entities::commands::job;
use crate::store::writer::Idempotency;
use crate::store::{FireStart, Store};

/// Most agent ids that an error names.
const SHOWN: usize = 3;

/// The parts of a job beside its command.
struct JobParts {
    /// JSON.
    target: String,
    webhook_url: Option<OutboundUrl>,
    retry_of: Option<JobId>,
    options: RunOptions,
}

/// What the database says about a request before it is stored.
enum Lookup {
    /// The same request created this job before.
    Repeated(JobId),
    /// The agents of the target, the hosts for the preflight, and whether the job may start.
    New(Vec<Facts>, Vec<PreflightHost>, Clearance),
}

impl Jobs {
    /// Stores a job with an execution for every agent that its target matches, and sends what can be
    /// sent. For offline agents the executions are queued.
    ///
    /// # Errors
    /// 422 for an invalid request, a target that matches no agents, and a refusal by the hosts'
    /// manifests; 429 if the caller has too many requests in progress.
    pub async fn submit(&self, caller: &Caller, request: JobRequest) -> Result<JobSnapshot> {
        self.submit_for(caller, request, None).await
    }

    /// As [`Self::submit`], for a fire of a schedule: the job is stored only if the fire has none.
    pub(super) async fn submit_for(
        &self,
        caller: &Caller,
        request: JobRequest,
        fire: Option<FireStart>,
    ) -> Result<JobSnapshot> {
        caller.require(Scope::CommandsRun)?;
        let _permit = self.limiter.acquire(caller.principal.id)?;
        let target = Target::try_from(request.target.clone())?;
        let trigger = request.trigger;
        let target_text = json!(request.target).to_string();
        let requested_rollout = request.valid_rollout()?;
        let (offline, retry_of) = (request.valid_offline()?, request.retry_of);
        let options = request.run_options()?;
        let webhook_url = match &request.webhook_url {
            Some(url) => Some(check_url(url, self.webhook_reach)?),
            None => None,
        };
        let validated = request.into_command().validate(CommandName::Execute);
        // A job has the fields of the data at its top.
        let mut validated = validated.map_err(|error| error.moved("data.", ""))?;
        validated.check_scope(caller)?;
        validated.check_secret_target(&target)?;
        let idempotency = validated.idempotency_key.clone().map(|key| {
            let secrets = digest(&self.delivery.secret_box, &validated.secret_parameters);
            let expires_in_ms = validated.expires_in_ms.to_be_bytes();
            let mut parts: Vec<&[u8]> = vec![
                b"job",
                target_text.as_bytes(),
                &expires_in_ms,
                validated.data_text.as_bytes(),
                secrets.as_ref().map_or(&[], |digest| &digest[..]),
                requested_rollout.as_ref().map_or(&[], |rollout| rollout.text.as_bytes()),
            ];
            parts.extend(webhook_url.iter().map(|url| url.as_str().as_bytes()));
            parts.extend((offline != OfflinePolicy::Wait).then(|| offline.as_str().as_bytes()));
            let options = options.hashed();
            parts.extend(options.iter().map(String::as_bytes));
            Idempotency { key, request_hash: request_hash(&parts) }
        });
        // A person who runs a schedule now asks for work.
        let is_fire = fire.as_ref().filter(|fire| !fire.is_manual);
        let start = is_fire.map_or(Start::Work, |fire| Start::Fire(fire.schedule_id));
        let lookup = self.look_up(caller, &target, &validated, idempotency.as_ref(), start);
        let (known, hosts, clearance) = match self.limiter.with_read_permit(lookup).await? {
            Lookup::Repeated(job_id) => {
                return self.limiter.with_read_permit(self.snapshot(caller, job_id)).await;
            }
            Lookup::New(known, hosts, clearance) => (known, hosts, clearance),
        };
        let call = fire
            .map(|fire| PinnedCall { schedule_id: fire.schedule_id, is_forced: fire.is_forced });
        pin_script(&self.library, caller.principal.tenant_id, &mut validated, call).await?;
        let agents: Vec<AgentId> = known.iter().map(|agent| agent.id).collect();
        validated.check_stdin_of_all(agents.len())?;
        // Without a permit: slow hosts must not delay other submissions.
        let skipped = self.skipped_agents(caller, &known, hosts, &validated, offline).await?;
        let _permits = self.limiter.acquire_executions(agents.len()).await?;
        let planned = match requested_rollout {
            Some(rollout) => {
                let left: Vec<_> =
                    agents.iter().filter(|id| !skipped.contains_key(id)).copied().collect();
                Some(self.plan_rollout(rollout, &left).await?)
            }
            None => None,
        };
        let draft = match clearance {
            Clearance::Free => None,
            Clearance::NeedsApproval(needed) => {
                let secrets = digest(&self.delivery.secret_box, &validated.secret_parameters);
                let name = CommandName::Execute;
                let pin = self.preflight.pin(caller, needed, name, &validated, secrets, &agents);
                Some(pin.await?)
            }
        };
        let parts = JobParts { target: target_text, webhook_url, retry_of, options };
        let mut row = self.row(caller, parts, &validated, agents.len());
        if draft.is_some() {
            row.state = JobState::AwaitingApproval;
        }
        let new =
            NewJob { row, validated, idempotency, agents, skipped, planned, trigger, draft, fire };
        let job_id = self.store(caller, new).await?;
        self.limiter.with_read_permit(self.snapshot(caller, job_id)).await
    }

    /// Reads what has to be known before the job is stored.
    async fn look_up(
        &self,
        caller: &Caller,
        target: &Target,
        validated: &ValidatedCommand,
        idempotency: Option<&Idempotency>,
        start: Start,
    ) -> Result<Lookup> {
        // First, because the target may match other agents by now.
        if let Some(idempotency) = idempotency
            && let Some(id) = find_earlier(&self.store, &caller.principal, idempotency).await?
        {
            return Ok(Lookup::Repeated(JobId(id.0)));
        }
        let known = resolve_agents(&self.store, &self.hub, caller, target).await?;
        let agents: Vec<AgentId> = known.iter().map(|agent| agent.id).collect();
        match validated.calendar_override {
            Some(_) => caller.require(Scope::CommandsManage)?,
            None => self.guard.check_calendars(caller, start, &agents, self.clock.now()).await?,
        }
        let (kind, confirmation) = (validated.kind(), validated.confirmation);
        let clearance = self.guard.check(caller, kind, &agents, confirmation).await?;
        let hosts = match validated.on_mismatch {
            OnMismatch::Refuse | OnMismatch::Skip => {
                self.preflight.hosts(caller.principal.tenant_id, &agents).await?
            }
            OnMismatch::Send => Vec::new(),
        };
        Ok(Lookup::New(known, hosts, clearance))
    }

    fn row(
        &self,
        caller: &Caller,
        parts: JobParts,
        validated: &ValidatedCommand,
        agents: usize,
    ) -> job::Model {
        job::Model {
            id: JobId::new(),
            tenant_id: caller.principal.tenant_id,
            script: validated.script().unwrap_or_default().to_owned(),
            data: validated.data_text.clone(),
            secret_names: StringList(
                validated.secret_parameters.iter().map(|(name, _)| name.to_owned()).collect(),
            ),
            target: parts.target,
            agent_count: agents as i64,
            requested_by: caller.principal.id,
            requested_from: caller.source.clone(),
            created_at: self.clock.now(),
            state: JobState::Running,
            finished_at: None,
            stop: None,
            webhook_url: parts.webhook_url.map(|url| url.as_str().to_owned()),
            retry_of: parts.retry_of,
            retries: parts.options.stored_retries(validated.expires_in_ms),
            lock_name: parts.options.lock,
        }
    }
}

/// The ids of [`resolve_agents`].
///
/// # Errors
/// 422 `unknown_agent`, `no_agents` or `too_many_agents`.
pub(in crate::services::commands) async fn resolve_target(
    store: &Store,
    hub: &Hub,
    caller: &Caller,
    target: &Target,
) -> Result<Vec<AgentId>> {
    let agents = resolve_agents(store, hub, caller, target).await?;
    Ok(agents.into_iter().map(|agent| agent.id).collect())
}

/// The agents of a target, all of which must exist.
///
/// # Errors
/// 422 `unknown_agent`, `no_agents` or `too_many_agents`.
pub(super) async fn resolve_agents(
    store: &Store,
    hub: &Hub,
    caller: &Caller,
    target: &Target,
) -> Result<Vec<Facts>> {
    let invalid = |code, detail| Err(ServiceError::Invalid { code, detail });
    let tenant = store.tenant(caller.principal.tenant_id);
    let resolved = tenant.resolve(target, |id| hub.is_connected(id)).await?;
    if let Some(id) = resolved.unknown_ids.first() {
        let others = resolved.unknown_ids.len().saturating_sub(SHOWN);
        let shown: Vec<_> =
            resolved.unknown_ids.iter().take(SHOWN).map(ToString::to_string).collect();
        let more = if others == 0 { String::new() } else { format!(" and {others} more") };
        tracing::debug!(%id, "a job names unknown agents");
        let detail = format!("there is no agent {}{more}; see /api/agents", shown.join(", "));
        return invalid("unknown_agent", detail);
    }
    let count = resolved.agents.len();
    if count == 0 {
        let detail = "the target matches no agents; check it with /api/targets/preview";
        return invalid("no_agents", detail.to_owned());
    }
    if count > MAX_EXECUTIONS {
        let detail =
            format!("the target matches {count} agents; a job has at most {MAX_EXECUTIONS}");
        return invalid("too_many_agents", detail);
    }
    Ok(resolved.agents)
}

impl JobRequest {
    /// The same work as a command for one agent, so that both have the same validation.
    pub(super) fn into_command(self) -> CommandRequest {
        let mut data = serde_json::Map::new();
        if let Some(script) = self.script {
            data.insert("script".into(), script.into());
        }
        if let Some(argv) = self.argv {
            data.insert("argv".into(), argv);
        }
        if let Some(steps) = self.steps {
            data.insert("steps".into(), steps);
        }
        if let Some(file) = self.file {
            data.insert("file".into(), file);
        }
        if let Some(parameters) = self.parameters {
            data.insert("parameters".into(), parameters);
        }
        if let Some(secrets) = self.secret_parameters {
            data.insert("secret_parameters".into(), secrets);
        }
        if let Some(stdin) = self.stdin {
            data.insert("stdin".into(), stdin.into());
        }
        if let Some(timeout_ms) = self.timeout_ms {
            data.insert("timeout_ms".into(), timeout_ms.into());
        }
        CommandRequest {
            command: CommandName::Execute.as_str().to_owned(),
            data: Some(data.into()),
            wait_ms: None,
            expires_in_ms: self.expires_in_ms,
            idempotency_key: self.idempotency_key,
            on_mismatch: self.on_mismatch,
            confirmation: self.confirmation,
            calendar_override: self.calendar_override,
            retry_of: None,
        }
    }
}
