//! `muster-agent fetch-release`: downloads one release for the supervisor, which judges it.
//!
//! Runs in a process of its own, over the agent's way to the server. Nothing that it writes is
//! trusted.

use std::path::Path;

use muster_protocol::release::{MAX_MANIFEST_BYTES, Manifest, Platform, Version};
use serde_json::json;

use super::download::{DownloadError, Source};
use crate::config::Config;
use crate::link::Way;

/// Larger than any list of changed keys.
const MAX_KEYS_BYTES: u64 = 64 * 1024;
const MAX_SIGNATURE_BYTES: u64 = 4 * 1024;

/// Downloads a release into a folder, and goes on where an earlier download was cut. Why it could
/// not stands in `fetch_error.json` there.
///
/// # Errors
/// [`DownloadError`]
pub async fn fetch(config: &Config, version: &Version, into: &Path) -> Result<(), DownloadError> {
    let told = into.join("fetch_error.json");
    let _ = std::fs::remove_file(&told);
    let fetched = fetch_all(config, version, into).await;
    if let Err(error) = &fetched {
        let text = json!({"code": error.code(), "message": crate::sentence::of(error)});
        // The log says it as well.
        let _ = std::fs::write(told, text.to_string());
    }
    fetched
}

async fn fetch_all(config: &Config, version: &Version, into: &Path) -> Result<(), DownloadError> {
    let way = Way::new(config.endpoint.clone(), config.proxy.clone(), &config.authorities)?;
    let source = Source::new(&way)?;
    let release = |name: &str| format!("/install/releases/{version}/{name}");
    let manifest = into.join("release.json");
    source.small(&release("release.json"), &manifest, MAX_MANIFEST_BYTES as u64).await?;
    source.small(&release("release.sig"), &into.join("release.sig"), MAX_SIGNATURE_BYTES).await?;
    source.small("/install/releases/keys.json", &into.join("keys.json"), MAX_KEYS_BYTES).await?;
    let fetched = json!({"is_way_verified": config.endpoint.is_secure});
    write(&into.join("fetched.json"), fetched.to_string().as_bytes())?;

    let document = std::fs::read(&manifest).map_err(DownloadError::disk(&manifest))?;
    let platform = Platform::own();
    // What makes no sense, or is for other hosts, is the supervisor's to refuse.
    let Ok(manifest) = Manifest::read(&document) else { return Ok(()) };
    let Some(files) = platform.and_then(|platform| manifest.files(platform)) else { return Ok(()) };
    let bin = into.join("bin");
    std::fs::create_dir_all(&bin).map_err(DownloadError::disk(&bin))?;
    for file in files {
        let name = file.name.file_name();
        let path =
            release(&format!("{}/{name}", platform.map(|p| p.to_string()).unwrap_or_default()));
        let to = bin.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        source.large(&path, &to, file.bytes).await?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), DownloadError> {
    std::fs::write(path, bytes).map_err(DownloadError::disk(path))
}
