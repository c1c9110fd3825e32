//! The URL of a receiver or a provider.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

use super::OutboundReach;
use super::address::{AddressKind, kind};

/// Longest address.
pub const MAX_URL_BYTES: usize = 2_048;

/// A URL that requests may be sent to, as far as that is known before its name is resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundUrl(Url);

/// A URL that requests cannot be sent to. Each text continues "the webhook URL" or "the issuer".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    #[error("must be at most {MAX_URL_BYTES} bytes long")]
    TooLong,
    #[error("must be a complete URL such as https://hooks.example/muster")]
    Unreadable,
    #[error("must start with https://")]
    NotHttps,
    #[error("must not contain a user name or a password; verify the signature instead")]
    HasCredentials,
    #[error("must not have a fragment, because the part after `#` is never sent")]
    HasFragment,
    #[error("has an address that webhooks can't be sent to; use a public host")]
    Unusable,
    #[error(
        "has a private address; use a public host, or start the server with --allow-private-webhooks"
    )]
    Private,
}

impl OutboundUrl {
    /// Validates the URL that a caller gave.
    ///
    /// # Errors
    /// [`InvalidUrl`] with the reason.
    pub fn parse(text: &str, reach: OutboundReach) -> Result<Self, InvalidUrl> {
        if text.len() > MAX_URL_BYTES {
            return Err(InvalidUrl::TooLong);
        }
        // The parser would silently drop them.
        if text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(InvalidUrl::Unreadable);
        }
        let url = Url::parse(text).map_err(|_| InvalidUrl::Unreadable)?;
        match (url.scheme(), reach) {
            ("https", _) | ("http", OutboundReach::Private) => {}
            _ => return Err(InvalidUrl::NotHttps),
        }
        // The parser accepts missing or additional slashes, and an empty user, so the parsed URL is
        // compared with the text.
        let behind_scheme = text.get(url.scheme().len()..).unwrap_or_default();
        let authority = behind_scheme.strip_prefix("://").unwrap_or_default();
        let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
        let has_user = !url.username().is_empty() || url.password().is_some();
        if has_user || authority.contains('@') {
            return Err(InvalidUrl::HasCredentials);
        }
        if authority.is_empty() {
            return Err(InvalidUrl::Unreadable);
        }
        if url.fragment().is_some() {
            return Err(InvalidUrl::HasFragment);
        }
        let url = Self(url);
        if url.0.as_str().len() > MAX_URL_BYTES {
            return Err(InvalidUrl::TooLong);
        }
        if let Some(address) = url.literal() {
            Self::check_address(address, url.is_secure(), reach)?;
        }
        Ok(url)
    }

    /// Checks an address that the host name resolves to. Without TLS, only a private one is
    /// allowed.
    ///
    /// # Errors
    /// [`InvalidUrl::Unusable`], [`InvalidUrl::Private`] or [`InvalidUrl::NotHttps`].
    pub fn check_address(
        address: IpAddr,
        is_secure: bool,
        reach: OutboundReach,
    ) -> Result<(), InvalidUrl> {
        match kind(address) {
            AddressKind::Unusable => Err(InvalidUrl::Unusable),
            kind if !kind.is_within(reach) => Err(InvalidUrl::Private),
            AddressKind::Public if !is_secure => Err(InvalidUrl::NotHttps),
            _ => Ok(()),
        }
    }

    /// The address, if the host is an IP address and not a name.
    pub fn literal(&self) -> Option<IpAddr> {
        match self.0.host()? {
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
            Host::Domain(_) => None,
        }
    }

    /// True if it uses TLS.
    pub fn is_secure(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Name or address in lower case, without the port.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// The host of a stored URL; empty if the text is not a URL.
    pub fn host_of(text: &str) -> String {
        let url = Url::parse(text).ok();
        url.as_ref().and_then(Url::host_str).unwrap_or_default().to_owned()
    }

    /// The full URL for the request.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The form for people, without the query, which may contain credentials.
    pub fn shown(text: &str) -> &str {
        text.split('?').next().unwrap_or_default()
    }

    /// The form for people who may only read: scheme, host and port. A path often contains a secret
    /// that lets its holder send messages.
    pub fn shown_to_readers(text: &str) -> String {
        Url::parse(text).map(|url| url.origin().ascii_serialization()).unwrap_or_default()
    }
}

