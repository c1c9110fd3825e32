//! `/api/storage`

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::ids::{PrincipalId, TenantId};
use crate::domain::operations::storage::forecast::{Forecast, FullFirst, Outcome};
use crate::domain::operations::storage::purge::StoragePurge;
use crate::domain::operations::storage::quota::QuotaState;
use crate::domain::operations::storage::usage::{
    CauseUsage, LargestWriter, ScriptUsage, StorageUsage,
};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::Body;
use crate::http::problem::{ApiResult, Problem};
use crate::services::access::caller::Caller;
use crate::services::operations::storage::{PurgePreview, ServerStorage, StorageReport};
use crate::store::queries::TenantStorage;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(get_storage))
        .routes(routes!(purge_storage))
        .routes(routes!(preview_storage_purge))
}

/// What a tenant stores, by cause and by script.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StorageView {
    /// When it was measured; null before the first measurement.
    measured_at: Option<Timestamp>,
    /// Files and rows of the tenant.
    total_bytes: u64,
    /// Output as executions wrote it, before compression. Exact.
    written_bytes: u64,
    causes: Vec<CauseUsage>,
    /// The scripts that take most, largest first, at most 50.
    scripts: Vec<ScriptUsage>,
    /// All other scripts together.
    other_scripts: ScriptUsage,
    /// How many these are.
    other_script_count: u64,
    quota: StorageQuotaView,
    forecast: ForecastView,
    /// The last request to delete old history; null if there was none.
    purge: Option<StoragePurgeView>,
    /// The server as a whole: for the operator of the server, and for the tenant of a server that has one tenant.
    server: Option<ServerStorageView>,
}

/// The quota of a tenant.
#[derive(Debug, Serialize, ToSchema)]
struct StorageQuotaView {
    /// Null: there is no quota.
    limit_bytes: Option<u64>,
    /// History and output, as they were measured.
    counted_bytes: u64,
    state: QuotaState,
}

/// Which history to delete.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct StoragePurgeBody {
    /// What is older than this is deleted, if it has ended; at most 100 years. 0: everything that has ended.
    #[schema(example = 2_592_000_000_u64)]
    older_than_ms: u64,
}

/// A request to delete old history.
#[derive(Debug, Serialize, ToSchema)]
struct StoragePurgeView {
    /// What was created before this instant and has ended is deleted.
    history_before: Timestamp,
    requested_by: PrincipalId,
    requested_at: Timestamp,
    /// Null while some of it may still be there.
    finished_at: Option<Timestamp>,
}

impl From<StoragePurge> for StoragePurgeView {
    fn from(purge: StoragePurge) -> Self {
        let StoragePurge { history_before, requested_by, requested_at, finished_at, .. } = purge;
        Self { history_before, requested_by, requested_at, finished_at }
    }
}

/// What a request to delete old history would delete.
#[derive(Debug, Serialize, ToSchema)]
struct StoragePurgePreview {
    history_before: Timestamp,
    /// Executions and other commands that would be deleted now, with their output.
    command_count: u64,
}

/// When disk or quota are full, if the tenant goes on as in the last 30 days.
#[derive(Debug, Serialize, ToSchema)]
struct ForecastView {
    /// `too_little_history` (3 days are needed), `no_growth`, `unbounded` (neither disk nor quota is known),
    /// `beyond_horizon` (more than 10 years), or `full`.
    outcome: &'static str,
    /// With `full`: what is full first.
    full_first: Option<FullFirst>,
    /// With `full`: in how many days; 0 if it is full now.
    days: Option<u64>,
    bytes_per_day: Option<u64>,
    /// The script that wrote most in the last 7 days.
    largest_writer: Option<LargestWriter>,
    /// The same as a sentence.
    sentence: String,
}

/// What the server as a whole stores.
#[derive(Debug, Serialize, ToSchema)]
struct ServerStorageView {
    measured_at: Option<Timestamp>,
    total_bytes: u64,
    causes: Vec<CauseUsage>,
    /// Size of the database. Exact.
    database_bytes: u64,
    /// Of these, space of deleted rows that new rows use. Null on PostgreSQL.
    reusable_database_bytes: Option<u64>,
    /// Of the disk with the data directory.
    disk_free_bytes: Option<u64>,
    disk_bytes: Option<u64>,
    forecast: ForecastView,
    /// The tenants that store most, largest first, at most 100.
    tenants: Vec<TenantStorageView>,
}

/// A tenant and what it stores.
#[derive(Debug, Serialize, ToSchema)]
struct TenantStorageView {
    id: TenantId,
    name: String,
    total_bytes: u64,
    /// History and output, which the quota bounds.
    counted_bytes: u64,
    /// Null: there is no quota.
    limit_bytes: Option<u64>,
}

