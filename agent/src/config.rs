//! How this agent was told to work: flags over environment over file over defaults.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use muster_protocol::limits::{DEFAULT_MAX_EXECUTIONS, MAX_MAX_EXECUTIONS, MAX_POLL_WAIT_MS};
use secrecy::SecretString;
use serde::Deserialize;

use crate::commands::execute::OutputLimits;
use crate::link::endpoint::{Endpoint, EndpointError};
use crate::link::{Authorities, AuthoritiesError, Proxy, ProxyError};
use crate::platform;

/// Options of `muster-agent run`. The key has none: command lines are public on a host.
#[derive(Debug, Clone, Default, Args)]
pub struct RunArgs {
    /// Where the server is: ws://, wss://, http:// or https://.
    #[arg(long, env = "MUSTER_SERVER_URL")]
    pub server_url: Option<String>,
    /// Where this agent keeps what it must not forget [default: /var/lib/muster, ~/.muster without root].
    #[arg(long, env = "MUSTER_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// A file that holds the agent key and nothing else; MUSTER_API_KEY comes before it.
    #[arg(long, env = "MUSTER_API_KEY_FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Settings as TOML; may be given several times, a later file wins.
    #[arg(long)]
    pub config: Vec<PathBuf>,
    /// Allow ws:// and http:// to other hosts: the key then travels in the clear.
    #[arg(long)]
    pub insecure: bool,
    /// Certificates of authorities to trust beside the host's store, PEM.
    #[arg(long, env = "MUSTER_CA_FILE")]
    pub ca_file: Option<PathBuf>,
    /// HTTP when WebSockets fail: 1 allowed, 0 never, only: no WebSocket at all [default: 1].
    #[arg(long, env = "MUSTER_HTTP_FALLBACK")]
    pub http_fallback: Option<String>,
    /// Longest wait of one request over HTTP, in seconds [default: 25].
    #[arg(long, env = "MUSTER_HTTP_POLL_INTERVAL")]
    pub http_poll_interval: Option<u64>,
    /// Executions at once [default: 16].
    #[arg(long, env = "MUSTER_MAX_EXECUTIONS")]
    pub max_executions: Option<u32>,
    /// Stay of this version at the start, whatever the server wants; `update` is carried out all the same.
    #[arg(long, env = "MUSTER_SKIP_UPDATE", value_parser = clap::builder::FalseyValueParser::new())]
    pub skip_update: bool,
    #[arg(long, env = "MUSTER_INSECURE", hide = true)]
    pub insecure_env: Option<String>,
    #[arg(long, env = "MUSTER_OUTPUT_LIMIT_BYTES", hide = true)]
    pub output_limit_bytes: Option<u64>,
    #[arg(long, env = "MUSTER_OUTPUT_QUOTA_BYTES", hide = true)]
    pub output_quota_bytes: Option<u64>,
    #[arg(long, env = "MUSTER_WS_RETRY_MS", hide = true)]
    pub websocket_retry_ms: Option<u64>,
}

/// The file of settings.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    server_url: Option<String>,
    state_dir: Option<PathBuf>,
    api_key_file: Option<PathBuf>,
    insecure: Option<bool>,
    ca_file: Option<PathBuf>,
    http_fallback: Option<String>,
    http_poll_interval: Option<u64>,
    max_executions: Option<u32>,
    output_limit_bytes: Option<u64>,
    output_quota_bytes: Option<u64>,
}

/// When HTTP takes the place of the WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    Allowed,
    Never,
    /// No WebSocket is tried.
    Only,
}

/// Everything settled and checked.
#[derive(Debug, Clone)]
pub struct Config {
    pub endpoint: Endpoint,
    /// What stands between, by `HTTPS_PROXY` and the like.
    pub proxy: Option<Proxy>,
    /// Trusted beside the host's store.
    pub authorities: Authorities,
    pub state_dir: PathBuf,
    pub api_key: SecretString,
    pub fallback: Fallback,
    /// Longest wait of one long poll.
    pub poll_wait: Duration,
    pub max_executions: u32,
    /// The version that the server wants is not looked at at the start.
    pub skip_update: bool,
    /// Output kept of one execution.
    pub output_limit_bytes: u64,
    /// Output kept of all executions together.
    pub output_quota_bytes: u64,
    /// First wait before the WebSocket is tried again while on HTTP; it grows from there.
    pub websocket_retry: Duration,
}

