//! The agent's configuration: flags take precedence over environment variables, settings files and
//! defaults, in this order.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use muster_protocol::limits::{DEFAULT_MAX_EXECUTIONS, MAX_MAX_EXECUTIONS, MAX_POLL_WAIT_MS};
use muster_protocol::program::log_format::LogFormat;
use secrecy::SecretString;
use serde::Deserialize;

use crate::commands::execute::OutputLimits;
use crate::link::endpoint::{Endpoint, EndpointError};
use crate::link::{Authorities, AuthoritiesError, Proxy, ProxyError};
use crate::platform;

/// Stored output of one execution, if nothing else is configured.
pub const DEFAULT_OUTPUT_LIMIT_BYTES: u64 = 1024 * 1024 * 1024;
/// Stored output of all executions, if nothing else is configured.
pub const DEFAULT_OUTPUT_QUOTA_BYTES: u64 = 5 * 1024 * 1024 * 1024;

/// Options of `muster-agent run`. There is no option for the key, because command lines are visible
/// to every user of a host.
#[derive(Debug, Clone, Default, Args)]
pub struct RunArgs {
    /// Address of the server: ws://, wss://, http:// or https://.
    #[arg(long, env = "MUSTER_SERVER_URL")]
    pub server_url: Option<String>,
    /// Directory for the agent's state [default: /var/lib/muster, ~/.muster without root].
    #[arg(long, env = "MUSTER_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// File that contains only the agent key; MUSTER_API_KEY takes precedence.
    #[arg(long, env = "MUSTER_API_KEY_FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Settings file in TOML; may be repeated, later files take precedence.
    #[arg(long)]
    pub config: Vec<PathBuf>,
    /// Allow ws:// and http:// to other hosts; the key is then sent unencrypted.
    #[arg(long)]
    pub insecure: bool,
    /// PEM file of certificate authorities to trust in addition to the host's store.
    #[arg(long, env = "MUSTER_CA_FILE")]
    pub ca_file: Option<PathBuf>,
    /// Use of HTTP when WebSockets fail: 1 allowed, 0 never, only = no WebSocket at all [default:
    /// 1].
    #[arg(long, env = "MUSTER_HTTP_FALLBACK")]
    pub http_fallback: Option<String>,
    /// Longest wait of one HTTP request, in seconds [default: 25].
    #[arg(long, env = "MUSTER_HTTP_POLL_INTERVAL")]
    pub http_poll_interval: Option<u64>,
    /// Maximum number of simultaneous executions [default: 16].
    #[arg(long, env = "MUSTER_MAX_EXECUTIONS")]
    pub max_executions: Option<u32>,
    /// Name of the agent on the server when it enrols [default: the hostname].
    #[arg(long, env = "MUSTER_AGENT_NAME")]
    pub name: Option<String>,
    /// Tag of the agent when it enrols; repeatable. The agent key must trust its holders.
    #[arg(long = "tag", env = "MUSTER_AGENT_TAGS", value_name = "TAG", value_delimiter = ',')]
    pub tags: Vec<String>,
    /// Do not apply the version that the server desires when the agent starts; `update` commands
    /// still work.
    #[arg(long, env = "MUSTER_SKIP_UPDATE", value_parser = clap::builder::FalseyValueParser::new())]
    pub skip_update: bool,
    /// Format of log lines: `text`, or `json` with one object for each line [default: text].
    #[arg(long, env = "MUSTER_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    #[arg(long, env = "MUSTER_INSECURE", hide = true)]
    pub insecure_env: Option<String>,
    #[arg(long, env = "MUSTER_OUTPUT_LIMIT_BYTES", hide = true)]
    pub output_limit_bytes: Option<u64>,
    #[arg(long, env = "MUSTER_OUTPUT_QUOTA_BYTES", hide = true)]
    pub output_quota_bytes: Option<u64>,
    #[arg(long, env = "MUSTER_WS_RETRY_MS", hide = true)]
    pub websocket_retry_ms: Option<u64>,
}

/// The content of a settings file.
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

/// When HTTP replaces the WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    Allowed,
    Never,
    /// HTTP only; no WebSocket is tried.
    Only,
}

/// The configuration, complete and validated.
#[derive(Debug, Clone)]
pub struct Config {
    pub endpoint: Endpoint,
    /// The proxy that `HTTPS_PROXY` and the related variables name.
    pub proxy: Option<Proxy>,
    /// Trusted in addition to the host's store.
    pub authorities: Authorities,
    pub state_dir: PathBuf,
    pub api_key: SecretString,
    pub fallback: Fallback,
    /// Longest wait of one long poll.
    pub poll_wait: Duration,
    pub max_executions: u32,
    pub chosen: ChosenFacts,
    /// Do not apply the version that the server desires when the agent starts.
    pub skip_update: bool,
    /// Limit on the stored output of one execution.
    pub output_limit_bytes: u64,
    /// Limit on the stored output of all executions together.
    pub output_quota_bytes: u64,
    /// First delay before the WebSocket is tried again while HTTP is in use; later delays are
    /// longer.
    pub websocket_retry: Duration,
}

