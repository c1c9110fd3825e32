//! Ad-hoc commands: a program and its arguments, without a shell.

use crate::limits::{MAX_ARGV_BYTES, MAX_ARGV_WORDS};

/// The policy, as sent in `register`, of hosts that accept ad-hoc commands.
pub const POLICY: &str = "shell";

/// Why a command line is rejected. Never contains a word of it: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArgvError {
    #[error("`argv` is empty; the first word must be a program")]
    Empty,
    #[error("`argv` has more than {MAX_ARGV_WORDS} words, or more than 64 KiB")]
    TooLarge,
    #[error("a word of `argv` contains a NUL byte")]
    Nul,
    #[error(
        "the first word of the command must be the name of a program, such as `uname`, or its full path"
    )]
    Program,
}

/// Checks a program and its arguments.
///
/// # Errors
/// [`ArgvError`], whose message says what to do.
pub fn check(argv: &[String]) -> Result<(), ArgvError> {
    let program = argv.first().ok_or(ArgvError::Empty)?;
    if argv.len() > MAX_ARGV_WORDS || argv.iter().map(String::len).sum::<usize>() > MAX_ARGV_BYTES {
        return Err(ArgvError::TooLarge);
    }
    if argv.iter().any(|word| word.contains('\0')) {
        return Err(ArgvError::Nul);
    }
    // A relative path would depend on the working directory.
    let is_program = match program.as_str() {
        "" | "." | ".." => false,
        program => program.starts_with('/') || !program.contains('/'),
    };
    if is_program { Ok(()) } else { Err(ArgvError::Program) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_must_be_a_name_or_an_absolute_path() {
        let check = |words: &[&str]| {
            check(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
        };
        for words in [&["uname", "-a"][..], &["/bin/echo", "", "../x", "$(id)"], &["-x"]] {
            assert_eq!(check(words), Ok(()), "{words:?}");
        }
        for words in [&[""][..], &["./run"], &["bin/run"], &["../run"], &[".."]] {
            assert_eq!(check(words), Err(ArgvError::Program), "{words:?}");
        }
        assert_eq!(check(&[]), Err(ArgvError::Empty));
        assert_eq!(check(&["echo", "a\0b"]), Err(ArgvError::Nul));
        assert_eq!(check(&vec!["x"; MAX_ARGV_WORDS + 1]), Err(ArgvError::TooLarge));
        assert_eq!(check(&["echo", &"x".repeat(MAX_ARGV_BYTES)]), Err(ArgvError::TooLarge));
    }
}
