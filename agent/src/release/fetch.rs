//! `muster-agent fetch-release`: downloads one release for the supervisor, which judges it.
//!
//! Runs in a process of its own, over the agent's way to the server. Nothing that it writes is
//! trusted.

use std::path::Path;

use muster_protocol::release::{MAX_MANIFEST_BYTES, Platform, ReleaseManifest, Version};
use serde_json::json;

use super::download::{DownloadError, Source};
use crate::config::Config;
use crate::link::Way;

/// Larger than any list of changed keys.
const MAX_KEYS_BYTES: u64 = 64 * 1024;
const MAX_SIGNATURE_BYTES: u64 = 4 * 1024;

/// What is fetched of a release at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// What it says of itself, and who has signed that.
    Documents,
    /// What the documents, which were judged in between, say that it consists of.
    Programs,
    /// Both, for somebody who judges them at once.
    All,
}

/// Downloads a part of a release into a folder, and goes on where an earlier download was cut. Why
/// it could not stands in `fetch_error.json` there.
///
/// # Errors
/// [`DownloadError`]
pub async fn fetch(
    config: &Config,
    version: &Version,
    part: Part,
    into: &Path,
) -> Result<(), DownloadError> {
    let told = into.join("fetch_error.json");
    let _ = std::fs::remove_file(&told);
    let fetched = fetch_part(config, version, part, into).await;
    if let Err(error) = &fetched {
        let text = json!({"code": error.code(), "message": crate::sentence::of(error)});
        // The log says it as well.
        let _ = std::fs::write(told, text.to_string());
    }
    fetched
}

async fn fetch_part(
    config: &Config,
    version: &Version,
    part: Part,
    into: &Path,
) -> Result<(), DownloadError> {
    let way = Way::new(config.endpoint.clone(), config.proxy.clone(), &config.authorities)?;
    let source = Source::new(&way)?;
    let folder = format!("/install/releases/{version}");
    if part != Part::Programs {
        documents(&source, &folder, into).await?;
        let fetched = json!({"is_transport_verified": config.endpoint.is_secure});
        write(&into.join("fetched.json"), fetched.to_string().as_bytes())?;
    }
    if part != Part::Documents {
        programs(&source, &folder, into).await?;
    }
    Ok(())
}

async fn documents(source: &Source<'_>, folder: &str, into: &Path) -> Result<(), DownloadError> {
    let (manifest, signature) = (format!("{folder}/release.json"), format!("{folder}/release.sig"));
    source.small(&manifest, &into.join("release.json"), MAX_MANIFEST_BYTES as u64).await?;
    source.small(&signature, &into.join("release.sig"), MAX_SIGNATURE_BYTES).await?;
    source.small("/install/releases/keys.json", &into.join("keys.json"), MAX_KEYS_BYTES).await
}

async fn programs(source: &Source<'_>, folder: &str, into: &Path) -> Result<(), DownloadError> {
    let manifest = into.join("release.json");
    let document = std::fs::read(&manifest).map_err(DownloadError::disk(&manifest))?;
    // What makes no sense, or is for other hosts, is the supervisor's to refuse.
    let (Ok(manifest), Some(platform)) = (ReleaseManifest::read(&document), Platform::own()) else {
        return Ok(());
    };
    let Some(files) = manifest.files(platform) else { return Ok(()) };
    let bin = into.join("bin");
    std::fs::create_dir_all(&bin).map_err(DownloadError::disk(&bin))?;
    for file in files {
        let name = file.name.file_name();
        let to = bin.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        source.large(&format!("{folder}/{platform}/{name}"), &to, file.bytes).await?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), DownloadError> {
    std::fs::write(path, bytes).map_err(DownloadError::disk(path))
}
