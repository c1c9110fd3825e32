//! What openings write: agents as one upsert, then what follows from their ledgers.

use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ColumnTrait as _, DbErr, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    QuerySelect as _,
};

use super::Changes;
use crate::domain::commands::command_state::{CommandState, EndReason};
use crate::domain::ids::{AgentId, CommandId};
use crate::domain::time::Timestamp;
use crate::store::command_completion::end_of;
use crate::store::entities::commands::command;
use crate::store::entities::fleet::{agent, agent_event};
use crate::store::writer::MAX_LIST;
use crate::store::writer::commands::record_progress;
use crate::store::writer::connection::WriteTx;
use crate::store::writer::rows;
use crate::store::writer::rows::pad_to_power_of_two;

/// Writes all of it; which commands are lost with their agents' ledgers.
pub(super) async fn write(
    tx: &WriteTx<'_>,
    agents: Vec<agent::Model>,
    changes: Changes,
) -> Result<Vec<(AgentId, CommandId)>, DbErr> {
    let transaction = tx.transaction;
    let agents = agents.into_iter().map(agent::Model::into_active_model).collect();
    let update = OnConflict::column(agent::Column::Id).update_columns(SESSION_COLUMNS).to_owned();
    rows::insert(transaction, agents, Some(update)).await?;
    let mut lost = Vec::new();
    for forgotten in changes.forgotten.chunks(MAX_LIST) {
        let now = forgotten.iter().map(|(_, now)| *now).max().unwrap_or(Timestamp(0));
        let sent: Vec<(AgentId, CommandId)> = command::Entity::find()
            .select_only()
            .column(command::Column::AgentId)
            .column(command::Column::Id)
            .filter(
                command::Column::AgentId
                    .is_in(pad_to_power_of_two(forgotten.iter().map(|(id, _)| *id))),
            )
            .filter(command::Column::FinishedAt.is_null())
            .filter(command::Column::State.ne(CommandState::Queued))
            .into_tuple()
            .all(transaction)
            .await?;
        for sent in sent.chunks(MAX_LIST) {
            let ended = end_of(CommandState::Lost, now)
                .col_expr(command::Column::EndReason, EndReason::LedgerReplaced.as_str().into())
                .filter(
                    command::Column::Id.is_in(pad_to_power_of_two(sent.iter().map(|(_, id)| *id))),
                )
                .exec(transaction)
                .await?;
            tx.metrics.ended(CommandState::Lost, ended.rows_affected);
        }
        lost.extend(sent);
    }
    record_progress::write_counts(transaction, changes.counts).await?;
    tx.outbox.append(changes.events.iter().filter_map(agent_event::Model::integration_event));
    tx.outbox.append(changes.rolled_back);
    let events = changes.events.into_iter().map(agent_event::Model::into_active_model).collect();
    rows::insert(transaction, events, None).await?;
    Ok(lost)
}

/// The columns that a session owns; name and tags are people's.
const SESSION_COLUMNS: [agent::Column; 27] = [
    agent::Column::KeyId,
    agent::Column::Level,
    agent::Column::Identity,
    agent::Column::PublicKey,
    agent::Column::NextFingerprint,
    agent::Column::Hostname,
    agent::Column::Ip,
    agent::Column::Version,
    agent::Column::Os,
    agent::Column::Arch,
    agent::Column::ServiceManager,
    agent::Column::Capabilities,
    agent::Column::Policy,
    agent::Column::MaxExecutions,
    agent::Column::LedgerId,
    agent::Column::InstanceId,
    agent::Column::PreviousInstanceId,
    agent::Column::Epoch,
    agent::Column::Transport,
    agent::Column::IsOnline,
    agent::Column::Alert,
    agent::Column::AlertDetail,
    agent::Column::ConnectedAt,
    agent::Column::LastSeenAt,
    agent::Column::UpdateResult,
    agent::Column::UpdateResultAt,
    agent::Column::NoticeId,
];
