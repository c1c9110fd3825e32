//! `/api/commands/{id}/output`

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AppState;
use super::extract::{Id, Params};
use super::problem::{Answer, Problem};
use crate::domain::ids::CommandId;
use crate::domain::range::ByteRange;
use crate::services::caller::Caller;
use crate::services::output::OutputPart;
use crate::store::queries::OutputStream;

/// The command's state when the answer was made.
const STATE: HeaderName = HeaderName::from_static("muster-state");

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(read_output))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OutputParams {
    /// One stream only; its offsets then count that stream alone.
    #[param(inline)]
    stream: Option<StreamName>,
    /// Wait for bytes behind the start of the range for so long, at most 60000.
    #[serde(default)]
    wait_ms: u64,
}

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum StreamName {
    Stdout,
    Stderr,
}

/// Read a command's output, both streams in the order they were read, while it grows or after.
///
/// Takes one `Range`. 206 says in `Content-Range` which bytes came and how many there are so far
/// (`*` while it may grow); 204 says that nothing stands behind the start of the range yet;
/// 416 that nothing ever will. `muster-state` is the command's state. 410 `output_dropped`: it gave way
/// to newer output; 410 `output_damaged`: what is stored of it is lost. What is found to be damaged
/// later on the way cuts the answer off.
#[utoipa::path(get, path = "/api/commands/{id}/output", tag = "commands",
    params(("id" = uuid::Uuid, Path), OutputParams, ("Range" = Option<String>, Header)),
    responses((status = 200, content_type = "application/octet-stream"), (status = 206, content_type = "application/octet-stream"),
        (status = 204), (status = 404, body = Problem), (status = 410, body = Problem), (status = 416, body = Problem)))]
async fn read_output(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    headers: HeaderMap,
    Params(params): Params<OutputParams>,
) -> Answer<Response> {
    let stream = match params.stream {
        None => OutputStream::Both,
        Some(StreamName::Stdout) => OutputStream::Stdout,
        Some(StreamName::Stderr) => OutputStream::Stderr,
    };
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let range = range.and_then(ByteRange::parse).unwrap_or(ByteRange::Whole);
    let output = &state.services.output;
    let opened = output.open(&caller, CommandId(id), stream, range, params.wait_ms).await?;
    let (part, is_range) = match opened {
        Ok(part) => (part, range != ByteRange::Whole),
        Err((state, length_bytes)) if state.is_terminal() => {
            let end = format!("bytes */{length_bytes}");
            let problem = Problem::range_not_satisfiable(length_bytes);
            let headers = [(STATE, state.as_str().to_owned()), (header::CONTENT_RANGE, end)];
            return Ok((headers, problem).into_response());
        }
        Err((state, _)) => {
            return Ok((StatusCode::NO_CONTENT, [(STATE, state.as_str())]).into_response());
        }
    };
    Ok(respond(part, is_range))
}

fn respond(part: OutputPart, is_range: bool) -> Response {
    let total = match part.state.is_terminal() {
        true => part.length_bytes.to_string(),
        false => "*".into(),
    };
    let last = part.end_bytes.saturating_sub(1);
    let content_range = format!("bytes {}-{last}/{total}", part.start_bytes);
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        // What a script prints is no page.
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::CONTENT_LENGTH, (part.end_bytes - part.start_bytes).to_string()),
        (STATE, part.state.as_str().to_owned()),
    ];
    let body = Body::from_stream(futures_util::stream::try_unfold(part, async |mut part| {
        Ok::<_, crate::store::StoreError>(part.next().await?.map(|bytes| (bytes, part)))
    }));
    if is_range {
        let content_range = [(header::CONTENT_RANGE, content_range)];
        (StatusCode::PARTIAL_CONTENT, headers, content_range, body).into_response()
    } else {
        (headers, body).into_response()
    }
}