/// Why the agent can't work as configured. The text says what to do, behind its last semicolon.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "no agent key; set MUSTER_API_KEY, or put the key into a file and name it with --api-key-file or MUSTER_API_KEY_FILE"
    )]
    NoKey,
    #[error("no server; set MUSTER_SERVER_URL or --server-url, such as wss://muster.example.com")]
    NoServer,
    #[error("the agent key holds characters that no key has; copy it again")]
    InvalidKey,
    #[error("the {what} {} can't be read: {source}; check that it is there and who may read it", path.display())]
    File {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("settings file {}: {message}; correct it there", path.display())]
    Settings { path: PathBuf, message: String },
    #[error("{0}")]
    Endpoint(#[from] EndpointError),
    #[error("{0}")]
    Proxy(#[from] ProxyError),
    #[error("{0}")]
    Authorities(#[from] AuthoritiesError),
    #[error("{name} is `{value}`; use {allowed}")]
    Value { name: &'static str, value: String, allowed: &'static str },
    #[error("no home directory to keep state in; set MUSTER_STATE_DIR or --state-dir")]
    NoHome,
}

impl ConfigError {
    /// What is wrong, and what to do, apart.
    pub fn message_and_hint(&self) -> (String, String) {
        let text = self.to_string();
        let (what, hint) = text.rsplit_once("; ").unwrap_or((&text, "correct the settings"));
        (what.to_owned(), hint.to_owned())
    }
}

impl Config {
    /// The host's bounds on output.
    pub fn output_limits(&self) -> OutputLimits {
        OutputLimits { limit_bytes: self.output_limit_bytes, quota_bytes: self.output_quota_bytes }
    }

    /// Puts flags, environment, files and defaults together.
    ///
    /// # Errors
    /// [`ConfigError`] with a sentence for the person who configures.
    pub fn load(args: RunArgs) -> Result<Self, ConfigError> {
        let file = read_settings_files(&args.config)?;
        let url = args.server_url.or(file.server_url).filter(|url| !url.is_empty());
        let insecure = args.insecure
            || args.insecure_env.as_deref().is_some_and(is_yes)
            || file.insecure.unwrap_or_default();
        let endpoint = Endpoint::parse(&url.ok_or(ConfigError::NoServer)?, insecure)?;
        let proxy = Proxy::from_environment(&endpoint)?;
        let ca_file = args.ca_file.or(file.ca_file).filter(|path| !path.as_os_str().is_empty());
        let fallback = args.http_fallback.or(file.http_fallback);
        let max_executions =
            args.max_executions.or(file.max_executions).unwrap_or(DEFAULT_MAX_EXECUTIONS);
        if !(1..=MAX_MAX_EXECUTIONS).contains(&max_executions) {
            return Err(ConfigError::Value {
                name: "MUSTER_MAX_EXECUTIONS",
                value: max_executions.to_string(),
                allowed: "1 to 1024",
            });
        }
        let poll_seconds = args.http_poll_interval.or(file.http_poll_interval).unwrap_or(25);
        Ok(Self {
            endpoint,
            proxy,
            authorities: ca_file.as_deref().map(Authorities::read).transpose()?.unwrap_or_default(),
            api_key: api_key(args.api_key_file.or(file.api_key_file))?,
            state_dir: match args.state_dir.or(file.state_dir) {
                Some(path) => path,
                None => default_state_dir()?,
            },
            fallback: fallback.as_deref().map_or(Ok(Fallback::Allowed), parse_fallback)?,
            poll_wait: Duration::from_secs(poll_seconds)
                .clamp(Duration::from_secs(1), Duration::from_millis(MAX_POLL_WAIT_MS)),
            max_executions,
            skip_update: args.skip_update,
            output_limit_bytes: args
                .output_limit_bytes
                .or(file.output_limit_bytes)
                .unwrap_or(1024 * 1024 * 1024),
            output_quota_bytes: args
                .output_quota_bytes
                .or(file.output_quota_bytes)
                .unwrap_or(5 * 1024 * 1024 * 1024),
            websocket_retry: Duration::from_millis(args.websocket_retry_ms.unwrap_or(60_000)),
        })
    }
}

fn read_settings_files(paths: &[PathBuf]) -> Result<ConfigFile, ConfigError> {
    let mut table = toml::Table::new();
    for path in paths {
        let text = read_text("settings file", path)?;
        let settings = |error: toml::de::Error| ConfigError::Settings {
            path: path.clone(),
            message: error.to_string(),
        };
        let read: toml::Table = toml::from_str(&text).map_err(settings)?;
        // Checked file by file, so that a mistake is blamed on the file that holds it.
        read.clone().try_into::<ConfigFile>().map_err(settings)?;
        table.extend(read);
    }
    table.try_into().map_err(|error: toml::de::Error| ConfigError::Settings {
        path: paths.last().cloned().unwrap_or_default(),
        message: error.to_string(),
    })
}

fn api_key(file: Option<PathBuf>) -> Result<SecretString, ConfigError> {
    let text = match std::env::var("MUSTER_API_KEY") {
        Ok(text) if !text.trim().is_empty() => text,
        _ => read_text("agent key file", &file.ok_or(ConfigError::NoKey)?)?,
    };
    let key = text.trim();
    if key.is_empty() {
        return Err(ConfigError::NoKey);
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ConfigError::InvalidKey);
    }
    Ok(SecretString::from(key))
}

fn read_text(what: &'static str, path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|source| ConfigError::File {
        what,
        path: path.to_owned(),
        source,
    })
}

