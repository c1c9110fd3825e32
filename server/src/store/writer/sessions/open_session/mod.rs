//! New sessions: who connects, with which epoch, and whether its ledger can be believed.

mod candidates;
mod key_pair;
mod plan_capacity;
mod rows;

use muster_protocol::CloseCode;
use muster_protocol::frame::{LedgerComparison, compare_ledger};
use muster_protocol::identity::AgentPublicKey;
use sea_orm::DbErr;
use uuid::Uuid;

use self::candidates::RegistrationCandidates;
use self::key_pair::raise;
use crate::domain::fleet::agent::{
    AgentEventKind, AgentLevel, IDENTITY_CONFLICT, KEY_PAIR_CHANGED, NAME_CONFLICT, NameSource,
    Transport,
};
use crate::domain::ids::{AgentId, AgentKeyId, CommandId, EventId, TenantId};
use crate::domain::integrations::integration::IntegrationEvent;
use crate::domain::name::MAX_TAGS;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::agent_key;
use crate::store::entities::column::StringList;
use crate::store::entities::fleet::{agent, agent_event};
use crate::store::writer::BatchOperation;
use crate::store::writer::connection::WriteTx;

/// What distinguishes the agents of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentIdentity {
    /// A basic agent is its key, and its host name where the key trusts its holders.
    Basic,
    /// A full agent.
    Full {
        /// The id it was issued; absent before enrolment.
        agent_id: Option<AgentId>,
        /// Of the key pair that it has proven to hold.
        public_key: AgentPublicKey,
        /// It has shown that this server issued the id to the key pair.
        has_ticket: bool,
        machine_id: String,
        ledger_id: Uuid,
        acceptance_count: u64,
        instance_id: Uuid,
        highest_epoch: u64,
    },
}

impl AgentIdentity {
    /// The key that a full agent has proven to hold.
    pub fn public_key(&self) -> Option<AgentPublicKey> {
        match self {
            Self::Basic => None,
            Self::Full { public_key, .. } => Some(*public_key),
        }
    }
}

/// Opens a session. Texts are cleaned and bounded by the caller.
#[derive(Debug, Clone)]
pub struct OpenSession {
    pub tenant_id: TenantId,
    pub key_id: AgentKeyId,
    /// SHA-256 of the secret that was presented: looked at again, since time has passed.
    pub secret_hash: Vec<u8>,
    pub identity: AgentIdentity,
    pub hostname: String,
    /// What the host's owner chose; counts when it enrols. Empty: nothing.
    pub chosen_name: String,
    /// Counts when the agent enrols with a key that trusts its holders.
    pub chosen_tags: Vec<String>,
    pub ip: String,
    pub version: String,
    pub os: String,
    pub arch: String,
    pub service_manager: String,
    pub capabilities: Vec<String>,
    pub policy: Option<String>,
    pub max_executions: i32,
    pub transport: Transport,
    /// The result of the last update to another version, JSON; absent if nothing is known of it.
    pub update_result: Option<String>,
    /// The last notice about the server's authority that the agent has stored.
    pub notice_id: Option<Uuid>,
    pub now: Timestamp,
}

/// A session that is open.
#[derive(Debug, Clone)]
pub struct OpenedSession {
    pub agent_id: AgentId,
    pub epoch: i64,
    pub server_restored: bool,
    /// Commands that are lost with the ledger that the agent had before.
    pub lost: Vec<CommandId>,
    /// The key as this transaction reads it.
    pub key: agent_key::Model,
}

/// What came of the attempt.
#[derive(Debug, Clone)]
pub enum SessionOpening {
    Opened(Box<OpenedSession>),
    Refused(CloseCode),
}

impl BatchOperation for OpenSession {
    type Done = SessionOpening;

    async fn apply(
        tx: &WriteTx<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<SessionOpening, StoreError>>, DbErr> {
        let transaction = tx.transaction;
        let mut candidates = RegistrationCandidates::read(transaction, operations).await?;
        let mut changes = Changes::default();
        let mut results: Vec<SessionOpening> = operations
            .iter()
            .map(|operation| operation.open(&mut candidates, &mut changes))
            .collect();
        for (agent_id, command_id) in rows::write(tx, candidates.into_changed(), changes).await? {
            for result in &mut results {
                if let SessionOpening::Opened(opened) = result
                    && opened.agent_id == agent_id
                {
                    opened.lost.push(command_id);
                }
            }
        }
        tx.epochs.clear();
        Ok(results.into_iter().map(Ok).collect())
    }
}

/// What is written beside the agents themselves.
#[derive(Default)]
struct Changes {
    /// Acceptance counts of believed ledgers.
    counts: Vec<(AgentId, u64)>,
    /// Agents of whose ledger nothing is known any more.
    forgotten: Vec<(AgentId, Timestamp)>,
    events: Vec<agent_event::Model>,
    /// Updates that hosts undid.
    rolled_back: Vec<IntegrationEvent>,
}

/// The key, if it and the presented secret are valid at this moment. True beside it if the secret was
/// replaced and is still in its grace period.
///
/// # Errors
/// The code that a session with this secret is closed with.
pub fn admit_secret<'key>(
    key: Option<&'key agent_key::Model>,
    secret_hash: &[u8],
    now: Timestamp,
) -> Result<(&'key agent_key::Model, bool), CloseCode> {
    let key = key.ok_or(CloseCode::KeyDeleted)?;
    let is_in_grace = key.previous_secret_hash.as_deref() == Some(secret_hash)
        && key.previous_valid_until.is_some_and(|until| until > now);
    let is_current = key.secret_hash == secret_hash;
    match () {
        () if !is_current && !is_in_grace => Err(CloseCode::KeyRegenerated),
        () if key.is_disabled => Err(CloseCode::KeyDisabled),
        () if key.expires_at.is_some_and(|at| at <= now) => Err(CloseCode::KeyExpired),
        () => Ok((key, !is_current)),
    }
}

