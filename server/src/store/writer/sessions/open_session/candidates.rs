//! The stored agents that a batch of openings may be about.

use std::collections::{HashMap, HashSet};

use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _, QueryFilter as _,
    QuerySelect as _,
};

use super::plan_capacity::PlanCapacity;
use super::{AgentIdentity, OpenSession};
use crate::domain::fleet::agent::AgentLevel;
use crate::domain::ids::{AgentId, AgentKeyId, TenantId};
use crate::store::entities::access::agent_key;
use crate::store::entities::fleet::{agent, agent_ledger};
use crate::store::writer::MAX_LIST;
use crate::store::writer::rows::pad_to_power_of_two;

pub(super) struct RegistrationCandidates {
    keys: HashMap<AgentKeyId, agent_key::Model>,
    /// Deleted ones included: their ids are taken.
    agents: HashMap<AgentId, agent::Model>,
    /// Rows that are or were found by a key pair; the row itself decides.
    by_key_pair: HashMap<(AgentKeyId, Vec<u8>), AgentId>,
    acceptance_counts: HashMap<AgentId, u64>,
    agents_of_key: HashMap<AgentKeyId, i64>,
    pub(super) plan_capacity: PlanCapacity,
    changed: HashSet<AgentId>,
    /// Names and hostnames of other agents, of those that openings come with for the first time.
    taken_names: HashSet<(TenantId, String)>,
}

impl RegistrationCandidates {
    pub(super) async fn read(
        transaction: &DatabaseTransaction,
        operations: &[OpenSession],
    ) -> Result<Self, DbErr> {
        let mut found = Self {
            keys: HashMap::new(),
            agents: HashMap::new(),
            by_key_pair: HashMap::new(),
            acceptance_counts: HashMap::new(),
            agents_of_key: HashMap::new(),
            plan_capacity: PlanCapacity::default(),
            changed: HashSet::new(),
            taken_names: HashSet::new(),
        };
        for operations in operations.chunks(MAX_LIST) {
            found.read_some(transaction, operations).await?;
        }
        Ok(found)
    }

    async fn read_some(
        &mut self,
        transaction: &DatabaseTransaction,
        operations: &[OpenSession],
    ) -> Result<(), DbErr> {
        let key_ids: HashSet<_> = operations.iter().map(|op| op.key_id).collect();
        let keys = agent_key::Entity::find()
            .filter(agent_key::Column::Id.is_in(pad_to_power_of_two(key_ids.iter().copied())))
            .all(transaction)
            .await?;
        self.keys.extend(keys.into_iter().map(|key| (key.id, key)));

        let issued: Vec<_> = operations.iter().filter_map(OpenSession::issued_id).collect();
        let by_id = agent::Entity::find()
            .filter(agent::Column::Id.is_in(pad_to_power_of_two(issued)))
            .all(transaction);
        self.add(by_id.await?);
        let former: HashSet<_> =
            operations.iter().filter_map(|op| Some(self.of_another_key(op)?.key_id)).collect();
        if !former.is_empty() {
            let keys = agent_key::Entity::find()
                .filter(agent_key::Column::Id.is_in(pad_to_power_of_two(former)))
                .all(transaction)
                .await?;
            self.keys.extend(keys.into_iter().map(|key| (key.id, key)));
        }
        // Those that come without an id, or with one that is not theirs, are found by their key pair,
        // or by their machine where the key trusts its holders.
        let homeless: Vec<_> =
            operations.iter().filter(|op| self.by_issued_id(op).is_none()).collect();
        if !homeless.is_empty() {
            let identities: HashSet<_> = homeless.iter().flat_map(|op| op.identities()).collect();
            let by_host = agent::Entity::find()
                .filter(
                    agent::Column::KeyId
                        .is_in(pad_to_power_of_two(homeless.iter().map(|op| op.key_id))),
                )
                .filter(agent::Column::Identity.is_in(pad_to_power_of_two(identities)))
                .filter(agent::Column::DeletedAt.is_null())
                .all(transaction);
            self.add(by_host.await?);
            self.read_by_key_pair(transaction, &homeless).await?;
            let counts: Vec<(AgentKeyId, i64)> = agent::Entity::find()
                .select_only()
                .column(agent::Column::KeyId)
                .column_as(agent::Column::Id.count(), "agents")
                .filter(
                    agent::Column::KeyId
                        .is_in(pad_to_power_of_two(homeless.iter().map(|op| op.key_id))),
                )
                .filter(agent::Column::DeletedAt.is_null())
                .group_by(agent::Column::KeyId)
                .into_tuple()
                .all(transaction)
                .await?;
            self.agents_of_key.extend(counts);
            let tenants = homeless.iter().map(|op| op.tenant_id).collect();
            self.plan_capacity.read(transaction, tenants).await?;
        }
        self.read_taken_names(transaction, operations).await?;
        let ledgers = agent_ledger::Entity::find()
            .filter(
                agent_ledger::Column::AgentId
                    .is_in(pad_to_power_of_two(self.agents.keys().copied())),
            )
            .all(transaction)
            .await?;
        self.acceptance_counts.extend(
            ledgers.into_iter().map(|row| (row.agent_id, row.acceptance_count.cast_unsigned())),
        );
        Ok(())
    }

