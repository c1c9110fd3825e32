//! What an operator sets: flags over environment over file over defaults.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use muster_protocol::limits::{
    DEFAULT_HEARTBEAT_INTERVAL_MS, DEFAULT_LOST_AFTER_MS, MAX_OUTPUT_BYTES,
};
use serde::Deserialize;

use crate::adapters::webhook_client::WebhookLimits;
use crate::domain::integrations::webhook::Reach;
use crate::domain::origin::{InvalidOrigin, Origin};
use crate::listener::{Certificate, Limits, TlsFiles};
use crate::services::Settings;

/// Compacted output that is kept unless set otherwise: 100 GiB.
const DEFAULT_OUTPUT_QUOTA_BYTES: u64 = 100 * 1024 * 1024 * 1024;

/// Settings of `serve`, each a flag, an environment variable and a line of the file.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigSources {
    /// Optional TOML file with any of the settings below, spelt with underscores
    #[arg(long, env = "MUSTER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub settings: PartialConfig,
}

/// Settings that a source may give or leave to the next.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartialConfig {
    /// Address and port to listen on; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, env = "MUSTER_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// PEM file: the server's certificate, then those it was issued by; every connection is TLS then
    #[arg(long, env = "MUSTER_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file: the certificate's private key, without a passphrase
    #[arg(long, env = "MUSTER_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Connections at once, agents among them [default: 65536, or what the limit of open files leaves]
    #[arg(long, env = "MUSTER_MAX_CONNECTIONS", value_name = "NUMBER")]
    pub max_connections: Option<usize>,
    /// Folder for the database, the first key and the lock [default: ./muster-data]
    #[arg(long, env = "MUSTER_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// sqlite:PATH or postgres://USER@HOST/DATABASE [default: sqlite in the data directory]
    #[arg(long, env = "MUSTER_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// File with the password of a PostgreSQL database, which then need not stand in its URL
    #[arg(long, env = "MUSTER_DATABASE_PASSWORD_FILE", value_name = "FILE")]
    pub database_password_file: Option<PathBuf>,
    /// File with the key that secrets are sealed with: 32 random bytes in base64
    /// [default: master.key in the data directory, made at the first start]
    #[arg(long, env = "MUSTER_MASTER_KEY_FILE", value_name = "FILE")]
    pub master_key_file: Option<PathBuf>,
    /// What is logged: error, warn, info, debug, or a filter per module [default: info]
    #[arg(long, env = "MUSTER_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// Between two heartbeats of an agent, in milliseconds [default: 30000]
    #[arg(long, env = "MUSTER_HEARTBEAT_INTERVAL_MS", value_name = "MS")]
    pub heartbeat_interval_ms: Option<u64>,
    /// How long an agent may be away with a command before it is lost [default: 86400000]
    #[arg(long, env = "MUSTER_LOST_AFTER_MS", value_name = "MS")]
    pub lost_after_ms: Option<u64>,
    /// Days that ended commands and their output are kept [default: 90]
    #[arg(long, env = "MUSTER_HISTORY_DAYS", value_name = "DAYS")]
    pub history_days: Option<u64>,
    /// Output that is kept of one execution, in bytes: what it prints beyond is dropped on its host,
    /// and marked [default: 1073741824, which is also the most]
    #[arg(long, env = "MUSTER_MAX_OUTPUT_BYTES", value_name = "BYTES")]
    pub max_output_bytes: Option<u64>,
    /// Compacted output that is kept of all executions, in bytes on disk; beyond it the oldest is
    /// dropped [default: 107374182400]
    #[arg(long, env = "MUSTER_OUTPUT_QUOTA_BYTES", value_name = "BYTES")]
    pub output_quota_bytes: Option<u64>,
    /// The address by which people and hosts reach this server, for the lines that they paste
    /// [default: what each request names]
    #[arg(long, env = "MUSTER_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// Folder with the programs for hosts, as <platform>/<program>; this server's own platform is
    /// also looked for beside its program [default: install in the data directory]
    #[arg(long, env = "MUSTER_INSTALL_DIR", value_name = "DIR")]
    pub install_dir: Option<PathBuf>,
    /// Over how long agents are told to come back after a shutdown [default: 5000]
    #[arg(long, env = "MUSTER_DRAIN_SPREAD_MS", value_name = "MS")]
    pub drain_spread_ms: Option<u64>,
    /// Let webhooks go to private networks and this machine too, by https or http
    #[arg(long, env = "MUSTER_ALLOW_PRIVATE_WEBHOOKS", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub allow_private_webhooks: Option<bool>,
    /// How long a receiver of a webhook may take to answer [default: 15000]
    #[arg(long, env = "MUSTER_WEBHOOK_TIMEOUT_MS", value_name = "MS")]
    pub webhook_timeout_ms: Option<u64>,
    /// PEM file: authorities that receivers of webhooks may be certified by, beside those that this
    /// machine trusts
    #[arg(long, env = "MUSTER_WEBHOOK_CA_FILE", value_name = "FILE")]
    pub webhook_ca_file: Option<PathBuf>,
    /// Bounds the first delay between two attempts to send a webhook
    #[arg(long, env = "MUSTER_WEBHOOK_FIRST_RETRY_MS", value_name = "MS", hide = true)]
    pub webhook_first_retry_ms: Option<u64>,
    /// How long a handshake of TLS may take
    #[arg(long, env = "MUSTER_HANDSHAKE_TIMEOUT_MS", value_name = "MS", hide = true)]
    pub handshake_timeout_ms: Option<u64>,
    /// How long a connection may take for its first request's head
    #[arg(long, env = "MUSTER_REQUEST_HEAD_TIMEOUT_MS", value_name = "MS", hide = true)]
    pub request_head_timeout_ms: Option<u64>,
    /// How long an answer may wait for its reader
    #[arg(long, env = "MUSTER_ANSWER_TIMEOUT_MS", value_name = "MS", hide = true)]
    pub answer_timeout_ms: Option<u64>,
    /// Between two looks at the files of the certificate
    #[arg(long, env = "MUSTER_TLS_CHECK_MS", value_name = "MS", hide = true)]
    pub tls_check_ms: Option<u64>,
}

