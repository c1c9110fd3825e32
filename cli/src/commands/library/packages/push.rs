//! `muster packages push`.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Body, Method, RequestBuilder};
use serde_json::Value;

use super::archive::read;
use super::signing::sign_bytes;
use crate::commands::library::scripts::signing::SignatureOptions;
use crate::error::CliError;
use crate::output::text::sanitize;
use crate::session::Session;

/// Timeout of the transfer of one archive.
pub(super) const TRANSFER_TIMEOUT: Duration = Duration::from_secs(3_600);
/// Bytes after which the progress is shown again.
const CHUNK_BYTES: usize = 64 * 1024;
/// Uploads of the same archive after errors that may pass.
const MAX_UPLOAD_ATTEMPTS: usize = 3;
const BAR: &str = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec}";

/// Uploads a folder or an archive.
///
/// # Errors
/// [`CliError`]. Repeating the call changes nothing if the package is on the server.
pub async fn push(
    source: &Path,
    options: &SignatureOptions,
    session: &Session,
) -> Result<u8, CliError> {
    // A key that can't be read is no reason to upload first.
    let publisher = options.publisher()?;
    let bytes = Bytes::from(read(source)?);
    let mut left = MAX_UPLOAD_ATTEMPTS;
    let package = loop {
        left -= 1;
        match session.api.json(request(session, &bytes)).await {
            Err(error) if error.is_transient() && left > 0 => {}
            answer => break answer?,
        }
    };
    let package = match publisher {
        Some(_) => sign_bytes(session, &bytes, options).await?,
        None => package,
    };
    session.output.answer(&package, |package| {
        let text = |field: &str| {
            sanitize(package.get(field).and_then(Value::as_str).unwrap_or_default())
        };
        let (name, version) = (text("name"), text("version"));
        let next = match package.get("kind").and_then(Value::as_str) {
            Some("task" | "service") => {
                format!("assign it with `muster assignments add NAME --package {name}@{version} --on TARGET`")
            }
            _ => format!("run it with `muster run AGENT --package {name}@{version}`"),
        };
        format!("Package {name}@{version} is on the server; {next}")
    })?;
    Ok(0)
}

/// The request, with a progress bar that only a terminal shows.
fn request(session: &Session, bytes: &Bytes) -> RequestBuilder {
    let bar = ProgressBar::new(bytes.len() as u64);
    let bar = match ProgressStyle::with_template(BAR) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    };
    let (bytes, length) = (bytes.clone(), bytes.len());
    let starts = (0..length).step_by(CHUNK_BYTES);
    let chunks = starts.map(move |start| {
        let chunk = bytes.slice(start..length.min(start + CHUNK_BYTES));
        bar.inc(chunk.len() as u64);
        Ok::<_, std::convert::Infallible>(chunk)
    });
    let request = session.api.request(Method::POST, &["packages"]);
    request
        .timeout(TRANSFER_TIMEOUT)
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(CONTENT_LENGTH, length)
        .body(Body::wrap_stream(stream::iter(chunks)))
}
