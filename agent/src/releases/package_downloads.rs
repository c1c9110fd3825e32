//! Downloads the archives of packages from the server, for executions.

use std::path::Path;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use muster_protocol::error_chain;
use muster_protocol::program::backoff::Delays;

use super::download::{DownloadError, ReleaseDownloader};
use crate::config::Config;
use crate::executions::packages::{FetchError, PackageSource};
use crate::identity::key::KeyRing;
use crate::link::Connector;
use crate::storage::layout::StateDir;

/// Bounds the delays between two downloads that were given up.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// The packages of the configured server.
#[derive(Debug)]
pub struct PackageDownloads {
    config: Config,
    state: StateDir,
}

impl PackageDownloads {
    pub fn new(config: Config, state: StateDir) -> Self {
        Self { config, state }
    }

    async fn download(&self, path: &str, bytes: u64, to: &Path) -> Result<(), DownloadError> {
        let Config { endpoint, proxy, authorities, api_key, .. } = &self.config;
        let mut connector = Connector::new(endpoint.clone(), proxy.clone(), authorities)?;
        // As the key below, it may have been replaced.
        connector.show_stored(&self.state);
        // The server may have replaced the key since the last download.
        let keys = KeyRing::load(api_key.clone(), &self.state);
        let keys = keys.unwrap_or_else(|_| KeyRing::configured(api_key.clone()));
        let downloader = ReleaseDownloader::new(&connector)?.with_key(keys.current())?;
        downloader.download_large(path, to, bytes).await
    }

    /// Downloads until it succeeds, or never can.
    async fn fetch_path(
        &self,
        path: &str,
        bytes: u64,
        to: &Path,
        missing: FetchError,
    ) -> Result<(), FetchError> {
        let mut delays = Delays::new(FIRST_DELAY, LONGEST_DELAY);
        loop {
            let error = match self.download(path, bytes, to).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            // The execution ends this by its deadline, or by a cancellation.
            if !error.is_transient() && !matches!(error, DownloadError::Interrupted(_)) {
                return Err(match error {
                    DownloadError::Missing(_) => missing,
                    error => {
                        FetchError::Failed { code: error.code(), message: error_chain(&error) }
                    }
                });
            }
            tracing::info!(error = error_chain(&error), "downloading again after a delay");
            tokio::time::sleep(delays.next_delay()).await;
        }
    }
}

impl PackageSource for PackageDownloads {
    fn fetch<'a>(
        &'a self,
        sha256: &'a str,
        bytes: u64,
        to: &'a Path,
    ) -> BoxFuture<'a, Result<(), FetchError>> {
        async move {
            let path = format!("/api/agents/packages/{sha256}");
            self.fetch_path(&path, bytes, to, FetchError::Missing).await
        }
        .boxed()
    }

    fn fetch_file<'a>(
        &'a self,
        sha256: &'a str,
        bytes: u64,
        to: &'a Path,
    ) -> BoxFuture<'a, Result<(), FetchError>> {
        async move {
            let path = format!("/api/agents/files/{sha256}");
            self.fetch_path(&path, bytes, to, FetchError::MissingFile).await
        }
        .boxed()
    }
}