/// Settings that hold.
#[derive(Debug, Clone)]
pub struct Config {
    pub listen: String,
    pub data_dir: PathBuf,
    pub database_url: String,
    /// Absent: the URL has the password, or there is none.
    pub database_password_file: Option<PathBuf>,
    pub master_key_file: Option<PathBuf>,
    pub log: String,
    pub drain_spread_ms: u64,
    pub public_url: Option<Origin>,
    pub install_dir: PathBuf,
    pub settings: Settings,
    pub webhooks: WebhookLimits,
    /// Authorities of webhooks' receivers, beside the machine's.
    pub webhook_ca_file: Option<PathBuf>,
    /// Absent: connections are plain.
    pub tls: Option<TlsFiles>,
    pub tls_check: Duration,
    pub handshake_timeout: Duration,
    pub request_head_timeout: Duration,
    pub answer_timeout: Duration,
    /// As set; what holds also depends on the limit of open files.
    pub max_connections: Option<usize>,
}

/// Why settings don't hold.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("read the configuration file {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("read the configuration file {}: {source}", path.display())]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
    #[error("use the setting `public_url`: {0}")]
    PublicUrl(#[source] InvalidOrigin),
    #[error("use the setting `{name}`: {problem}")]
    Value { name: &'static str, problem: &'static str },
}

