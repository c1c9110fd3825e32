//! What mails say. The templates hold no text that a stranger may choose: a mail goes to an address that
//! a person typed, and must not contain that person's words to its owner.

use std::sync::LazyLock;

use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::domain::access::people::verification_code::CODE_MS;
use crate::domain::secret_box::Unsealable;
use crate::services::error::{Result, ServiceError};

/// How long a notice is worth sending: a day.
const NOTICE_MS: u64 = 24 * 3_600_000;
/// How long a link to a new password works: an hour.
pub(in crate::services) const RESET_MS: u64 = 3_600_000;

/// A mail.
pub(in crate::services) enum Letter<'a> {
    /// The code of a registration.
    RegistrationCode {
        code: &'a str,
    },
    /// A person wants an account for an address that has one.
    AddressInUse,
    /// The token of an invitation, which proves the address.
    Invitation {
        token: &'a str,
    },
    /// The token for a new password.
    PasswordReset {
        token: &'a str,
    },
    PasswordChanged,
    /// A provider signs the person in from now on.
    IdentityLinked {
        provider: &'a str,
    },
    SecondFactorEnabled,
    SecondFactorDisabled,
    /// A device signs the person in from now on.
    PasskeyAdded {
        name: &'a str,
    },
    PasskeyRemoved {
        name: &'a str,
    },
    RecoveryCodeUsed,
    /// The code for a new address, to that address.
    EmailCode {
        code: &'a str,
    },
    /// To the old address.
    EmailChanged {
        new: &'a str,
    },
}

/// A composed mail.
#[derive(Serialize, Deserialize)]
pub(super) struct MailContent {
    pub to: String,
    pub subject: String,
    pub text: String,
    pub html: String,
}

macro_rules! templates {
    ($($name:literal),+ $(,)?) => {
        [$(
            (concat!($name, ".txt"), include_str!(concat!("templates/", $name, ".txt"))),
            (concat!($name, ".html"), include_str!(concat!("templates/", $name, ".html"))),
        )+]
    };
}

static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|name| match name.ends_with(".html") {
        true => AutoEscape::Html,
        false => AutoEscape::None,
    });
    let layout = ("layout.html", include_str!("templates/layout.html"));
    let all = templates!(
        "registration_code",
        "address_in_use",
        "invitation",
        "password_reset",
        "password_changed",
        "identity_linked",
        "second_factor_enabled",
        "second_factor_disabled",
        "passkey_added",
        "passkey_removed",
        "recovery_code_used",
        "email_code",
        "email_changed",
    );
    for (name, source) in all.into_iter().chain([layout]) {
        if let Err(error) = environment.add_template(name, source) {
            tracing::error!(%error, name, "a template of a mail is invalid");
        }
    }
    environment
});