    async fn read_by_key_pair(
        &mut self,
        transaction: &DatabaseTransaction,
        homeless: &[&OpenSession],
    ) -> Result<(), DbErr> {
        let proven: Vec<_> =
            homeless.iter().filter_map(|op| Some((op.key_id, op.identity.public_key()?))).collect();
        if proven.is_empty() {
            return Ok(());
        }
        let keys = proven.iter().map(|(_, key)| key.as_bytes().to_vec());
        let accepted = proven.iter().map(|(_, key)| key.fingerprint().as_bytes().to_vec());
        for is_theirs in [
            agent::Column::PublicKey.is_in(pad_to_power_of_two(keys)),
            agent::Column::NextFingerprint.is_in(pad_to_power_of_two(accepted)),
        ] {
            let found = agent::Entity::find()
                .filter(
                    agent::Column::KeyId
                        .is_in(pad_to_power_of_two(proven.iter().map(|(key_id, _)| *key_id))),
                )
                .filter(is_theirs)
                .filter(agent::Column::DeletedAt.is_null())
                .all(transaction);
            self.add(found.await?);
        }
        Ok(())
    }

    /// Looks up the names that are new to this server, which few openings bring.
    async fn read_taken_names(
        &mut self,
        transaction: &DatabaseTransaction,
        operations: &[OpenSession],
    ) -> Result<(), DbErr> {
        let is_known = |operation: &OpenSession| {
            self.by_issued_id(operation).is_some_and(|row| row.hostname == operation.hostname)
        };
        let new: Vec<_> = operations.iter().filter(|operation| !is_known(operation)).collect();
        let mut names: HashSet<String> = new.iter().map(|op| op.hostname.clone()).collect();
        names.extend(new.iter().map(|op| op.chosen_name.clone()));
        names.extend(new.iter().filter_map(|op| Some(self.keys.get(&op.key_id)?.name.clone())));
        names.remove("");
        if names.is_empty() {
            return Ok(());
        }
        let tenants: HashSet<_> = new.iter().map(|op| op.tenant_id).collect();
        for column in [agent::Column::Name, agent::Column::Hostname] {
            let taken: Vec<(TenantId, String)> = agent::Entity::find()
                .select_only()
                .columns([agent::Column::TenantId, column])
                .distinct()
                .filter(agent::Column::TenantId.is_in(pad_to_power_of_two(tenants.iter().copied())))
                .filter(column.is_in(pad_to_power_of_two(names.iter().cloned())))
                .filter(agent::Column::DeletedAt.is_null())
                .into_tuple()
                .all(transaction)
                .await?;
            self.taken_names.extend(taken);
        }
        Ok(())
    }

    /// True if an agent that comes with a new name shares it with another one; from then on the
    /// name is taken.
    pub(super) fn is_name_taken(&mut self, row: &agent::Model, is_new: bool) -> bool {
        // A known agent's own name is among the taken ones.
        let mut names = vec![&row.hostname];
        if is_new && row.name != row.hostname {
            names.push(&row.name);
        }
        let mut is_taken = false;
        for name in names.into_iter().filter(|name| !name.is_empty()) {
            let is_own = !is_new && *name == row.name;
            is_taken |= !self.taken_names.insert((row.tenant_id, name.clone())) && !is_own;
        }
        is_taken
    }

    fn add(&mut self, rows: Vec<agent::Model>) {
        rows.into_iter().for_each(|row| self.remember(row));
    }

    fn remember(&mut self, row: agent::Model) {
        if let Some(public_key) = row.public_key.clone().filter(|_| row.deleted_at.is_none()) {
            self.by_key_pair.insert((row.key_id, public_key), row.id);
        }
        self.agents.insert(row.id, row);
    }

    pub(super) fn key(&self, id: AgentKeyId) -> Option<&agent_key::Model> {
        self.keys.get(&id)
    }

