//! Certificates of clients: one row for each key.

use std::collections::HashMap;

use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ColumnTrait as _, Condition, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};
use strum::IntoEnumIterator as _;
use uuid::Uuid;

use crate::domain::certificates::client_certificate::{
    CertificateHolder, CertificateState, KeyHash, MAX_CERTIFICATES_OF_HOLDER,
};
use crate::domain::certificates::validity::{EXPIRY_WARNING_MS, Validity};
use crate::domain::ids::{AgentId, CertificateId};
use crate::domain::page::PageRequest;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::certificates::client_certificate::{Column, Entity, Model};
use crate::store::entities::fleet::agent;
use crate::store::queries::TenantScope;
use crate::store::requester::write_audit;

/// Agents of one statement.
const ROWS: usize = 500;

/// What became of a certificate for a person or an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallerCertificate {
    Stored,
    /// The holder has a certificate or had one, and did not show one that is valid.
    NotShown,
    TooMany,
    /// The key is that of another holder, or of a certificate that was revoked.
    KeyTaken,
}

impl TenantScope {
    /// The last certificate of a key, also if it was revoked or has expired.
    pub async fn certificate_of_key(&self, key: KeyHash) -> Result<Option<Model>, StoreError> {
        let query = Entity::find()
            .filter(Column::TenantId.eq(self.tenant_id))
            .filter(Column::KeyHash.eq(key.as_bytes().to_vec()));
        Ok(query.all(&self.reader).await?.pop())
    }

    /// True if the certificate of a key is known, was not revoked and has not expired.
    pub async fn is_certificate_valid(
        &self,
        key: KeyHash,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let row = self.certificate_of_key(key).await?;
        Ok(row.is_some_and(|row| row.revoked_at.is_none() && row.expires_at > now))
    }

    /// When the certificate of each of these agents ends, of those that have one that was not revoked.
    pub async fn agent_certificate_ends(
        &self,
        agents: &[AgentId],
    ) -> Result<HashMap<AgentId, Timestamp>, StoreError> {
        let mut ends = HashMap::new();
        for ids in agents.chunks(ROWS) {
            let rows: Vec<(Uuid, Timestamp)> = Entity::find()
                .select_only()
                .column(Column::HolderId)
                .column(Column::ExpiresAt)
                .filter(Column::TenantId.eq(self.tenant_id))
                .filter(Column::Holder.eq(CertificateHolder::Agent))
                .filter(Column::HolderId.is_in(ids.iter().map(|id| id.0)))
                .filter(Column::RevokedAt.is_null())
                .order_by_asc(Column::ExpiresAt)
                .into_tuple()
                .all(&self.reader)
                .await?;
            // The last one of an agent that had several.
            ends.extend(rows.into_iter().map(|(id, end)| (AgentId(id), end)));
        }
        Ok(ends)
    }

    /// One page of certificates that are in a state at `now`, oldest first, with one row more than the limit.
    pub async fn certificates(
        &self,
        state: Option<CertificateState>,
        now: Timestamp,
        page: PageRequest,
    ) -> Result<Vec<Model>, StoreError> {
        let mut query = Entity::find()
            .filter(Column::TenantId.eq(self.tenant_id))
            .order_by_asc(Column::Id)
            .limit(page.limit + 1);
        if let Some(after) = page.after {
            query = query.filter(Column::Id.gt(after));
        }
        if let Some(state) = state {
            query = query.filter(is_in_state(state, now));
        }
        Ok(query.all(&self.reader).await?)
    }

    /// One certificate.
    pub async fn certificate(&self, id: CertificateId) -> Result<Option<Model>, StoreError> {
        let query = Entity::find_by_id(id).filter(Column::TenantId.eq(self.tenant_id));
        Ok(query.all(&self.reader).await?.pop())
    }

    /// How many certificates are in a state at `now`.
    pub async fn count_certificates(
        &self,
        state: CertificateState,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let query = Entity::find()
            .filter(Column::TenantId.eq(self.tenant_id))
            .filter(is_in_state(state, now));
        Ok(query.count(&self.reader).await?)
    }

    /// Stores a certificate for an agent's key pair, within its session with this epoch. Those of its former
    /// key pairs are deleted unless they were revoked.
    ///
    /// # Errors
    /// [`StoreError::StaleEpoch`] if the agent has a newer session or was deleted.
    pub async fn store_agent_certificate(
        &self,
        agent_id: AgentId,
        epoch: i64,
        row: Model,
    ) -> Result<(), StoreError> {
        self.writer
            .change(move |transaction| {
                let row = row.clone();
                Box::pin(async move {
                    let current = agent::Entity::find_by_id(agent_id)
                        .filter(agent::Column::TenantId.eq(row.tenant_id))
                        .filter(agent::Column::Epoch.eq(epoch))
                        .filter(agent::Column::DeletedAt.is_null());
                    if current.all(transaction).await?.is_empty() {
                        return Err(StoreError::StaleEpoch);
                    }
                    Entity::delete_many()
                        .filter(Column::HolderId.eq(agent_id.0))
                        .filter(Column::KeyHash.ne(row.key_hash.clone()))
                        // What was revoked stays so.
                        .filter(Column::RevokedAt.is_null())
                        .exec(transaction)
                        .await?;
                    put(transaction, row).await
                })
            })
            .await
    }

