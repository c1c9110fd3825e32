//! Settings of mails, and of who may create an account.

use std::path::PathBuf;
use std::time::Duration;

use super::{ConfigError, PartialConfig, check, refused};
use crate::adapters::smtp::settings::{SmtpSettings, SmtpUrl};

/// How mails are sent.
#[derive(Debug, Clone)]
pub enum MailConfig {
    /// The server sends none.
    None,
    /// They are printed, for demonstrations.
    Print,
    Smtp {
        settings: SmtpSettings,
        /// Of the password; `None`: it is in the environment, or there is none.
        password_file: Option<PathBuf>,
    },
}

impl MailConfig {
    /// # Errors
    /// [`ConfigError`] names the setting.
    pub(super) fn of(given: &PartialConfig) -> Result<Self, ConfigError> {
        let timeout_ms = given.smtp_timeout_ms.unwrap_or(30_000);
        check("smtp_timeout_ms", timeout_ms, 100..=120_000)?;
        let is_printed = given.demo_print_codes.unwrap_or(false);
        // Compose files set unused variables to an empty text.
        let text = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
        let Some(url) = text(&given.smtp_url) else {
            return Ok(if is_printed { Self::Print } else { Self::None });
        };
        if is_printed {
            return Err(refused("demo_print_codes", "can't be used together with `smtp_url`"));
        }
        let Some(from) = text(&given.smtp_from) else {
            return Err(refused("smtp_from", "is required when `smtp_url` is set"));
        };
        let settings = SmtpSettings::new(
            SmtpUrl::parse(&url).map_err(ConfigError::Smtp)?,
            &from,
            text(&given.smtp_user),
            given.smtp_ca_file.clone(),
            Duration::from_millis(timeout_ms),
        )
        .map_err(ConfigError::Smtp)?;
        Ok(Self::Smtp { settings, password_file: given.smtp_password_file.clone() })
    }
}

/// # Errors
/// [`ConfigError`] for another word than `open` and `closed`.
pub(super) fn is_registration_open(given: &PartialConfig) -> Result<bool, ConfigError> {
    match given.registration.as_deref().unwrap_or_default() {
        "open" => Ok(true),
        "closed" | "" => Ok(false),
        _ => Err(refused("registration", "must be `open` or `closed`")),
    }
}
