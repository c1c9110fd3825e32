//! The server's address, and whether connections to it are encrypted.

use std::net::IpAddr;

use reqwest::Url;
use tokio_tungstenite::tungstenite::http::Uri;

/// A validated server address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub is_secure: bool,
    pub host: String,
    pub port: u16,
    /// Empty, or starts with a slash and does not end with one.
    base_path: String,
}

/// Why an address is rejected.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error(
        "the server address `{0}` is not a URL; use an address such as wss://muster.example.com"
    )]
    Malformed(String),
    #[error("the server address starts with `{0}://`; use wss://, https://, ws:// or http://")]
    Scheme(String),
    #[error("the server address contains a user name, password or query; remove them")]
    Extras,
    #[error(
        "the server address `{0}` is not encrypted and would expose the agent key; use wss:// or https://, or permit it with --insecure"
    )]
    Insecure(String),
}

impl Endpoint {
    /// Parses an address. An address without encryption must be on this host, unless `insecure` is
    /// set.
    ///
    /// # Errors
    /// [`EndpointError`] with a message for the person who configures the agent.
    pub fn parse(text: &str, insecure: bool) -> Result<Self, EndpointError> {
        let malformed = || EndpointError::Malformed(text.to_owned());
        let url = Url::parse(text).map_err(|_| malformed())?;
        let is_secure = match url.scheme() {
            "wss" | "https" => true,
            "ws" | "http" => false,
            other => return Err(EndpointError::Scheme(other.to_owned())),
        };
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return Err(EndpointError::Extras);
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(malformed)?;
        if !is_secure && !insecure && !is_loopback(host) {
            return Err(EndpointError::Insecure(text.to_owned()));
        }
        Ok(Self {
            is_secure,
            host: host.to_owned(),
            port: url.port().unwrap_or(if is_secure { 443 } else { 80 }),
            base_path: url.path().trim_end_matches('/').to_owned(),
        })
    }

    /// The URL for WebSockets.
    pub fn websocket_url(&self) -> String {
        self.url(if self.is_secure { "wss" } else { "ws" }, "/ws/agent")
    }

    /// The URL for frames over HTTP.
    pub fn exchange_url(&self) -> String {
        self.url(if self.is_secure { "https" } else { "http" }, "/api/agents/exchange")
    }

    /// The URL of the public health check.
    pub fn health_url(&self) -> String {
        self.url(if self.is_secure { "https" } else { "http" }, "/healthz")
    }

    /// The URL of a public file; `path` starts with a slash.
    pub fn file_url(&self, path: &str) -> String {
        self.url(if self.is_secure { "https" } else { "http" }, path)
    }

    /// Host and port.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The address in the form that proxies and their rules use: `http` or `https`, host and port.
    pub fn uri(&self) -> Uri {
        let scheme = if self.is_secure { "https" } else { "http" };
        let uri = Uri::builder().scheme(scheme).authority(self.authority()).path_and_query("/");
        // Every host that is valid in a URL is valid in a URI.
        uri.build().unwrap_or_default()
    }

    /// True if the server is on this host.
    pub fn is_local(&self) -> bool {
        is_loopback(&self.host)
    }

    /// The host without the brackets of an IPv6 address.
    pub fn bare_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{}:{}{}{path}", self.host, self.port, self.base_path)
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_four_schemes_give_the_same_urls() {
        for text in ["wss://host/base/", "https://host/base"] {
            let endpoint = Endpoint::parse(text, false).expect(text);
            assert_eq!(endpoint.websocket_url(), "wss://host:443/base/ws/agent");
            assert_eq!(endpoint.exchange_url(), "https://host:443/base/api/agents/exchange");
        }
        let endpoint = Endpoint::parse("http://127.0.0.1:8080", false).expect("loopback");
        assert_eq!(endpoint.websocket_url(), "ws://127.0.0.1:8080/ws/agent");
        assert_eq!(endpoint.uri(), "http://127.0.0.1:8080/");
        let endpoint = Endpoint::parse("wss://[::1]", false).expect("loopback");
        assert_eq!(endpoint.uri(), "https://[::1]:443/");
    }

    #[test]
    fn an_unencrypted_address_of_another_host_is_rejected_unless_permitted() {
        for text in ["ws://host", "http://10.0.0.1:80", "ws://localhost.example.com"] {
            assert!(
                matches!(Endpoint::parse(text, false), Err(EndpointError::Insecure(_))),
                "{text}"
            );
            assert!(Endpoint::parse(text, true).is_ok(), "{text}");
        }
        for text in ["ws://localhost:1", "ws://[::1]:1", "ws://127.9.9.9"] {
            assert!(Endpoint::parse(text, false).is_ok(), "{text}");
        }
    }

    #[test]
    fn invalid_addresses_are_rejected() {
        for text in ["", "host", "ftp://host", "wss://user@host", "wss://host?key=1"] {
            assert!(Endpoint::parse(text, true).is_err(), "{text}");
        }
    }
}
