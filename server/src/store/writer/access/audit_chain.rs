//! The hash chain over audit entries: the entries of a transaction become a link of each tenant's log,
//! behind the last one, in that transaction.
//!
//! The row of the last link is locked until the commit, so writers of several processes add one link
//! after the other. A last link that this server did not sign, or that is older than one that it has
//! seen, is recorded in the log as `audit.break`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use muster_protocol::audit::{
    AuditAnchor, AuditHash, AuditHead, AuditLink, BREAK_ACTION, LinkedEntry, MAX_LINK_ENTRIES,
};
use muster_protocol::identity::{AgentKeyPair, AgentPublicKey};
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};
use serde_json::json;
use tokio::sync::watch;

use crate::domain::access::principal::ActorKind;
use crate::domain::ids::{AuditId, TenantId};
use crate::store::entities::access::audit_link::stored_hash;
use crate::store::entities::access::{audit_anchor, audit_entry, audit_head, audit_link};
use crate::store::writer::rows::pad_to_power_of_two;
use crate::store::writer::{MAX_LIST, rows};

/// What the writer shares with who reads the logs.
#[derive(Debug, Clone, Default)]
pub(in crate::store) struct AuditShared(Arc<AuditSharedInner>);

#[derive(Debug, Default)]
struct AuditSharedInner {
    keys: RwLock<AuditKeys>,
    /// Counts commits that have entries.
    commits: watch::Sender<u64>,
}

#[derive(Debug, Default, Clone)]
struct AuditKeys {
    /// Signs the last links. It is set after the master key was read.
    present: Option<Arc<AgentKeyPair>>,
    /// Signed them before, while the key is being replaced.
    previous: Option<AgentPublicKey>,
}

impl AuditShared {
    /// Sets the key that signs, and the one whose signatures are still valid while it is being replaced.
    pub(in crate::store) fn set_key(&self, key: AgentKeyPair, previous: Option<AgentPublicKey>) {
        let keys = AuditKeys { present: Some(Arc::new(key)), previous };
        *self.0.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// Signatures of the previous key are not valid any more.
    pub(in crate::store) fn forget_previous_key(&self) {
        self.0.keys.write().unwrap_or_else(PoisonError::into_inner).previous = None;
    }

    pub(in crate::store) fn key(&self) -> Option<Arc<AgentKeyPair>> {
        self.0.keys.read().unwrap_or_else(PoisonError::into_inner).present.clone()
    }

    /// The key that made a signature, if that is one of this server; the present one otherwise. `None` while
    /// there is no key.
    pub(in crate::store) fn signer(
        &self,
        has_signed: impl Fn(AgentPublicKey) -> bool,
    ) -> Option<AgentPublicKey> {
        let keys = self.0.keys.read().unwrap_or_else(PoisonError::into_inner).clone();
        let present = keys.present?.public_key();
        let previous = keys.previous.filter(|key| !has_signed(present) && has_signed(*key));
        Some(previous.unwrap_or(present))
    }

    /// A stored head, with the key that signed it. `None` while there is no key.
    pub(in crate::store) fn stored_head(&self, row: &audit_head::Model) -> Option<AuditHead> {
        let by = |public_key| AuditHead {
            tenant_id: row.tenant_id.0,
            number: row.number.cast_unsigned(),
            hash: stored_hash(&row.hash),
            public_key,
            signature: row.signature.clone(),
        };
        self.signer(|key| by(key).is_signed()).map(by)
    }

    /// A stored anchor, with the key that signed it. `None` while there is no key.
    pub(in crate::store) fn stored_anchor(&self, row: &audit_anchor::Model) -> Option<AuditAnchor> {
        let by = |public_key| AuditAnchor {
            tenant_id: row.tenant_id.0,
            number: row.number.cast_unsigned(),
            hash: stored_hash(&row.hash),
            public_key,
            signature: row.signature.clone(),
        };
        self.signer(|key| by(key).is_signed()).map(by)
    }

    pub(in crate::store) fn commits(&self) -> watch::Receiver<u64> {
        self.0.commits.subscribe()
    }
}

/// Most tenants whose last link is remembered.
const MAX_REMEMBERED_LOGS: usize = 65_536;

/// The number of a link, and its hash.
type Position = (u64, AuditHash);

/// The entries of the transaction in progress, and the last links as of the last commit.
pub(in crate::store::writer) struct AuditChain {
    shared: AuditShared,
    entries: Mutex<Vec<audit_entry::Model>>,
    /// Written by the transaction in progress.
    uncommitted: Mutex<Vec<(TenantId, Position)>>,
    committed: Mutex<HashMap<TenantId, Position>>,
}

impl AuditChain {
    pub(in crate::store::writer) fn new(shared: AuditShared) -> Self {
        let (entries, uncommitted) = (Mutex::default(), Mutex::default());
        Self { shared, entries, uncommitted, committed: Mutex::default() }
    }

