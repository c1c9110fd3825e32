//! `/api/executions/{id}/output/search` and `/api/executions/{id}/output/times`

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::live_output::MAX_OFFSET_BYTES;
use super::output::StreamName;
use crate::domain::commands::output_search::Hit;
use crate::domain::commands::received::Mark;
use crate::domain::ids::CommandId;
use crate::domain::page::{DEFAULT_LIMIT, MAX_LIMIT};
use crate::domain::time::Timestamp;
use crate::http::AppState;
use crate::http::extract::{Id, Params, within};
use crate::http::problem::{ApiResult, Problem};
use crate::services::access::caller::Caller;
use crate::services::commands::output::search::SearchRequest;

/// Longest text that can be searched, in characters.
pub(in crate::http) const MAX_TEXT_CHARS: usize = 200;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(search_output)).routes(routes!(read_output_times))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct SearchParams {
    /// The text, in upper or lower case: 1 to 200 characters.
    q: String,
    /// Only this stream. Offsets still count both streams.
    #[param(inline)]
    stream: Option<StreamName>,
    /// Where to stop: number of bytes of both streams. Default: at the end.
    to_bytes: Option<u64>,
    /// Most hits of the response.
    limit: Option<u64>,
    /// `next_cursor` of the response before.
    cursor: Option<String>,
}

/// A line that has the text.
#[derive(Serialize, ToSchema)]
struct OutputHitView {
    /// `stdout` or `stderr`.
    stream: &'static str,
    /// Number of bytes of both streams before the line.
    offset_bytes: u64,
    /// The line, or 300 characters of it around the first match.
    text: String,
}

/// What a search found.
#[derive(Serialize, ToSchema)]
struct OutputHitsView {
    /// By `offset_bytes`.
    items: Vec<OutputHitView>,
    /// Continues the search; null if all output that is stored so far was searched. Also a response
    /// without hits may have it, because one request searches at most 8 MiB.
    next_cursor: Option<String>,
}

/// Search an execution's output.
///
/// Finds the lines that have a text, as a person sees them: without colours and other control
/// sequences, and without what a carriage return writes over. Lines longer than 64 KiB are searched in
/// parts. 410 `output_dropped` and `output_damaged` as for the output itself.
#[utoipa::path(get, path = "/api/executions/{id}/output/search", tag = "executions",
    params(("id" = uuid::Uuid, Path), SearchParams),
    responses((status = 200, body = OutputHitsView), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 410, body = Problem)))]
async fn search_output(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Params(params): Params<SearchParams>,
) -> ApiResult<Json<OutputHitsView>> {
    within("q", params.q.chars().count() as u64, 1..=MAX_TEXT_CHARS as u64)?;
    let limit = within("limit", params.limit.unwrap_or(DEFAULT_LIMIT), 1..=MAX_LIMIT)?;
    let from_bytes = match &params.cursor {
        None => [0, 0],
        Some(cursor) => read_cursor(cursor)
            .ok_or_else(|| Problem::invalid_query("`cursor` is not one of this search".into()))?,
    };
    let to_bytes = params.to_bytes.unwrap_or(MAX_OFFSET_BYTES);
    let request = SearchRequest {
        text: params.q,
        stream: StreamName::or_both(params.stream),
        from_bytes,
        to_bytes: within("to_bytes", to_bytes, 0..=MAX_OFFSET_BYTES)?,
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let found = state.services.output.search(&caller, CommandId(id), request).await?;
    let next_cursor = found.next_bytes.map(|[stdout, stderr]| format!("{stdout}.{stderr}"));
    let items = found.hits.into_iter().map(OutputHitView::from).collect();
    Ok(Json(OutputHitsView { items, next_cursor }))
}

fn read_cursor(cursor: &str) -> Option<[u64; 2]> {
    let (stdout, stderr) = cursor.split_once('.')?;
    let offset = |text: &str| text.parse().ok().filter(|offset| *offset <= MAX_OFFSET_BYTES);
    Some([offset(stdout)?, offset(stderr)?])
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TimesParams {
    /// Where to start: number of bytes of both streams.
    #[serde(default)]
    from_bytes: u64,
}

/// Output from here to the next entry was received from this instant on.
#[derive(Serialize, ToSchema)]
struct OutputTimeView {
    /// Number of bytes of both streams before it.
    offset_bytes: u64,
    received_at: Timestamp,
}

/// When parts of an output were received.
#[derive(Serialize, ToSchema)]
struct OutputTimesView {
    /// By `offset_bytes`, at most 1000. The first one may be before `from_bytes`.
    items: Vec<OutputTimeView>,
    /// `from_bytes` of the next request; null if there are no more entries so far.
    next_from_bytes: Option<u64>,
}

/// Read when an execution's output was received.
///
/// The server stamps each part of the output when it gets it, with its own clock. Hosts send output
/// about once a second, and what they could not send at once later, so a line was written earlier than
/// that. After the end of the execution, times are kept at least a second apart, and at most 4096 of
/// them.
#[utoipa::path(get, path = "/api/executions/{id}/output/times", tag = "executions",
    params(("id" = uuid::Uuid, Path), TimesParams),
    responses((status = 200, body = OutputTimesView), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 410, body = Problem)))]
async fn read_output_times(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Params(params): Params<TimesParams>,
) -> ApiResult<Json<OutputTimesView>> {
    let from_bytes = within("from_bytes", params.from_bytes, 0..=MAX_OFFSET_BYTES)?;
    let output = &state.services.output;
    let (marks, next_from_bytes) = output.received(&caller, CommandId(id), from_bytes).await?;
    let items = marks.into_iter().map(OutputTimeView::from).collect();
    Ok(Json(OutputTimesView { items, next_from_bytes }))
}

impl From<Hit> for OutputHitView {
    fn from(hit: Hit) -> Self {
        let stream = StreamName::from(hit.stream).as_str();
        Self { stream, offset_bytes: hit.offset_bytes, text: hit.text }
    }
}

impl From<Mark> for OutputTimeView {
    fn from(mark: Mark) -> Self {
        Self { offset_bytes: mark.offset_bytes, received_at: mark.received_at }
    }
}
