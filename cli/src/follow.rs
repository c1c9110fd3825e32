//! Follows one stream of a command's output as it comes, to its end.
//!
//! Asks by offset, so that an interruption of any kind costs no byte and repeats none. Knows
//! nothing of exit codes.

use std::cell::Cell;
use std::time::{Duration, Instant};

use muster_protocol::backoff::Delays;
use reqwest::header::RANGE;
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::api::{Api, delay_after};
use crate::error::CliError;
use crate::output::note;
use crate::verdict::is_terminal;

/// How long the server may hold a request for output.
const WAIT_MS: u64 = 10_000;
/// For how long a server that can't be reached is tried again.
const PATIENCE: Duration = Duration::from_secs(300);
/// The header that tells the command's state beside its output.
const STATE: &str = "muster-state";

/// Says that the server can't be reached, once for all streams of a command.
#[derive(Debug, Default)]
pub struct Notice {
    is_told: Cell<bool>,
}

impl Notice {
    fn tell(&self, error: &CliError) {
        if !self.is_told.replace(true) {
            note(&format!("{error}; trying again, the command goes on"));
        }
    }

    fn is_over(&self) {
        self.is_told.set(false);
    }
}

/// Copies `stream` (`stdout` or `stderr`) of a command to `sink` until it is terminal and all of
/// the stream was copied.
///
/// # Errors
/// [`CliError::Terminal`] if `sink` fails; the API's errors, passing ones after 5 minutes.
pub async fn follow(
    api: &Api,
    id: &str,
    stream: &str,
    notice: &Notice,
    mut sink: impl AsyncWrite + Unpin,
) -> Result<(), CliError> {
    let mut offset = 0;
    let mut delays = Delays::for_reconnect();
    let mut failing_since: Option<Instant> = None;
    loop {
        let before = offset;
        match more(api, id, stream, &mut offset, &mut sink).await {
            Ok(state) if offset == before && is_terminal(&state) => {
                sink.flush().await?;
                return Ok(sink.shutdown().await?);
            }
            // A server that does not hold the request must not be asked in a tight loop.
            Ok(_) if offset == before => tokio::time::sleep(delays.next_delay()).await,
            Ok(_) => delays.reset(),
            Err(error) if error.is_passing() => {
                let since = *failing_since.get_or_insert_with(|| {
                    notice.tell(&error);
                    Instant::now()
                });
                if since.elapsed() > PATIENCE {
                    return Err(error);
                }
                tokio::time::sleep(delay_after(&error, &mut delays)).await;
                continue;
            }
            Err(error) => return Err(error),
        }
        if failing_since.take().is_some() {
            notice.is_over();
        }
    }
}

/// Copies what there is from `offset` on and advances it by what was written. Returns the state.
async fn more(
    api: &Api,
    id: &str,
    stream: &str,
    offset: &mut u64,
    sink: &mut (impl AsyncWrite + Unpin),
) -> Result<String, CliError> {
    let request = api
        .request(Method::GET, &["commands", id, "output"])
        .query(&[("stream", stream), ("wait_ms", &WAIT_MS.to_string())])
        .header(RANGE, format!("bytes={offset}-"));
    let mut response = api.send(Api::waiting(request, WAIT_MS)).await?;
    let state = state_of(&response);
    let mut skip = to_skip(&response, *offset)?;
    if response.status() != StatusCode::RANGE_NOT_SATISFIABLE {
        while let Some(chunk) = response.chunk().await.map_err(|error| api.interrupted(&error))? {
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
    Some(response.headers().get(STATE)?.to_str().ok()?.to_owned())
}

/// How many bytes of the body come before `offset`: all of them, if the server sends the whole.
fn to_skip(response: &Response, offset: u64) -> Result<u64, CliError> {
    if response.status() == StatusCode::OK {
        return Ok(offset);
    }
    let start: Option<u64> = response.headers().get("content-range").and_then(|value| {
        value.to_str().ok()?.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
    });
    match start {
        Some(start) if response.status() == StatusCode::PARTIAL_CONTENT && start != offset => {
            Err(CliError::Answer(format!("output from byte {start} where {offset} was asked for")))
        }
        _ => Ok(0),
    }
}

async fn current_state(api: &Api, id: &str) -> Result<String, CliError> {
    let command = api.json(api.request(Method::GET, &["commands", id])).await?;
    let state = command.get("state").and_then(Value::as_str);
    state.map(str::to_owned).ok_or_else(|| CliError::Answer("a command without a state".into()))
}
