//! Settings of the server. A flag overrides an environment variable, which overrides the
//! configuration file, which overrides the default.

mod error;
mod mail;
mod tls;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use muster_protocol::limits::{
    DEFAULT_HEARTBEAT_INTERVAL_MS, DEFAULT_LOST_AFTER_MS, MAX_OUTPUT_BYTES,
};
use muster_protocol::program::log_format::LogFormat;
use serde::Deserialize;

pub use self::error::ConfigError;
pub use self::mail::MailConfig;
pub use self::tls::TlsConfig;
use crate::adapters::webhook_client::WebhookLimits;
use crate::domain::access::people::oidc_provider::{OidcProvider, OidcProviderSettings};
use crate::domain::origin::Origin;
use crate::domain::outbound::OutboundReach;
use crate::domain::source::TrustedProxies;
use crate::listener::{Certificate, Limits};
use crate::services::Settings;

/// Default limit of compacted output: 100 GiB.
const DEFAULT_OUTPUT_QUOTA_BYTES: u64 = 100 * 1024 * 1024 * 1024;

/// Sources of the settings of `serve`. Each setting has a flag, an environment variable and a key
/// in the file.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigSources {
    /// TOML file with settings. Keys are the long flags below with underscores, such as data_dir
    #[arg(long, env = "MUSTER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub settings: PartialConfig,
}

