//! The rollover of the server's authority: its record, and which agents have confirmed the new one.

use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, Condition, EntityTrait as _, PaginatorTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};
use uuid::Uuid;

use crate::domain::certificates::client_certificate::CertificateHolder;
use crate::domain::certificates::rollover::UnconfirmedAgents;
use crate::domain::ids::AgentId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;
use crate::store::entities::certificates::client_certificate;
use crate::store::entities::fleet::agent;
use crate::store::entities::operations::setting;
use crate::store::queries::{SystemScope, TenantScope};
use crate::store::requester::write_audit;

/// What is stored with a new record of the authority.
#[derive(Debug, Clone)]
pub struct AuthorityChange {
    /// Certificates of clients that were issued before the first instant end at the second.
    pub end_certificates: Option<(Timestamp, Timestamp)>,
    pub audit: audit_entry::Model,
}

impl SystemScope {
    /// Replaces the record of the authority. False if it is not the previous one any more.
    pub async fn replace_authority(
        &self,
        name: &'static str,
        (previous, next): (Vec<u8>, Vec<u8>),
        change: AuthorityChange,
    ) -> Result<bool, StoreError> {
        self.writer
            .change(move |transaction| {
                let (previous, next, change) = (previous.clone(), next.clone(), change.clone());
                Box::pin(async move {
                    let replaced = setting::Entity::update_many()
                        .col_expr(setting::Column::Value, Expr::value(next))
                        .filter(setting::Column::Name.eq(name))
                        .filter(setting::Column::Value.eq(previous))
                        .exec(transaction)
                        .await?;
                    if replaced.rows_affected == 0 {
                        return Ok(false);
                    }
                    if let Some((issued_before, ends_at)) = change.end_certificates {
                        client_certificate::Entity::update_many()
                            .col_expr(client_certificate::Column::ExpiresAt, ends_at.0.into())
                            .filter(client_certificate::Column::IssuedAt.lt(issued_before))
                            .filter(client_certificate::Column::ExpiresAt.gt(ends_at))
                            .exec(transaction)
                            .await?;
                    }
                    write_audit(transaction, change.audit).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// How many agents have not confirmed a notice; without one, none has.
    pub async fn count_unconfirmed_agents(
        &self,
        notice_id: Option<Uuid>,
    ) -> Result<UnconfirmedAgents, StoreError> {
        let count = async |is_online: bool| {
            let query = agent::Entity::find()
                .filter(is_unconfirmed(notice_id))
                .filter(agent::Column::IsOnline.eq(is_online));
            query.count(&self.reader).await
        };
        Ok(UnconfirmedAgents { online: count(true).await?, offline: count(false).await? })
    }

    /// How many agents have confirmed a notice.
    pub async fn count_confirmed_agents(&self, notice_id: Uuid) -> Result<u64, StoreError> {
        let query = agent::Entity::find()
            .filter(agent::Column::DeletedAt.is_null())
            .filter(agent::Column::NoticeId.eq(notice_id));
        Ok(query.count(&self.reader).await?)
    }

    /// Agents that have not confirmed a notice: those that are online, then those that were seen last.
    pub async fn unconfirmed_agents(
        &self,
        notice_id: Option<Uuid>,
        limit: u64,
    ) -> Result<Vec<agent::Model>, StoreError> {
        let query = agent::Entity::find()
            .filter(is_unconfirmed(notice_id))
            .order_by_desc(agent::Column::IsOnline)
            .order_by_desc(agent::Column::LastSeenAt)
            .order_by_asc(agent::Column::Id)
            .limit(limit);
        Ok(query.all(&self.reader).await?)
    }

    /// How many people and programs have a valid certificate that was issued before this.
    pub async fn count_earlier_certificates(
        &self,
        issued_before: Timestamp,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let query = client_certificate::Entity::find()
            .filter(client_certificate::Column::Holder.ne(CertificateHolder::Agent))
            .filter(client_certificate::Column::RevokedAt.is_null())
            .filter(client_certificate::Column::IssuedAt.lt(issued_before))
            .filter(client_certificate::Column::ExpiresAt.gt(now));
        Ok(query.count(&self.reader).await?)
    }
}

impl TenantScope {
    /// Records that an agent has stored a notice, within its session with this epoch.
    ///
    /// # Errors
    /// [`StoreError::StaleEpoch`] if the agent has a newer session or was deleted.
    pub async fn confirm_notice(
        &self,
        agent_id: AgentId,
        epoch: i64,
        notice_id: Uuid,
    ) -> Result<(), StoreError> {
        let tenant_id = self.tenant_id;
        self.writer
            .change(move |transaction| {
                Box::pin(async move {
                    let updated = agent::Entity::update_many()
                        .col_expr(agent::Column::NoticeId, Expr::value(notice_id))
                        .filter(agent::Column::Id.eq(agent_id))
                        .filter(agent::Column::TenantId.eq(tenant_id))
                        .filter(agent::Column::Epoch.eq(epoch))
                        .filter(agent::Column::DeletedAt.is_null())
                        .exec(transaction)
                        .await?;
                    if updated.rows_affected == 0 { Err(StoreError::StaleEpoch) } else { Ok(()) }
                })
            })
            .await
    }
}

fn is_unconfirmed(notice_id: Option<Uuid>) -> Condition {
    let all = Condition::all().add(agent::Column::DeletedAt.is_null());
    match notice_id {
        None => all,
        Some(id) => all.add(
            Condition::any()
                .add(agent::Column::NoticeId.is_null())
                .add(agent::Column::NoticeId.ne(id)),
        ),
    }
}
