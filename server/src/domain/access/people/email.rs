//! Addresses of people.

use std::fmt;

/// Longest address, in bytes (RFC 5321).
pub const MAX_EMAIL_BYTES: usize = 254;

/// An address in lower case, by which a person signs in. Whether mail arrives there is another matter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EmailAddress(String);

/// The text is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an email address of at most 254 bytes, such as ada@example.com")]
pub struct InvalidEmail;

impl EmailAddress {
    /// Reads an address: `local@domain`, visible ASCII, without quotes or comments.
    ///
    /// # Errors
    /// [`InvalidEmail`] for anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidEmail> {
        let text = text.trim();
        let is_part = |part: &str, most: usize| {
            let is_dotted = part.split('.').all(|label| !label.is_empty());
            (1..=most).contains(&part.len()) && is_dotted
        };
        let is_local = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
        let is_domain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        let (local, domain) = text.split_once('@').ok_or(InvalidEmail)?;
        let is_valid = text.len() <= MAX_EMAIL_BYTES
            && is_part(local, 64)
            && is_part(domain, 253)
            && local.chars().all(is_local)
            && domain.chars().all(is_domain);
        if is_valid { Ok(Self(text.to_ascii_lowercase())) } else { Err(InvalidEmail) }
    }

    /// The address in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_form_and_other_texts_are_refused() {
        let parsed = EmailAddress::parse(" Ada.L+x@Example.COM\n").expect("an address");
        assert_eq!(parsed.as_str(), "ada.l+x@example.com");
        let long = format!("{}@example.com", "a".repeat(65));
        let refused = [
            "",
            "@",
            "a@",
            "@b",
            "a@b@c",
            "a b@c",
            "a@b..c",
            ".a@b",
            "a@b\u{430}",
            "a\r\n@b",
            "<a@b>",
            long.as_str(),
        ];
        for text in refused {
            assert_eq!(EmailAddress::parse(text), Err(InvalidEmail), "{text}");
        }
    }
}
