//! From a request to a job whose frames are on their way.

use std::collections::HashMap;
use std::sync::Arc;

use muster_protocol::secret_parameters::SecretParameters;
use muster_protocol::{CloseCode, CommandName};
use serde_json::{Value, json};

use super::planning::{Beginning, Planned};
use super::{Again, JobNow, JobRequest, Jobs, MAX_EXECUTIONS, subject};
use crate::domain::ids::{AgentId, CommandId, JobId};
use crate::domain::job_state::JobState;
use crate::domain::principal::Scope;
use crate::domain::state::{CommandState, EndReason};
use crate::domain::target::{Target, TargetSpec};
use crate::domain::trigger::Trigger;
use crate::domain::webhook::WebhookUrl;
use crate::hub::{SessionHandle, ToSession};
use crate::services::caller::Caller;
use crate::services::commands::{Checked, CommandRequest, request_hash};
use crate::services::error::{Result, ServiceError};
use crate::services::precheck::{Host, OnMismatch};
use crate::services::secret_parameters::{self, Outgoing, digest};
use crate::services::webhooks::check_url;
use crate::store::entities::column::StringList;
use crate::store::entities::{command, job};
use crate::store::writer::{Idempotency, NewExecution, SubmitJob, SubmittedJob};

/// Ids that a refusal names.
const SHOWN: usize = 3;

const KEY_REUSED: &str = "this Idempotency-Key belongs to another request; use a new one";

/// What a job is beside its command.
struct Asked {
    /// JSON.
    target: String,
    webhook_url: Option<WebhookUrl>,
}

/// A job that makes sense, on agents that are there.
struct Submission {
    row: job::Model,
    checked: Checked,
    idempotency: Option<Idempotency>,
    agents: Vec<AgentId>,
    planned: Option<Planned>,
    trigger: Trigger,
}

/// What a submission comes to before it is stored.
enum Looked {
    /// This very request made this job before.
    Known(JobId),
    /// These agents, and those of their hosts that are to be held against the request.
    Meant(Vec<AgentId>, Vec<Host>),
}

type Held = HashMap<CommandId, Arc<SessionHandle>>;

impl Jobs {
    /// Stores a job with an execution for every agent that its target means, and sends what can
    /// be sent. Agents that are away have it queued.
    ///
    /// # Errors
    /// 422 for a request that makes no sense, for a target that means nobody, and for what hosts
    /// would refuse; 429 if the caller has too many requests under way.
    pub async fn submit(&self, caller: &Caller, request: JobRequest) -> Result<JobNow> {
        caller.require(Scope::CommandsRun)?;
        let _turn = self.turns.take(caller.principal.id)?;
        let target = Target::try_from(request.target.clone())?;
        let trigger = request.trigger;
        let asked_target = json!(request.target).to_string();
        let asked_rollout = request.asked_rollout()?;
        let webhook_url = match &request.webhook_url {
            Some(url) => Some(check_url(url, self.webhook_reach)?),
            None => None,
        };
        let checked = request.into_command().check(CommandName::Execute)?;
        checked.check_scope(caller)?;
        if !checked.secret_parameters.is_empty() && target.needs_facts() {
            return Err(ServiceError::Invalid {
                code: "secrets_need_ids_or_tags",
                detail: "a host could make itself the target by what it says of itself: name the \
                         agents of a job with secrets by ids or tags"
                    .into(),
            });
        }
        let idempotency = checked.idempotency_key.clone().map(|key| {
            let secrets = digest(&self.secret_box, &checked.secret_parameters);
            let expires_in_ms = checked.expires_in_ms.to_be_bytes();
            let mut parts: Vec<&[u8]> = vec![
                b"job",
                asked_target.as_bytes(),
                &expires_in_ms,
                checked.data_text.as_bytes(),
                secrets.as_ref().map_or(&[], |digest| &digest[..]),
                asked_rollout.as_ref().map_or(&[], |asked| asked.text.as_bytes()),
            ];
            parts.extend(webhook_url.iter().map(|url| url.as_str().as_bytes()));
            Idempotency { key, request_hash: request_hash(&parts) }
        });
        let (agents, hosts) = match self
            .turns
            .reading(self.look(caller, &target, &checked, idempotency.as_ref()))
            .await?
        {
            Looked::Known(job_id) => return self.turns.reading(self.get(caller, job_id)).await,
            Looked::Meant(agents, hosts) => (agents, hosts),
        };
        // Hosts may take their time: nobody else waits for them.
        if let Some(asked) = checked.asked() {
            let tenant_id = caller.principal.tenant_id;
            self.precheck.check(tenant_id, hosts, agents.len(), asked).await?;
        }
        let _room = self.turns.room_for(agents.len()).await?;
        let planned = match asked_rollout {
            Some(asked) => Some(self.plan(asked, &agents).await?),
            None => None,
        };
        let asked = Asked { target: asked_target, webhook_url };
        let row = self.row(caller, asked, &checked, agents.len());
        let submission = Submission { row, checked, idempotency, agents, planned, trigger };
        let job_id = self.store_and_send(caller, submission).await?;
        self.turns.reading(self.get(caller, job_id)).await
    }

