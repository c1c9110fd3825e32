//! The output of one execution as an event stream, byte by byte as the script wrote it.

use data_encoding::BASE64;
use serde::Deserialize;

use super::client::ApiClient;
use super::sse_client::SseClient;
use crate::error::CliError;
use crate::output::printer::print_note;

/// A stream that a script writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Which output of an execution is requested.
#[derive(Debug, Clone, Copy)]
pub struct OutputRequest {
    /// Only this stream.
    pub stream: Option<Stream>,
    /// Bytes of both streams together to skip.
    pub from_bytes: u64,
    /// Wait for more until the execution has ended.
    pub follow: bool,
}

#[derive(Deserialize)]
struct OutputPiece {
    stream: Stream,
    offset_bytes: u64,
    text: Option<String>,
    base64: Option<String>,
}

/// Older output of a service that is not kept.
#[derive(Deserialize)]
struct RemovedOutput {
    offset_bytes: u64,
    next_offset_bytes: u64,
}

/// The last event of an execution's output.
#[derive(Debug, Default, Deserialize)]
pub struct OutputEnd {
    /// Some output is missing, or may be.
    #[serde(default)]
    pub is_output_incomplete: Option<bool>,
}

/// Passes the output of an execution to `take`, in order. Returns the last event if the execution has
/// ended.
///
/// # Errors
/// The error of `take`; the API's errors, transient ones after 5 minutes.
pub async fn read_output(
    api: &ApiClient,
    id: &str,
    request: OutputRequest,
    mut take: impl FnMut(Stream, &[u8]) -> Result<(), CliError>,
) -> Result<Option<OutputEnd>, CliError> {
    let mut query = vec![("from_bytes", request.from_bytes.to_string())];
    query.push(("follow", request.follow.to_string()));
    query.extend(request.stream.map(|stream| ("stream", stream.name().to_owned())));
    let events = SseClient::new(api, &["executions", id, "output", "live"], query);
    let mut events = if request.follow { events } else { events.finite() };
    let mut next_bytes = request.from_bytes;
    while let Some(event) = events.next().await? {
        if event.name == "result" {
            return Ok(serde_json::from_str(&event.data).ok());
        }
        if event.name == "removed" {
            let removed: RemovedOutput = serde_json::from_str(&event.data)
                .map_err(|error| CliError::Answer(error.to_string()))?;
            let bytes = removed.next_offset_bytes.saturating_sub(removed.offset_bytes);
            print_note(&format!("{bytes} bytes of older output were removed"));
            next_bytes = removed.next_offset_bytes;
            continue;
        }
        if event.name != "output" {
            continue;
        }
        let output: OutputPiece = serde_json::from_str(&event.data)
            .map_err(|error| CliError::Answer(error.to_string()))?;
        let bytes = match (output.text, output.base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(text)) => BASE64
                .decode(text.as_bytes())
                .map_err(|error| CliError::Answer(error.to_string()))?,
            _ => return Err(CliError::Answer("output has neither `text` nor `base64`".into())),
        };
        let offset = output.offset_bytes;
        // With one stream requested, the bytes of the other leave gaps.
        if offset < next_bytes || (offset > next_bytes && request.stream.is_none()) {
            let problem = format!("output starts at byte {offset} instead of {next_bytes}");
            return Err(CliError::Answer(problem));
        }
        next_bytes = offset + bytes.len() as u64;
        take(output.stream, &bytes)?;
    }
    Ok(None)
}