/// The settings of one source. A missing setting is taken from the next source.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartialConfig {
    /// Address and port to listen on; port 0 selects a free port [default: 127.0.0.1:8080]
    #[arg(long, env = "MUSTER_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// `auto`: TLS with a certificate that the server issues and renews itself. `off`: no TLS [default: off,
    /// unless --tls-cert is set]
    #[arg(long, env = "MUSTER_TLS", value_name = "MODE")]
    pub tls: Option<String>,
    /// Names and addresses by which hosts reach this server, separated by commas, for --tls auto [default: the
    /// name of this machine]
    #[arg(long, env = "MUSTER_TLS_NAMES", value_name = "NAME", value_delimiter = ',')]
    pub tls_names: Option<Vec<String>>,
    /// PEM file with the server's certificate, followed by its intermediate certificates. Enables
    /// TLS for all connections; needs --tls-key
    #[arg(long, env = "MUSTER_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the certificate's private key, without a passphrase; needs --tls-cert
    #[arg(long, env = "MUSTER_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Clients that must show a certificate of this server: `off`, `agents`, or `all` for agents, people and
    /// programs. Needs TLS that ends at this server [default: off]
    #[arg(long, env = "MUSTER_REQUIRE_CLIENT_CERT", value_name = "WHO")]
    pub require_client_cert: Option<String>,
    /// Maximum number of open connections, including those of agents [default: 65536, or less if
    /// the limit of open files is lower]
    #[arg(long, env = "MUSTER_MAX_CONNECTIONS", value_name = "NUMBER")]
    pub max_connections: Option<usize>,
    /// Maximum number of open connections from one IPv4 address or IPv6 /64 network [default: three
    /// quarters of --max-connections]
    #[arg(long, env = "MUSTER_MAX_CONNECTIONS_PER_SOURCE", value_name = "NUMBER")]
    pub max_connections_per_source: Option<usize>,
    /// Addresses or networks of reverse proxies, separated by commas. For connections from these, the
    /// client's address is the one that they append to X-Forwarded-For
    #[arg(long, env = "MUSTER_TRUSTED_PROXY", value_name = "NETWORK", value_delimiter = ',')]
    pub trusted_proxy: Option<Vec<String>>,
    /// Directory for the database, compacted output, releases and keys [default: ./muster-data]
    #[arg(long, env = "MUSTER_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Database: sqlite:PATH or postgres://USER@HOST/DATABASE [default: SQLite in the data
    /// directory]
    #[arg(long, env = "MUSTER_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// File with the password of the PostgreSQL database, to keep it out of the URL
    #[arg(long, env = "MUSTER_DATABASE_PASSWORD_FILE", value_name = "FILE")]
    pub database_password_file: Option<PathBuf>,
    /// File with the master key that encrypts secrets in the database: 32 random bytes in base64
    /// [default: master.key in the data directory, created at the first start]
    #[arg(long, env = "MUSTER_MASTER_KEY_FILE", value_name = "FILE")]
    pub master_key_file: Option<PathBuf>,
    /// Log level: error, warn, info or debug, or a filter per module such as muster_server=debug
    /// [default: info]
    #[arg(long, env = "MUSTER_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// Format of log lines: `text`, or `json` with one object for each line [default: text]
    #[arg(long, env = "MUSTER_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Interval between two heartbeats of an agent, in milliseconds [default: 30000]
    #[arg(long, env = "MUSTER_HEARTBEAT_INTERVAL_MS", value_name = "MS")]
    pub heartbeat_interval_ms: Option<u64>,
    /// How long an agent with a running command may be disconnected before the command is lost, in
    /// milliseconds [default: 86400000]
    #[arg(long, env = "MUSTER_LOST_AFTER_MS", value_name = "MS")]
    pub lost_after_ms: Option<u64>,
    /// How long finished commands and their output are kept, in days [default: 90]
    #[arg(long, env = "MUSTER_HISTORY_DAYS", value_name = "DAYS")]
    pub history_days: Option<u64>,
    /// How long entries of the audit log are kept, in days [default: 400]
    #[arg(long, env = "MUSTER_AUDIT_DAYS", value_name = "DAYS")]
    pub audit_days: Option<u64>,
    /// Maximum output of one execution, in bytes. The agent drops output above it and marks the
    /// execution as truncated [default: 1073741824, which is also the maximum]
    #[arg(long, env = "MUSTER_MAX_OUTPUT_BYTES", value_name = "BYTES")]
    pub max_output_bytes: Option<u64>,
    /// Maximum disk space for compacted output of all executions, in bytes. The oldest output is
    /// deleted first [default: 107374182400]
    #[arg(long, env = "MUSTER_OUTPUT_QUOTA_BYTES", value_name = "BYTES")]
    pub output_quota_bytes: Option<u64>,
    /// Pause between two measurements of what history, output and all else take, in milliseconds. Quotas of
    /// tenants count what the last measurement found [default: 300000]
    #[arg(long, env = "MUSTER_STORAGE_MEASURE_EVERY_MS", value_name = "MS")]
    pub storage_measure_every_ms: Option<u64>,
    /// URL at which people and hosts reach this server, for install commands and links [default:
    /// the address of each request]
    #[arg(long, env = "MUSTER_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// Directory with programs for hosts, as PLATFORM/PROGRAM. Programs for this server's own
    /// platform are also searched next to its executable [default: install in the data directory]
    #[arg(long, env = "MUSTER_INSTALL_DIR", value_name = "DIR")]
    pub install_dir: Option<PathBuf>,
    /// Run an agent on this machine beside the server, with scripts of the library allowed. It ends with the
    /// server, and keeps its state in local_agent in the data directory [default: false]
    #[arg(long, env = "MUSTER_LOCAL_AGENT", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub local_agent: Option<bool>,
    /// Directory with muster-supervisor and muster-agent for --local-agent [default: the directory of this
    /// program]
    #[arg(long, env = "MUSTER_LOCAL_AGENT_PROGRAMS", value_name = "DIR")]
    pub local_agent_programs: Option<PathBuf>,
    /// Period over which agents reconnect after a shutdown, in milliseconds, to spread the load
    /// [default: 5000]
    #[arg(long, env = "MUSTER_DRAIN_SPREAD_MS", value_name = "MS")]
    pub drain_spread_ms: Option<u64>,
    /// Allow webhooks to private networks and to this machine, by http or https [default: false]
    #[arg(long, env = "MUSTER_ALLOW_PRIVATE_WEBHOOKS", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub allow_private_webhooks: Option<bool>,
    /// Timeout of one webhook request, in milliseconds [default: 15000]
    #[arg(long, env = "MUSTER_WEBHOOK_TIMEOUT_MS", value_name = "MS")]
    pub webhook_timeout_ms: Option<u64>,
    /// PEM file with certificate authorities to trust for webhooks, in addition to those of this
    /// machine
    #[arg(long, env = "MUSTER_WEBHOOK_CA_FILE", value_name = "FILE")]
    pub webhook_ca_file: Option<PathBuf>,
    /// Who may create a tenant and an account: `open` for everybody, `closed` for the operator alone
    /// [default: closed]
    #[arg(long, env = "MUSTER_REGISTRATION", value_name = "WHO")]
    pub registration: Option<String>,
    /// Mail server: smtps://HOST for TLS, smtp://HOST for STARTTLS, smtp+plain://HOST without encryption,
    /// each with :PORT if it is another one than 465, 587 or 25. The password of --smtp-user is read from a
    /// file or from MUSTER_SMTP_PASSWORD [default: the server sends no mail]
    #[arg(long, env = "MUSTER_SMTP_URL", value_name = "URL")]
    pub smtp_url: Option<String>,
    /// Address that mails are from, such as muster@example.com
    #[arg(long, env = "MUSTER_SMTP_FROM", value_name = "ADDRESS")]
    pub smtp_from: Option<String>,
    /// User name at the mail server [default: no authentication]
    #[arg(long, env = "MUSTER_SMTP_USER", value_name = "NAME")]
    pub smtp_user: Option<String>,
    /// File with the password at the mail server
    #[arg(long, env = "MUSTER_SMTP_PASSWORD_FILE", value_name = "FILE")]
    pub smtp_password_file: Option<PathBuf>,
    /// PEM file with certificate authorities to trust for the mail server, in addition to the public ones
    #[arg(long, env = "MUSTER_SMTP_CA_FILE", value_name = "FILE")]
    pub smtp_ca_file: Option<PathBuf>,
    /// Print mails, with their codes, instead of sending them. Only for demonstrations: a person who reads the
    /// output can take over accounts [default: false]
    #[arg(long, env = "MUSTER_DEMO_PRINT_CODES", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub demo_print_codes: Option<bool>,
    /// Timeout of one attempt to send a mail, in milliseconds
    #[arg(long, env = "MUSTER_SMTP_TIMEOUT_MS", value_name = "MS", hide = true)]
    pub smtp_timeout_ms: Option<u64>,
    /// Upper bound of the first delay between two attempts to send a mail, in milliseconds
    #[arg(long, env = "MUSTER_MAIL_FIRST_RETRY_MS", value_name = "MS", hide = true)]
    pub mail_first_retry_ms: Option<u64>,
    /// Upper bound of the first delay between two attempts to send a webhook, in milliseconds
    #[arg(long, env = "MUSTER_WEBHOOK_FIRST_RETRY_MS", value_name = "MS", hide = true)]
    pub webhook_first_retry_ms: Option<u64>,
    /// Timeout of a TLS handshake, in milliseconds
    #[arg(long, env = "MUSTER_HANDSHAKE_TIMEOUT_MS", value_name = "MS", hide = true)]
    pub handshake_timeout_ms: Option<u64>,
    /// Timeout of the first request head on a connection, in milliseconds
    #[arg(long, env = "MUSTER_REQUEST_HEAD_TIMEOUT_MS", value_name = "MS", hide = true)]
    pub request_head_timeout_ms: Option<u64>,
    /// How long a response may wait for its reader, in milliseconds
    #[arg(long, env = "MUSTER_ANSWER_TIMEOUT_MS", value_name = "MS", hide = true)]
    pub answer_timeout_ms: Option<u64>,
    /// Interval between two checks of the certificate files, in milliseconds
    #[arg(long, env = "MUSTER_TLS_CHECK_MS", value_name = "MS", hide = true)]
    pub tls_check_ms: Option<u64>,
    /// Providers of single sign-on, only in the file.
    #[arg(skip)]
    pub oidc_provider: Option<Vec<OidcProviderSettings>>,
}

