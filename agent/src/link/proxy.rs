//! The proxy that the environment names for the server. All transports use the same rule.
//!
//! A local server is no exception: as with curl, only `NO_PROXY` exempts hosts.

use std::fmt;

use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use muster_protocol::program::proxy_environment::{NamedProxy, named_proxy};
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri};

use super::endpoint::Endpoint;

/// User name, password and the server's name, in bytes, as far as the library's handshake with a SOCKS proxy
/// has space for them.
const MAX_SOCKS_BYTES: usize = 234;

/// A proxy. `Display` and `Debug` never show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// With the port, without user name and password.
    uri: Uri,
    credentials: Credentials,
}

#[derive(Clone, PartialEq, Eq)]
enum Credentials {
    None,
    /// The value of the `Proxy-Authorization` header.
    Header(HeaderValue),
    /// User name and password of a SOCKS proxy.
    Login(String, String),
}

/// Why the proxy that the environment names can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error(
        "the proxy in {variable} is a {scheme} proxy; use an address that starts with http://, https://, socks5:// or socks5h://, or exempt the server in NO_PROXY"
    )]
    Scheme { variable: &'static str, scheme: String },
    #[error(
        "the proxy's address in {variable} is invalid; write it as http://HOST:PORT, socks5h://HOST:PORT or http://USER:PASSWORD@HOST:PORT, special characters as %XX"
    )]
    Unreadable { variable: &'static str },
    #[error(
        "the SOCKS proxy in {variable} has a user name and password that are too long; together with the server's name they have at most {MAX_SOCKS_BYTES} bytes"
    )]
    LongLogin { variable: &'static str },
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
        let Some(NamedProxy { variable, address, exempt }) =
            named_proxy(endpoint.is_secure, variable)
        else {
            return Ok(None);
        };
        let uri = endpoint.uri();
        let is_exempt = |proxy: &str| {
            Matcher::builder().all(proxy).no(exempt.as_str()).build().intercept(&uri).is_none()
        };
        if is_exempt("http://proxy.invalid") {
            return Ok(None);
        }
        let matcher = Matcher::builder().all(address).no(exempt.as_str()).build();
        // An unescaped @ in a password would leave a part of it in the address.
        let is_whole =
            |uri: &Uri| uri.authority().is_some_and(|whole| !whole.as_str().contains('@'));
        let intercept = matcher.intercept(&uri).filter(|intercept| is_whole(intercept.uri()));
        let Some(intercept) = intercept else {
            return Err(ProxyError::Unreadable { variable });
        };
        let scheme = intercept.uri().scheme_str().unwrap_or_default();
        let default_port = match scheme {
            "http" => 80,
            "https" => 443,
            "socks5" | "socks5h" => 1080,
            other => return Err(ProxyError::Scheme { variable, scheme: other.to_owned() }),
        };
        let (host, port) = (intercept.uri().host(), intercept.uri().port_u16());
        let authority = format!("{}:{}", host.unwrap_or_default(), port.unwrap_or(default_port));
        // The HTTP library connects to port 80 if a SOCKS proxy has none.
        let whole = Uri::builder().scheme(scheme).authority(authority).path_and_query("/").build();
        let uri = whole.map_err(|_| ProxyError::Unreadable { variable })?;
        let credentials = Credentials::of(&intercept);
        if let Credentials::Login(user, password) = &credentials
            && user.len() + password.len() + endpoint.bare_host().len() > MAX_SOCKS_BYTES
        {
            return Err(ProxyError::LongLogin { variable });
        }
        Ok(Some(Self { uri, credentials }))
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

    /// The port: the address's, or the default port of the scheme.
    pub fn port(&self) -> u16 {
        self.uri.port_u16().unwrap_or_default()
    }

    /// True for a SOCKS proxy, which passes bytes on and knows no HTTP.
    pub fn is_socks(&self) -> bool {
        matches!(self.uri.scheme_str(), Some("socks5" | "socks5h"))
    }

    /// True for a SOCKS proxy that resolves the server's name itself.
    pub fn resolves_names(&self) -> bool {
        self.uri.scheme_str() == Some("socks5h")
    }

    /// User name and password as a header value, marked as sensitive.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        match &self.credentials {
            Credentials::Header(value) => Some(value),
            Credentials::None | Credentials::Login(..) => None,
        }
    }

    /// User name and password of a SOCKS proxy.
    pub fn login(&self) -> Option<(&str, &str)> {
        match &self.credentials {
            Credentials::Login(user, password) => Some((user, password)),
            Credentials::None | Credentials::Header(_) => None,
        }
    }
}

impl Credentials {
    fn of(intercept: &Intercept) -> Self {
        match (intercept.basic_auth(), intercept.raw_auth()) {
            (Some(header), _) => Self::Header(header.clone()),
            (None, Some((user, password))) => Self::Login(user.to_owned(), password.to_owned()),
            (None, None) => Self::None,
        }
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
    fn proxy_of_each_scheme_has_its_default_port() {
        for (address, whole) in [
            ("p", "http://p:80"),
            ("p:2", "http://p:2"),
            ("https://p", "https://p:443"),
            ("socks5://p", "socks5://p:1080"),
            ("socks5h://[::1]", "socks5h://[::1]:1080"),
            ("socks5h://u:x@p:9", "socks5h://p:9"),
        ] {
            assert_eq!(shown("wss://server", &[("HTTPS_PROXY", address)]), whole);
            assert_eq!(shown("ws://server", &[("ALL_PROXY", address)]), whole);
        }
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
    fn the_login_of_a_socks_proxy_is_read_and_never_displayed() {
        let given = [("ALL_PROXY", "socks5h://Aladdin:open%20sesame@p")];
        let proxy = named("wss://server", &given).expect("usable").expect("named");
        assert_eq!(
            (proxy.login(), proxy.authorization()),
            (Some(("Aladdin", "open sesame")), None)
        );
        assert!(proxy.is_socks() && proxy.resolves_names());
        assert_eq!(format!("{proxy} {proxy:?}"), "socks5h://p:1080 Proxy(socks5h://p:1080)");
        assert!(!proxy.uri().to_string().contains("sesame"));
        let local = named("wss://server", &[("ALL_PROXY", "socks5://p")]).expect("usable");
        let local = local.expect("named");
        assert!(local.is_socks() && !local.resolves_names() && local.login().is_none());
        let long = format!("socks5h://u:{}@p", "x".repeat(MAX_SOCKS_BYTES - 6));
        let refusal = named("wss://server", &[("ALL_PROXY", long.as_str())]).expect_err("too long");
        assert!(matches!(refusal, ProxyError::LongLogin { .. }), "{refusal}");
        let fits = format!("socks5h://u:{}@p", "x".repeat(MAX_SOCKS_BYTES - 7));
        assert!(named("wss://server", &[("ALL_PROXY", fits.as_str())]).is_ok());
    }

    #[test]
    fn an_unusable_proxy_is_rejected_with_its_variable_and_without_its_password() {
        for address in [
            "socks4a://u:sesame@p:1",
            "socks://u:sesame@p:1",
            "socks5://u:s@ame@p:1",
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
