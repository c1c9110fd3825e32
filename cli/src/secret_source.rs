//! Where the value of a secret comes from: never the command line, which every user of the host can
//! read and shells remember.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use muster_protocol::parameter::MAX_VALUE_BYTES;

use crate::error::CliError;

/// A secret parameter, and where its value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSource {
    pub name: String,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Terminal,
    File(PathBuf),
    /// The variable that has the parameter's name.
    Environment,
}

impl FromStr for SecretSource {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, place) = match text.split_once('=') {
            None => (text, Place::Terminal),
            Some((name, "env")) => (name, Place::Environment),
            Some((name, value)) => match value.strip_prefix('@') {
                Some(path) if !path.is_empty() => (name, Place::File(path.into())),
                _ => {
                    return Err(
                        "a secret's value does not belong on the command line: say NAME to be asked \
                     for it, NAME=@FILE, or NAME=env for the variable of that name",
                    );
                }
            },
        };
        Ok(Self { name: name.to_owned(), place })
    }
}

impl SecretSource {
    /// Reads the value. One line break at the end of a file does not count.
    ///
    /// # Errors
    /// [`CliError`] if it is not there or is no text; never with what was read.
    pub fn read(&self) -> Result<String, CliError> {
        match &self.place {
            Place::Terminal if std::io::stdin().is_terminal() => {
                Ok(rpassword::prompt_password(format!("{}: ", self.name))?)
            }
            Place::Terminal => Err(CliError::Usage(format!(
                "no terminal to ask for {0}: say --secret {0}=@FILE or --secret {0}=env",
                self.name
            ))),
            Place::File(path) => read_file(path),
            Place::Environment => std::env::var(&self.name).map_err(|_| {
                CliError::Usage(format!("the variable {} is not set, or is no text", self.name))
            }),
        }
    }
}

fn read_file(path: &Path) -> Result<String, CliError> {
    let failed = |source| CliError::File { action: "read", path: path.to_owned(), source };
    let mut text = String::new();
    // Two bytes more than a value may have: its line break, and one to see that it is too long.
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_VALUE_BYTES as u64 + 2).read_to_string(&mut text).map_err(failed)?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_the_command_line_is_refused_and_not_repeated() {
        for text in ["TOKEN=hunter2", "TOKEN=", "TOKEN=@"] {
            let refusal = text.parse::<SecretSource>().expect_err(text);
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
        let terminal = "TOKEN".parse::<SecretSource>().expect("asked for");
        assert_eq!((terminal.name.as_str(), terminal.place), ("TOKEN", Place::Terminal));
        assert!("TOKEN=env".parse::<SecretSource>().is_ok());
    }

    #[test]
    fn a_files_last_line_break_does_not_count() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        for (text, value) in [("a b\n", "a b"), ("a\n\n", "a\n"), ("a", "a")] {
            std::fs::write(file.path(), text).expect("written");
            let source = format!("TOKEN=@{}", file.path().display());
            let source: SecretSource = source.parse().expect("a file");
            assert_eq!(source.read().expect("read"), value);
        }
    }
}
