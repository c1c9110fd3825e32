//! `/api/certificates/rollover`: from one authority of the server to the next.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::certificates::rollover::{RolloverAction, RolloverState, UnconfirmedAgent};
use crate::domain::ids::{AgentId, TenantId};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::Body;
use crate::http::problem::{ApiResult, Problem};
use crate::services::access::caller::Caller;
use crate::services::certificates::rollover::RolloverStatus;

/// How far the rollover is, and who has not stored the new authority.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RolloverView {
    state: RolloverState,
    /// When this state began; `null` without a rollover.
    changed_at: Option<Timestamp>,
    /// The authority that signs now.
    authority: String,
    authority_expires_at: Timestamp,
    /// Agents that have stored the new authority.
    confirmed_count: u64,
    /// Agents that are online and have not. Without a rollover: that are online.
    online_unconfirmed_count: u64,
    /// Agents that are offline and have not. They would be stranded if the former authority were retired now.
    /// Without a rollover: that are offline.
    offline_unconfirmed_count: u64,
    /// Certificates of people and programs that end when the former authority is retired.
    earlier_certificate_count: u64,
    /// Agents that have not stored the new authority: those online first, then those seen last. At most 100.
    agents: Vec<UnconfirmedAgentView>,
}

/// An agent that has not stored the new authority.
#[derive(Debug, Serialize, ToSchema)]
struct UnconfirmedAgentView {
    tenant_id: TenantId,
    agent_id: AgentId,
    name: String,
    /// It stores the new authority when it is online. False for an agent without a CA file, of an earlier version, or
    /// that is not connected with TLS: give it the new authority yourself.
    can_follow: bool,
    is_online: bool,
    last_seen_at: Timestamp,
}

/// A step of the rollover.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StepRollover {
    action: RolloverAction,
    /// Also if agents have not stored the new authority.
    #[serde(default)]
    force: bool,
}

impl From<RolloverStatus> for RolloverView {
    fn from(status: RolloverStatus) -> Self {
        Self {
            state: status.authority.rollover,
            changed_at: status.authority.rollover_since,
            authority: status.authority.name,
            authority_expires_at: status.authority.expires_at,
            confirmed_count: status.confirmed_count,
            online_unconfirmed_count: status.unconfirmed.online,
            offline_unconfirmed_count: status.unconfirmed.offline,
            earlier_certificate_count: status.earlier_certificate_count,
            agents: status.agents.into_iter().map(UnconfirmedAgentView::from).collect(),
        }
    }
}

impl From<UnconfirmedAgent> for UnconfirmedAgentView {
    fn from(agent: UnconfirmedAgent) -> Self {
        let UnconfirmedAgent { tenant_id, agent_id, name, can_follow, is_online, last_seen_at } =
            agent;
        Self { tenant_id, agent_id, name, can_follow, is_online, last_seen_at }
    }
}

/// Get how far the rollover of the authority is, and which agents of all tenants have not stored the new one.
///
/// Without a rollover, it counts who would be stranded if one were finished now. The answer of a server that does not
/// end TLS is 409 `no_certificates`.
#[utoipa::path(get, path = "/api/certificates/rollover", tag = "certificates",
    responses((status = 200, body = RolloverView), (status = 409, body = Problem)))]
pub(super) async fn get_rollover(
    State(state): State<AppState>,
    caller: Caller,
) -> ApiResult<axum::Json<RolloverView>> {
    Ok(axum::Json(state.services.certificates.rollover(&caller).await?.into()))
}

/// Take a step of the rollover of the authority: `announce`, `switch`, `retire`, or `abort` before the switch.
///
/// `switch` is refused while agents that are online have not stored the new authority, and `retire` while any agent has
/// not: 409 `agents_unconfirmed` names them, and `force` does it anyway. A step in another state is 409 `rollover_state`.
/// A person must have proven the password in the last 15 minutes.
#[utoipa::path(post, path = "/api/certificates/rollover", tag = "certificates", request_body = StepRollover,
    responses((status = 200, body = RolloverView), (status = 409, body = Problem)))]
pub(super) async fn step_rollover(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<StepRollover>,
) -> ApiResult<axum::Json<RolloverView>> {
    let StepRollover { action, force } = body;
    let status = state.services.certificates.step_rollover(&caller, action, force).await?;
    Ok(axum::Json(status.into()))
}