impl Letter<'_> {
    /// The name of its templates.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::RegistrationCode { .. } => "registration_code",
            Self::AddressInUse => "address_in_use",
            Self::Invitation { .. } => "invitation",
            Self::PasswordReset { .. } => "password_reset",
            Self::PasswordChanged => "password_changed",
            Self::IdentityLinked { .. } => "identity_linked",
            Self::SecondFactorEnabled => "second_factor_enabled",
            Self::SecondFactorDisabled => "second_factor_disabled",
            Self::PasskeyAdded { .. } => "passkey_added",
            Self::PasskeyRemoved { .. } => "passkey_removed",
            Self::RecoveryCodeUsed => "recovery_code_used",
            Self::EmailCode { .. } => "email_code",
            Self::EmailChanged { .. } => "email_changed",
        }
    }

    fn subject(&self) -> &'static str {
        match self {
            Self::RegistrationCode { .. } => "Your code for Muster",
            Self::AddressInUse => "Your account at Muster",
            Self::Invitation { .. } => "An invitation to Muster",
            Self::PasswordReset { .. } => "A new password for Muster",
            Self::PasswordChanged => "Your password was changed",
            Self::IdentityLinked { .. } => "Another way to sign in to your account",
            Self::SecondFactorEnabled => "Your second factor was enabled",
            Self::SecondFactorDisabled => "Your second factor was disabled",
            Self::PasskeyAdded { .. } => "A passkey was added to your account",
            Self::PasskeyRemoved { .. } => "A passkey was removed from your account",
            Self::RecoveryCodeUsed => "A recovery code of yours was used",
            Self::EmailCode { .. } => "Your code for a new address",
            Self::EmailChanged { .. } => "The address of your account was changed",
        }
    }

    /// How long it is worth sending.
    pub(super) fn worth_sending_ms(&self) -> u64 {
        match self {
            Self::RegistrationCode { .. } | Self::EmailCode { .. } => CODE_MS,
            Self::PasswordReset { .. } => RESET_MS,
            Self::AddressInUse
            | Self::Invitation { .. }
            | Self::PasswordChanged
            | Self::IdentityLinked { .. }
            | Self::SecondFactorEnabled
            | Self::SecondFactorDisabled
            | Self::PasskeyAdded { .. }
            | Self::PasskeyRemoved { .. }
            | Self::RecoveryCodeUsed
            | Self::EmailChanged { .. } => NOTICE_MS,
        }
    }

    /// # Errors
    /// [`ServiceError::Sealing`] if a template is broken, which a test excludes.
    pub(super) fn render(&self, to: &str, server: Option<&str>) -> Result<MailContent> {
        let secret = match self {
            Self::RegistrationCode { code } | Self::EmailCode { code } => *code,
            Self::Invitation { token } | Self::PasswordReset { token } => *token,
            _ => "",
        };
        let detail = match self {
            Self::EmailChanged { new } => *new,
            Self::IdentityLinked { provider } => *provider,
            Self::PasskeyAdded { name } | Self::PasskeyRemoved { name } => *name,
            _ => "",
        };
        let place = server.unwrap_or("your Muster server");
        let url = server.unwrap_or("URL");
        let values = context! { secret, detail, place, url };
        let part = |ending: &str| {
            let template = TEMPLATES.get_template(&format!("{}.{ending}", self.kind()));
            template.and_then(|template| template.render(&values)).map_err(|error| {
                tracing::error!(%error, "failed to compose a mail");
                ServiceError::Sealing(Unsealable)
            })
        };
        let (text, html) = (part("txt")?, part("html")?);
        Ok(MailContent { to: to.to_owned(), subject: self.subject().to_owned(), text, html })
    }
}

impl MailContent {
    /// A mail whose text is not of a template.
    pub(super) fn plain(to: &str, subject: &str, text: &str) -> Self {
        let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let html = format!("<!doctype html><html><body><pre>{escaped}</pre></body></html>");
        Self { to: to.to_owned(), subject: subject.to_owned(), text: text.to_owned(), html }
    }

    pub(super) fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>> {
        serde_json::to_vec(self).map(Zeroizing::new).map_err(|_| ServiceError::Sealing(Unsealable))
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_is_composed_and_html_escapes_what_it_shows() {
        let odd = "<b>&\"";
        let all = [
            Letter::RegistrationCode { code: odd },
            Letter::AddressInUse,
            Letter::Invitation { token: odd },
            Letter::PasswordReset { token: odd },
            Letter::PasswordChanged,
            Letter::IdentityLinked { provider: odd },
            Letter::SecondFactorEnabled,
            Letter::SecondFactorDisabled,
            Letter::PasskeyAdded { name: odd },
            Letter::PasskeyRemoved { name: odd },
            Letter::RecoveryCodeUsed,
            Letter::EmailCode { code: odd },
            Letter::EmailChanged { new: odd },
        ];
        for letter in all {
            for server in [None, Some("https://muster.example")] {
                let content = letter.render("ada@example.com", server).expect("a letter");
                assert!(!content.html.contains("<b>") && !content.text.contains("{{"));
                assert!(content.html.contains("</html>") && content.text.len() > 40);
                assert_eq!(content.text.contains(odd), content.html.contains("&lt;b&gt;"));
            }
        }
    }
}
