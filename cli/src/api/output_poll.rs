//! Copies one stream of a command's output to its end, by long polling.
//!
//! Requests by offset, so that an interruption loses and repeats no byte. Knows no exit codes.

use std::cell::Cell;
use std::time::{Duration, Instant};

use muster_protocol::program::backoff::Delays;
use reqwest::header::RANGE;
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::client::{ApiClient, delay_after};
use crate::error::CliError;
use crate::exit_status::is_terminal;
use crate::output::printer::print_note;

/// For how long the server may hold a request for output.
const WAIT_MS: u64 = 10_000;
/// For how long an unreachable server is retried.
const RETRY_LIMIT: Duration = Duration::from_secs(300);
/// The response header with the command's state.
const STATE_HEADER: &str = "muster-state";

/// Reports an unreachable server once for all streams of a command.
#[derive(Debug, Default)]
pub struct RetryNotice {
    is_shown: Cell<bool>,
}

impl RetryNotice {
    fn show(&self, error: &CliError) {
        if !self.is_shown.replace(true) {
            print_note(&format!("{error}; retrying, the command keeps running"));
        }
    }

    fn reset(&self) {
        self.is_shown.set(false);
    }
}

/// Copies `stream` (`stdout` or `stderr`) of a command to `sink` until the command has ended and the
/// whole stream is copied.
///
/// # Errors
/// [`CliError::Terminal`] if `sink` fails; the API's errors, transient ones after 5 minutes.
pub async fn copy_to_end(
    api: &ApiClient,
    id: &str,
    stream: &str,
    notice: &RetryNotice,
    sink: impl AsyncWrite + Unpin,
) -> Result<(), CliError> {
    copy_from(api, id, (stream, 0), notice, sink).await
}

/// The same for the bytes after an offset.
///
/// # Errors
/// As [`copy_to_end`].
pub async fn copy_from(
    api: &ApiClient,
    id: &str,
    (stream, mut offset): (&str, u64),
    notice: &RetryNotice,
    mut sink: impl AsyncWrite + Unpin,
) -> Result<(), CliError> {
    let mut delays = Delays::for_reconnect();
    let mut failing_since: Option<Instant> = None;
    loop {
        let before = offset;
        match copy_available(api, id, stream, &mut offset, &mut sink).await {
            Ok(state) if offset == before && is_terminal(&state) => {
                sink.flush().await?;
                return Ok(sink.shutdown().await?);
            }
            // The server may answer at once; this avoids a tight loop.
            Ok(_) if offset == before => tokio::time::sleep(delays.next_delay()).await,
            Ok(_) => delays.reset(),
            Err(error) if error.is_transient() => {
                let since = *failing_since.get_or_insert_with(|| {
                    notice.show(&error);
                    Instant::now()
                });
                if since.elapsed() > RETRY_LIMIT {
                    return Err(error);
                }
                tokio::time::sleep(delay_after(&error, &mut delays)).await;
                continue;
            }
            Err(error) => return Err(error),
        }
        if failing_since.take().is_some() {
            notice.reset();
        }
    }
}

/// Copies the output that exists from `offset` on and advances `offset`. Returns the command's state.
async fn copy_available(
    api: &ApiClient,
    id: &str,
    stream: &str,
    offset: &mut u64,
    sink: &mut (impl AsyncWrite + Unpin),
) -> Result<String, CliError> {
    let request = api
        .request(Method::GET, &["commands", id, "output"])
        .query(&[("stream", stream), ("wait_ms", &WAIT_MS.to_string())])
        .header(RANGE, format!("bytes={offset}-"));
    let mut response = api.send(ApiClient::with_wait(request, WAIT_MS)).await?;
    let state = state_of(&response);
    let mut skip = bytes_to_skip(&response, *offset)?;
    if response.status() != StatusCode::RANGE_NOT_SATISFIABLE {
        while let Some(chunk) = response.chunk().await.map_err(|error| api.cut_off(&error))? {
            let known = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            skip -= known as u64;
            sink.write_all(&chunk[known..]).await?;
            *offset += (chunk.len() - known) as u64;
        }
        sink.flush().await?;
    }
    match state {
        Some(state) => Ok(state),
        None => current_state(api, id).await,
    }
}

fn state_of(response: &Response) -> Option<String> {
    Some(response.headers().get(STATE_HEADER)?.to_str().ok()?.to_owned())
}

/// How many bytes of the body come before `offset`. The server may answer with the whole output.
fn bytes_to_skip(response: &Response, offset: u64) -> Result<u64, CliError> {
    if response.status() == StatusCode::OK {
        return Ok(offset);
    }
    let start: Option<u64> = response.headers().get("content-range").and_then(|value| {
        value.to_str().ok()?.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
    });
    match start {
        Some(start) if response.status() == StatusCode::PARTIAL_CONTENT && start != offset => {
            Err(CliError::Answer(format!("output starts at byte {start} instead of {offset}")))
        }
        _ => Ok(0),
    }
}

async fn current_state(api: &ApiClient, id: &str) -> Result<String, CliError> {
    let command = api.json(api.request(Method::GET, &["commands", id])).await?;
    let state = command.get("state").and_then(Value::as_str);
    state.map(str::to_owned).ok_or_else(|| CliError::Answer("the command has no state".into()))
}