impl OpenSession {
    fn open(
        &self,
        candidates: &mut RegistrationCandidates,
        changes: &mut Changes,
    ) -> SessionOpening {
        let admitted = admit_secret(candidates.key(self.key_id), &self.secret_hash, self.now);
        let (key, is_in_grace) = match admitted {
            Ok((key, is_in_grace)) => (key.clone(), is_in_grace),
            Err(code) => return SessionOpening::Refused(code),
        };
        let known = candidates.find(self, &key);
        if let Some(row) = known.as_ref().filter(|row| self.is_conflict(row)) {
            let mut row = row.clone();
            raise(&mut row, IDENTITY_CONFLICT);
            changes.events.push(self.event(row.id, AgentEventKind::IdentityConflict));
            candidates.put(row);
            return SessionOpening::Refused(CloseCode::IdentityConflict);
        }
        let is_new = known.is_none();
        let is_moved = known.as_ref().is_some_and(|row| row.key_id != key.id);
        if (is_new || is_moved) && is_in_grace && candidates.ticketed_id(self).is_none() {
            // A replaced secret may be in other hands: it opens sessions, and no agent joins with it.
            return SessionOpening::Refused(CloseCode::KeyRegenerated);
        }
        let is_full = candidates.count(self.key_id) >= i64::from(key.max_agents);
        if is_moved && is_full {
            return SessionOpening::Refused(CloseCode::AgentLimit);
        }
        if is_new && is_full {
            let former = candidates.same_machine(self).filter(|_| !key.trusts_holders);
            if let Some(row) = self.report_key_pair(former, changes) {
                candidates.put(row);
            }
            return SessionOpening::Refused(CloseCode::AgentLimit);
        }
        if self.is_second_basic_host(known.as_ref(), &key) {
            return SessionOpening::Refused(CloseCode::AgentLimit);
        }
        if is_new && !candidates.plan_capacity.has_capacity(key.tenant_id) {
            return SessionOpening::Refused(CloseCode::PlanLimit);
        }
        let is_suspect = is_new && !key.trusts_holders;
        let same_machine = if is_suspect { candidates.same_machine(self) } else { None };
        let mut row = known.unwrap_or_else(|| self.enrol(&key, candidates));
        if is_new {
            changes.events.push(self.event(row.id, AgentEventKind::Enrolled));
        }
        if is_moved {
            row.key_id = key.id;
            candidates.count_moved(&key);
            changes.events.push(agent_event::Model {
                detail: Some(key.name.clone()),
                ..self.event(row.id, AgentEventKind::AgentKeyChanged)
            });
        }
        let has_new_name = is_new || (!self.hostname.is_empty() && row.hostname != self.hostname);
        let server_restored = self.update(&mut row, is_new, candidates, changes);
        if has_new_name && candidates.is_name_taken(&row, is_new) {
            raise(&mut row, NAME_CONFLICT);
            changes.events.push(self.event(row.id, AgentEventKind::NameConflict));
        }
        if let Some(former) = same_machine {
            let detail = self.key_pair_detail(former.id);
            // The former agent shows it too: the new one can be an impostor's, which can deregister.
            if let Some(former) = self.report_key_pair(Some(former), changes) {
                candidates.put(former);
            }
            row.alert = Some(KEY_PAIR_CHANGED.into());
            row.alert_detail = Some(detail.clone());
            changes.events.push(agent_event::Model {
                detail: Some(detail),
                ..self.event(row.id, AgentEventKind::KeyPairChanged)
            });
        }
        let opened = OpenedSession {
            agent_id: row.id,
            epoch: row.epoch,
            server_restored,
            lost: Vec::new(),
            key,
        };
        candidates.put(row);
        SessionOpening::Opened(Box::new(opened))
    }

    /// True if a process that another one had replaced is back while that other one is online.
    fn is_conflict(&self, row: &agent::Model) -> bool {
        match &self.identity {
            AgentIdentity::Basic => false,
            AgentIdentity::Full { instance_id, .. } => {
                row.is_online
                    && row.instance_id != Some(*instance_id)
                    && row.previous_instance_id == Some(*instance_id)
            }
        }
    }