    /// Stores a certificate for a person or an API key. A holder that ever had one must have shown one that is valid,
    /// or have the permission of another, which is used up: a stolen key or session is not enough to get another one,
    /// even after all of them have ended.
    pub async fn store_caller_certificate(
        &self,
        row: Model,
        shown: Option<KeyHash>,
        audit: audit_entry::Model,
    ) -> Result<CallerCertificate, StoreError> {
        self.writer
            .change(move |transaction| {
                let (row, audit) = (row.clone(), audit.clone());
                Box::pin(async move {
                    let of_key = Entity::find()
                        .filter(Column::TenantId.eq(row.tenant_id))
                        .filter(Column::KeyHash.eq(row.key_hash.clone()));
                    let known = of_key.all(transaction).await?.pop();
                    let is_taken = known
                        .is_some_and(|it| it.holder_id != row.holder_id || it.revoked_at.is_some());
                    if is_taken {
                        return Ok(CallerCertificate::KeyTaken);
                    }
                    let of_holder = Entity::find()
                        .filter(Column::TenantId.eq(row.tenant_id))
                        .filter(Column::HolderId.eq(row.holder_id));
                    let all = of_holder.all(transaction).await?;
                    let is_current =
                        |it: &&Model| it.revoked_at.is_none() && it.expires_at > row.issued_at;
                    let current: Vec<&Model> = all.iter().filter(is_current).collect();
                    let is_shown =
                        |it: &&Model| shown.is_some_and(|key| it.key_hash == key.as_bytes());
                    let is_allowed =
                        |it: &Model| it.next_until.is_some_and(|until| until > row.issued_at);
                    if !all.is_empty()
                        && !current.iter().any(is_shown)
                        && !all.iter().any(is_allowed)
                    {
                        return Ok(CallerCertificate::NotShown);
                    }
                    if current.len() >= MAX_CERTIFICATES_OF_HOLDER {
                        return Ok(CallerCertificate::TooMany);
                    }
                    Entity::update_many()
                        .col_expr(Column::NextUntil, Option::<i64>::None.into())
                        .filter(Column::TenantId.eq(row.tenant_id))
                        .filter(Column::HolderId.eq(row.holder_id))
                        .filter(Column::NextUntil.is_not_null())
                        .exec(transaction)
                        .await?;
                    // Ended ones of this holder are of no use.
                    Entity::delete_many()
                        .filter(Column::HolderId.eq(row.holder_id))
                        .filter(Column::RevokedAt.is_null())
                        .filter(Column::ExpiresAt.lte(row.issued_at))
                        .exec(transaction)
                        .await?;
                    put(transaction, row).await?;
                    write_audit(transaction, audit).await?;
                    Ok(CallerCertificate::Stored)
                })
            })
            .await
    }

    /// Revokes a certificate for good. `next_until`: until when its holder may get another one without showing a valid
    /// one. `None` if there is none; otherwise the row as it was before.
    pub async fn revoke_certificate(
        &self,
        id: CertificateId,
        now: Timestamp,
        next_until: Option<Timestamp>,
        audit: audit_entry::Model,
    ) -> Result<Option<Model>, StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                let audit = audit.clone();
                Box::pin(async move {
                    let query = Entity::find_by_id(id).filter(Column::TenantId.eq(tenant_id));
                    let Some(row) = query.all(transaction).await?.pop() else { return Ok(None) };
                    if row.revoked_at.is_none() || next_until.is_some() {
                        let revoked_at = row.revoked_at.unwrap_or(now);
                        let next_until = next_until.or(row.next_until).map(|until| until.0);
                        Entity::update_many()
                            .col_expr(Column::RevokedAt, revoked_at.0.into())
                            .col_expr(Column::NextUntil, next_until.into())
                            .filter(Column::Id.eq(id))
                            .exec(transaction)
                            .await?;
                        write_audit(transaction, audit).await?;
                    }
                    Ok(Some(row))
                })
            })
            .await
    }
}

/// Stores the certificate of a key. The id and the revocation of a former one stay.
async fn put(transaction: &DatabaseTransaction, row: Model) -> Result<(), StoreError> {
    let renewed = OnConflict::columns([Column::TenantId, Column::KeyHash])
        .update_columns([Column::Holder, Column::HolderId, Column::IssuedAt, Column::ExpiresAt])
        .to_owned();
    Entity::insert(row.into_active_model())
        .on_conflict(renewed)
        .exec_without_returning(transaction)
        .await?;
    Ok(())
}

/// As [`ClientCertificateRecord::state`](crate::domain::certificates::client_certificate::ClientCertificateRecord::state).
fn is_in_state(state: CertificateState, now: Timestamp) -> Condition {
    let current = || Condition::all().add(Column::RevokedAt.is_null());
    let ends_after = |at: Timestamp| current().add(Column::ExpiresAt.gt(at));
    let warned = now.plus_ms(EXPIRY_WARNING_MS);
    // The last third of a certificate, which depends on its holder.
    let is_due = CertificateHolder::iter().fold(Condition::any(), |any, holder| {
        let renewed = now.plus_ms(Validity::renewed_before_ms(holder.lifetime_ms()));
        let of_holder =
            Condition::all().add(Column::Holder.eq(holder)).add(Column::ExpiresAt.lte(renewed));
        any.add(of_holder)
    });
    match state {
        CertificateState::Revoked => Condition::all().add(Column::RevokedAt.is_not_null()),
        CertificateState::Expired => current().add(Column::ExpiresAt.lte(now)),
        CertificateState::Expiring => ends_after(now).add(Column::ExpiresAt.lte(warned)),
        CertificateState::Due => ends_after(warned).add(is_due),
        CertificateState::Valid => ends_after(warned).add(is_due.not()),
    }
}