    /// Adds entries to the transaction. They are stored by [`seal`].
    pub(in crate::store::writer) fn append(
        &self,
        entries: impl IntoIterator<Item = audit_entry::Model>,
    ) {
        lock(&self.entries).extend(entries);
    }

    /// Starts a transaction, without what the last one left if it failed.
    pub(in crate::store::writer) fn begin(&self) {
        lock(&self.entries).clear();
        lock(&self.uncommitted).clear();
    }

    /// Remembers the last links after their commit.
    pub(in crate::store::writer) fn committed(&self) {
        let mut committed = lock(&self.committed);
        if committed.len() > MAX_REMEMBERED_LOGS {
            committed.clear();
        }
        let mut uncommitted = lock(&self.uncommitted);
        if !uncommitted.is_empty() {
            committed.extend(uncommitted.drain(..));
            self.shared.0.commits.send_modify(|count| *count += 1);
        }
    }

    /// After a transaction of which it is unknown whether it was committed.
    pub(in crate::store::writer) fn forget(&self) {
        self.begin();
        lock(&self.committed).clear();
    }

    /// Why the stored last link can't be the one that this server signed; `None` if it can. `is_start`: the
    /// log starts with this transaction.
    fn tampering(&self, head: &audit_head::Model, is_start: bool) -> Option<&'static str> {
        let stored = (head.number.cast_unsigned(), stored_hash(&head.hash));
        match lock(&self.committed).get(&head.tenant_id) {
            Some(known) if *known == stored => return None,
            Some((number, _)) if *number >= stored.0 => {
                return Some("links that this server had stored were removed or replaced");
            }
            _ => {}
        }
        let is_empty = stored == (0, AuditHash::default()) && head.signature.is_empty();
        if is_empty {
            return (!is_start).then_some("the whole log was removed");
        }
        let is_signed = self.shared.stored_head(head).is_some_and(|head| head.is_signed());
        (!is_signed).then_some("the last link is not signed by this server")
    }
}

/// Stores the entries of a transaction as the next links of their tenants.
pub(in crate::store::writer) async fn seal(
    transaction: &DatabaseTransaction,
    chain: &AuditChain,
) -> Result<(), DbErr> {
    let entries = std::mem::take(&mut *lock(&chain.entries));
    if entries.is_empty() {
        return Ok(());
    }
    let Some(key) = chain.shared.key() else {
        return Err(DbErr::Custom("the key of the audit log was not set".into()));
    };
    let mut logs: BTreeMap<TenantId, Vec<audit_entry::Model>> = BTreeMap::new();
    for entry in entries {
        logs.entry(entry.tenant_id).or_default().push(entry);
    }
    let heads = lock_heads(transaction, logs.keys().copied().collect()).await?;
    let (mut entry_rows, mut link_rows, mut head_rows) = (Vec::new(), Vec::new(), Vec::new());
    for (tenant_id, mut entries) in logs {
        let Some(head) = heads.get(&tenant_id) else {
            return Err(DbErr::Custom("the last link of an audit log was deleted".into()));
        };
        if let Some(reason) = chain.tampering(head, starts_log(tenant_id, &entries)) {
            tracing::error!(%tenant_id, link = head.number, reason, "the audit log was changed");
            entries.extend(entries.last().map(|last| break_entry(last, head, reason)));
        }
        entries.sort_unstable_by_key(|entry| entry.id);
        let mut position = (head.number.cast_unsigned(), stored_hash(&head.hash));
        for entries in entries.chunks_mut(MAX_LINK_ENTRIES) {
            let linked =
                entries.iter().map(|entry| LinkedEntry { id: entry.id.0, digest: entry.digest() });
            let link = AuditLink::new(tenant_id.0, position.0 + 1, position.1, linked.collect());
            for entry in entries {
                entry.link = link.number.cast_signed();
            }
            position = (link.number, link.hash);
            link_rows.push(audit_link::Model::of(tenant_id, &link).into_active_model());
        }
        let signed = AuditHead::sign(&key, tenant_id.0, position.0, position.1);
        let head = audit_head::Model {
            tenant_id,
            number: position.0.cast_signed(),
            hash: position.1.as_bytes().to_vec(),
            signature: signed.signature,
        };
        head_rows.push(head.into_active_model());
        entry_rows.extend(entries.into_iter().map(audit_entry::Model::into_active_model));
        lock(&chain.uncommitted).push((tenant_id, position));
    }
    rows::insert(transaction, entry_rows, None).await?;
    rows::insert(transaction, link_rows, None).await?;
    let replace = OnConflict::column(audit_head::Column::TenantId)
        .update_columns([
            audit_head::Column::Number,
            audit_head::Column::Hash,
            audit_head::Column::Signature,
        ])
        .to_owned();
    rows::insert(transaction, head_rows, Some(replace)).await
}

