//! The output of one execution as it comes, byte by byte as it was written.

use data_encoding::BASE64;
use serde::Deserialize;

use crate::api::Api;
use crate::error::CliError;
use crate::live::Live;

/// Where bytes were written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    Stdout,
    Stderr,
}

/// What is wanted of an execution's output.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// One stream only.
    pub stream: Option<Stream>,
    /// Payload of both streams before the first byte.
    pub from_bytes: u64,
    /// Until the execution has ended.
    pub follow: bool,
}

#[derive(Deserialize)]
struct Output {
    stream: Stream,
    offset_bytes: u64,
    text: Option<String>,
    base64: Option<String>,
}

/// What stands at the end of an execution's output.
#[derive(Debug, Default, Deserialize)]
pub struct Ended {
    /// Not all that the script wrote is there, or that can't be known.
    #[serde(default)]
    pub is_output_incomplete: Option<bool>,
}

/// Hands the output of an execution to `take`, in order. What stands at its end, if that was reached.
///
/// # Errors
/// What `take` fails with; the API's errors, passing ones after 5 minutes.
pub async fn watch(
    api: &Api,
    id: &str,
    wanted: Wanted,
    mut take: impl FnMut(Stream, &[u8]) -> Result<(), CliError>,
) -> Result<Option<Ended>, CliError> {
    let mut query = vec![("from_bytes", wanted.from_bytes.to_string())];
    query.push(("follow", wanted.follow.to_string()));
    query.extend(wanted.stream.map(|stream| {
        let name = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        ("stream", name.to_owned())
    }));
    let live = Live::new(api, &["executions", id, "output", "live"], query);
    let mut live = if wanted.follow { live } else { live.finite() };
    let mut next_bytes = wanted.from_bytes;
    while let Some(event) = live.next().await? {
        if event.name == "result" {
            return Ok(serde_json::from_str(&event.data).ok());
        }
        if event.name != "output" {
            continue;
        }
        let output: Output = serde_json::from_str(&event.data)
            .map_err(|error| CliError::Answer(error.to_string()))?;
        let bytes = match (output.text, output.base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(text)) => BASE64
                .decode(text.as_bytes())
                .map_err(|error| CliError::Answer(error.to_string()))?,
            _ => return Err(CliError::Answer("output that is neither text nor base64".into())),
        };
        let offset = output.offset_bytes;
        // Of one stream alone, the other's bytes are passed over.
        if offset < next_bytes || (offset > next_bytes && wanted.stream.is_none()) {
            let problem = format!("output from byte {offset} where {next_bytes} was expected");
            return Err(CliError::Answer(problem));
        }
        next_bytes = offset + bytes.len() as u64;
        take(output.stream, &bytes)?;
    }
    Ok(None)
}
