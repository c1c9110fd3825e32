//! A signed release on its way to the server: what is there already is not sent again.

use std::fs;
use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::file_error;
use super::package::{SIGNATURE, read_file, read_manifest};
use crate::commands::Session;
use crate::error::CliError;
use crate::output::note;

/// What sending one program may take.
const UPLOAD_WITHIN: Duration = Duration::from_secs(3_600);

/// Sends the manifest, the programs that are missing, and the wish that hosts have it.
///
/// # Errors
/// [`CliError`]; asked again it goes on where it was.
pub async fn publish(folder: &Path, session: &Session) -> Result<u8, CliError> {
    let api = &session.api;
    let (document, manifest) = read_manifest(folder)?;
    let path = folder.join(SIGNATURE);
    let signature = fs::read_to_string(&path).map_err(file_error("read", &path))?;
    let body = json!({"manifest": document, "signature": signature});
    api.json_repeated(api.request(Method::POST, &["releases"]).json(&body)).await?;

    let version = manifest.version.to_string();
    let looked = api.request(Method::GET, &["releases", &version]);
    let known = api.json_repeated(looked).await?;
    let known = known.get("programs").and_then(Value::as_array).cloned().unwrap_or_default();
    for (platform, files) in &manifest.targets {
        for file in files {
            let (name, platform_name) = (file.name.file_name(), platform.to_string());
            let is_it = |program: &&Value| {
                program["platform"] == platform_name.as_str() && program["name"] == name
            };
            if known.iter().find(is_it).is_some_and(|program| program["is_there"] == true) {
                continue;
            }
            note(&format!("sending {name} for {platform}, {} bytes", file.bytes));
            let bytes = read_file(folder, *platform, file)?;
            let request = api
                .request(Method::PUT, &["releases", &version, &platform_name, name])
                .timeout(UPLOAD_WITHIN)
                .header(CONTENT_TYPE, "application/octet-stream")
                .body(bytes);
            api.json_repeated(request).await?;
        }
    }
    let publish = api.request(Method::POST, &["releases", &version, "publish"]).json(&json!({}));
    let release = api.json_repeated(publish).await?;
    session.output.details(&release)?;
    Ok(0)
}
