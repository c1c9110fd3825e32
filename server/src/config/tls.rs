//! Settings of TLS.

use super::{ConfigError, PartialConfig, refused};
use crate::domain::certificates::client_certificate::CertificatePolicy;
use crate::domain::certificates::names::CertificateName;
use crate::listener::TlsFiles;

/// Where the server's certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsConfig {
    /// Connections are not encrypted.
    Off,
    /// The operator provides it.
    Files(TlsFiles),
    /// The server issues it, for these names. Without any, for the names of the machine.
    Auto(Vec<CertificateName>),
}

impl TlsConfig {
    /// # Errors
    /// [`ConfigError`] names the setting.
    pub(super) fn of(given: &PartialConfig) -> Result<Self, ConfigError> {
        let names = given.tls_names.as_deref().unwrap_or_default();
        let names = CertificateName::all(names).map_err(ConfigError::TlsNames)?;
        let files = match (given.tls_cert.clone(), given.tls_key.clone()) {
            (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
            (None, None) => None,
            (Some(_), None) => {
                return Err(refused("tls_key", "is required when `tls_cert` is set"));
            }
            (None, Some(_)) => {
                return Err(refused("tls_cert", "is required when `tls_key` is set"));
            }
        };
        let is_auto = match given.tls.as_deref().unwrap_or_default() {
            "auto" => true,
            // Compose files set unused variables to an empty text.
            "off" | "" => false,
            _ => return Err(refused("tls", "must be `auto` or `off`")),
        };
        match files {
            Some(_) if is_auto => Err(refused("tls", "can't be `auto` when `tls_cert` is set")),
            Some(_) if given.tls.as_deref() == Some("off") => {
                Err(refused("tls", "can't be `off` when `tls_cert` is set"))
            }
            _ if !names.is_empty() && !is_auto => {
                Err(refused("tls_names", "needs `tls` to be `auto`"))
            }
            Some(files) => Ok(Self::Files(files)),
            None if is_auto => Ok(Self::Auto(names)),
            None => Ok(Self::Off),
        }
    }
}

/// Which clients must show a certificate. Only a server that ends TLS itself can ask for one.
///
/// # Errors
/// [`ConfigError`] names the setting.
pub(super) fn certificate_policy(
    given: &PartialConfig,
    tls: &TlsConfig,
) -> Result<CertificatePolicy, ConfigError> {
    let policy = match given.require_client_cert.as_deref().unwrap_or_default() {
        "off" | "" => CertificatePolicy::Off,
        "agents" => CertificatePolicy::Agents,
        "all" => CertificatePolicy::All,
        _ => return Err(refused("require_client_cert", "must be `off`, `agents` or `all`")),
    };
    match tls {
        TlsConfig::Off if policy != CertificatePolicy::Off => {
            Err(refused("require_client_cert", "needs `tls` or `tls_cert`"))
        }
        _ => Ok(policy),
    }
}
