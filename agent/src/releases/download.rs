//! Downloads files over HTTP with a size limit, and resumes interrupted downloads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_protocol::program::backoff::Delays;
use reqwest::header::{AUTHORIZATION, HeaderValue, RANGE};
use reqwest::{Client, Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::timeout;

use crate::link::{Connector, LinkError, http_client};

/// Time limit of one request; the supervisor limits the whole download.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(600);
/// A download without a byte for this long is interrupted and resumed.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Number of attempts in a row that deliver no byte.
const ATTEMPTS: u32 = 5;

/// Why a file could not be downloaded.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the server does not have {0}: it was withdrawn, deleted or never published")]
    Missing(String),
    #[error("the server answered {status} to a request for {path}")]
    Refused { path: String, status: u16 },
    #[error("{0} is larger than permitted")]
    TooLarge(String),
    #[error("the download of {0} was interrupted too often")]
    Interrupted(String),
    #[error("{} can't be written", path.display())]
    Disk {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl DownloadError {
    /// Adds the path to the system's error.
    pub fn disk(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk { path: path.to_owned(), source }
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "no_release",
            Self::Disk { source, .. }
                if matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                ) =>
            {
                "no_space"
            }
            Self::Disk { .. } => "storage_failed",
            _ => "download_failed",
        }
    }

    /// True if another attempt may succeed.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Link(_) => true,
            Self::Refused { status, .. } => matches!(status, 408 | 429 | 500..=599),
            _ => false,
        }
    }
}

/// Downloads the release files of one server.
pub struct ReleaseDownloader<'a> {
    client: Client,
    connector: &'a Connector,
    /// For files that are not public.
    authorization: Option<HeaderValue>,
}

impl<'a> ReleaseDownloader<'a> {
    /// Creates a downloader.
    ///
    /// # Errors
    /// [`DownloadError::Link`] if no HTTP client can be created.
    pub fn new(connector: &'a Connector) -> Result<Self, DownloadError> {
        Ok(Self {
            client: http_client(connector, REQUEST_TIMEOUT)?,
            connector,
            authorization: None,
        })
    }

    /// Downloads with this agent key.
    ///
    /// # Errors
    /// [`DownloadError::Link`] if the key can't be sent.
    pub fn with_key(self, key: &SecretString) -> Result<Self, DownloadError> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()))
            .map_err(LinkError::broken("set up HTTP"))?;
        value.set_sensitive(true);
        Ok(Self { authorization: Some(value), ..self })
    }

    /// Downloads a file of at most `max_bytes` from its start.
    ///
    /// # Errors
    /// [`DownloadError`]
    pub async fn download_small(
        &self,
        path: &str,
        to: &Path,
        max_bytes: u64,
    ) -> Result<(), DownloadError> {
        let mut retries = RetryBudget::new(path);
        loop {
            let _ = fs::remove_file(to);
            match self.attempt(path, to, max_bytes).await {
                Ok(()) => return Ok(()),
                Err(error) => retries.wait_or_give_up(error, 0).await?,
            }
        }
    }

    /// Downloads a file of exactly this size and resumes an earlier download.
    ///
    /// # Errors
    /// [`DownloadError`]; the bytes received so far are kept.
    pub async fn download_large(
        &self,
        path: &str,
        to: &Path,
        bytes: u64,
    ) -> Result<(), DownloadError> {
        let mut retries = RetryBudget::new(path);
        loop {
            let have = fs::metadata(to).map_or(0, |metadata| metadata.len());
            match have.cmp(&bytes) {
                std::cmp::Ordering::Equal => return Ok(()),
                std::cmp::Ordering::Greater => _ = fs::remove_file(to),
                std::cmp::Ordering::Less => {}
            }
            if let Err(error) = self.attempt(path, to, bytes).await {
                let received_bytes = fs::metadata(to).map_or(0, |metadata| metadata.len());
                retries.wait_or_give_up(error, received_bytes.saturating_sub(have)).await?;
            } else if fs::metadata(to).map_or(0, |metadata| metadata.len()) < bytes {
                // The server has no more bytes: the sizes differ, which the verification will
                // detect.
                return Ok(());
            }
        }
    }

    async fn attempt(&self, path: &str, to: &Path, max_bytes: u64) -> Result<(), DownloadError> {
        let mut file = open(to).map_err(DownloadError::disk(to))?;
        let have = file.metadata().map_err(DownloadError::disk(to))?.len();
        let mut request = self.client.get(self.connector.endpoint.file_url(path));
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        if have > 0 {
            request = request.header(RANGE, format!("bytes={have}-"));
        }
        let cut = LinkError::broken("download from the server");
        let answer = timeout(STALL_TIMEOUT, request.send()).await;
        let mut response =
            answer.map_err(|_| LinkError::TimedOut("continue the download"))?.map_err(cut)?;
        let mut left = max_bytes.saturating_sub(have);
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {}
            StatusCode::OK => {
                file.set_len(0).map_err(DownloadError::disk(to))?;
                left = max_bytes;
            }
            StatusCode::NOT_FOUND => return Err(DownloadError::Missing(path.to_owned())),
            StatusCode::RANGE_NOT_SATISFIABLE => {
                file.set_len(0).map_err(DownloadError::disk(to))?;
                return Err(DownloadError::Refused { path: path.to_owned(), status: 503 });
            }
            status => {
                let status = status.as_u16();
                return Err(DownloadError::Refused { path: path.to_owned(), status });
            }
        }
        while let Some(chunk) = next_chunk(&mut response).await? {
            left = left
                .checked_sub(chunk.len() as u64)
                .ok_or_else(|| DownloadError::TooLarge(path.to_owned()))?;
            file.write_all(&chunk).map_err(DownloadError::disk(to))?;
        }
        Ok(())
    }
}

async fn next_chunk(response: &mut Response) -> Result<Option<bytes::Bytes>, DownloadError> {
    let chunk = timeout(STALL_TIMEOUT, response.chunk()).await;
    let chunk = chunk.map_err(|_| LinkError::TimedOut("continue the download"))?;
    Ok(chunk.map_err(LinkError::broken("download from the server"))?)
}

/// Opens a file for appending and follows no symbolic link.
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
    options.open(path)
}

struct RetryBudget<'a> {
    path: &'a str,
    left: u32,
    delays: Delays,
}

impl<'a> RetryBudget<'a> {
    fn new(path: &'a str) -> Self {
        let delays = Delays::new(Duration::from_millis(500), Duration::from_secs(10));
        Self { path, left: ATTEMPTS, delays }
    }

    /// Waits before the next attempt, or gives up. An attempt that delivered bytes resets the
    /// limit.
    async fn wait_or_give_up(
        &mut self,
        error: DownloadError,
        received_bytes: u64,
    ) -> Result<(), DownloadError> {
        if !error.is_transient() {
            return Err(error);
        }
        if received_bytes > 0 {
            self.left = ATTEMPTS;
            self.delays.reset();
        }
        self.left -= 1;
        if self.left == 0 {
            return Err(match error {
                DownloadError::Link(LinkError::TimedOut(_)) => {
                    DownloadError::Interrupted(self.path.to_owned())
                }
                other => other,
            });
        }
        tracing::info!(
            error = &error as &dyn std::error::Error,
            received_bytes,
            "retrying a download"
        );
        tokio::time::sleep(self.delays.next_delay()).await;
        Ok(())
    }
}
