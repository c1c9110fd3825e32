//! `/api/events`

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::Event;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::commands::approval::ApprovalState;
use crate::domain::commands::command_state::CommandState;
use crate::domain::commands::job_state::JobState;
use crate::domain::fleet::reported_manifest::ManifestInForce;
use crate::domain::ids::{AgentId, AgentKeyId, AlertId, AlertRuleId, ApprovalId, CommandId, JobId};
use crate::domain::integrations::tenant_event::{EventFilter, TenantEvent, TenantEventKind};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::Params;
use crate::http::problem::{ApiResult, Problem};
use crate::http::sse;
use crate::services::access::caller::Caller;
use crate::services::integrations::events::StreamItem;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(follow_events))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EventsParams {
    /// Comma-separated list of `execution`, `job`, `agent`, `approval`, `agent_refused`, `alert` and `alert_rule`. Default: all that the key may see.
    types: Option<String>,
    /// Only events of this agent.
    agent: Option<uuid::Uuid>,
    /// Only events of this job.
    job: Option<uuid::Uuid>,
    /// Only events of this script.
    script: Option<String>,
}

/// The data of an event, by its name: `execution`, `job`, `agent`, `approval`, `agent_refused`, `alert` or
/// `alert_rule`.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum TenantEventView<'a> {
    Execution {
        id: CommandId,
        /// The job that the execution belongs to, if any.
        job_id: Option<JobId>,
        agent_id: AgentId,
        script: Option<&'a str>,
        state: CommandState,
    },
    Job {
        id: JobId,
        script: &'a str,
        state: JobState,
        /// Executions by state. States without executions are omitted.
        #[schema(value_type = Object)]
        counts: &'a BTreeMap<&'static str, u64>,
        /// When the last execution ended, after all have.
        finished_at: Option<Timestamp>,
    },
    Agent {
        id: AgentId,
        /// `online` or `offline`.
        status: &'static str,
        /// Which manifest of the host is in force. Only in events about that.
        #[serde(skip_serializing_if = "Option::is_none")]
        manifest: Option<ManifestInForce>,
    },
    Approval {
        id: ApprovalId,
        state: ApprovalState,
    },
    AgentRefused {
        /// The key that the agent came with.
        key_id: AgentKeyId,
        /// As its host reports it.
        hostname: &'a str,
        /// Agents that the plan of the tenant allows.
        limit: u64,
    },
    Alert {
        id: AlertId,
        rule_id: AlertRuleId,
        /// The agent with the value; `null` for `agents_online`.
        agent_id: Option<AgentId>,
        /// `open` or `resolved`.
        state: &'static str,
    },
    AlertRule {
        /// The rule, which may be deleted.
        id: AlertRuleId,
        /// No alert opens before.
        silenced_until: Option<Timestamp>,
    },
}

/// Stream changes as server-sent events.
///
/// Each event has the current state of an execution, a job, an agent, a request for approval, an alert or an alert
/// rule, or reports a new agent that the plan of the tenant has no room for. Changes in quick succession
/// may be merged into one event. The first event is `ready`: data that is read after it is
/// complete. A `reset` means that events were missed: read your data again. With `Last-Event-ID`
/// the stream continues after that event without a `ready`, or with a `reset` if that event is too
/// old.
#[utoipa::path(get, path = "/api/events", tag = "events",
    params(EventsParams, ("Last-Event-ID" = Option<String>, Header)),
    responses((status = 200, content_type = "text/event-stream", body = TenantEventView), (status = 400, body = Problem),
        (status = 403, body = Problem), (status = 429, body = Problem)))]
async fn follow_events(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    Params(params): Params<EventsParams>,
) -> ApiResult<Response> {
    let filter = EventFilter {
        kinds: kinds(params.types.as_deref())?,
        agent_id: params.agent.map(AgentId),
        job_id: params.job.map(JobId),
        script: params.script,
    };
    let last_id = sse::last_event_id(&headers);
    let view = state.services.events.open(&caller, filter, last_id).await?;
    Ok(sse::answer(futures_util::stream::try_unfold(view, async |mut view| {
        let shown = view.next().await?;
        Ok::<_, crate::store::StoreError>(shown.map(|shown| (written(&shown), view)))
    })))
}

fn kinds(types: Option<&str>) -> ApiResult<Vec<TenantEventKind>> {
    let named = types.into_iter().flat_map(|types| types.split(','));
    let kind =
        |name: &str| TenantEventKind::ALL.into_iter().find(|kind| kind.as_str() == name.trim());
    named.map(kind).collect::<Option<_>>().ok_or_else(|| {
        Problem::invalid_query(
            "`types` must be a list of `execution`, `job`, `agent`, `approval`, `agent_refused`, `alert` \
             and `alert_rule`"
                .into(),
        )
    })
}

fn written(shown: &StreamItem) -> Event {
    match shown {
        StreamItem::Ready { id } => Event::default().event("ready").id(id).data("{}"),
        StreamItem::Reset { id } => Event::default().event("reset").id(id).data("{}"),
        StreamItem::Event { id, event } => {
            sse::as_json(event.kind().as_str(), &TenantEventView::from(&**event)).id(id)
        }
    }
}

impl<'a> From<&'a TenantEvent> for TenantEventView<'a> {
    fn from(event: &'a TenantEvent) -> Self {
        match event {
            TenantEvent::Execution { id, job_id, agent_id, script, state } => Self::Execution {
                id: *id,
                job_id: *job_id,
                agent_id: *agent_id,
                script: script.as_deref(),
                state: *state,
            },
            TenantEvent::Job { id, script, state, counts, finished_at } => {
                let finished_at = *finished_at;
                Self::Job { id: *id, script, state: *state, counts, finished_at }
            }
            TenantEvent::Agent { id, is_connected, manifest } => Self::Agent {
                id: *id,
                status: if *is_connected { "online" } else { "offline" },
                manifest: *manifest,
            },
            TenantEvent::Approval { id, state } => Self::Approval { id: *id, state: *state },
            TenantEvent::AgentRefused { key_id, hostname, limit } => {
                Self::AgentRefused { key_id: *key_id, hostname, limit: *limit }
            }
            TenantEvent::Alert { id, rule_id, agent_id, is_open } => Self::Alert {
                id: *id,
                rule_id: *rule_id,
                agent_id: *agent_id,
                state: if *is_open { "open" } else { "resolved" },
            },
            TenantEvent::AlertRule { id, silenced_until } => {
                Self::AlertRule { id: *id, silenced_until: *silenced_until }
            }
        }
    }
}