    /// What has to be known before anything is stored.
    async fn look(
        &self,
        caller: &Caller,
        target: &Target,
        checked: &Checked,
        idempotency: Option<&Idempotency>,
    ) -> Result<Looked> {
        // Whoever the target means by now: what was asked for before is what is meant.
        if let Some(idempotency) = idempotency
            && let Some(job_id) = self.known(caller, idempotency).await?
        {
            return Ok(Looked::Known(job_id));
        }
        let agents = self.choose(caller, target).await?;
        let hosts = match checked.on_mismatch {
            OnMismatch::Refuse => self.precheck.hosts(caller.principal.tenant_id, &agents).await?,
            OnMismatch::Send => Vec::new(),
        };
        Ok(Looked::Meant(agents, hosts))
    }

    /// Does a job once more, as a new one, on the agents of its executions.
    ///
    /// # Errors
    /// 409 while an execution is open, or if there is nothing to do once more.
    pub async fn retry(
        &self,
        caller: &Caller,
        id: JobId,
        again: Again,
        idempotency_key: Option<String>,
    ) -> Result<JobNow> {
        let job = self.get(caller, id).await?;
        if !job.progress.is_over() {
            return Err(ServiceError::Conflict {
                code: "job_running",
                detail: "the job is not over: wait for it, or cancel it, then retry".into(),
            });
        }
        if !job.row.secret_names.0.is_empty() {
            return Err(ServiceError::Conflict {
                code: "secrets_gone",
                detail: "the job had secret parameters, which are not kept: submit it anew".into(),
            });
        }
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let ids = tenant.agents_of_job(id, again == Again::Failed).await?;
        if ids.is_empty() {
            return Err(ServiceError::Conflict {
                code: "nothing_to_retry",
                detail: "every execution of the job succeeded".into(),
            });
        }
        let data: Value = serde_json::from_str(&job.row.data).unwrap_or(Value::Null);
        let request = JobRequest {
            script: Some(job.row.script).filter(|script| !script.is_empty()),
            argv: data.get("argv").cloned(),
            parameters: data.get("parameters").cloned(),
            secret_parameters: None,
            timeout_ms: data.get("timeout_ms").and_then(Value::as_u64),
            expires_in_ms: None,
            target: TargetSpec { ids: Some(ids), ..TargetSpec::default() },
            rollout: job.rollout.and_then(|now| serde_json::from_str(&now.row.spec).ok()),
            webhook_url: job.row.webhook_url,
            idempotency_key,
            trigger: Trigger::Retry,
            // What was accepted once is each host's own affair.
            on_mismatch: OnMismatch::Send,
        };
        self.submit(caller, request).await
    }

    async fn known(&self, caller: &Caller, idempotency: &Idempotency) -> Result<Option<JobId>> {
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let known = tenant.idempotency_record(caller.principal.id, &idempotency.key).await?;
        match known {
            None => Ok(None),
            Some(record) if record.request_hash == idempotency.request_hash => {
                Ok(Some(JobId(record.command_id.0)))
            }
            Some(_) => Err(key_reused()),
        }
    }