/// What the host's owner chose for the enrolment.
#[derive(Debug, Clone, Default)]
pub struct ChosenFacts {
    pub name: Option<String>,
    pub tags: Vec<String>,
}

/// Why the agent can't work with this configuration. The text after the last semicolon says what to
/// do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "no agent key is configured; set MUSTER_API_KEY, or store the key in a file and set --api-key-file or MUSTER_API_KEY_FILE"
    )]
    NoKey,
    #[error(
        "no server is configured; set MUSTER_SERVER_URL or --server-url, for example to wss://muster.example.com"
    )]
    NoServer,
    #[error("the agent key contains invalid characters; copy it again")]
    InvalidKey,
    #[error("failed to read the {what} {}: {source}; check that the file exists and that the agent may read it", path.display())]
    File {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("invalid settings file {}: {message}; correct the file", path.display())]
    Settings { path: PathBuf, message: String },
    #[error("{0}")]
    Endpoint(#[from] EndpointError),
    #[error("{0}")]
    Proxy(#[from] ProxyError),
    #[error("{0}")]
    Authorities(#[from] AuthoritiesError),
    #[error("invalid value `{value}` for {name}; use {allowed}")]
    Value { name: &'static str, value: String, allowed: &'static str },
    #[error("no home directory for the agent's state; set MUSTER_STATE_DIR or --state-dir")]
    NoHome,
}

impl ConfigError {
    /// The problem and what to do about it, as separate texts.
    pub fn message_and_hint(&self) -> (String, String) {
        let text = self.to_string();
        let (what, hint) = text.rsplit_once("; ").unwrap_or((&text, "correct the settings"));
        (what.to_owned(), hint.to_owned())
    }
}

impl Config {
    /// The host's limits on stored output.
    pub fn output_limits(&self) -> OutputLimits {
        OutputLimits { limit_bytes: self.output_limit_bytes, quota_bytes: self.output_quota_bytes }
    }

    /// Combines flags, environment variables, files and defaults.
    ///
    /// # Errors
    /// [`ConfigError`] with a message for the person who configures the agent.
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
        let state_dir = match args.state_dir.or(file.state_dir) {
            Some(path) => path,
            None => default_state_dir()?,
        };
        let authorities = ca_file.as_deref().map(Authorities::read).transpose()?;
        let poll_seconds = args.http_poll_interval.or(file.http_poll_interval).unwrap_or(25);
        Ok(Self {
            endpoint,
            proxy,
            authorities: authorities.unwrap_or_default().kept_in(&state_dir),
            api_key: api_key(args.api_key_file.or(file.api_key_file))?,
            state_dir,
            fallback: fallback.as_deref().map_or(Ok(Fallback::Allowed), parse_fallback)?,
            poll_wait: Duration::from_secs(poll_seconds)
                .clamp(Duration::from_secs(1), Duration::from_millis(MAX_POLL_WAIT_MS)),
            max_executions,
            chosen: ChosenFacts {
                name: args.name.filter(|name| !name.is_empty()),
                tags: args.tags.into_iter().filter(|tag| !tag.is_empty()).collect(),
            },
            skip_update: args.skip_update,
            output_limit_bytes: args
                .output_limit_bytes
                .or(file.output_limit_bytes)
                .unwrap_or(DEFAULT_OUTPUT_LIMIT_BYTES),
            output_quota_bytes: args
                .output_quota_bytes
                .or(file.output_quota_bytes)
                .unwrap_or(DEFAULT_OUTPUT_QUOTA_BYTES),
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
        // Each file is checked on its own, so that an error names the file that contains it.
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

/// The state directory that these options name, even if other options are missing.
///
/// # Errors
/// [`ConfigError`] with a message for the person who configures the agent.
pub fn state_dir(args: &RunArgs) -> Result<PathBuf, ConfigError> {
    let configured = match &args.state_dir {
        Some(path) => Some(path.clone()),
        None => read_settings_files(&args.config)?.state_dir,
    };
    configured.map_or_else(default_state_dir, Ok)
}

/// The default state directory of this user.
///
/// # Errors
/// [`ConfigError::NoHome`] without root and without a home directory.
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
    fn a_later_settings_file_takes_precedence_and_unknown_settings_are_rejected_by_name() {
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
    fn the_values_of_http_fallback_are_parsed() {
        assert!(matches!(parse_fallback("1"), Ok(Fallback::Allowed)));
        assert!(matches!(parse_fallback("0"), Ok(Fallback::Never)));
        assert!(matches!(parse_fallback("only"), Ok(Fallback::Only)));
        assert!(parse_fallback("perhaps").is_err());
    }
}
