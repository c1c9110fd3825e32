//! Which passwords are good enough: by length and by a list of breached ones, not by rules.

use std::collections::HashSet;
use std::sync::LazyLock;

use super::email::EmailAddress;

/// Shortest password, in characters.
pub const MIN_PASSWORD_CHARS: usize = 12;
/// Longest password, in bytes: hashing it takes time.
pub const MAX_PASSWORD_BYTES: usize = 256;
/// Most entries of the list.
const MAX_BREACHED: usize = 1_024;
/// Breached passwords of at least 12 characters, in lower case, one a line.
const LIST: &str = include_str!("breached_passwords.txt");

static BREACHED: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    LIST.lines().filter(|line| !line.starts_with('#')).take(MAX_BREACHED).collect()
});

/// Why a password is not good enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordProblem {
    TooShort,
    TooLong,
    Breached,
    /// It is the address, or the part before the `@`.
    IsAddress,
}

/// Checks a new password.
///
/// # Errors
/// [`PasswordProblem`].
pub fn check_password(password: &str, email: &EmailAddress) -> Result<(), PasswordProblem> {
    if password.len() > MAX_PASSWORD_BYTES {
        return Err(PasswordProblem::TooLong);
    }
    if password.chars().count() < MIN_PASSWORD_CHARS {
        return Err(PasswordProblem::TooShort);
    }
    let lower = password.to_lowercase();
    let first = lower.chars().next();
    let is_one_character = lower.chars().all(|c| Some(c) == first);
    if is_one_character || BREACHED.contains(lower.as_str()) {
        return Err(PasswordProblem::Breached);
    }
    let local = email.as_str().split('@').next();
    if lower == email.as_str() || Some(lower.as_str()) == local {
        return Err(PasswordProblem::IsAddress);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_and_the_list_decide() {
        let email = EmailAddress::parse("ada.lovelace@example.com").expect("an address");
        let check = |text: &str| check_password(text, &email);
        assert_eq!(check("correct horse battery"), Ok(()));
        assert_eq!(check("elevenchars"), Err(PasswordProblem::TooShort));
        // Characters count, not bytes.
        assert_eq!(check("ääääää"), Err(PasswordProblem::TooShort));
        assert_eq!(check(&"ab".repeat(128)), Ok(()));
        assert_eq!(check(&"ab".repeat(129)), Err(PasswordProblem::TooLong));
        assert_eq!(check("aaaaaaaaaaaaa"), Err(PasswordProblem::Breached));
        assert_eq!(check("ADA.lovelace@example.com"), Err(PasswordProblem::IsAddress));
        assert_eq!(check("ada.lovelace"), Err(PasswordProblem::IsAddress));
        let listed = BREACHED.iter().next().expect("an entry");
        assert_eq!(check(&listed.to_uppercase()), Err(PasswordProblem::Breached));
    }

    #[test]
    fn the_list_has_only_passwords_that_length_does_not_refuse() {
        let entries: Vec<_> = LIST.lines().filter(|line| !line.starts_with('#')).collect();
        assert!((100..=MAX_BREACHED).contains(&entries.len()), "{}", entries.len());
        for entry in entries {
            assert!(
                entry.chars().count() >= MIN_PASSWORD_CHARS && entry.to_lowercase() == entry,
                "{entry}"
            );
        }
    }
}
