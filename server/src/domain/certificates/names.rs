//! The names and addresses that a certificate is valid for.

use std::fmt;
use std::net::IpAddr;

/// Most names of the server's certificate.
pub const MAX_CERTIFICATE_NAMES: usize = 100;
/// Longest name of a host, and longest part of it between two dots, in bytes (RFC 1035).
const MAX_NAME_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

/// A name of a host, in lower case, or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateName {
    Dns(String),
    Address(IpAddr),
}

/// Why names can't be in a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNames {
    #[error(
        "`{0}` is neither a name such as muster.example nor an address such as 10.0.0.5; leave out scheme and port"
    )]
    Name(String),
    #[error("more than {MAX_CERTIFICATE_NAMES} names")]
    TooMany,
}

impl CertificateName {
    /// Reads a name or an address, without port. An IPv6 address may be in brackets.
    ///
    /// # Errors
    /// [`InvalidNames::Name`]
    pub fn parse(text: &str) -> Result<Self, InvalidNames> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Self::Address(address));
        }
        // Clients take a name of digits alone for an address, and find it in no certificate.
        let is_address = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if text.len() > MAX_NAME_BYTES || is_address || !text.split('.').all(is_label) {
            return Err(InvalidNames::Name(text.escape_debug().to_string()));
        }
        Ok(Self::Dns(text.to_ascii_lowercase()))
    }

    /// Reads names in the order given, each once.
    ///
    /// # Errors
    /// [`InvalidNames`]
    pub fn all<T: AsRef<str>>(texts: &[T]) -> Result<Vec<Self>, InvalidNames> {
        let mut names = Vec::new();
        for text in texts.iter().map(|text| text.as_ref().trim()).filter(|text| !text.is_empty()) {
            let name = Self::parse(text)?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if names.len() > MAX_CERTIFICATE_NAMES { Err(InvalidNames::TooMany) } else { Ok(names) }
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => formatter.write_str(name),
            Self::Address(address) => write!(formatter, "{address}"),
        }
    }
}

fn is_label(label: &str) -> bool {
    let is_inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=MAX_LABEL_BYTES).contains(&label.len())
        && label.bytes().all(is_inside)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_read_once_and_in_lower_case() {
        let names =
            CertificateName::all(&["Muster.Example", "muster.example", " 10.0.0.5", "[::1]", ""]);
        let shown: Vec<_> = names.expect("valid").iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["muster.example", "10.0.0.5", "::1"]);
        let many: Vec<_> = (0..=MAX_CERTIFICATE_NAMES).map(|n| format!("host-{n}")).collect();
        assert_eq!(CertificateName::all(&many), Err(InvalidNames::TooMany));
        assert!(CertificateName::all(&many[1..]).is_ok());
    }

    #[test]
    fn what_is_neither_name_nor_address_is_refused() {
        let long = "a".repeat(64);
        for text in [
            "*",
            "*.example",
            "a..b",
            ".",
            "-a",
            "a-",
            "a:8080",
            "https://a",
            "a/b",
            "1.2.3",
            "ä",
            &long,
        ] {
            assert!(CertificateName::parse(text).is_err(), "{text}");
        }
    }
}