    async fn choose(&self, caller: &Caller, target: &Target) -> Result<Vec<AgentId>> {
        let invalid = |code, detail| Err(ServiceError::Invalid { code, detail });
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let chosen = tenant.resolve(target, |id| self.hub.is_connected(id)).await?;
        if let Some(id) = chosen.unknown_ids.first() {
            let others = chosen.unknown_ids.len().saturating_sub(SHOWN);
            let shown: Vec<_> =
                chosen.unknown_ids.iter().take(SHOWN).map(ToString::to_string).collect();
            let more = if others == 0 { String::new() } else { format!(" and {others} more") };
            tracing::debug!(%id, "a job names agents that are not there");
            let detail = format!("there is no agent {}{more}; see /api/agents", shown.join(", "));
            return invalid("unknown_agent", detail);
        }
        let count = chosen.agents.len();
        if count == 0 {
            let detail = "the target means no agent; look at it with /api/targets/preview";
            return invalid("no_agents", detail.to_owned());
        }
        if count > MAX_EXECUTIONS {
            let detail =
                format!("the target means {count} agents; a job has at most {MAX_EXECUTIONS}");
            return invalid("too_many_agents", detail);
        }
        Ok(chosen.agents.into_iter().map(|agent| agent.id).collect())
    }

    async fn store_and_send(&self, caller: &Caller, submission: Submission) -> Result<JobId> {
        let Submission { row, checked, idempotency, agents, planned, trigger } = submission;
        let id = row.id;
        let rollout =
            planned.as_ref().map(|planned| planned.row(row.tenant_id, id, checked.expires_in_ms));
        let waves = rollout.as_ref().map(|rollout| rollout.wave_count);
        let (what, work) = checked.audited();
        let detail = json!({what: work, "agents": agents.len(), "waves": waves});
        let audit = caller.audit("job.submit", subject(id), &detail, row.created_at);
        let mut held = Held::new();
        let mut executions = Vec::with_capacity(agents.len());
        let mut beginnings = planned.as_ref().map(Planned::beginnings);
        for agent_id in agents {
            let beginning = beginnings.as_mut().and_then(Iterator::next);
            let beginning = beginning.unwrap_or(Beginning::Free { wave: None });
            let mut execution = self.execution(&row, &checked, agent_id, beginning, &mut held)?;
            execution.row.trigger = trigger;
            executions.push(execution);
        }
        let rows: Vec<_> = executions.iter().map(|execution| execution.row.clone()).collect();
        let secrets = checked.secret_parameters;
        let operation = SubmitJob { row, rollout, executions, idempotency, audit };
        match self.store.writer().commit(operation).await {
            Ok(SubmittedJob::New { delivered, .. }) => {
                self.follow_up(rows, &secrets, &delivered, &held);
                // All of its executions may have ended as they were made.
                self.hub.job_changed(id);
                Ok(id)
            }
            Ok(SubmittedJob::Repeated { job_id }) => {
                self.give_back(&held);
                Ok(job_id)
            }
            Ok(SubmittedJob::KeyReused) => {
                self.give_back(&held);
                Err(key_reused())
            }
            Err(error) => {
                // It may stand as delivered, though no frame has left: the next sessions'
                // inventories tell.
                held.values().for_each(|session| session.close(CloseCode::TryAgainLater));
                Err(error.into())
            }
        }
    }

    fn row(&self, caller: &Caller, asked: Asked, checked: &Checked, agents: usize) -> job::Model {
        job::Model {
            id: JobId::new(),
            tenant_id: caller.principal.tenant_id,
            script: checked.script().unwrap_or_default().to_owned(),
            data: checked.data_text.clone(),
            secret_names: StringList(
                checked.secret_parameters.iter().map(|(name, _)| name.to_owned()).collect(),
            ),
            target: asked.target,
            agent_count: agents as i64,
            requested_by: caller.principal.id,
            requested_from: caller.source.clone(),
            created_at: self.clock.now(),
            state: JobState::Running,
            finished_at: None,
            stop: None,
            webhook_url: asked.webhook_url.map(|url| url.as_str().to_owned()),
        }
    }