    /// The agent that an opening is about, if it is enrolled.
    ///
    /// A full agent is its key pair, or the one that a person accepted as an agent's next. Claims
    /// count only where the key trusts its holders, and never for an agent that is online.
    pub(super) fn find(
        &self,
        operation: &OpenSession,
        key: &agent_key::Model,
    ) -> Option<agent::Model> {
        let identity = operation.identity_of(key);
        let row = match operation.identity.public_key() {
            None => self.latest(operation, AgentLevel::Basic, |row| row.identity == identity),
            Some(public_key) => {
                let fingerprint = public_key.fingerprint();
                let accepted = Some(fingerprint.as_bytes().as_slice());
                let is_free = |row: &agent::Model| !row.is_online;
                self.by_key_pair(operation)
                    .or_else(|| self.of_another_key(operation).filter(|row| self.may_leave(row)))
                    .or_else(|| {
                        self.latest(operation, AgentLevel::Full, |row| {
                            is_free(row) && row.next_fingerprint.as_deref() == accepted
                        })
                    })
                    .or_else(|| {
                        let is_same = |row: &agent::Model| is_free(row) && row.identity == identity;
                        key.trusts_holders
                            .then(|| self.latest(operation, AgentLevel::Full, is_same))?
                    })
            }
        };
        row.cloned()
    }

    /// Another agent of the same machine: its host may have been reinstalled.
    pub(super) fn same_machine(&self, operation: &OpenSession) -> Option<agent::Model> {
        let AgentIdentity::Full { machine_id, .. } = &operation.identity else { return None };
        self.latest(operation, AgentLevel::Full, |row| row.identity == *machine_id).cloned()
    }

    /// The agent of this key that was seen last, of those that fit.
    fn latest(
        &self,
        operation: &OpenSession,
        level: AgentLevel,
        fits: impl Fn(&agent::Model) -> bool,
    ) -> Option<&agent::Model> {
        self.agents
            .values()
            .filter(|row| row.key_id == operation.key_id && row.deleted_at.is_none())
            .filter(|row| row.level == level && fits(row))
            .max_by_key(|row| row.last_seen_at)
    }

    /// The row of the key pair that the agent has proven.
    fn by_key_pair(&self, operation: &OpenSession) -> Option<&agent::Model> {
        let public_key = operation.identity.public_key()?.as_bytes().to_vec();
        let id = self.by_key_pair.get(&(operation.key_id, public_key.clone()))?;
        self.agents.get(id).filter(|row| row.public_key.as_ref() == Some(&public_key))
    }

    /// The row of the id that was issued, if its key pair is the proven one.
    fn by_issued_id(&self, operation: &OpenSession) -> Option<&agent::Model> {
        let issued = operation.issued_id()?;
        self.by_key_pair(operation).filter(|row| row.id == issued)
    }

    /// The agent with the issued id and the proven key pair, which had another agent key of its tenant so far.
    fn of_another_key(&self, operation: &OpenSession) -> Option<&agent::Model> {
        let row = self.agents.get(&operation.issued_id()?)?;
        let public_key = operation.identity.public_key()?.as_bytes().to_vec();
        let is_its_own = row.deleted_at.is_none()
            && row.tenant_id == operation.tenant_id
            && row.public_key == Some(public_key);
        Some(row).filter(|row| is_its_own && row.key_id != operation.key_id)
    }

    /// False while the agent's key is disabled: that keeps its agents away, with their names and tags.
    fn may_leave(&self, row: &agent::Model) -> bool {
        self.keys.get(&row.key_id).is_none_or(|key| !key.is_disabled)
    }

    /// The id that an agent of a restored server was issued before: kept, if its ticket is valid and
    /// no agent has the id.
    pub(super) fn ticketed_id(&self, operation: &OpenSession) -> Option<AgentId> {
        let AgentIdentity::Full { has_ticket: true, .. } = operation.identity else { return None };
        operation.issued_id().filter(|id| !self.agents.contains_key(id))
    }

    pub(super) fn count(&self, key_id: AgentKeyId) -> i64 {
        self.agents_of_key.get(&key_id).copied().unwrap_or(0)
    }

    pub(super) fn count_one_more(&mut self, key: &agent_key::Model) {
        *self.agents_of_key.entry(key.id).or_default() += 1;
        self.plan_capacity.count_one_more(key.tenant_id);
    }

    /// A known agent comes to this key.
    pub(super) fn count_moved(&mut self, key: &agent_key::Model) {
        *self.agents_of_key.entry(key.id).or_default() += 1;
    }

    pub(super) fn acceptance_count(&self, agent_id: AgentId) -> u64 {
        self.acceptance_counts.get(&agent_id).copied().unwrap_or(0)
    }

    pub(super) fn put(&mut self, row: agent::Model) {
        self.changed.insert(row.id);
        self.remember(row);
    }

    pub(super) fn into_changed(mut self) -> Vec<agent::Model> {
        self.changed.iter().filter_map(|id| self.agents.remove(id)).collect()
    }
}

impl OpenSession {
    fn issued_id(&self) -> Option<AgentId> {
        match &self.identity {
            AgentIdentity::Basic => None,
            AgentIdentity::Full { agent_id, .. } => *agent_id,
        }
    }

    fn identities(&self) -> Vec<String> {
        match &self.identity {
            AgentIdentity::Basic => vec![String::new(), self.hostname.clone()],
            AgentIdentity::Full { machine_id, .. } => vec![machine_id.clone()],
        }
    }
}
