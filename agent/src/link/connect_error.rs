//! Connection errors that have a known cause, with a message and a hint for people.
//!
//! The messages contain names and addresses, never passwords or keys.

use std::io;

use chrono::{DateTime, SecondsFormat, Utc};

use super::socks::SocksError;

/// A connection error with a known cause.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("failed to resolve the name {host}: {source}")]
    Unresolved {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("failed to connect to {address}: {source}")]
    Unreached {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("failed to resolve the name of the proxy {proxy}: {source}")]
    ProxyUnresolved {
        proxy: String,
        #[source]
        source: io::Error,
    },
    #[error("failed to connect to the proxy {proxy}: {source}")]
    ProxyUnreached {
        proxy: String,
        #[source]
        source: io::Error,
    },
    #[error("the proxy {proxy} requires a user name and password ({status})")]
    ProxyCredentialsMissing { proxy: String, status: u16 },
    #[error("the proxy {proxy} rejects the user name and password ({status})")]
    ProxyCredentialsWrong { proxy: String, status: u16 },
    #[error("the proxy {proxy} forbids connections to {target} (403)")]
    ProxyForbids { proxy: String, target: String },
    #[error("the proxy {proxy} answered {status} instead of connecting to {target}")]
    ProxyRefused { proxy: String, target: String, status: u16 },
    #[error("the answer from {proxy} is not from an HTTP proxy")]
    NotAProxy { proxy: String },
    #[error("the proxy {proxy} did not answer within {seconds} s")]
    ProxySilent { proxy: String, seconds: u64 },
    #[error(transparent)]
    Socks(#[from] SocksError),
    #[error("{host} does not answer in TLS: this server speaks plain http")]
    PlainHttp { host: String },
    #[error("the certificate of {host} was issued by an authority that this host does not trust")]
    UnknownIssuer { host: String },
    #[error("the certificate is not valid for {host}, only for {names}")]
    WrongName { host: String, names: String },
    #[error("the certificate of {host} expired on {not_after}; it is {now} by this host's clock")]
    Expired {
        host: String,
        not_after: String,
        now: String,
        /// A time at which the certificate is valid, in seconds since 1970.
        valid_at: Option<u64>,
    },
    #[error(
        "the certificate of {host} is not valid before {not_before}; it is {now} by this host's clock"
    )]
    NotYetValid { host: String, not_before: String, now: String, valid_at: Option<u64> },
    #[error("the certificate of {host} is not accepted: {reason}")]
    OtherCertificate { host: String, reason: String },
}

