//! Reads the file with the database password, which keeps the password out of the URL in
//! environments and process lists.

use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// The password could not be read. It is not repeated.
#[derive(Debug, thiserror::Error)]
#[error("failed to read the database password file {}", path.display())]
pub struct DatabasePasswordError {
    path: PathBuf,
    source: io::Error,
}

/// Reads the password of a PostgreSQL database from a file. Line ends around it are ignored. An empty
/// file means no password, and other databases ignore the file, so that one setting works for all.
///
/// # Errors
/// [`DatabasePasswordError`] if the file cannot be read.
pub fn read(
    url: &str,
    file: Option<&Path>,
) -> Result<Option<Zeroizing<String>>, DatabasePasswordError> {
    let is_postgres = matches!(url.split(':').next(), Some("postgres" | "postgresql"));
    let Some(path) = file.filter(|_| is_postgres) else { return Ok(None) };
    let text = std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|source| DatabasePasswordError { path: path.to_owned(), source })?;
    let password = text.trim_matches(['\r', '\n']);
    Ok((!password.is_empty()).then(|| Zeroizing::new(password.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_with_any_characters_is_read_only_for_postgresql() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("password");
        std::fs::write(&file, "a b&c=d/ü%\n").expect("written");
        let read_for =
            |url: &str| read(url, Some(&file)).expect("read").map(|text| text.to_string());
        assert_eq!(read_for("postgres://muster@db/muster").as_deref(), Some("a b&c=d/ü%"));
        assert_eq!(read_for("sqlite:/data/muster.db"), None);
        std::fs::write(&file, "\n").expect("written");
        assert_eq!(read_for("postgres://muster@db/muster"), None);
        let missing = read("postgres://db/muster", Some(&folder.path().join("none")));
        assert!(missing.expect_err("missing").to_string().contains("none"));
    }
}
