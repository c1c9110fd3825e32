//! Makes requests for approval: pins exactly what is going to run.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;
use muster_protocol::CommandName;
use ring::digest::{SHA256, digest};

use crate::domain::commands::approval::{ApprovalState, MAX_LISTED_FILES, PinnedFile, PinnedWork};
use crate::domain::ids::{AgentId, ApprovalId, CommandId, JobId, PrincipalId, TenantId};
use crate::domain::time::Timestamp;
use crate::services::access::caller::Caller;
use crate::services::access::work_guard::NeededApproval;
use crate::services::commands::idempotency::request_hash;
use crate::services::commands::preflight::Preflight;
use crate::services::commands::request::ValidatedCommand;
use crate::services::error::Result;
use crate::store::entities::column::{StoredPins, StringList};
use crate::store::entities::commands::{approval, command};

/// What hosts report about one script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::services) struct ReportedScript {
    /// SHA-256 over the entries of all manifests, in the order of the agents.
    pub sha256: String,
    pub files: Vec<PinnedFile>,
}

/// Everything but ids of a request, which are known once the work has its own.
pub(in crate::services) struct ApprovalDraft {
    needed: NeededApproval,
    pinned: PinnedWork,
    command: CommandName,
    script: Option<String>,
    data: String,
    agent_count: i64,
    expires_in_ms: u64,
    requested_from: Option<String>,
    requested_by: PrincipalId,
    tenant_id: TenantId,
}

/// The work that waits.
pub(in crate::services) enum WaitingWork {
    Job(JobId),
    Command(CommandId),
}

impl Preflight {
    /// Pins the work. `secrets`: a keyed digest of its secret parameters.
    pub(in crate::services) async fn pin(
        &self,
        caller: &Caller,
        needed: NeededApproval,
        command: CommandName,
        validated: &ValidatedCommand,
        secrets: Option<[u8; 32]>,
        agents: &[AgentId],
    ) -> Result<ApprovalDraft> {
        let tenant_id = caller.principal.tenant_id;
        let script = match command {
            CommandName::Execute => Some(validated.script().unwrap_or_default().to_owned()),
            _ => None,
        };
        let reported = match script.as_deref().filter(|script| !script.is_empty()) {
            Some(script) => {
                Some(self.reported_script(tenant_id, agents, script, &validated.data_text).await?)
            }
            None => None,
        };
        let secrets = secrets.as_ref().map_or(&[][..], |digest| &digest[..]);
        let (script_sha256, files) =
            reported.map(|reported| (reported.sha256, reported.files)).unzip();
        let pinned = PinnedWork {
            agents_sha256: of_agents(agents),
            parameters_sha256: hex(&request_hash(&[validated.data_text.as_bytes(), secrets])),
            script_sha256,
            files: files.unwrap_or_default(),
        };
        Ok(ApprovalDraft {
            needed,
            pinned,
            command,
            script,
            data: validated.data_text.clone(),
            agent_count: agents.len() as i64,
            expires_in_ms: validated.expires_in_ms,
            requested_from: caller.source.clone(),
            requested_by: caller.principal.id,
            tenant_id,
        })
    }

    /// What the hosts of these agents report about a script.
    pub(in crate::services) async fn reported_script(
        &self,
        tenant_id: TenantId,
        agents: &[AgentId],
        script: &str,
        data: &str,
    ) -> Result<ReportedScript> {
        let entries = self.script_entries(tenant_id, agents, script, data).await?;
        let mut sorted: Vec<AgentId> = agents.to_vec();
        sorted.sort_unstable();
        let mut counts: BTreeMap<Option<String>, u64> = BTreeMap::new();
        let mut parts: Vec<Vec<u8>> = Vec::with_capacity(2 * sorted.len());
        for agent_id in &sorted {
            let entry = entries.get(agent_id);
            let steps = entry.map_or(&[][..], |entry| entry.step_sha256.as_slice());
            match steps {
                [] => {
                    *counts.entry(entry.and_then(|entry| entry.sha256.clone())).or_default() += 1;
                }
                // A file that several steps run counts once for each agent.
                steps => {
                    for sha256 in steps.iter().collect::<BTreeSet<_>>() {
                        *counts.entry(sha256.clone()).or_default() += 1;
                    }
                }
            }
            parts.push(agent_id.0.as_bytes().to_vec());
            parts.push(entry.map(|entry| entry.text.clone().into_bytes()).unwrap_or_default());
        }
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let files = counts.into_iter().take(MAX_LISTED_FILES);
        let files = files.map(|(sha256, agent_count)| PinnedFile { sha256, agent_count });
        Ok(ReportedScript { sha256: hex(&request_hash(&parts)), files: files.collect() })
    }
}

impl ApprovalDraft {
    /// The row of the request.
    pub(in crate::services) fn into_row(
        self,
        work: &WaitingWork,
        created_at: Timestamp,
    ) -> approval::Model {
        let (job_id, command_id) = match work {
            WaitingWork::Job(id) => (Some(*id), None),
            WaitingWork::Command(id) => (None, Some(*id)),
        };
        approval::Model {
            id: ApprovalId::new(),
            tenant_id: self.tenant_id,
            state: ApprovalState::Pending,
            rules: StringList(self.needed.rules),
            job_id,
            command_id,
            command: self.command.as_str().to_owned(),
            script: self.script,
            data: self.data,
            agent_count: self.agent_count,
            pinned: StoredPins(self.pinned),
            expires_in_ms: self.expires_in_ms.cast_signed(),
            requested_by: self.requested_by,
            requested_from: self.requested_from,
            created_at,
            expires_at: created_at.plus_ms(self.needed.wait_ms),
            decided_by: None,
            decided_at: None,
            reason: None,
        }
    }
}

fn of_agents(agents: &[AgentId]) -> String {
    let mut sorted: Vec<[u8; 16]> = agents.iter().map(|id| *id.0.as_bytes()).collect();
    sorted.sort_unstable();
    hex(digest(&SHA256, sorted.as_flattened()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// Holds a command until its approval: it is not sent, and its time to wait has not started.
pub(in crate::services) fn hold(row: &mut command::Model) {
    row.is_held = true;
    row.expires_at = Timestamp::NEVER;
}