impl ConnectError {
    /// What to do about the error.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unresolved { .. } => {
                "check the server's address and this host's DNS; behind a proxy, set HTTPS_PROXY"
            }
            Self::Unreached { .. } => {
                "check the address and port, and that firewalls permit the connection; behind a proxy, set HTTPS_PROXY"
            }
            Self::ProxyUnresolved { .. } => {
                "check the proxy's name in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY and this host's DNS"
            }
            Self::ProxyUnreached { .. } => {
                "check the proxy's address and port in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, or exempt the server in NO_PROXY"
            }
            Self::ProxyCredentialsMissing { .. } => {
                "add them to the proxy's address: http://USER:PASSWORD@HOST:PORT, special characters as %XX"
            }
            Self::ProxyCredentialsWrong { .. } => {
                "correct them in the proxy's address: http://USER:PASSWORD@HOST:PORT, special characters as %XX"
            }
            Self::ProxyForbids { .. } => {
                "permit CONNECT to the server on the proxy, or exempt the server in NO_PROXY"
            }
            Self::ProxyRefused { .. } => {
                "check that the proxy can connect to the server, or exempt the server in NO_PROXY"
            }
            Self::NotAProxy { .. } => {
                "check the address and scheme (http://, https:// or socks5h://) of the proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY"
            }
            Self::ProxySilent { .. } => {
                "check that it is a proxy of the kind that its address says, and that it can connect to the server"
            }
            Self::Socks(error) => error.hint(),
            Self::PlainHttp { .. } => {
                "use http:// or ws:// in MUSTER_SERVER_URL on a network that you trust, or give the server a certificate"
            }
            Self::UnknownIssuer { .. } => {
                "set MUSTER_CA_FILE or --ca-file to the authority's certificate, or configure the server to send its whole chain"
            }
            Self::WrongName { .. } => {
                "use a name from the certificate in MUSTER_SERVER_URL, or issue a certificate for this name"
            }
            Self::Expired { .. } => {
                "renew the certificate, or set this host's clock if it is wrong"
            }
            Self::NotYetValid { .. } => {
                "set this host's clock, or issue a new certificate if the clock is right"
            }
            Self::OtherCertificate { .. } => "issue a new certificate for a TLS server",
        }
    }

    /// A time at which the certificate is valid, if it was refused because of the time.
    pub(super) fn valid_at(&self) -> Option<u64> {
        match self {
            Self::Expired { valid_at, .. } | Self::NotYetValid { valid_at, .. } => *valid_at,
            _ => None,
        }
    }

    /// The known reason of a failed handshake: what was answered, or why a certificate was refused.
    pub(super) fn from_tls(error: &rustls::Error, host: &str) -> Option<Self> {
        use rustls::CertificateError::{
            BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext,
            NotValidYet, NotValidYetContext, UnknownIssuer,
        };
        let host = host.to_owned();
        let reason = match error {
            rustls::Error::InvalidCertificate(reason) => reason,
            // The answer does not begin as a record of TLS does.
            rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
                return Some(Self::PlainHttp { host });
            }
            _ => return None,
        };
        let now = || instant(Utc::now().timestamp().unsigned_abs());
        Some(match reason {
            // An authority with the same name and another key: it was renewed.
            UnknownIssuer | BadSignature => Self::UnknownIssuer { host },
            NotValidForName => Self::WrongName { host, names: "another name".into() },
            NotValidForNameContext { presented, .. } => {
                Self::WrongName { host, names: names(presented) }
            }
            Expired => Self::Expired {
                host,
                not_after: "an earlier day".into(),
                now: now(),
                valid_at: None,
            },
            ExpiredContext { not_after, .. } => Self::Expired {
                host,
                not_after: instant(not_after.as_secs()),
                now: now(),
                valid_at: Some(not_after.as_secs().saturating_sub(1)),
            },
            NotValidYet => Self::NotYetValid {
                host,
                not_before: "a later day".into(),
                now: now(),
                valid_at: None,
            },
            NotValidYetContext { not_before, .. } => Self::NotYetValid {
                host,
                not_before: instant(not_before.as_secs()),
                now: now(),
                valid_at: Some(not_before.as_secs().saturating_add(1)),
            },
            other => Self::OtherCertificate { host, reason: other.to_string() },
        })
    }
}

/// As many names as fit into one message.
fn names(presented: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = presented.iter().take(SHOWN).map(|name| name.escape_debug().to_string());
    match (presented.len(), shown.collect::<Vec<_>>().join(", ")) {
        (0, _) => "no name at all".into(),
        (1..=SHOWN, shown) => shown,
        (_, shown) => format!("{shown} and others"),
    }
}

/// Seconds since 1970 as a readable instant.
pub fn instant(seconds: u64) -> String {
    let instant = i64::try_from(seconds).ok().and_then(|s| DateTime::from_timestamp(s, 0));
    instant.map_or_else(
        || "an unknown day".into(),
        |instant| instant.to_rfc3339_opts(SecondsFormat::Secs, true),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_five_names_of_a_certificate_are_shown() {
        assert_eq!(names(&[]), "no name at all");
        assert_eq!(names(&["a".into(), "b\n".into()]), "a, b\\n");
        assert_eq!(names(&vec!["x".to_owned(); 6]), "x, x, x, x, x and others");
    }

    #[test]
    fn only_certificate_errors_become_connect_errors() {
        let expired = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        assert!(matches!(
            ConnectError::from_tls(&expired, "h"),
            Some(ConnectError::Expired { .. })
        ));
        assert!(ConnectError::from_tls(&rustls::Error::HandshakeNotComplete, "h").is_none());
    }
}