/// Reads the last links of logs, and locks them in the order of the tenants, so that two processes never
/// wait for each other.
async fn lock_heads(
    transaction: &DatabaseTransaction,
    tenants: Vec<TenantId>,
) -> Result<HashMap<TenantId, audit_head::Model>, DbErr> {
    let mut heads = read_heads(transaction, &tenants).await?;
    let missing: Vec<TenantId> =
        tenants.into_iter().filter(|tenant| !heads.contains_key(tenant)).collect();
    if missing.is_empty() {
        return Ok(heads);
    }
    let first = |tenant_id: &TenantId| {
        let hash = AuditHash::default().as_bytes().to_vec();
        let signature = String::new();
        audit_head::Model { tenant_id: *tenant_id, number: 0, hash, signature }.into_active_model()
    };
    // Another process may have added the same row meanwhile.
    let keep = OnConflict::column(audit_head::Column::TenantId).do_nothing().to_owned();
    rows::insert(transaction, missing.iter().map(first).collect(), Some(keep)).await?;
    heads.extend(read_heads(transaction, &missing).await?);
    Ok(heads)
}

async fn read_heads(
    transaction: &DatabaseTransaction,
    tenants: &[TenantId],
) -> Result<HashMap<TenantId, audit_head::Model>, DbErr> {
    let mut heads = HashMap::with_capacity(tenants.len());
    for tenants in tenants.chunks(MAX_LIST) {
        let tenants = pad_to_power_of_two(tenants.iter().copied());
        let query = audit_head::Entity::find()
            .filter(audit_head::Column::TenantId.is_in(tenants))
            .order_by_asc(audit_head::Column::TenantId)
            .lock_exclusive();
        let rows = query.all(transaction).await?;
        heads.extend(rows.into_iter().map(|row| (row.tenant_id, row)));
    }
    Ok(heads)
}

/// True for the entries of the transaction that creates this tenant. The log of no tenant starts with the
/// first entry that belongs to none.
fn starts_log(tenant_id: TenantId, entries: &[audit_entry::Model]) -> bool {
    // The operator's own log has an entry for each tenant that is created.
    let is_creation = |entry: &audit_entry::Model| {
        entry.action == "tenant.create" && entry.subject_id == Some(tenant_id.0)
    };
    tenant_id.0.is_nil() || entries.iter().any(is_creation)
}

fn break_entry(
    last: &audit_entry::Model,
    head: &audit_head::Model,
    reason: &str,
) -> audit_entry::Model {
    let detail = json!({
        "link": head.number,
        "hash": stored_hash(&head.hash).to_string(),
        "reason": reason,
    });
    audit_entry::Model {
        id: AuditId::new(),
        tenant_id: last.tenant_id,
        link: 0,
        at: last.at,
        actor_kind: ActorKind::System,
        actor_id: None,
        session_id: None,
        action: BREAK_ACTION.into(),
        subject_kind: "audit".into(),
        subject_id: None,
        detail: detail.to_string(),
        source: None,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
