//! Why settings are refused.

use std::path::PathBuf;

use crate::adapters::smtp::settings::InvalidSmtp;
use crate::domain::access::people::oidc_provider::InvalidProvider;
use crate::domain::certificates::names::InvalidNames;
use crate::domain::origin::InvalidOrigin;
use crate::domain::source::InvalidNetwork;

/// A setting is invalid.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("failed to read the configuration file {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("failed to parse the configuration file {}", path.display())]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
    #[error("the setting `public_url` is invalid")]
    PublicUrl(#[source] InvalidOrigin),
    #[error("the setting `trusted_proxy` is invalid")]
    TrustedProxy(#[source] InvalidNetwork),
    #[error("the setting `tls_names` is invalid")]
    TlsNames(#[source] InvalidNames),
    #[error("the setting `oidc_provider` is invalid")]
    OidcProvider(#[source] InvalidProvider),
    #[error("the setting `{name}` {problem}")]
    Value { name: &'static str, problem: &'static str },
    #[error("the settings of the mail server are invalid")]
    Smtp(#[source] InvalidSmtp),
}
