//! `/api/tenants` for the operator, `/api/tenant` for a tenant itself

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::access::tenants::plan::{Plan, PlanResource};
use crate::domain::access::tenants::tenant::{TenantRecord, TenantUsage};
use crate::domain::ids::TenantId;
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::{Body, Id, PageParams, Params};
use crate::http::problem::{ApiResult, Problem};
use crate::http::views::PageView;
use crate::services::access::caller::Caller;
use crate::services::access::tenants::administration::{OwnChange, TenantDetails};
use crate::store::queries::TenantChange;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create_tenant, list_tenants))
        .routes(routes!(get_tenant, update_tenant))
        .routes(routes!(get_own_tenant, update_own_tenant))
}

/// A tenant and the limits of its plan.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TenantView {
    id: TenantId,
    name: String,
    plan: Plan,
    limits: PlanLimitsView,
    created_at: Timestamp,
    /// When everything of it is deleted; null unless that was asked for.
    delete_at: Option<Timestamp>,
    /// True if members with a password may do nothing without a second factor.
    requires_second_factor: bool,
    /// True if the schedules of a member who left pass to an owner. Otherwise they stop.
    passes_schedules_on: bool,
}

/// The limits of a plan on this server. Null: there is no limit.
#[derive(Debug, Serialize, ToSchema)]
struct PlanLimitsView {
    max_agents: Option<u64>,
    max_schedules: Option<u64>,
    /// Days that history is kept: those of the plan, and at most those of the server.
    history_days: u64,
    /// Bytes of history and output: what the operator set for this tenant, or what the plan allows.
    storage_bytes: Option<u64>,
}

/// A tenant and how much it has.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TenantDetailsView {
    #[serde(flatten)]
    tenant: TenantView,
    usage: TenantUsageView,
    /// Of what the tenant has as much as its plan allows, or more. New ones are refused.
    limits_reached: Vec<&'static str>,
}

/// How much a tenant has.
#[derive(Debug, Serialize, ToSchema)]
struct TenantUsageView {
    /// Enrolled agents, connected or not.
    agents: u64,
    /// Executions in the history.
    executions: u64,
    /// Bytes of stored output.
    output_bytes: u64,
}

/// A tenant with its owner's API key, whose secret is only shown once.
#[derive(Debug, Serialize, ToSchema)]
struct CreatedTenantView {
    /// The secret of the owner's key, `mst_live_…`. It can't be shown again.
    key: String,
    #[serde(flatten)]
    tenant: TenantView,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateTenant {
    name: String,
    /// Default: `pro`.
    plan: Option<Plan>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateTenant {
    name: Option<String>,
    /// A lower plan keeps what there is, and refuses what is new. History beyond it is deleted soon.
    plan: Option<Plan>,
    /// How many bytes of history and output the tenant may store. Null: what its plan allows. A tenant that has
    /// more keeps it, and new work is refused.
    #[serde(default, deserialize_with = "present")]
    storage_quota_bytes: Option<Option<u64>>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateOwnTenant {
    name: Option<String>,
    /// True: a member with a password can sign in without a second factor, and then only enable one. API keys
    /// are not affected, nor members who sign in at a provider and have no password. Only an owner who is
    /// signed in, and who gave the password or a code in the last 15 minutes, changes it.
    requires_second_factor: Option<bool>,
    /// True: a schedule whose owner left passes to the oldest owner of the tenant at its next fire. Default:
    /// false, it stops.
    passes_schedules_on: Option<bool>,
}

impl TenantView {
    fn new(row: TenantRecord, history_days: u64) -> Self {
        let (limits, storage_bytes) = (row.plan.limits(), row.storage_limit_bytes());
        Self {
            id: row.id,
            name: row.name,
            plan: row.plan,
            limits: PlanLimitsView {
                max_agents: limits.max_agents,
                max_schedules: limits.max_schedules,
                history_days,
                storage_bytes,
            },
            created_at: row.created_at,
            delete_at: row.delete_at,
            requires_second_factor: row.requires_second_factor,
            passes_schedules_on: row.passes_schedules_on,
        }
    }
}

impl From<TenantDetails> for TenantDetailsView {
    fn from(details: TenantDetails) -> Self {
        let TenantUsage { agents, executions, output_bytes } = details.usage;
        let has_capacity = details.tenant.plan.check_limit(PlanResource::Agents, agents).is_ok();
        Self {
            tenant: TenantView::new(details.tenant, details.history_days),
            usage: TenantUsageView { agents, executions, output_bytes },
            limits_reached: if has_capacity { Vec::new() } else { vec!["agents"] },
        }
    }
}

/// Create a tenant with its owner's API key, whose secret is only shown in this response. For the
/// operator of the server.
#[utoipa::path(post, path = "/api/tenants", tag = "tenants", request_body = CreateTenant,
    responses((status = 201, body = CreatedTenantView), (status = 422, body = Problem)))]
async fn create_tenant(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<CreateTenant>,
) -> ApiResult<(StatusCode, axum::Json<CreatedTenantView>)> {
    let made = state.services.tenants.create(&caller, &body.name, body.plan).await?;
    let tenant = TenantView::new(made.tenant, made.history_days);
    Ok((StatusCode::CREATED, axum::Json(CreatedTenantView { key: made.secret, tenant })))
}

/// List all tenants, oldest first. For the operator of the server.
#[utoipa::path(get, path = "/api/tenants", tag = "tenants", params(PageParams),
    responses((status = 200, body = PageView<TenantView>)))]
