//! `/api/schedules/{id}/trigger-states`

use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::commands::command_state::CommandState;
use crate::domain::ids::{AgentId, CommandId, ScheduleId};
use crate::domain::schedules::fire::ScheduleState;
use crate::domain::schedules::records::ScheduleRecord;
use crate::domain::schedules::rule::RuleSpec;
use crate::domain::schedules::trigger_call::CallOutcome;
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::{Id, PageParams, Params};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::{PageView, stored_json};
use crate::services::access::caller::Caller;
use crate::services::schedules::TriggerStateSnapshot;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_trigger_states))
}

/// What the schedule of a script with a trigger keeps for one agent.
#[derive(Debug, Serialize, ToSchema)]
struct TriggerStateView {
    agent_id: AgentId,
    agent_name: Option<String>,
    /// The schedule calls the trigger at its due times.
    is_active: bool,
    /// Of a schedule with an interval.
    interval_ms: Option<u64>,
    /// The data that the next call gets, any JSON.
    #[schema(value_type = Object)]
    data: Value,
    /// How often a call has changed the data. A call changes it only if it still has the version that the
    /// call got.
    data_version: u64,
    data_changed_at: Option<Timestamp>,
    /// No call has changed the data yet: the next one is a first call.
    is_first_call: bool,
    call_count: u64,
    last_call_at: Timestamp,
    last_command_id: CommandId,
    /// The state of the last call; absent once its history was deleted.
    last_state: Option<CommandState>,
    /// How the last call ended that reported it. A call that is lost reports nothing.
    last_outcome: Option<CallOutcome>,
    last_outcome_at: Option<Timestamp>,
}

impl TriggerStateView {
    fn of(schedule: &ScheduleRecord, state: TriggerStateSnapshot) -> Self {
        let rule: RuleSpec = serde_json::from_str(&schedule.rule).unwrap_or_default();
        let TriggerStateSnapshot { row, agent_name } = state;
        Self {
            agent_id: row.agent_id,
            agent_name,
            is_active: schedule.state == ScheduleState::Active,
            interval_ms: rule.every_ms,
            data: stored_json(&row.data),
            data_version: row.data_version.unsigned_abs(),
            data_changed_at: row.data_changed_at,
            is_first_call: row.data_version == 0,
            call_count: row.call_count.unsigned_abs(),
            last_call_at: row.last_call_at,
            last_command_id: row.last_command_id,
            last_state: row.last_state,
            last_outcome: row.last_outcome,
            last_outcome_at: row.last_outcome_at,
        }
    }
}

/// List what the schedule of a script with a trigger keeps for each agent, oldest first: the data that its
/// calls share, how many there were, and how the last one ended.
#[utoipa::path(get, path = "/api/schedules/{id}/trigger-states", tag = "schedules",
    params(("id" = uuid::Uuid, Path), PageParams),
    responses((status = 200, body = PageView<TriggerStateView>), (status = 404, body = Problem)))]
async fn list_trigger_states(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Params(params): Params<PageParams>,
) -> ApiResult<axum::Json<PageView<TriggerStateView>>> {
    let schedules = &state.services.schedules;
    let (schedule, page) =
        schedules.trigger_states(&caller, ScheduleId(id), params.read()?).await?;
    Ok(axum::Json(page.map(|state| TriggerStateView::of(&schedule, state)).into()))
}