impl ConfigSources {
    /// Puts the sources together.
    ///
    /// # Errors
    /// [`ConfigError`] names the file or the setting.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let file = match &self.config {
            Some(path) => read_file(path)?,
            None => PartialConfig::default(),
        };
        let given = self.settings.or(file);
        let data_dir = given.data_dir.unwrap_or_else(|| PathBuf::from("muster-data"));
        let database_url = given
            .database_url
            // As compose files leave it.
            .filter(|url| !url.is_empty())
            .unwrap_or_else(|| format!("sqlite:{}", data_dir.join("muster.db").display()));
        let settings = Settings {
            heartbeat_interval_ms: given
                .heartbeat_interval_ms
                .unwrap_or(DEFAULT_HEARTBEAT_INTERVAL_MS),
            lost_after_ms: given.lost_after_ms.unwrap_or(DEFAULT_LOST_AFTER_MS),
            webhook_first_retry: Duration::from_millis(
                given.webhook_first_retry_ms.unwrap_or(10_000),
            ),
            history_retention_ms: given.history_days.unwrap_or(90).saturating_mul(24 * 3_600_000),
            max_output_bytes: given.max_output_bytes.unwrap_or(MAX_OUTPUT_BYTES),
            output_quota_bytes: given.output_quota_bytes.unwrap_or(DEFAULT_OUTPUT_QUOTA_BYTES),
        };
        let tls = match (given.tls_cert, given.tls_key) {
            (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
            (None, None) => None,
            (Some(_), None) => return Err(refused("tls_key", "tls_cert is set, which needs it")),
            (None, Some(_)) => return Err(refused("tls_cert", "tls_key is set, which needs it")),
        };
        if given.max_connections == Some(0) {
            return Err(refused("max_connections", "it is too small"));
        }
        let or = |ms: Option<u64>, default| ms.map_or(default, Duration::from_millis);
        check("heartbeat_interval_ms", settings.heartbeat_interval_ms, 100..=3_600_000)?;
        check("lost_after_ms", settings.lost_after_ms, 100..=30 * 24 * 3_600_000)?;
        check("max_output_bytes", settings.max_output_bytes, 1..=MAX_OUTPUT_BYTES)?;
        check("output_quota_bytes", settings.output_quota_bytes, 0..=i64::MAX.cast_unsigned())?;
        check("history_days", settings.history_retention_ms / (24 * 3_600_000), 1..=3_650)?;
        let webhook_timeout_ms = given.webhook_timeout_ms.unwrap_or(15_000);
        check("webhook_timeout_ms", webhook_timeout_ms, 100..=60_000)?;
        let is_private_allowed = given.allow_private_webhooks.unwrap_or(false);
        let webhooks = WebhookLimits {
            reach: if is_private_allowed { Reach::Private } else { Reach::Public },
            timeout: Duration::from_millis(webhook_timeout_ms),
        };
        let public_url = match given.public_url.filter(|url| !url.is_empty()) {
            Some(url) => Some(Origin::parse(&url).map_err(ConfigError::PublicUrl)?),
            None => None,
        };
        Ok(Config {
            install_dir: given.install_dir.unwrap_or_else(|| data_dir.join("install")),
            public_url,
            listen: given.listen.unwrap_or_else(|| "127.0.0.1:8080".into()),
            data_dir,
            database_url,
            database_password_file: given.database_password_file,
            master_key_file: given.master_key_file,
            log: given.log.unwrap_or_else(|| "info".into()),
            drain_spread_ms: given.drain_spread_ms.unwrap_or(5_000),
            settings,
            webhooks,
            webhook_ca_file: given.webhook_ca_file,
            tls,
            tls_check: or(given.tls_check_ms, Certificate::CHECK_INTERVAL),
            handshake_timeout: or(given.handshake_timeout_ms, Limits::HANDSHAKE),
            request_head_timeout: or(given.request_head_timeout_ms, Limits::REQUEST_HEAD),
            answer_timeout: or(given.answer_timeout_ms, Limits::ANSWER),
            max_connections: given.max_connections,
        })
    }
}