    fn enrol(
        &self,
        key: &agent_key::Model,
        candidates: &mut RegistrationCandidates,
    ) -> agent::Model {
        candidates.count_one_more(key);
        let names = [&self.chosen_name, &self.hostname, &key.name];
        let name = names.into_iter().find(|name| !name.is_empty()).cloned().unwrap_or_default();
        let mut tags = key.tags.clone();
        if key.trusts_holders {
            tags.0.extend(self.chosen_tags.iter().cloned());
            tags.0.sort_unstable();
            tags.0.dedup();
            tags.0.truncate(MAX_TAGS);
        }
        agent::Model {
            id: candidates.ticketed_id(self).unwrap_or_else(AgentId::new),
            tenant_id: key.tenant_id,
            key_id: key.id,
            level: AgentLevel::Basic,
            identity: self.identity_of(key),
            public_key: None,
            next_fingerprint: None,
            name,
            name_source: NameSource::Reported,
            hostname: String::new(),
            ip: String::new(),
            version: String::new(),
            os: String::new(),
            arch: String::new(),
            service_manager: String::new(),
            capabilities: StringList::default(),
            tags,
            policy: None,
            max_executions: 0,
            ledger_id: None,
            instance_id: None,
            previous_instance_id: None,
            epoch: 0,
            transport: self.transport,
            is_online: false,
            alert: None,
            alert_detail: None,
            connected_at: self.now,
            last_seen_at: self.now,
            created_at: self.now,
            deleted_at: None,
            update_result: None,
            update_result_at: None,
            notice_id: None,
        }
    }

    /// Brings a row up to this session; true if the agent knows of later sessions than the row.
    fn update(
        &self,
        row: &mut agent::Model,
        is_new: bool,
        candidates: &RegistrationCandidates,
        changes: &mut Changes,
    ) -> bool {
        let mut next_epoch = row.epoch + 1;
        let mut server_restored = false;
        // Only a person ends these.
        if !matches!(row.alert.as_deref(), Some(NAME_CONFLICT | KEY_PAIR_CHANGED)) {
            row.alert = None;
            row.alert_detail = None;
        }
        match &self.identity {
            AgentIdentity::Basic => row.level = AgentLevel::Basic,
            AgentIdentity::Full {
                ledger_id,
                acceptance_count,
                instance_id,
                highest_epoch,
                agent_id,
                public_key,
                machine_id,
                ..
            } => {
                row.level = AgentLevel::Full;
                self.take_key_pair(row, public_key, is_new, changes);
                row.identity.clone_from(machine_id);
                let highest = i64::try_from(*highest_epoch).unwrap_or(i64::MAX - 1);
                if highest > row.epoch && *agent_id == Some(row.id) {
                    server_restored = true;
                    next_epoch = highest.saturating_add(1).min(i64::MAX - 1);
                    changes.events.push(self.event(row.id, AgentEventKind::ServerRestored));
                }
                // Earlier openings of this transaction are included.
                let told = changes.counts.iter().find(|(id, _)| *id == row.id);
                let count = told.map_or_else(|| candidates.acceptance_count(row.id), |told| told.1);
                let remembered = row.ledger_id.as_ref().map(|id| (id, count));
                if compare_ledger(remembered, (ledger_id, *acceptance_count))
                    == LedgerComparison::Replaced
                {
                    changes.forgotten.push((row.id, self.now));
                    changes.events.push(self.event(row.id, AgentEventKind::LedgerReplaced));
                }
                changes.counts.retain(|(id, _)| *id != row.id);
                changes.counts.push((row.id, *acceptance_count));
                if row.instance_id != Some(*instance_id) {
                    row.previous_instance_id = row.instance_id;
                }
                row.ledger_id = Some(*ledger_id);
                row.instance_id = Some(*instance_id);
            }
        }
        if !row.is_online || is_new {
            changes.events.push(self.event(row.id, AgentEventKind::Online));
        }
        row.epoch = next_epoch;
        row.is_online = true;
        // What it does not say this time stays as it was said before.
        for (known, said) in [
            (&mut row.hostname, &self.hostname),
            (&mut row.ip, &self.ip),
            (&mut row.version, &self.version),
            (&mut row.os, &self.os),
            (&mut row.arch, &self.arch),
            (&mut row.service_manager, &self.service_manager),
        ] {
            if !said.is_empty() {
                known.clone_from(said);
            }
        }
        row.capabilities = StringList(self.capabilities.clone());
        row.policy.clone_from(&self.policy);
        row.max_executions = self.max_executions;
        row.transport = self.transport;
        if self.update_result.is_some() && self.update_result != row.update_result {
            let stored = self.update_result.as_deref().unwrap_or_default();
            let rolled_back = agent::rolled_back_event(row.tenant_id, row.id, stored, self.now);
            changes.rolled_back.extend(rolled_back);
            row.update_result.clone_from(&self.update_result);
            row.update_result_at = Some(self.now);
        }
        row.notice_id = self.notice_id;
        row.connected_at = self.now;
        row.last_seen_at = self.now;
        server_restored
    }

    fn event(&self, agent_id: AgentId, kind: AgentEventKind) -> agent_event::Model {
        agent_event::Model {
            id: EventId::new(),
            tenant_id: self.tenant_id,
            agent_id,
            kind,
            detail: None,
            at: self.now,
        }
    }
}
