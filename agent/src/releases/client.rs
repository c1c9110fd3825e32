//! Asks the server for releases on behalf of the host's owner.

use std::time::Duration;

use muster_protocol::release::{MAX_DESCRIPTOR_BYTES, Platform, Version};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use uuid::Uuid;

use crate::config::Config;
use crate::identity::key::KeyRing;
use crate::link::{Connector, LinkError, http_client};
use crate::storage::layout::StateDir;

/// Time limit of one request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit of the connection attempt that diagnoses an error.
const DIAGNOSE_TIMEOUT: Duration = Duration::from_secs(20);
/// Characters of the server's message that are shown.
const MAX_DETAIL: usize = 300;

/// Why the server offers no release. The messages are shown to the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseClientError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("{server} does not publish a release {version}; run `muster release list` for a list")]
    NotPublished { version: Version, server: String },
    #[error("the server offers no release: {0}")]
    NoRelease(String),
    #[error("the server does not know this agent's key; run `muster-agent doctor`")]
    Key,
    #[error("the server answered {0} without a version; use --version, or update the server")]
    UnexpectedAnswer(u16),
}

/// The newest release for this host, independent of its group.
///
/// # Errors
/// [`ReleaseClientError`]
pub async fn newest(config: &Config) -> Result<Version, ReleaseClientError> {
    let mut connector =
        Connector::new(config.endpoint.clone(), config.proxy.clone(), &config.authorities)?;
    connector.show_stored(&StateDir::at(&config.state_dir));
    // The server may have replaced the configured key.
    let known = StateDir::existing(&config.state_dir);
    let kept = known.and_then(|state| KeyRing::load(config.api_key.clone(), &state).ok());
    let keys = kept.unwrap_or_else(|| KeyRing::configured(config.api_key.clone()));
    ReleaseClient::new(&connector)?.desired_release(keys.current(), None).await
}

/// A client for the releases of one server.
pub struct ReleaseClient<'a> {
    client: Client,
    connector: &'a Connector,
}

#[derive(Deserialize)]
struct DesiredRelease {
    version: Version,
}

#[derive(Deserialize)]
struct ReleaseProblem {
    code: String,
    #[serde(default)]
    detail: String,
}

impl<'a> ReleaseClient<'a> {
    /// Creates a client.
    ///
    /// # Errors
    /// [`ReleaseClientError::Link`] if no HTTP client can be created.
    pub fn new(connector: &'a Connector) -> Result<Self, ReleaseClientError> {
        Ok(Self { client: http_client(connector, ANSWER_TIMEOUT)?, connector })
    }

    /// The desired version of this agent's group, otherwise the newest release for this host.
    ///
    /// # Errors
    /// [`ReleaseClientError`]
    pub async fn desired_release(
        &self,
        key: &SecretString,
        agent_id: Option<Uuid>,
    ) -> Result<Version, ReleaseClientError> {
        let mut path = "/api/agents/desired-release?".to_owned();
        if let Some(platform) = Platform::own() {
            path.push_str(&format!("platform={platform}&"));
        }
        if let Some(id) = agent_id {
            path.push_str(&format!("agent_id={id}"));
        }
        let (status, body) = self.get(&path, Some(key)).await?;
        if status == StatusCode::OK {
            let wanted = serde_json::from_slice::<DesiredRelease>(&body);
            return wanted
                .map(|wanted| wanted.version)
                .map_err(|_| ReleaseClientError::UnexpectedAnswer(200));
        }
        Err(match serde_json::from_slice::<ReleaseProblem>(&body) {
            Ok(problem) if problem.code == "no_release" => {
                ReleaseClientError::NoRelease(printable(&problem.detail))
            }
            _ if status == StatusCode::UNAUTHORIZED => ReleaseClientError::Key,
            _ => ReleaseClientError::UnexpectedAnswer(status.as_u16()),
        })
    }

    /// Checks that the server publishes this version. The supervisor verifies the release itself.
    ///
    /// # Errors
    /// [`ReleaseClientError::NotPublished`], [`ReleaseClientError::Link`].
    pub async fn check(&self, version: &Version) -> Result<(), ReleaseClientError> {
        let path = format!("/install/releases/{version}/release.json");
        match self.get(&path, None).await?.0 {
            StatusCode::NOT_FOUND => Err(ReleaseClientError::NotPublished {
                version: version.clone(),
                server: self.connector.endpoint.authority(),
            }),
            StatusCode::OK => Ok(()),
            status => Err(LinkError::Refused {
                action: "the request for a release",
                status: status.as_u16(),
                problem: String::new(),
            }
            .into()),
        }
    }

    async fn get(
        &self,
        path: &str,
        key: Option<&SecretString>,
    ) -> Result<(StatusCode, Vec<u8>), LinkError> {
        let mut request = self.client.get(self.connector.endpoint.file_url(path));
        if let Some(key) = key {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()))
                .map_err(LinkError::broken("set up HTTP"))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        match request.send().await {
            Ok(response) => Ok((response.status(), body(response).await?)),
            Err(error) => Err(self.diagnose(error).await),
        }
    }

    /// The HTTP library reports that it could not connect but not why; a second connection attempt
    /// finds the cause.
    async fn diagnose(&self, error: reqwest::Error) -> LinkError {
        match tokio::time::timeout(DIAGNOSE_TIMEOUT, self.connector.connect()).await {
            Ok(Err(error)) => error,
            Ok(Ok(_)) | Err(_) => LinkError::broken("request the server's releases")(error),
        }
    }
}

async fn body(mut response: Response) -> Result<Vec<u8>, LinkError> {
    let action = "read the server's answer";
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(LinkError::broken(action))? {
        if bytes.len() + chunk.len() > MAX_DESCRIPTOR_BYTES {
            return Err(LinkError::broken(action)("the answer is larger than permitted"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The server's message without control characters, shortened for a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(MAX_DETAIL).collect()
}
