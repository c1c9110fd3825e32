//! The address by which people and hosts reach this server, if it is safe to repeat.

use std::fmt;
use std::net::IpAddr;

use super::certificates::pin::PublicKeyPin;

/// Options that keep curl to `https`, also after a redirect.
const HTTPS_ONLY: &str = "--proto '=https' --proto-redir '=https' ";
/// Longest address, in bytes.
const MAX_BYTES: usize = 512;

/// `https://muster.example.com`, without a trailing slash. It is written into a shell script and a
/// page, so it has no character that is special in a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    is_secure: bool,
    /// The host, with port and path if there are any.
    rest: String,
}

/// Why a text is not the address of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it must be a URL such as https://muster.example.com, without user, query or special characters"
)]
pub struct InvalidOrigin;

impl Origin {
    /// Reads `http://…` or `https://…`.
    ///
    /// # Errors
    /// [`InvalidOrigin`]
    pub fn parse(text: &str) -> Result<Self, InvalidOrigin> {
        let (scheme, rest) = text.split_once("://").ok_or(InvalidOrigin)?;
        let is_secure = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(InvalidOrigin),
        };
        let rest = rest.trim_end_matches('/');
        let is_path = |byte: u8| is_of_host(byte) || byte == b'/';
        let is_plain = !rest.starts_with('/') && rest.bytes().all(is_path);
        (is_plain && (1..=MAX_BYTES).contains(&rest.len()))
            .then(|| Self { is_secure, rest: rest.to_owned() })
            .ok_or(InvalidOrigin)
    }

    /// The address of a host, with its port if any, as in a request.
    ///
    /// # Errors
    /// [`InvalidOrigin`]
    pub fn of_host(is_secure: bool, host: &str) -> Result<Self, InvalidOrigin> {
        let is_plain = (1..=MAX_BYTES).contains(&host.len()) && host.bytes().all(is_of_host);
        is_plain.then(|| Self { is_secure, rest: host.to_owned() }).ok_or(InvalidOrigin)
    }

    /// True if a page of this server sends this text as its `Origin`. A default port may be left out.
    pub fn is_origin(&self, text: &str) -> bool {
        let Ok(other) = Self::parse(text) else { return false };
        let host = |origin: &Self| {
            let host = origin.rest.split('/').next().unwrap_or_default().to_ascii_lowercase();
            let default = if origin.is_secure { ":443" } else { ":80" };
            host.strip_suffix(default).unwrap_or(&host).to_owned()
        };
        let is_alone = text.ends_with(&other.rest) && !other.rest.contains('/');
        is_alone && self.is_secure == other.is_secure && host(self) == host(&other)
    }

    /// True for `https`.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// The name or address of the host, without port and brackets.
    pub fn host(&self) -> &str {
        let host = self.rest.split('/').next().unwrap_or_default();
        match host.strip_prefix('[') {
            Some(v6) => v6.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        }
    }

    /// True if others can read the traffic to the server.
    pub fn is_exposed(&self) -> bool {
        let name = self.host();
        let is_loopback =
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        !self.is_secure && !is_loopback
    }

    /// The command that a person pastes on a host to install an agent with this key. `None` if
    /// others can read the traffic to the server. curl then uses only `https`, also after
    /// redirects. With a `pin`, it accepts this public key of the server and no other.
    pub fn install_line(&self, key: &str, pin: Option<&PublicKeyPin>) -> Option<String> {
        if self.is_exposed() {
            return None;
        }
        let protocol = if self.is_secure { HTTPS_ONLY } else { "" };
        // The pin replaces the check against the host's authorities, which do not know the server's own.
        let pin = pin.map(|pin| format!("--pinnedpubkey '{pin}' -k ")).unwrap_or_default();
        Some(format!(
            "curl {protocol}{pin}-fsSL {self}/install/deploy.sh | sudo sh -s -- --key {key}"
        ))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        write!(formatter, "{scheme}://{}", self.rest)
    }
}

fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_stored_without_its_last_slash() {
        for text in ["https://a.example", "http://[::1]:80", "https://a.example/muster"] {
            assert_eq!(Origin::parse(&format!("{text}/")).map(|o| o.to_string()), Ok(text.into()));
        }
    }

    #[test]
    fn what_a_shell_or_a_page_could_take_for_more_is_refused() {
        for host in ["", "a'b", "a$(b)", "a b", "a;b", "a<b>", "a`b`", "user@a", "a?b", "a#b", "ä"]
        {
            assert_eq!(Origin::of_host(true, host), Err(InvalidOrigin), "{host}");
            assert_eq!(Origin::parse(&format!("https://{host}")), Err(InvalidOrigin), "{host}");
        }
        assert_eq!(Origin::of_host(true, "a/b"), Err(InvalidOrigin));
        assert_eq!(Origin::of_host(true, &"a".repeat(600)), Err(InvalidOrigin));
        assert_eq!(Origin::parse("wss://a.example"), Err(InvalidOrigin));
    }

    #[test]
    fn a_page_of_this_server_is_told_from_others() {
        let own = Origin::parse("https://Muster.example/base").expect("an origin");
        for same in ["https://muster.example", "https://muster.example:443"] {
            assert!(own.is_origin(same), "{same}");
        }
        for other in [
            "",
            "null",
            "http://muster.example",
            "https://muster.example:8443",
            "https://muster.example.evil",
            "https://muster.example/",
            "https://muster.example/base",
            "https://evil.example",
            "https://user@muster.example",
        ] {
            assert!(!own.is_origin(other), "{other}");
        }
        let plain = Origin::of_host(false, "127.0.0.1:8080").expect("an origin");
        assert!(plain.is_origin("http://127.0.0.1:8080") && !plain.is_origin("http://127.0.0.1"));
    }

    #[test]
    fn install_line_never_sends_a_key_in_the_clear() {
        let line = |text: &str| Origin::parse(text).expect(text).install_line("KEY", None);
        assert_eq!(line("http://a.example"), None);
        assert_eq!(
            line("https://a.example").as_deref(),
            Some(
                "curl --proto '=https' --proto-redir '=https' -fsSL https://a.example/install/deploy.sh | sudo sh -s -- --key KEY"
            )
        );
        assert_eq!(
            line("http://127.0.0.1:1").as_deref(),
            Some("curl -fsSL http://127.0.0.1:1/install/deploy.sh | sudo sh -s -- --key KEY")
        );
    }

    #[test]
    fn install_line_with_a_pin_accepts_only_this_key() {
        let pin = PublicKeyPin::of_public_key(b"");
        let origin = Origin::parse("https://[::1]:8443").expect("an origin");
        assert_eq!(origin.host(), "::1");
        assert_eq!(
            origin.install_line("KEY", Some(&pin)).as_deref(),
            Some(
                "curl --proto '=https' --proto-redir '=https' --pinnedpubkey \
                 'sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' -k -fsSL \
                 https://[::1]:8443/install/deploy.sh | sudo sh -s -- --key KEY"
            )
        );
    }

    #[test]
    fn only_plain_http_to_another_host_is_exposed() {
        let is_exposed = |text: &str| Origin::parse(text).expect(text).is_exposed();
        assert!(is_exposed("http://a.example") && is_exposed("http://10.0.0.1:8080/x"));
        for text in
            ["https://a.example", "http://127.0.0.1:80", "http://[::1]:80", "http://localhost"]
        {
            assert!(!is_exposed(text), "{text}");
        }
    }
}