fn parse_fallback(text: &str) -> Result<Fallback, ConfigError> {
    match text.to_ascii_lowercase().as_str() {
        "" | "1" | "true" | "yes" => Ok(Fallback::Allowed),
        "0" | "false" | "no" => Ok(Fallback::Never),
        "only" => Ok(Fallback::Only),
        _ => Err(ConfigError::Value {
            name: "MUSTER_HTTP_FALLBACK",
            value: text.to_owned(),
            allowed: "1, 0 or only",
        }),
    }
}

fn is_yes(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "1" | "true" | "yes")
}

/// The state directory that these options mean, whatever else they lack.
///
/// # Errors
/// [`ConfigError`] with a sentence for the person who configures.
pub fn state_dir(args: &RunArgs) -> Result<PathBuf, ConfigError> {
    let configured = match &args.state_dir {
        Some(path) => Some(path.clone()),
        None => read_settings_files(&args.config)?.state_dir,
    };
    configured.map_or_else(default_state_dir, Ok)
}

/// Where an agent of this user keeps its state, unless it is told otherwise.
///
/// # Errors
/// [`ConfigError::NoHome`] without root and without a home.
pub fn default_state_dir() -> Result<PathBuf, ConfigError> {
    if platform::is_root() {
        return Ok(PathBuf::from("/var/lib/muster"));
    }
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    home.map(|home| Path::new(&home).join(".muster")).ok_or(ConfigError::NoHome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_settings_file_wins_and_unknown_settings_are_refused_by_name() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a"), "max_executions = 3\nserver_url = \"wss://a\"").expect("written");
        fs::write(path("b"), "max_executions = 4").expect("written");
        fs::write(path("c"), "max_job = 4").expect("written");
        let read = read_settings_files(&[path("a"), path("b")]).expect("both fit");
        assert_eq!((read.max_executions, read.server_url.as_deref()), (Some(4), Some("wss://a")));
        let error = read_settings_files(&[path("c")]).expect_err("a typing error").to_string();
        assert!(error.contains("max_job"), "{error}");
    }

    #[test]
    fn fallback_words_are_read() {
        assert!(matches!(parse_fallback("1"), Ok(Fallback::Allowed)));
        assert!(matches!(parse_fallback("0"), Ok(Fallback::Never)));
        assert!(matches!(parse_fallback("only"), Ok(Fallback::Only)));
        assert!(parse_fallback("perhaps").is_err());
    }
}
