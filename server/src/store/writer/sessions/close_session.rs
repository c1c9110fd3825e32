//! Marks agents offline when their sessions end.

use sea_orm::{
    ColumnTrait as _, DbErr, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    QuerySelect as _,
};

use crate::domain::fleet::agent::AgentEventKind;
use crate::domain::ids::{AgentId, EventId, TenantId};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::fleet::agent;
use crate::store::entities::fleet::agent_event;
use crate::store::writer::connection::WriteTx;
use crate::store::writer::epoch::Epochs;
use crate::store::writer::rows;
use crate::store::writer::rows::pad_to_power_of_two;
use crate::store::writer::{BatchOperation, MAX_LIST};

/// Marks an agent offline, unless a newer session has started. One event per transition.
pub struct CloseSession {
    pub tenant_id: TenantId,
    pub agent_id: AgentId,
    pub epoch: i64,
    pub reason: &'static str,
    pub now: Timestamp,
}

impl BatchOperation for CloseSession {
    type Done = ();

    async fn apply(
        tx: &WriteTx<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<(), StoreError>>, DbErr> {
        let transaction = tx.transaction;
        let epochs = Epochs::read(tx, operations.iter().map(|op| op.agent_id)).await?;
        let current: Vec<_> =
            operations.iter().filter(|op| epochs.is_current(op.agent_id, op.epoch)).collect();
        for ended in current.chunks(MAX_LIST) {
            let online: Vec<AgentId> = agent::Entity::find()
                .select_only()
                .column(agent::Column::Id)
                .filter(
                    agent::Column::Id
                        .is_in(pad_to_power_of_two(ended.iter().map(|op| op.agent_id))),
                )
                .filter(agent::Column::IsOnline.eq(true))
                .into_tuple()
                .all(transaction)
                .await?;
            if online.is_empty() {
                continue;
            }
            agent::Entity::update_many()
                .col_expr(agent::Column::IsOnline, false.into())
                .filter(agent::Column::Id.is_in(pad_to_power_of_two(online.iter().copied())))
                .exec(transaction)
                .await?;
            tx.epochs.forget(&online);
            let events: Vec<_> = ended
                .iter()
                .filter(|op| online.contains(&op.agent_id))
                .map(|op| op.event())
                .collect();
            tx.outbox.append(events.iter().filter_map(agent_event::Model::integration_event));
            let events = events.into_iter().map(agent_event::Model::into_active_model).collect();
            rows::insert(transaction, events, None).await?;
        }
        Ok(operations.iter().map(|_| Ok(())).collect())
    }
}

impl CloseSession {
    fn event(&self) -> agent_event::Model {
        agent_event::Model {
            id: EventId::new(),
            tenant_id: self.tenant_id,
            agent_id: self.agent_id,
            kind: AgentEventKind::Offline,
            detail: Some(self.reason.to_owned()),
            at: self.now,
        }
    }
}