async fn list_tenants(
    State(state): State<AppState>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> ApiResult<axum::Json<PageView<TenantView>>> {
    let tenants = &state.services.tenants;
    let page = tenants.list(&caller, params.read()?).await?;
    let view = |row: TenantRecord| {
        let history_days = tenants.history_days(row.plan);
        TenantView::new(row, history_days)
    };
    Ok(axum::Json(page.map(view).into()))
}

/// Show a tenant and how much it has. For the operator of the server.
#[utoipa::path(get, path = "/api/tenants/{id}", tag = "tenants", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = TenantDetailsView), (status = 404, body = Problem)))]
async fn get_tenant(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> ApiResult<axum::Json<TenantDetailsView>> {
    Ok(axum::Json(state.services.tenants.get(&caller, TenantId(id)).await?.into()))
}

/// Change the name, the plan or the quota of a tenant. For the operator of the server.
#[utoipa::path(patch, path = "/api/tenants/{id}", tag = "tenants", params(("id" = uuid::Uuid, Path)),
    request_body = UpdateTenant,
    responses((status = 200, body = TenantDetailsView), (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn update_tenant(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Body(body): Body<UpdateTenant>,
) -> ApiResult<axum::Json<TenantDetailsView>> {
    let UpdateTenant { name, plan, storage_quota_bytes } = body;
    let change = TenantChange { name, plan, storage_quota_bytes, ..TenantChange::default() };
    let changed = state.services.tenants.update(&caller, TenantId(id), change).await?;
    Ok(axum::Json(changed.into()))
}

/// Show the tenant of the caller, its plan and how much it has.
#[utoipa::path(get, path = "/api/tenant", tag = "tenants",
    responses((status = 200, body = TenantDetailsView)))]
async fn get_own_tenant(
    State(state): State<AppState>,
    caller: Caller,
) -> ApiResult<axum::Json<TenantDetailsView>> {
    Ok(axum::Json(state.services.tenants.own(&caller).await?.into()))
}

/// Change the name of the caller's tenant, or whether it requires a second factor of its members.
#[utoipa::path(patch, path = "/api/tenant", tag = "tenants", request_body = UpdateOwnTenant,
    responses((status = 200, body = TenantDetailsView), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn update_own_tenant(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<UpdateOwnTenant>,
) -> ApiResult<axum::Json<TenantDetailsView>> {
    let UpdateOwnTenant { name, requires_second_factor, passes_schedules_on } = body;
    let change = OwnChange { name, requires_second_factor, passes_schedules_on };
    Ok(axum::Json(state.services.tenants.update_own(&caller, change).await?.into()))
}

/// Tells null from a missing field.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::<u64>::deserialize(deserializer).map(Some)
}
