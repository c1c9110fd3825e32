//! Reads the file with the database password, which keeps the password out of the URL in
//! environments and process lists.

use std::io;
use std::path::{Path, PathBuf};

use url::Url;
use zeroize::Zeroizing;

/// The password could not be added. Neither it nor the URL is repeated.
#[derive(Debug, thiserror::Error)]
pub enum DatabasePasswordError {
    #[error("failed to read the database password file {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "failed to add the password to the database URL, because the URL is malformed; use postgres://user@host/database"
    )]
    Address,
}

/// Adds the password from a file to the URL of a PostgreSQL database. Line ends around it are
/// ignored. An empty file means no password, and other databases ignore the file, so that one
/// setting works for all.
///
/// # Errors
/// [`DatabasePasswordError`] if the file cannot be read, or the URL is malformed.
pub fn add(address: &str, file: Option<&Path>) -> Result<String, DatabasePasswordError> {
    let is_postgres = matches!(address.split(':').next(), Some("postgres" | "postgresql"));
    let Some(path) = file.filter(|_| is_postgres) else { return Ok(address.to_owned()) };
    let text = std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|source| DatabasePasswordError::Read { path: path.to_owned(), source })?;
    let password = text.trim_matches(['\r', '\n']);
    if password.is_empty() {
        return Ok(address.to_owned());
    }
    let mut url = Url::parse(address).map_err(|_| DatabasePasswordError::Address)?;
    // Not before the host, because there is none if the database is reached by a socket.
    url.query_pairs_mut().append_pair("password", password);
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_with_any_characters_is_added_only_for_postgresql() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("password");
        std::fs::write(&file, "a b&c=d/ü%\n").expect("written");
        let added = add("postgres://muster@db/muster", Some(&file)).expect("added");
        let pairs: Vec<_> =
            added.parse::<Url>().expect("a URL").query_pairs().into_owned().collect();
        assert_eq!(pairs, [("password".to_owned(), "a b&c=d/ü%".to_owned())]);
        assert_eq!(
            add("sqlite:/data/muster.db", Some(&file)).expect("left"),
            "sqlite:/data/muster.db"
        );
        std::fs::write(&file, "\n").expect("written");
        let left = add("postgres://muster@db/muster", Some(&file)).expect("left");
        assert_eq!(left, "postgres://muster@db/muster");
        let missing = add("postgres://db/muster", Some(&folder.path().join("none")));
        assert!(missing.expect_err("missing").to_string().contains("none"));
    }
}