/// Validated settings with defaults applied.
#[derive(Debug, Clone)]
pub struct Config {
    pub listen: String,
    pub data_dir: PathBuf,
    pub database_url: String,
    /// `None`: the URL has the password, or the database needs none.
    pub database_password_file: Option<PathBuf>,
    pub master_key_file: Option<PathBuf>,
    pub log: String,
    pub log_format: LogFormat,
    pub drain_spread_ms: u64,
    pub public_url: Option<Origin>,
    pub install_dir: PathBuf,
    /// Run an agent beside the server.
    pub local_agent: bool,
    /// `None`: the directory of the server's program.
    pub local_agent_programs: Option<PathBuf>,
    pub settings: Settings,
    pub mail: MailConfig,
    pub webhooks: WebhookLimits,
    /// Certificate authorities for webhooks, in addition to those of this machine.
    pub webhook_ca_file: Option<PathBuf>,
    pub tls: TlsConfig,
    pub tls_check: Duration,
    pub handshake_timeout: Duration,
    pub request_head_timeout: Duration,
    pub answer_timeout: Duration,
    /// As set. The limit of open files may lower it.
    pub max_connections: Option<usize>,
    pub max_connections_per_source: Option<usize>,
    pub trusted_proxies: TrustedProxies,
    /// Of single sign-on.
    pub oidc_providers: Vec<OidcProvider>,
}

