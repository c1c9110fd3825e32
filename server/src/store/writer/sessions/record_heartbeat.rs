//! Records heartbeats and their telemetry.

use muster_protocol::frame::Telemetry;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait as _, DbErr, EntityTrait as _, IntoActiveModel as _, QueryFilter as _};

use crate::domain::ids::AgentId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::fleet::{agent, telemetry_sample};
use crate::store::writer::connection::WriteTx;
use crate::store::writer::epoch::Epochs;
use crate::store::writer::rows;
use crate::store::writer::rows::pad_to_power_of_two;
use crate::store::writer::{BatchOperation, MAX_LIST};

/// Records when an agent was last seen, with its telemetry if it sent any.
#[derive(Debug)]
pub struct RecordHeartbeat {
    pub agent_id: AgentId,
    pub epoch: i64,
    pub telemetry: Telemetry,
    pub now: Timestamp,
}

impl BatchOperation for RecordHeartbeat {
    type Done = ();

    async fn apply(
        tx: &WriteTx<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<(), StoreError>>, DbErr> {
        let transaction = tx.transaction;
        let epochs = Epochs::read(tx, operations.iter().map(|op| op.agent_id)).await?;
        let current: Vec<_> =
            operations.iter().filter(|op| epochs.is_current(op.agent_id, op.epoch)).collect();
        for seen in current.chunks(MAX_LIST) {
            let now = seen.iter().map(|op| op.now).max().unwrap_or(Timestamp(0));
            agent::Entity::update_many()
                .col_expr(agent::Column::LastSeenAt, now.0.into())
                .filter(
                    agent::Column::Id.is_in(pad_to_power_of_two(seen.iter().map(|op| op.agent_id))),
                )
                .exec(transaction)
                .await?;
            let samples: Vec<_> = seen.iter().filter_map(|op| op.sample()).collect();
            let once = OnConflict::new().do_nothing().to_owned();
            rows::insert(transaction, samples, Some(once)).await?;
        }
        Ok(operations.iter().map(|op| epochs.check(op.agent_id, op.epoch)).collect())
    }
}

impl RecordHeartbeat {
    fn sample(&self) -> Option<telemetry_sample::ActiveModel> {
        let telemetry = self.telemetry;
        (telemetry != Telemetry::default()).then(|| {
            telemetry_sample::Model {
                agent_id: self.agent_id,
                at: self.now,
                cpu_percent: telemetry.cpu_percent,
                memory_percent: telemetry.memory_percent,
                disk_percent: telemetry.disk_percent,
                uptime_seconds: telemetry.uptime_seconds,
                load_1m: telemetry.load_1m,
                running_executions: telemetry.running_executions,
            }
            .into_active_model()
        })
    }
}
