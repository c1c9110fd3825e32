//! Uploads a signed release, without the programs that the server already has.

use std::fs;
use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::package::{SIGNATURE, read_descriptor, read_file};
use crate::error::CliError;
use crate::output::printer::print_note;
use crate::session::Session;

/// Timeout of the upload of one program.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(3_600);

/// Uploads the descriptor and the missing programs, then publishes the release.
///
/// # Errors
/// [`CliError`]. Repeating the call resumes the upload.
pub async fn publish(folder: &Path, session: &Session) -> Result<u8, CliError> {
    let api = &session.api;
    let (document, descriptor) = read_descriptor(folder)?;
    let path = folder.join(SIGNATURE);
    let signature = fs::read_to_string(&path).map_err(CliError::file("read", &path))?;
    let body = json!({"manifest": document, "signature": signature});
    api.json_with_retries(api.request(Method::POST, &["releases"]).json(&body)).await?;

    let version = descriptor.version.to_string();
    let request = api.request(Method::GET, &["releases", &version]);
    let known = api.json_with_retries(request).await?;
    let known = known.get("programs").and_then(Value::as_array).cloned().unwrap_or_default();
    for (platform, files) in &descriptor.targets {
        for file in files {
            let (name, platform_name) = (file.name.file_name(), platform.to_string());
            let is_same = |program: &&Value| {
                program["platform"] == platform_name.as_str() && program["name"] == name
            };
            if known.iter().find(is_same).is_some_and(|program| program["is_uploaded"] == true) {
                continue;
            }
            print_note(&format!("uploading {name} for {platform}: {} bytes", file.bytes));
            let bytes = read_file(folder, *platform, file)?;
            let request = api
                .request(Method::PUT, &["releases", &version, &platform_name, name])
                .timeout(UPLOAD_TIMEOUT)
                .header(CONTENT_TYPE, "application/octet-stream")
                .body(bytes);
            api.json_with_retries(request).await?;
        }
    }
    let publish = api.request(Method::POST, &["releases", &version, "publish"]).json(&json!({}));
    let release = api.json_with_retries(publish).await?;
    session.output.details(&release)?;
    Ok(0)
}
