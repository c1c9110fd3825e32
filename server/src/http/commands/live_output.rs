//! `/api/executions/{id}/output/live`

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::Event;
use data_encoding::BASE64;
use muster_protocol::frame::output::Stream;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::output::StreamName;
use crate::domain::commands::command_state::CommandState;
use crate::domain::commands::output_event::{Payload, Piece};
use crate::domain::ids::CommandId;
use crate::http::AppState;
use crate::http::extract::{Id, Params, within};
use crate::http::problem::{ApiResult, Problem};
use crate::http::sse;
use crate::services::access::caller::Caller;
use crate::services::commands::output::live::{Ended, LiveEvent, LiveRequest, Removed};

/// What the database can count to.
pub(in crate::http) const MAX_OFFSET_BYTES: u64 = 9_223_372_036_854_775_807;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(follow_output))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct LiveParams {
    /// Only this stream. Offsets still count both streams.
    #[param(inline)]
    stream: Option<StreamName>,
    /// Where to start: number of bytes of both streams to skip. `Last-Event-ID` takes precedence.
    #[serde(default)]
    from_bytes: u64,
    /// `false`: return the output so far and do not wait for more.
    #[serde(default = "yes")]
    follow: bool,
}

fn yes() -> bool {
    true
}

/// Data of an event `output`: bytes of one stream, as `text` if they are UTF-8, otherwise as
/// `base64`.
#[derive(Serialize, ToSchema)]
struct OutputEvent {
    /// `stdout` or `stderr`.
    stream: &'static str,
    /// Number of bytes of both streams before these.
    offset_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

/// Data of an event `removed`: bytes of both streams that are not kept any more, because only the newest
/// output of a service is kept.
#[derive(Serialize, ToSchema)]
struct RemovedEvent {
    /// Number of bytes of both streams before these.
    offset_bytes: u64,
    /// Where the output goes on.
    next_offset_bytes: u64,
}

/// Data of the event `result`: the result of the execution. It is the last event.
#[derive(Serialize, ToSchema)]
struct ResultEvent {
    id: CommandId,
    state: CommandState,
    /// Exit code, if the script exited by itself.
    exit_code: Option<i64>,
    /// Signal that ended the script otherwise.
    signal: Option<i64>,
    duration_ms: Option<u64>,
    /// Why it ended as it did.
    error: Option<String>,
    /// Stable code for `error`.
    error_code: Option<String>,
    /// Stored output of both streams; the next fields have each stream.
    output_bytes: u64,
    stdout_bytes: u64,
    stderr_bytes: u64,
    /// True if output of the script is missing, or may be missing.
    is_output_incomplete: bool,
}

/// The data of an event, by its name: `output`, `removed` or `result`. Only for the API's description.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only described")]
enum LiveEventView {
    Output(OutputEvent),
    Removed(RemovedEvent),
    Result(ResultEvent),
}

/// Follow the output of an execution as server-sent events.
///
/// An event `output` has bytes and, as its `id`, the offset after them; send it as `Last-Event-ID` to
/// resume there. An event `removed` comes in place of older output of a service, which is not kept. After all output one event `result` follows, and the response ends. The response
/// ends without `result` if the API key loses its right to see the output, or if the server stops;
/// reconnect to resume. 410 `output_dropped` and `output_damaged` as for the output itself. If output
/// is lost during the response, it ends early, and the next request gets that error.
#[utoipa::path(get, path = "/api/executions/{id}/output/live", tag = "executions",
    params(("id" = uuid::Uuid, Path), LiveParams, ("Last-Event-ID" = Option<String>, Header)),
    responses((status = 200, content_type = "text/event-stream", body = LiveEventView), (status = 400, body = Problem),
        (status = 404, body = Problem), (status = 410, body = Problem), (status = 429, body = Problem)))]
async fn follow_output(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    headers: HeaderMap,
    Params(params): Params<LiveParams>,
) -> ApiResult<Response> {
    let request = LiveRequest {
        stream: StreamName::or_both(params.stream),
        from_bytes: start(&headers, params.from_bytes)?,
        follow: params.follow,
    };
    let view = state.services.live_output.open(&caller, CommandId(id), request).await?;
    Ok(sse::answer(futures_util::stream::try_unfold(view, async |mut view| {
        let event = view.next().await?;
        Ok::<_, crate::store::StoreError>(event.map(|event| (written(event), view)))
    })))
}

fn start(headers: &HeaderMap, from_bytes: u64) -> ApiResult<u64> {
    let bounds = 0..=MAX_OFFSET_BYTES;
    let Some(id) = sse::last_event_id(headers) else {
        return within("from_bytes", from_bytes, bounds);
    };
    let start = id.parse().ok().filter(|start| bounds.contains(start));
    start.ok_or_else(|| Problem::invalid_query("`Last-Event-ID` is not one of this stream".into()))
}

fn written(event: LiveEvent) -> Event {
    match event {
        LiveEvent::Output(piece) => {
            let id = piece.end_bytes.to_string();
            sse::as_json("output", &OutputEvent::from(piece)).id(id)
        }
        LiveEvent::Removed(removed) => {
            let Removed { offset_bytes, next_offset_bytes } = removed;
            let event = RemovedEvent { offset_bytes, next_offset_bytes };
            sse::as_json("removed", &event).id(next_offset_bytes.to_string())
        }
        LiveEvent::Ended(ended) => {
            let id = ended.output_bytes.to_string();
            sse::as_json("result", &ResultEvent::from(*ended)).id(id)
        }
    }
}

impl From<Piece> for OutputEvent {
    fn from(piece: Piece) -> Self {
        let (text, base64) = match piece.payload {
            Payload::Text(text) => (Some(text), None),
            Payload::Bytes(bytes) => (None, Some(BASE64.encode(&bytes))),
        };
        let stream = match piece.stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        Self { stream, offset_bytes: piece.offset_bytes, text, base64 }
    }
}

impl From<Ended> for ResultEvent {
    fn from(ended: Ended) -> Self {
        let reported = |name: &str| ended.report.as_ref().and_then(|report| report.get(name));
        Self {
            exit_code: reported("exit_code").and_then(Value::as_i64),
            signal: reported("signal").and_then(Value::as_i64),
            duration_ms: reported("duration_ms").and_then(Value::as_u64),
            id: ended.command_id,
            state: ended.state,
            error: ended.error,
            error_code: ended.error_code,
            output_bytes: ended.output_bytes,
            stdout_bytes: ended.stdout_bytes,
            stderr_bytes: ended.output_bytes.saturating_sub(ended.stdout_bytes),
            is_output_incomplete: ended.is_output_incomplete,
        }
    }
}
