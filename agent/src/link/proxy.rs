//! The proxy that the environment names for the server. All transports use the same rule.
//!
//! A local server is no exception: as with curl, only `NO_PROXY` exempts hosts.

use std::fmt;

use hyper_util::client::proxy::matcher::Matcher;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri};

use super::endpoint::Endpoint;

/// A proxy. `Display` and `Debug` never show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    uri: Uri,
    /// The value of the `Proxy-Authorization` header.
    authorization: Option<HeaderValue>,
}

/// Why the proxy that the environment names can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error(
        "the proxy in {variable} is a {scheme} proxy; use an address that starts with http:// or https://, or exempt the server in NO_PROXY"
    )]
    Scheme { variable: &'static str, scheme: String },
    #[error(
        "the proxy's address in {variable} is invalid; write it as http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, special characters as %XX"
    )]
    Unreadable { variable: &'static str },
}

impl Proxy {
    /// The proxy that the environment names for this server.
    ///
    /// # Errors
    /// [`ProxyError`] if it names one that can't be used.
    pub fn from_environment(endpoint: &Endpoint) -> Result<Option<Self>, ProxyError> {
        Self::named(endpoint, |name| std::env::var(name).ok())
    }

    fn named(
        endpoint: &Endpoint,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, ProxyError> {
        let first = |names: [&'static str; 2]| {
            let set = names.into_iter().filter_map(|name| Some((name, variable(name)?)));
            set.map(|(name, value)| (name, value.trim().to_owned()))
                .find(|(_, value)| !value.is_empty())
        };
        let own = first(match endpoint.is_secure {
            true => ["HTTPS_PROXY", "https_proxy"],
            false => ["HTTP_PROXY", "http_proxy"],
        });
        let Some((name, address)) = own.or_else(|| first(["ALL_PROXY", "all_proxy"])) else {
            return Ok(None);
        };
        let exempt = first(["NO_PROXY", "no_proxy"]).map(|(_, value)| value).unwrap_or_default();
        let uri = endpoint.uri();
        let is_exempt = |proxy: &str| {
            Matcher::builder().all(proxy).no(exempt.as_str()).build().intercept(&uri).is_none()
        };
        // The library applies the star only to names; users mean everything.
        let is_star = exempt.split(',').any(|entry| entry.trim() == "*");
        if is_star || is_exempt("http://proxy.invalid") {
            return Ok(None);
        }
        let matcher = Matcher::builder().all(address).no(exempt.as_str()).build();
        // An unescaped @ in a password would leave a part of it in the address.
        let is_whole =
            |uri: &Uri| uri.authority().is_some_and(|whole| !whole.as_str().contains('@'));
        let intercept = matcher.intercept(&uri).filter(|intercept| is_whole(intercept.uri()));
        let Some(intercept) = intercept else {
            return Err(ProxyError::Unreadable { variable: name });
        };
        match intercept.uri().scheme_str() {
            Some("http" | "https") => {}
            scheme => {
                let scheme = scheme.unwrap_or_default().to_owned();
                return Err(ProxyError::Scheme { variable: name, scheme });
            }
        }
        Ok(Some(Self {
            uri: intercept.uri().clone(),
            authorization: intercept.basic_auth().cloned(),
        }))
    }

    /// The proxy's address, without user name and password.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// True if the connection to the proxy itself is encrypted.
    pub fn is_secure(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// The host without the brackets of an IPv6 address.
    pub fn bare_host(&self) -> &str {
        self.uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
    }

    /// The port, or the default port of the scheme.
    pub fn port(&self) -> u16 {
        self.uri.port_u16().unwrap_or(if self.is_secure() { 443 } else { 80 })
    }

    /// User name and password as a header value, marked as sensitive.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        write!(f, "{scheme}://{}:{}", self.uri.host().unwrap_or_default(), self.port())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(server: &str, variables: &[(&str, &str)]) -> Result<Option<Proxy>, ProxyError> {
        let endpoint = Endpoint::parse(server, true).expect(server);
        let value = |name: &str| variables.iter().find(|(known, _)| *known == name);
        Proxy::named(&endpoint, |name| value(name).map(|(_, value)| (*value).to_owned()))
    }

    fn shown(server: &str, variables: &[(&str, &str)]) -> String {
        let proxy = named(server, variables).expect("usable");
        proxy.map(|proxy| proxy.to_string()).unwrap_or_default()
    }

    #[test]
    fn each_scheme_has_its_variable_and_all_proxy_applies_to_both() {
        let all = [
            ("HTTPS_PROXY", "http://secure:1"),
            ("http_proxy", "plain:2"),
            ("ALL_PROXY", "http://all:3"),
        ];
        assert_eq!(shown("wss://server", &all), "http://secure:1");
        assert_eq!(shown("https://server", &all), "http://secure:1");
        assert_eq!(shown("ws://server", &all), "http://plain:2");
        assert_eq!(shown("wss://server", &all[1..]), "http://all:3");
        assert_eq!(shown("wss://server", &[("HTTPS_PROXY", ""), all[2]]), "http://all:3");
        assert_eq!(shown("wss://server", &[("https_proxy", "https://p")]), "https://p:443");
        assert_eq!(shown("wss://server", &[]), "");
    }

    #[test]
    fn only_no_proxy_exempts_hosts_suffixes_and_networks() {
        let exempt = "localhost, .example.com,10.0.0.0/8,::1";
        let all = [("ALL_PROXY", "http://p:1"), ("no_proxy", exempt)];
        for server in ["wss://localhost", "wss://a.example.com", "ws://10.9.8.7", "ws://[::1]"] {
            assert_eq!(shown(server, &all), "", "{server}");
        }
        for server in ["wss://notexample.com", "ws://127.0.0.1", "ws://11.0.0.1"] {
            assert_eq!(shown(server, &all), "http://p:1", "{server}");
        }
        assert_eq!(shown("ws://127.0.0.1", &[all[0], ("NO_PROXY", "*")]), "");
    }

    #[test]
    fn a_password_is_in_the_header_and_never_displayed() {
        let given = [("ALL_PROXY", "http://Aladdin:open%20sesame@p:1")];
        let proxy = named("wss://server", &given).expect("usable").expect("named");
        assert_eq!(proxy.authorization().expect("given"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(proxy.authorization().is_some_and(HeaderValue::is_sensitive));
        assert_eq!(format!("{proxy} {proxy:?}"), "http://p:1 Proxy(http://p:1)");
        assert!(!proxy.uri().to_string().contains("sesame"));
    }

    #[test]
    fn an_unusable_proxy_is_rejected_with_its_variable_and_without_its_password() {
        for address in [
            "socks5://u:sesame@p:1",
            "ftp://u:sesame@p",
            "http://u:ses ame@p",
            "http://u:s@ame@p:1",
            "http://",
        ] {
            let refusal = named("wss://server", &[("ALL_PROXY", address)]).expect_err(address);
            let text = format!("{refusal} {refusal:?}");
            assert!(text.contains("ALL_PROXY") && !text.contains("ame@"), "{text}");
            let exempt = [("ALL_PROXY", address), ("NO_PROXY", "server")];
            assert_eq!(named("wss://server", &exempt).expect("not needed"), None);
        }
    }
}