impl PartialConfig {
    fn or(self, next: Self) -> Self {
        Self {
            listen: self.listen.or(next.listen),
            data_dir: self.data_dir.or(next.data_dir),
            database_url: self.database_url.or(next.database_url),
            database_password_file: self.database_password_file.or(next.database_password_file),
            master_key_file: self.master_key_file.or(next.master_key_file),
            log: self.log.or(next.log),
            heartbeat_interval_ms: self.heartbeat_interval_ms.or(next.heartbeat_interval_ms),
            lost_after_ms: self.lost_after_ms.or(next.lost_after_ms),
            history_days: self.history_days.or(next.history_days),
            max_output_bytes: self.max_output_bytes.or(next.max_output_bytes),
            output_quota_bytes: self.output_quota_bytes.or(next.output_quota_bytes),
            public_url: self.public_url.or(next.public_url),
            install_dir: self.install_dir.or(next.install_dir),
            drain_spread_ms: self.drain_spread_ms.or(next.drain_spread_ms),
            allow_private_webhooks: self.allow_private_webhooks.or(next.allow_private_webhooks),
            webhook_timeout_ms: self.webhook_timeout_ms.or(next.webhook_timeout_ms),
            webhook_ca_file: self.webhook_ca_file.or(next.webhook_ca_file),
            webhook_first_retry_ms: self.webhook_first_retry_ms.or(next.webhook_first_retry_ms),
            tls_cert: self.tls_cert.or(next.tls_cert),
            tls_key: self.tls_key.or(next.tls_key),
            max_connections: self.max_connections.or(next.max_connections),
            handshake_timeout_ms: self.handshake_timeout_ms.or(next.handshake_timeout_ms),
            request_head_timeout_ms: self.request_head_timeout_ms.or(next.request_head_timeout_ms),
            answer_timeout_ms: self.answer_timeout_ms.or(next.answer_timeout_ms),
            tls_check_ms: self.tls_check_ms.or(next.tls_check_ms),
        }
    }
}

fn read_file(path: &Path) -> Result<PartialConfig, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text)
        .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })
}

fn check(
    name: &'static str,
    value: u64,
    allowed: std::ops::RangeInclusive<u64>,
) -> Result<(), ConfigError> {
    let problem = if value < *allowed.start() { "it is too small" } else { "it is too large" };
    if allowed.contains(&value) { Ok(()) } else { Err(ConfigError::Value { name, problem }) }
}

fn refused(name: &'static str, problem: &'static str) -> ConfigError {
    ConfigError::Value { name, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("muster.toml");
        std::fs::write(&path, text).expect("a file");
        (folder, path)
    }

    #[test]
    fn a_flag_stands_over_the_file_and_the_file_over_the_default() {
        let (_folder, path) = file("listen = \"127.0.0.1:1\"\nlog = \"debug\"");
        let settings =
            PartialConfig { listen: Some("127.0.0.1:2".into()), ..PartialConfig::default() };
        let config = ConfigSources { config: Some(path), settings }.resolve().expect("valid");
        assert_eq!((config.listen.as_str(), config.log.as_str()), ("127.0.0.1:2", "debug"));
        assert_eq!(config.settings.heartbeat_interval_ms, 30_000);
    }

    #[test]
    fn half_a_pair_of_certificate_and_key_is_refused_by_the_name_of_what_is_missing() {
        let (_folder, path) = file("tls_cert = \"tls.crt\"");
        let resolve = |settings| ConfigSources { config: Some(path.clone()), settings }.resolve();
        let error = resolve(PartialConfig::default()).expect_err("half a pair");
        assert!(error.to_string().contains("`tls_key`"), "{error}");
        let key = PartialConfig { tls_key: Some("tls.key".into()), ..PartialConfig::default() };
        let config = resolve(key).expect("a pair");
        let pair = TlsFiles { certificate: "tls.crt".into(), key: "tls.key".into() };
        assert_eq!(config.tls, Some(pair));
    }

    #[test]
    fn an_unknown_setting_in_the_file_is_refused_by_name() {
        let (_folder, path) = file("lisen = \"127.0.0.1:1\"");
        let error = ConfigSources { config: Some(path), settings: PartialConfig::default() }
            .resolve()
            .expect_err("unknown");
        assert!(error.to_string().contains("lisen"), "{error}");
    }
}
