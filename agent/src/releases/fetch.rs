//! `muster-agent fetch-release`: downloads one release for the supervisor, which verifies it.
//!
//! Runs in a process of its own, over the agent's connection to the server. Nothing that it writes
//! is trusted.

use std::path::Path;

use muster_protocol::release::{MAX_DESCRIPTOR_BYTES, Platform, ReleaseDescriptor, Version};
use serde_json::json;

use super::download::{DownloadError, ReleaseDownloader};
use crate::config::Config;
use crate::link::Connector;

/// Larger than any list of changed keys, in bytes.
const MAX_KEYS_BYTES: u64 = 64 * 1024;
const MAX_SIGNATURE_BYTES: u64 = 4 * 1024;

/// The part of a release that is downloaded at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ReleasePart {
    /// The release descriptor and its signatures.
    Documents,
    /// The programs that the verified descriptor lists.
    Programs,
    /// Both, for callers that verify them together.
    All,
}

/// Downloads a part of a release into a folder and resumes an earlier download. Writes the reason
/// of a failure to `fetch_error.json` there.
///
/// # Errors
/// [`DownloadError`]
pub async fn fetch(
    config: &Config,
    version: &Version,
    part: ReleasePart,
    into: &Path,
) -> Result<(), DownloadError> {
    let error_file = into.join("fetch_error.json");
    let _ = std::fs::remove_file(&error_file);
    let fetched = fetch_part(config, version, part, into).await;
    if let Err(error) = &fetched {
        let text = json!({"code": error.code(), "message": muster_protocol::error_chain(error)});
        // The log contains the reason too.
        let _ = std::fs::write(error_file, text.to_string());
    }
    fetched
}

async fn fetch_part(
    config: &Config,
    version: &Version,
    part: ReleasePart,
    into: &Path,
) -> Result<(), DownloadError> {
    let connector =
        Connector::new(config.endpoint.clone(), config.proxy.clone(), &config.authorities)?;
    let downloader = ReleaseDownloader::new(&connector)?;
    let folder = format!("/install/releases/{version}");
    if part != ReleasePart::Programs {
        fetch_documents(&downloader, &folder, into).await?;
        let fetched = json!({"is_transport_verified": config.endpoint.is_secure});
        write(&into.join("fetched.json"), fetched.to_string().as_bytes())?;
    }
    if part != ReleasePart::Documents {
        fetch_programs(&downloader, &folder, into).await?;
    }
    Ok(())
}

async fn fetch_documents(
    downloader: &ReleaseDownloader<'_>,
    folder: &str,
    into: &Path,
) -> Result<(), DownloadError> {
    let (descriptor, signature) =
        (format!("{folder}/release.json"), format!("{folder}/release.sig"));
    downloader
        .download_small(&descriptor, &into.join("release.json"), MAX_DESCRIPTOR_BYTES as u64)
        .await?;
    downloader.download_small(&signature, &into.join("release.sig"), MAX_SIGNATURE_BYTES).await?;
    downloader
        .download_small("/install/releases/keys.json", &into.join("keys.json"), MAX_KEYS_BYTES)
        .await
}

async fn fetch_programs(
    downloader: &ReleaseDownloader<'_>,
    folder: &str,
    into: &Path,
) -> Result<(), DownloadError> {
    let descriptor = into.join("release.json");
    let document = std::fs::read(&descriptor).map_err(DownloadError::disk(&descriptor))?;
    // The supervisor refuses a descriptor that is invalid or for other hosts.
    let (Ok(descriptor), Some(platform)) = (ReleaseDescriptor::read(&document), Platform::own())
    else {
        return Ok(());
    };
    let Some(files) = descriptor.files(platform) else { return Ok(()) };
    let bin = into.join("bin");
    std::fs::create_dir_all(&bin).map_err(DownloadError::disk(&bin))?;
    for file in files {
        let name = file.name.file_name();
        let to = bin.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        downloader.download_large(&format!("{folder}/{platform}/{name}"), &to, file.bytes).await?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), DownloadError> {
    std::fs::write(path, bytes).map_err(DownloadError::disk(path))
}
