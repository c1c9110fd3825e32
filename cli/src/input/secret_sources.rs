//! Where the value of a secret parameter comes from: a prompt, a file or an environment variable. Never
//! the command line: every user of the host can read it, and shells store it.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use muster_protocol::parameter::MAX_VALUE_BYTES;

use crate::error::CliError;

/// A secret parameter and the source of its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSource {
    pub name: String,
    source: ValueSource,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ValueSource {
    /// A prompt without echo.
    Prompt,
    File(PathBuf),
    /// The environment variable with the parameter's name.
    Environment,
}

impl FromStr for SecretSource {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, source) = match text.split_once('=') {
            None => (text, ValueSource::Prompt),
            Some((name, "env")) => (name, ValueSource::Environment),
            Some((name, value)) => match value.strip_prefix('@') {
                Some(path) if !path.is_empty() => (name, ValueSource::File(path.into())),
                _ => {
                    return Err(
                        "the value of a secret must not be on the command line: use NAME to be \
                         prompted, NAME=@FILE, or NAME=env for the environment variable NAME",
                    );
                }
            },
        };
        Ok(Self { name: name.to_owned(), source })
    }
}

impl SecretSource {
    /// Reads the value, without one trailing line break of a file.
    ///
    /// # Errors
    /// [`CliError`] if the value is missing or is not UTF-8. Never holds what was read.
    pub fn read(&self) -> Result<String, CliError> {
        match &self.source {
            ValueSource::Prompt if std::io::stdin().is_terminal() => {
                Ok(rpassword::prompt_password(format!("{}: ", self.name))?)
            }
            ValueSource::Prompt => Err(CliError::Usage(format!(
                "can't prompt for {0} without a terminal; use --secret {0}=@FILE or --secret {0}=env",
                self.name
            ))),
            ValueSource::File(path) => read_file(path),
            ValueSource::Environment => std::env::var(&self.name).map_err(|_| {
                CliError::Usage(format!(
                    "the environment variable {} is not set or is not UTF-8",
                    self.name
                ))
            }),
        }
    }
}

fn read_file(path: &Path) -> Result<String, CliError> {
    let mut text = String::new();
    // Two bytes more than the limit: a line break, and one that shows that the value is too long.
    let file = std::fs::File::open(path).map_err(CliError::file("read", path))?;
    file.take(MAX_VALUE_BYTES as u64 + 2)
        .read_to_string(&mut text)
        .map_err(CliError::file("read", path))?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_value_on_the_command_line_is_refused_and_not_printed() {
        for text in ["TOKEN=hunter2", "TOKEN=", "TOKEN=@"] {
            let refusal = text.parse::<SecretSource>().expect_err(text);
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
        let terminal = "TOKEN".parse::<SecretSource>().expect("a prompt");
        assert_eq!((terminal.name.as_str(), terminal.source), ("TOKEN", ValueSource::Prompt));
        assert!("TOKEN=env".parse::<SecretSource>().is_ok());
    }

    #[test]
    fn one_trailing_line_break_of_a_file_is_dropped() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        for (text, value) in [("a b\n", "a b"), ("a\n\n", "a\n"), ("a", "a")] {
            std::fs::write(file.path(), text).expect("written");
            let source = format!("TOKEN=@{}", file.path().display());
            let source: SecretSource = source.parse().expect("a file");
            assert_eq!(source.read().expect("read"), value);
        }
    }
}
