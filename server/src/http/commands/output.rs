//! `/api/commands/{id}/output` and `/api/executions/{id}/output`: the same bytes.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use muster_protocol::frame::output::Stream;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::commands::range::ByteRange;
use crate::domain::ids::CommandId;
use crate::http::AppState;
use crate::http::extract::{Id, Params, wait};
use crate::http::problem::{ApiResult, Problem};
use crate::services::access::caller::Caller;
use crate::services::commands::MAX_WAIT_MS;
use crate::services::commands::output::read::OutputPart;
use crate::store::queries::OutputStream;

/// The command's state at the time of the response.
const STATE: HeaderName = HeaderName::from_static("muster-state");

/// How many bytes were removed before the output that is kept; absent if none were.
const FIRST_OFFSET: HeaderName = HeaderName::from_static("muster-first-offset");

/// Longest part of a script's name in a file name, in characters.
const MAX_NAME_CHARS: usize = 64;

pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(read_output)).routes(routes!(read_execution_output))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OutputParams {
    /// Only this stream; offsets then count that stream alone.
    #[param(inline)]
    stream: Option<StreamName>,
    /// How long to wait for bytes after the start of the range, in milliseconds, at most 60000.
    #[serde(default)]
    wait_ms: u64,
    /// `1`: as a file that browsers save under a name of its own.
    #[serde(default)]
    #[param(inline)]
    download: Download,
}

/// Whether a browser saves the response as a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
enum Download {
    #[default]
    #[serde(rename = "0", alias = "false")]
    No,
    #[serde(rename = "1", alias = "true")]
    Yes,
}

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum StreamName {
    Stdout,
    Stderr,
}

impl StreamName {
    pub(in crate::http) fn or_both(stream: Option<Self>) -> OutputStream {
        match stream {
            None => OutputStream::Both,
            Some(Self::Stdout) => OutputStream::Stdout,
            Some(Self::Stderr) => OutputStream::Stderr,
        }
    }

    pub(in crate::http) fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

impl From<Stream> for StreamName {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Stdout => Self::Stdout,
            Stream::Stderr => Self::Stderr,
        }
    }
}

/// Read a command's output while it grows or after it has ended: both streams, in the order in which
/// the agent read them.
///
/// Accepts one `Range`. 206: `Content-Range` has the range of the bytes and their number so far (`*`
/// while the output can still grow). 204: there are no bytes after the start of the range yet. 416: the
/// output has ended before it. The header `muster-state` is the command's state. 410 `output_dropped`:
/// the output was deleted to make room for newer output. 410 `output_damaged`: the stored output cannot
/// be read. Of a run of a service the newest output is kept only: the header `muster-first-offset` is then the
/// number of bytes that were removed, offsets still count from the start of the run, a range starts at the
/// first byte of it that is kept, and one that was removed as a whole gets 410 `output_removed`. If damage is found while the response is sent, the response ends early.
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
) -> ApiResult<Response> {
    let name = match params.download {
        Download::Yes => Some(file_name("command", CommandId(id), params.stream)),
        Download::No => None,
    };
    Ok(named(name, read(&state, &caller, CommandId(id), &headers, &params).await?))
}

/// Read an execution's output, as `/api/commands/{id}/output` does.
#[utoipa::path(get, path = "/api/executions/{id}/output", tag = "executions",
    params(("id" = uuid::Uuid, Path), OutputParams, ("Range" = Option<String>, Header)),
    responses((status = 200, content_type = "application/octet-stream"), (status = 206, content_type = "application/octet-stream"),
        (status = 204), (status = 404, body = Problem), (status = 416, body = Problem), (status = 410, body = Problem)))]
async fn read_execution_output(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    headers: HeaderMap,
    Params(params): Params<OutputParams>,
) -> ApiResult<Response> {
    let script = state.services.output.script(&caller, CommandId(id)).await?;
    let name = match params.download {
        Download::Yes => Some(file_name(&script, CommandId(id), params.stream)),
        Download::No => None,
    };
    Ok(named(name, read(&state, &caller, CommandId(id), &headers, &params).await?))
}

/// A name that is safe on every system and within a header: letters, digits, `-`, `_`, and dots
/// inside.
fn file_name(script: &str, id: CommandId, stream: Option<StreamName>) -> String {
    let is_safe = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let safe: String = script.chars().filter(is_safe).take(MAX_NAME_CHARS).collect();
    let safe = safe.trim_start_matches(['.', '-']);
    let stream = stream.map(|stream| format!(".{}", stream.as_str())).unwrap_or_default();
    format!("{}{}{id}{stream}.log", safe, if safe.is_empty() { "" } else { "-" })
}

/// Sends a successful response as a file, if it has a name.
fn named(name: Option<String>, mut response: Response) -> Response {
    let value = name
        .and_then(|name| HeaderValue::try_from(format!("attachment; filename=\"{name}\"")).ok());
    if let Some(value) = value.filter(|_| response.status().is_success()) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    response
}

async fn read(
    state: &AppState,
    caller: &Caller,
    id: CommandId,
    headers: &HeaderMap,
    params: &OutputParams,
) -> ApiResult<Response> {
    let stream = StreamName::or_both(params.stream);
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let range = range.and_then(ByteRange::parse).unwrap_or(ByteRange::Whole);
    let output = &state.services.output;
    let wait_ms = wait(params.wait_ms, MAX_WAIT_MS)?;
    let opened = output.open(caller, id, stream, range, wait_ms).await?;
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
        // Browsers must not interpret a script's output.
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::CONTENT_LENGTH, (part.end_bytes - part.start_bytes).to_string()),
        (STATE, part.state.as_str().to_owned()),
    ];
    let first_bytes = part.first_bytes;
    let body = Body::from_stream(futures_util::stream::try_unfold(part, async |mut part| {
        Ok::<_, crate::store::StoreError>(part.next().await?.map(|bytes| (bytes, part)))
    }));
    let mut response = if is_range {
        let content_range = [(header::CONTENT_RANGE, content_range)];
        (StatusCode::PARTIAL_CONTENT, headers, content_range, body).into_response()
    } else {
        (headers, body).into_response()
    };
    if first_bytes > 0 {
        response.headers_mut().insert(FIRST_OFFSET, first_bytes.into());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_is_safe_for_any_script() {
        let id = CommandId(uuid::Uuid::nil());
        assert_eq!(file_name("deploy.web", id, None), format!("deploy.web-{id}.log"));
        let hostile = "../..\"; filename=\"evil.exe\r\nX: \u{202e}";
        let name = file_name(hostile, id, Some(StreamName::Stderr));
        assert_eq!(name, format!("filenameevil.exeX-{id}.stderr.log"));
        assert_eq!(file_name("…", id, None), format!("{id}.log"));
    }
}