impl ConfigSources {
    /// Merges the sources.
    ///
    /// # Errors
    /// [`ConfigError`] names the file or the setting.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let file = match &self.config {
            Some(path) => read_file(path)?,
            None => PartialConfig::default(),
        };
        let given = self.settings.or(file);
        let tls = TlsConfig::of(&given)?;
        let certificate_policy = tls::certificate_policy(&given, &tls)?;
        let (mail, is_registration_open) =
            (MailConfig::of(&given)?, mail::is_registration_open(&given)?);
        let data_dir = given.data_dir.unwrap_or_else(|| PathBuf::from("muster-data"));
        let database_url = given
            .database_url
            // Compose files set unused variables to an empty text.
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
            audit_retention_ms: given.audit_days.unwrap_or(400).saturating_mul(24 * 3_600_000),
            max_output_bytes: given.max_output_bytes.unwrap_or(MAX_OUTPUT_BYTES),
            output_quota_bytes: given.output_quota_bytes.unwrap_or(DEFAULT_OUTPUT_QUOTA_BYTES),
            storage_measure_every_ms: given.storage_measure_every_ms.unwrap_or(300_000),
            is_registration_open,
            certificate_policy,
            mail_first_retry: Duration::from_millis(given.mail_first_retry_ms.unwrap_or(5_000)),
        };
        for (name, value) in [
            ("max_connections", given.max_connections),
            ("max_connections_per_source", given.max_connections_per_source),
        ] {
            if value == Some(0) {
                return Err(refused(name, "is too small"));
            }
        }
        let trusted_proxies = TrustedProxies::parse(&given.trusted_proxy.unwrap_or_default())
            .map_err(ConfigError::TrustedProxy)?;
        let oidc_providers = OidcProvider::all(given.oidc_provider.unwrap_or_default())
            .map_err(ConfigError::OidcProvider)?;
        let or = |ms: Option<u64>, default| ms.map_or(default, Duration::from_millis);
        check("heartbeat_interval_ms", settings.heartbeat_interval_ms, 100..=3_600_000)?;
        check("lost_after_ms", settings.lost_after_ms, 100..=30 * 24 * 3_600_000)?;
        check("max_output_bytes", settings.max_output_bytes, 1..=MAX_OUTPUT_BYTES)?;
        check("output_quota_bytes", settings.output_quota_bytes, 0..=i64::MAX.cast_unsigned())?;
        check("storage_measure_every_ms", settings.storage_measure_every_ms, 100..=86_400_000)?;
        check("history_days", settings.history_retention_ms / (24 * 3_600_000), 1..=3_650)?;
        check("audit_days", settings.audit_retention_ms / (24 * 3_600_000), 30..=36_500)?;
        let webhook_timeout_ms = given.webhook_timeout_ms.unwrap_or(15_000);
        check("webhook_timeout_ms", webhook_timeout_ms, 100..=60_000)?;
        let is_private_allowed = given.allow_private_webhooks.unwrap_or(false);
        let webhooks = WebhookLimits {
            reach: if is_private_allowed { OutboundReach::Private } else { OutboundReach::Public },
            timeout: Duration::from_millis(webhook_timeout_ms),
        };
        let public_url = match given.public_url.filter(|url| !url.is_empty()) {
            Some(url) => Some(Origin::parse(&url).map_err(ConfigError::PublicUrl)?),
            None => None,
        };
        let is_local_agent = given.local_agent.unwrap_or(false);
        if is_local_agent && public_url.is_none() && matches!(tls, TlsConfig::Files(_)) {
            return Err(refused(
                "public_url",
                "is required by `local_agent` when `tls_cert` is set",
            ));
        }
        Ok(Config {
            local_agent: is_local_agent,
            local_agent_programs: given
                .local_agent_programs
                .filter(|folder| !folder.as_os_str().is_empty()),
            install_dir: given.install_dir.unwrap_or_else(|| data_dir.join("install")),
            public_url,
            listen: given.listen.unwrap_or_else(|| "127.0.0.1:8080".into()),
            data_dir,
            database_url,
            database_password_file: given.database_password_file,
            master_key_file: given.master_key_file,
            log: given.log.unwrap_or_else(|| "info".into()),
            log_format: given
                .log_format
                .unwrap_or_default()
                .parse()
                .map_err(|_| refused("log_format", "must be `text` or `json`"))?,
            drain_spread_ms: given.drain_spread_ms.unwrap_or(5_000),
            settings,
            mail,
            webhooks,
            webhook_ca_file: given.webhook_ca_file,
            tls,
            tls_check: or(given.tls_check_ms, Certificate::CHECK_INTERVAL),
            handshake_timeout: or(given.handshake_timeout_ms, Limits::HANDSHAKE),
            request_head_timeout: or(given.request_head_timeout_ms, Limits::REQUEST_HEAD),
            answer_timeout: or(given.answer_timeout_ms, Limits::ANSWER),
            max_connections: given.max_connections,
            max_connections_per_source: given.max_connections_per_source,
            trusted_proxies,
            oidc_providers,
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
            log_format: self.log_format.or(next.log_format),
            heartbeat_interval_ms: self.heartbeat_interval_ms.or(next.heartbeat_interval_ms),
            lost_after_ms: self.lost_after_ms.or(next.lost_after_ms),
            history_days: self.history_days.or(next.history_days),
            audit_days: self.audit_days.or(next.audit_days),
            max_output_bytes: self.max_output_bytes.or(next.max_output_bytes),
            output_quota_bytes: self.output_quota_bytes.or(next.output_quota_bytes),
            storage_measure_every_ms: self
                .storage_measure_every_ms
                .or(next.storage_measure_every_ms),
            public_url: self.public_url.or(next.public_url),
            install_dir: self.install_dir.or(next.install_dir),
            local_agent: self.local_agent.or(next.local_agent),
            local_agent_programs: self.local_agent_programs.or(next.local_agent_programs),
            drain_spread_ms: self.drain_spread_ms.or(next.drain_spread_ms),
            allow_private_webhooks: self.allow_private_webhooks.or(next.allow_private_webhooks),
            webhook_timeout_ms: self.webhook_timeout_ms.or(next.webhook_timeout_ms),
            webhook_ca_file: self.webhook_ca_file.or(next.webhook_ca_file),
            registration: self.registration.or(next.registration),
            smtp_url: self.smtp_url.or(next.smtp_url),
            smtp_from: self.smtp_from.or(next.smtp_from),
            smtp_user: self.smtp_user.or(next.smtp_user),
            smtp_password_file: self.smtp_password_file.or(next.smtp_password_file),
            smtp_ca_file: self.smtp_ca_file.or(next.smtp_ca_file),
            demo_print_codes: self.demo_print_codes.or(next.demo_print_codes),
            smtp_timeout_ms: self.smtp_timeout_ms.or(next.smtp_timeout_ms),
            mail_first_retry_ms: self.mail_first_retry_ms.or(next.mail_first_retry_ms),
            webhook_first_retry_ms: self.webhook_first_retry_ms.or(next.webhook_first_retry_ms),
            tls: self.tls.or(next.tls),
            tls_names: self.tls_names.or(next.tls_names),
            tls_cert: self.tls_cert.or(next.tls_cert),
            tls_key: self.tls_key.or(next.tls_key),
            require_client_cert: self.require_client_cert.or(next.require_client_cert),
            max_connections: self.max_connections.or(next.max_connections),
            max_connections_per_source: self
                .max_connections_per_source
                .or(next.max_connections_per_source),
            trusted_proxy: self.trusted_proxy.or(next.trusted_proxy),
            handshake_timeout_ms: self.handshake_timeout_ms.or(next.handshake_timeout_ms),
            request_head_timeout_ms: self.request_head_timeout_ms.or(next.request_head_timeout_ms),
            answer_timeout_ms: self.answer_timeout_ms.or(next.answer_timeout_ms),
            tls_check_ms: self.tls_check_ms.or(next.tls_check_ms),
            oidc_provider: self.oidc_provider.or(next.oidc_provider),
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
    let problem = if value < *allowed.start() { "is too small" } else { "is too large" };
    if allowed.contains(&value) { Ok(()) } else { Err(ConfigError::Value { name, problem }) }
}

fn refused(name: &'static str, problem: &'static str) -> ConfigError {
    ConfigError::Value { name, problem }
}

#[cfg(test)]
mod tests;
