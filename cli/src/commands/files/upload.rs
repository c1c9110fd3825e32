//! Uploads a file in parts. What the server has is not sent again, also after an interruption.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use data_encoding::HEXLOWER;
use indicatif::{ProgressBar, ProgressStyle};
use muster_protocol::commands::file_transfer::MAX_FILE_BYTES;
use muster_protocol::program::backoff::Delays;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use ring::digest::{Context, SHA256};
use serde_json::{Value, json};

use crate::api::client::delay_after;
use crate::error::CliError;
use crate::session::Session;

/// Bytes of one request: 4 MiB.
const PART_BYTES: u64 = 4 * 1024 * 1024;
/// Timeout of one request.
const PART_TIMEOUT: Duration = Duration::from_secs(600);
/// Errors in a row after which an upload is given up; what has arrived stays on the server.
const MAX_FAILURES: u32 = 8;
/// Bytes that are read at once.
const BUFFER_BYTES: usize = 256 * 1024;
const BAR: &str = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec}";

/// Makes sure that the server has a file, and returns its hex SHA-256.
///
/// # Errors
/// [`CliError`]. Repeating the call continues.
pub async fn upload(path: &Path, session: &Session) -> Result<String, CliError> {
    let mut file = File::open(path).map_err(CliError::file("open", path))?;
    let metadata = file.metadata().map_err(CliError::file("read", path))?;
    if !metadata.is_file() {
        return Err(CliError::Usage(format!("{} is not a plain file", path.display())));
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(CliError::Usage(format!("{} has more than 1 GiB", path.display())));
    }
    let (sha256, bytes) = hash(&mut file).map_err(CliError::file("read", path))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name: String =
        name.unwrap_or_default().chars().filter(|c| !c.is_control()).take(128).collect();
    let body = json!({"name": name, "sha256": sha256, "bytes": bytes});
    let request = session.api.request(Method::POST, &["files"]).json(&body);
    let mut known = session.api.json_with_retries(request).await?;
    let bar = ProgressBar::new(bytes);
    let bar = match ProgressStyle::with_template(BAR) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    };
    let (mut delays, mut failures) = (Delays::for_reconnect(), 0);
    while known.get("is_complete") != Some(&Value::Bool(true)) {
        let id = known.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let received = known.get("received_bytes").and_then(Value::as_u64).unwrap_or_default();
        bar.set_position(received);
        let part = read_part(&mut file, received).map_err(CliError::file("read", path))?;
        if part.is_empty() && received < bytes {
            return Err(CliError::Usage(format!("{} changed while it was sent", path.display())));
        }
        known = match send(session, &id, received, part).await {
            Ok(answer) => {
                failures = 0;
                delays.reset();
                answer
            }
            Err(error) if failures < MAX_FAILURES && may_continue(&error) => {
                failures += 1;
                tokio::time::sleep(delay_after(&error, &mut delays)).await;
                let request = session.api.request(Method::GET, &["files", &id]);
                session.api.json_with_retries(request).await?
            }
            Err(error) => return Err(error),
        };
    }
    bar.finish_and_clear();
    Ok(sha256)
}

async fn send(session: &Session, id: &str, offset: u64, part: Vec<u8>) -> Result<Value, CliError> {
    let request = session
        .api
        .request(Method::PUT, &["files", id, "content"])
        .query(&[("offset_bytes", offset)])
        .timeout(PART_TIMEOUT)
        .header(CONTENT_TYPE, "application/octet-stream")
        .body(part);
    session.api.json(request).await
}

/// True if the server may know how much it has.
fn may_continue(error: &CliError) -> bool {
    match error {
        CliError::Refused(problem) => {
            let codes = ["wrong_offset", "upload_in_progress", "file_complete"];
            error.is_transient() || codes.contains(&problem.code.as_str())
        }
        error => error.is_transient(),
    }
}

fn read_part(file: &mut File, offset: u64) -> std::io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut part = Vec::new();
    file.take(PART_BYTES).read_to_end(&mut part)?;
    Ok(part)
}

/// Hex SHA-256 and size of a file.
pub fn hash(file: &mut File) -> std::io::Result<(String, u64)> {
    file.rewind()?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((HEXLOWER.encode(context.finish().as_ref()), bytes)),
            count => {
                context.update(&buffer[..count]);
                bytes += count as u64;
            }
        }
    }
}
