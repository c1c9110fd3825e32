//! The proxy that the environment names for the server, by the same rule as for agents.
//!
//! The HTTP library would connect directly if the address of a proxy were invalid, and would use port 80 of a
//! SOCKS proxy whose address has no port.

use std::fmt;

use hyper_util::client::proxy::matcher::Matcher;
use muster_protocol::program::proxy_environment::{NamedProxy, named_proxy};
use reqwest::Url;

use crate::error::CliError;

const SCHEMES: [&str; 4] = ["http", "https", "socks5", "socks5h"];

/// A proxy. `Display` never shows the password.
#[derive(Debug, Clone)]
pub struct ServerProxy {
    url: Url,
}

impl ServerProxy {
    /// The proxy that the environment names for this server.
    ///
    /// # Errors
    /// [`CliError::Usage`] if it names one that can't be used.
    pub fn from_environment(server: &Url) -> Result<Option<Self>, CliError> {
        Self::named(server, |name| std::env::var(name).ok())
    }

    fn named(
        server: &Url,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, CliError> {
        let Some(named) = named_proxy(server.scheme() == "https", variable) else {
            return Ok(None);
        };
        let NamedProxy { variable, address, exempt } = named;
        let matcher = Matcher::builder().all("http://proxy.invalid").no(exempt).build();
        let target = server.as_str().parse();
        if target.is_ok_and(|target| matcher.intercept(&target).is_none()) {
            return Ok(None);
        }
        let whole = if address.contains("://") { address } else { format!("http://{address}") };
        let url = Url::parse(&whole).ok().filter(|url| {
            // An unescaped @ would leave a part of the password in what is shown.
            let is_plain = whole.matches('@').count() <= 1;
            is_plain && url.has_host() && SCHEMES.contains(&url.scheme())
        });
        let Some(mut url) = url else {
            return Err(CliError::Usage(format!(
                "the proxy's address in {variable} is invalid; write it as http://HOST:PORT, \
                 socks5h://HOST:PORT or http://USER:PASSWORD@HOST:PORT, special characters as %XX"
            )));
        };
        if url.port().is_none() && url.scheme().starts_with("socks") {
            // Fails only for a URL without a host.
            let _ = url.set_port(Some(1080));
        }
        Ok(Some(Self { url }))
    }

    /// The proxy as the HTTP library uses it.
    ///
    /// # Errors
    /// The library's, for an address that it can't use.
    pub fn to_http(&self) -> reqwest::Result<reqwest::Proxy> {
        reqwest::Proxy::all(self.url.clone())
    }
}

impl fmt::Display for ServerProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port_or_known_default().unwrap_or_default();
        write!(f, "{}://{host}:{port}", self.url.scheme())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(server: &str, variables: &[(&str, &str)]) -> Result<String, String> {
        let server = Url::parse(server).expect(server);
        let value = |name: &str| variables.iter().find(|(known, _)| *known == name);
        let named = ServerProxy::named(&server, |name| value(name).map(|(_, is)| (*is).to_owned()));
        let named = named.map_err(|error| error.to_string())?;
        Ok(named.map(|proxy| proxy.to_string()).unwrap_or_default())
    }

    #[test]
    fn proxy_has_its_default_port_and_no_password_when_it_is_shown() {
        for (address, expected) in [
            ("p", "http://p:80"),
            ("https://p", "https://p:443"),
            ("socks5://u:sesame@p", "socks5://p:1080"),
            ("socks5h://u:sesame@p:9", "socks5h://p:9"),
        ] {
            assert_eq!(shown("https://s", &[("ALL_PROXY", address)]).expect(address), expected);
        }
        assert_eq!(shown("https://s", &[("http_proxy", "p:1")]).expect("unset"), "");
        let exempt = [("ALL_PROXY", "p:1"), ("NO_PROXY", "s,10.0.0.0/8")];
        assert_eq!(shown("https://s", &exempt).expect("exempt"), "");
        assert_eq!(shown("http://10.1.1.1", &exempt).expect("exempt"), "");
        assert_eq!(shown("https://t", &exempt).expect("not exempt"), "http://p:1");
    }

    #[test]
    fn unusable_proxy_is_refused_with_its_variable_and_without_its_password() {
        for address in
            ["ftp://u:sesame@p", "socks4://u:sesame@p", "socks5://u:s@esame@p", "http://"]
        {
            let refusal = shown("https://s", &[("ALL_PROXY", address)]).expect_err(address);
            assert!(refusal.contains("ALL_PROXY") && !refusal.contains("esame"), "{refusal}");
        }
    }
}
