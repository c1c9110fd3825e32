//! People: accounts, sign-in, tokens, the second factor, mails.

mod command_line;
mod cookies;
mod device_login;
mod email_change;
mod mails;
mod passkeys;
mod password_reset;
mod registration;
mod second_factor;
mod sessions;
mod setup;
mod sign_in;
mod tokens;
mod totp;
