//! `/api/agents/{id}/facts` and `/api/facts`

use std::collections::BTreeMap;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::fleet::target::facts::HostFacts;
use crate::domain::ids::AgentId;
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::Id;
use crate::http::problem::{ApiResult, Problem};
use crate::services::access::caller::Caller;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_agent_facts)).routes(routes!(list_facts))
}

/// The value of a fact: a text, or several.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum FactValueView {
    One(String),
    Several(Vec<String>),
}

/// The facts as they are shown.
pub(super) fn views(facts: HostFacts) -> BTreeMap<String, FactValueView> {
    let view = |mut values: Vec<String>| match values.len() {
        1 => FactValueView::One(values.swap_remove(0)),
        _ => FactValueView::Several(values),
    };
    facts.into_iter().map(|(name, values)| (name, view(values))).collect()
}

/// The facts that a host reports about itself. They are claims of the host.
#[derive(Debug, Serialize, ToSchema)]
struct FactsView {
    /// By name, as in the target `fact:NAME=VALUE`.
    facts: BTreeMap<String, FactValueView>,
    /// Why facts are missing: what the host could not find out, and what the server left out.
    errors: Vec<FactErrorView>,
    /// When the host first reported exactly this; `null` if it has never reported facts.
    changed_at: Option<Timestamp>,
}

#[derive(Debug, Serialize, ToSchema)]
struct FactErrorView {
    /// The file or the fact.
    source: String,
    error: String,
}

/// Show the facts that an agent's host reports about itself.
#[utoipa::path(get, path = "/api/agents/{id}/facts", tag = "agents",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = FactsView), (status = 404, body = Problem)))]
async fn list_agent_facts(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<axum::Json<FactsView>> {
    let record = state.services.agents.facts(&caller, AgentId(id)).await?;
    let changed_at = record.as_ref().map(|record| record.changed_at);
    let (facts, errors) = record.map(|record| (record.facts, record.errors)).unwrap_or_default();
    let error = |it: muster_protocol::facts::FactError| FactErrorView {
        source: it.source,
        error: it.error,
    };
    let errors = errors.into_iter().map(error).collect();
    Ok(axum::Json(FactsView { facts: views(facts), errors, changed_at }))
}

/// Names of facts that hosts report.
#[derive(Debug, Serialize, ToSchema)]
struct FactNamesView {
    /// The most common 500, the most common first.
    items: Vec<FactNameView>,
}

#[derive(Debug, Serialize, ToSchema)]
struct FactNameView {
    name: String,
    /// Agents that report it.
    agent_count: i64,
}

/// List the names of the facts that hosts report, for targets and columns.
#[utoipa::path(get, path = "/api/facts", tag = "agents",
    responses((status = 200, body = FactNamesView)))]
async fn list_facts(
    State(state): State<AppState>,
    caller: Caller,
) -> ApiResult<axum::Json<FactNamesView>> {
    let names = state.services.agents.fact_names(&caller).await?;
    let item = |(name, agent_count)| FactNameView { name, agent_count };
    Ok(axum::Json(FactNamesView { items: names.into_iter().map(item).collect() }))
}