impl From<Forecast> for ForecastView {
    fn from(forecast: Forecast) -> Self {
        let (full_first, days, bytes_per_day) = match forecast.outcome {
            Outcome::Full { what, days, bytes_per_day } => {
                (Some(what), Some(days), Some(bytes_per_day))
            }
            Outcome::Unbounded { bytes_per_day } | Outcome::BeyondHorizon { bytes_per_day } => {
                (None, None, Some(bytes_per_day))
            }
            Outcome::TooLittleHistory { .. } | Outcome::NoGrowth => (None, None, None),
        };
        Self {
            outcome: forecast.outcome.as_str(),
            full_first,
            days,
            bytes_per_day,
            sentence: forecast.to_string(),
            largest_writer: forecast.largest_writer,
        }
    }
}

impl From<TenantStorage> for TenantStorageView {
    fn from(found: TenantStorage) -> Self {
        let limit_bytes = found.tenant.storage_limit_bytes();
        let TenantStorage { tenant, total_bytes, counted_bytes } = found;
        Self { id: tenant.id, name: tenant.name, total_bytes, counted_bytes, limit_bytes }
    }
}

impl From<ServerStorage> for ServerStorageView {
    fn from(server: ServerStorage) -> Self {
        Self {
            measured_at: server.measured_at,
            total_bytes: server.usage.total_bytes(),
            causes: server.usage.causes,
            database_bytes: server.database_bytes,
            reusable_database_bytes: server.reusable_database_bytes,
            disk_free_bytes: server.disk_free_bytes,
            disk_bytes: server.disk_bytes,
            forecast: server.forecast.into(),
            tenants: server.tenants.into_iter().map(TenantStorageView::from).collect(),
        }
    }
}

impl From<StorageReport> for StorageView {
    fn from(report: StorageReport) -> Self {
        let StorageReport { measured_at, usage, quota, forecast, purge, server } = report;
        let (total_bytes, written_bytes) = (usage.total_bytes(), usage.written_bytes());
        let StorageUsage { causes, scripts, other_scripts, other_script_count } = usage;
        Self {
            measured_at,
            total_bytes,
            written_bytes,
            causes,
            scripts,
            other_scripts,
            other_script_count,
            quota: StorageQuotaView {
                limit_bytes: quota.limit_bytes,
                counted_bytes: quota.counted_bytes,
                state: quota.state(),
            },
            forecast: forecast.into(),
            purge: purge.map(StoragePurgeView::from),
            server: server.map(ServerStorageView::from),
        }
    }
}

/// Show what the caller's tenant stores, by cause and by script, its quota, and when it is full.
///
/// The numbers are from the last measurement, which the server takes every 5 minutes. Sizes of files are exact,
/// sizes of rows in the database are estimates.
#[utoipa::path(get, path = "/api/storage", tag = "tenants", responses((status = 200, body = StorageView)))]
async fn get_storage(
    State(state): State<AppState>,
    caller: Caller,
) -> ApiResult<axum::Json<StorageView>> {
    Ok(axum::Json(state.services.storage.report(&caller).await?.into()))
}

/// Delete everything of the tenant that has ended and is older, with its output: executions, jobs, fires, deliveries,
/// events and decided approvals. The audit log stays. The server deletes in slices; `purge` of `GET /api/storage` says
/// when it is done. A person must have confirmed that it is them within the last minutes.
#[utoipa::path(post, path = "/api/storage/purge", tag = "tenants", request_body = StoragePurgeBody,
    responses((status = 202, body = StoragePurgeView), (status = 403, body = Problem), (status = 422, body = Problem)))]
async fn purge_storage(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<StoragePurgeBody>,
) -> ApiResult<(StatusCode, axum::Json<StoragePurgeView>)> {
    let purge = state.services.storage.request_purge(&caller, body.older_than_ms).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(purge.into())))
}

/// Show how much a purge would delete.
#[utoipa::path(post, path = "/api/storage/purge/preview", tag = "tenants", request_body = StoragePurgeBody,
    responses((status = 200, body = StoragePurgePreview), (status = 403, body = Problem),
        (status = 422, body = Problem)))]
async fn preview_storage_purge(
    State(state): State<AppState>,
    caller: Caller,
    Body(body): Body<StoragePurgeBody>,
) -> ApiResult<axum::Json<StoragePurgePreview>> {
    let preview = state.services.storage.preview_purge(&caller, body.older_than_ms).await?;
    let PurgePreview { history_before, command_count } = preview;
    Ok(axum::Json(StoragePurgePreview { history_before, command_count }))
}
