//! Names of locks: of the executions that name the same lock on one agent, one runs at a time. Pure.

/// Longest name of a lock, in characters.
pub const MAX_LOCK_NAME_CHARS: usize = 64;

/// The valid name of a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockName(String);

/// The name is empty, too long or has other characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 of letters, digits, `.`, `_`, `-`")]
pub struct InvalidLockName;

impl LockName {
    /// The name as text.
    pub fn into_text(self) -> String {
        self.0
    }
}

impl TryFrom<&str> for LockName {
    type Error = InvalidLockName;

    fn try_from(name: &str) -> Result<Self, InvalidLockName> {
        let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_name = (1..=MAX_LOCK_NAME_CHARS).contains(&name.len()) && name.bytes().all(is_valid);
        if is_name { Ok(Self(name.to_owned())) } else { Err(InvalidLockName) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        let longest = "x".repeat(MAX_LOCK_NAME_CHARS);
        for name in ["apt", "db.main", "a_b-C9", longest.as_str()] {
            assert!(LockName::try_from(name).is_ok(), "{name}");
        }
        let too_long = format!("{longest}x");
        for name in ["", "a b", "a/b", "ä", "a\n", too_long.as_str()] {
            assert_eq!(LockName::try_from(name), Err(InvalidLockName), "{name:?}");
        }
    }
}