impl fmt::Display for OutboundUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::shown(self.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn odd(text: &str, reach: OutboundReach) -> Option<InvalidUrl> {
        OutboundUrl::parse(text, reach).err()
    }

    #[test]
    fn an_invalid_url_is_refused_with_its_reason() {
        use InvalidUrl::{
            HasCredentials, HasFragment, NotHttps, Private, TooLong, Unreadable, Unusable,
        };
        let long = format!("https://a.example/{}", "x".repeat(MAX_URL_BYTES));
        for (text, reason) in [
            (long.as_str(), TooLong),
            ("", Unreadable),
            ("hooks.example", Unreadable),
            ("https://", Unreadable),
            ("https:\\\\127.0.0.1", Unreadable),
            ("https://a.example/\r\nHost: b", Unreadable),
            (" https://a.example", Unreadable),
            ("http://a.example/", NotHttps),
            ("ftp://a.example/", NotHttps),
            ("file:///etc/passwd", NotHttps),
            ("gopher://a.example/", NotHttps),
            ("https://u:p@a.example/", HasCredentials),
            ("https://@a.example/", HasCredentials),
            ("https://:@a.example/", HasCredentials),
            ("https:///u:p@a.example/", HasCredentials),
            ("https://///u@a.example/", HasCredentials),
            ("https:/:p@a.example/", HasCredentials),
            ("https:u:p@a.example/?to=://b", HasCredentials),
            ("https:///@a.example/", Unreadable),
            ("https:///a.example/", Unreadable),
            ("https:/a.example/", Unreadable),
            ("https:a.example/?to=://b", Unreadable),
            ("https://a.example/#x", HasFragment),
            ("https://127.0.0.1/", Private),
            ("https://2130706433/", Private),
            ("https://0x7f.1/", Private),
            ("https://0177.0.0.1/", Private),
            ("https://127.1/", Private),
            ("https://[::1]/", Private),
            ("https://[::ffff:10.0.0.1]/", Private),
            ("https://169.254.169.254/latest", Unusable),
            ("https://0.0.0.0/", Unusable),
            ("https://[fe80::1]/", Unusable),
        ] {
            assert_eq!(odd(text, OutboundReach::Public), Some(reason), "{text}");
        }
        assert_eq!(odd("https://a.example/hook?token=1", OutboundReach::Public), None);
        assert_eq!(odd("https://A.Example:8443", OutboundReach::Public), None);
        assert_eq!(odd("HTTPS://a.example/@b?to=c@d", OutboundReach::Public), None);
        assert_eq!(
            odd("https://localhost/", OutboundReach::Public),
            None,
            "its addresses are checked later"
        );
    }

    #[test]
    fn http_is_only_allowed_to_private_networks_that_the_operator_allowed() {
        assert_eq!(odd("http://127.0.0.1:9/", OutboundReach::Private), None);
        assert_eq!(odd("http://intranet/", OutboundReach::Private), None);
        assert_eq!(odd("http://1.1.1.1/", OutboundReach::Private), Some(InvalidUrl::NotHttps));
        assert_eq!(
            odd("http://169.254.169.254/", OutboundReach::Private),
            Some(InvalidUrl::Unusable)
        );
    }

    #[test]
    fn the_query_is_not_shown_to_people() {
        let url = OutboundUrl::parse("https://a.example/hook?token=1", OutboundReach::Public)
            .expect("fits");
        assert_eq!(url.to_string(), "https://a.example/hook");
        let with_port = "https://a.example:8443/hook/secret?token=1";
        assert_eq!(OutboundUrl::shown_to_readers(with_port), "https://a.example:8443");
        assert_eq!(OutboundUrl::shown_to_readers("odd"), "");
        assert_eq!((url.host(), url.as_str()), ("a.example", "https://a.example/hook?token=1"));
    }

    proptest! {
        #[test]
        fn any_text_is_handled_and_valid_urls_use_https_without_a_user(
            text in "(.{0,60}|[/:@?#.a-z0-9]{0,20})"
        ) {
            for text in [text.clone(), format!("https:{text}"), format!("https://{text}")] {
                if let Ok(url) = OutboundUrl::parse(&text, OutboundReach::Public) {
                    prop_assert!(url.is_secure() && !url.host().is_empty());
                    prop_assert!(url.0.username().is_empty() && url.0.password().is_none());
                    let literal = url.literal();
                    prop_assert!(literal.is_none_or(|address| kind(address) == AddressKind::Public));
                }
            }
        }
    }
}
