//! From a request to a job that makes sense.

use muster_protocol::CommandName;
use serde_json::json;

use super::storage::{Submission, key_reused};
use super::{JobRequest, JobSnapshot, Jobs, MAX_EXECUTIONS};
use crate::domain::access::principal::Scope;
use crate::domain::commands::job_state::JobState;
use crate::domain::fleet::target::Target;
use crate::domain::ids::{AgentId, JobId};
use crate::domain::integrations::webhook::WebhookUrl;
use crate::services::access::caller::Caller;
use crate::services::commands::preflight::{Host, OnMismatch};
use crate::services::commands::secret_parameters::digest;
use crate::services::commands::{Checked, CommandRequest, request_hash};
use crate::services::error::{Result, ServiceError};
use crate::services::integrations::webhooks::check_url;
use crate::store::entities::column::StringList;
use crate::store::entities::commands::job;
use crate::store::writer::Idempotency;

/// Ids that a refusal names.
const SHOWN: usize = 3;

/// What a job is beside its command.
struct Asked {
    /// JSON.
    target: String,
    webhook_url: Option<WebhookUrl>,
}

/// What a submission comes to before it is stored.
enum Looked {
    /// This very request made this job before.
    Known(JobId),
    /// These agents, and those of their hosts that are to be held against the request.
    Meant(Vec<AgentId>, Vec<Host>),
}

impl Jobs {
    /// Stores a job with an execution for every agent that its target means, and sends what can
    /// be sent. Agents that are away have it queued.
    ///
    /// # Errors
    /// 422 for a request that makes no sense, for a target that means nobody, and for what hosts
    /// would refuse; 429 if the caller has too many requests under way.
    pub async fn submit(&self, caller: &Caller, request: JobRequest) -> Result<JobSnapshot> {
        caller.require(Scope::CommandsRun)?;
        let _turn = self.turns.take(caller.principal.id)?;
        let target = Target::try_from(request.target.clone())?;
        let trigger = request.trigger;
        let asked_target = json!(request.target).to_string();
        let rollout = request.valid_rollout()?;
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
                rollout.as_ref().map_or(&[], |rollout| rollout.text.as_bytes()),
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
            self.preflight.check(tenant_id, hosts, agents.len(), asked).await?;
        }
        let _room = self.turns.acquire_executions(agents.len()).await?;
        let planned = match rollout {
            Some(rollout) => Some(self.plan_rollout(rollout, &agents).await?),
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
            OnMismatch::Refuse => self.preflight.hosts(caller.principal.tenant_id, &agents).await?,
            OnMismatch::Send => Vec::new(),
        };
        Ok(Looked::Meant(agents, hosts))
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
