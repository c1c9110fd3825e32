//! What people do with their accounts by mail.

use super::email_change::EmailChanges;
use super::password_reset::{PasswordResets, RESETS_PER_MINUTE};
use super::registration::{REGISTRATIONS_PER_MINUTE, RESENDS_PER_MINUTE, Registrations};
use super::sign_in::SignIn;
use super::sign_in::limiter::SignInLimiter;

/// Use cases of accounts that need mail.
#[derive(Debug, Clone)]
pub struct Accounts {
    pub registrations: Registrations,
    pub password_resets: PasswordResets,
    pub email_changes: EmailChanges,
}

impl Accounts {
    /// With the parts of sign-in. `is_open`: everybody may register.
    pub(in crate::services) fn new(sign_in: &SignIn, is_open: bool) -> Self {
        let SignIn { store, clock, cache, secret_box, passwords, lookups, mails, .. } = sign_in;
        let resends = SignInLimiter::per_minute(RESENDS_PER_MINUTE);
        Self {
            registrations: Registrations {
                store: store.clone(),
                clock: clock.clone(),
                secret_box: secret_box.clone(),
                passwords: passwords.clone(),
                mails: mails.clone(),
                lookups: lookups.clone(),
                limiter: SignInLimiter::per_minute(REGISTRATIONS_PER_MINUTE),
                resends: resends.clone(),
                is_open,
            },
            password_resets: PasswordResets {
                store: store.clone(),
                clock: clock.clone(),
                cache: cache.clone(),
                passwords: passwords.clone(),
                mails: mails.clone(),
                lookups: lookups.clone(),
                limiter: SignInLimiter::per_minute(RESETS_PER_MINUTE),
            },
            email_changes: EmailChanges {
                store: store.clone(),
                clock: clock.clone(),
                cache: cache.clone(),
                secret_box: secret_box.clone(),
                mails: mails.clone(),
                limiter: resends,
            },
        }
    }
}