    /// One execution; if its agent is connected and has room, its place is taken.
    fn execution(
        &self,
        job: &job::Model,
        checked: &Checked,
        agent_id: AgentId,
        beginning: Beginning,
        held: &mut Held,
    ) -> Result<NewExecution> {
        let mut row = command::Model {
            id: CommandId::new(),
            tenant_id: job.tenant_id,
            agent_id,
            command: CommandName::Execute.as_str().to_owned(),
            data: job.data.clone(),
            // Each is sealed for itself.
            sealed_parameters: secret_parameters::seal(
                &self.secret_box,
                job.tenant_id,
                &checked.secret_parameters,
            )?,
            state: CommandState::Queued,
            end_reason: None,
            requested_by: job.requested_by,
            requested_from: job.requested_from.clone(),
            created_at: job.created_at,
            expires_at: job.created_at.plus_ms(checked.expires_in_ms),
            timeout_ms: checked.timeout_ms.cast_signed(),
            lost_after_ms: self.settings.lost_after_ms.cast_signed(),
            delivered_at: None,
            started_at: None,
            finished_at: None,
            cancel_requested_at: None,
            job_id: Some(job.id),
            wave: None,
            is_held: false,
            script: Some(job.script.clone()),
            trigger: Trigger::Api,
        };
        if !beginning.apply(&mut row) {
            return Ok(NewExecution { row, deliver_in_epoch: None });
        }
        let session = self.hub.session(agent_id);
        if session
            .as_ref()
            .is_some_and(|session| !session.grant().permissions.allows(CommandName::Execute))
        {
            // The key is law; the rest of the job is not its concern.
            row.state = CommandState::Rejected;
            row.end_reason = Some(EndReason::PermissionRevoked);
            row.finished_at = Some(row.created_at);
            row.sealed_parameters = None;
            return Ok(NewExecution { row, deliver_in_epoch: None });
        }
        // What can't be sent to an agent as it is, is refused where all that is queued is looked
        // at.
        let is_sendable = |session: &Arc<SessionHandle>| {
            checked.secret_parameters.is_empty() || session.takes_secrets
        };
        let session = session.filter(|session| is_sendable(session) && session.hold_new(row.id));
        let deliver_in_epoch = session.as_ref().map(|session| session.epoch);
        if let Some(session) = session {
            held.insert(row.id, session);
        }
        Ok(NewExecution { row, deliver_in_epoch })
    }

    fn follow_up(
        &self,
        rows: Vec<command::Model>,
        secrets: &SecretParameters,
        delivered: &[CommandId],
        held: &Held,
    ) {
        for mut row in rows {
            self.hub.moved(row.id);
            let session = held.get(&row.id);
            match session {
                Some(session) if delivered.binary_search(&row.id).is_ok() => {
                    let now = row.created_at;
                    self.meters.sent(self.clock.now().ms_since(now));
                    row.state = CommandState::Delivered;
                    // If the session has ended meanwhile, the next one's inventory does not list
                    // the command, which puts it back into the queue.
                    let frame = Outgoing::new(row, secrets.clone()).into_frame(now);
                    let frame = Box::new(frame);
                    session.tell_in_time(ToSession::Command { frame, held: true });
                }
                Some(session) => {
                    session.release(row.id);
                    self.hub.wake(row.agent_id);
                }
                None if row.state == CommandState::Queued
                    && !row.is_held
                    && self.hub.is_connected(row.agent_id) =>
                {
                    self.hub.wake(row.agent_id);
                }
                None => {}
            }
        }
    }

    fn give_back(&self, held: &Held) {
        for (id, session) in held {
            if session.release(*id) {
                self.hub.wake(session.agent_id);
            }
        }
    }
}

impl JobRequest {
    /// The same as a command for one agent: what makes sense there makes sense here.
    fn into_command(self) -> CommandRequest {
        let mut data = serde_json::Map::new();
        if let Some(script) = self.script {
            data.insert("script".into(), script.into());
        }
        if let Some(argv) = self.argv {
            data.insert("argv".into(), argv);
        }
        if let Some(parameters) = self.parameters {
            data.insert("parameters".into(), parameters);
        }
        if let Some(secrets) = self.secret_parameters {
            data.insert("secret_parameters".into(), secrets);
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
        }
    }
}

fn key_reused() -> ServiceError {
    ServiceError::Invalid { code: "idempotency_key_reused", detail: KEY_REUSED.into() }
}
