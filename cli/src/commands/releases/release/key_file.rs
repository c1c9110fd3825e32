//! The file of the private key that signs releases: PEM, readable by its owner only.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use data_encoding::BASE64;
use muster_protocol::release::SigningKey;
use secrecy::zeroize::Zeroizing;

use crate::error::CliError;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";
/// Length of a PEM line, in characters.
const LINE_CHARS: usize = 64;

/// Creates a key in a new file; returns its fingerprint.
///
/// # Errors
/// [`CliError::File`], also if the file exists.
pub fn generate(path: &Path) -> Result<String, CliError> {
    let unusable =
        |_| CliError::Unsuccessful("the system's source of random numbers failed".into());
    let bytes = SigningKey::generate().map_err(unusable)?;
    let fingerprint =
        SigningKey::read(&bytes).and_then(|key| key.public()).map_err(unusable)?.fingerprint();
    write_new(path, pem(&bytes).as_bytes(), 0o600)?;
    Ok(fingerprint)
}

/// Reads a key that [`generate`] created.
///
/// # Errors
/// [`CliError::File`], or [`CliError::Usage`] if the file holds no such key.
pub fn read(path: &Path) -> Result<SigningKey, CliError> {
    read_pem(path)?.and_then(|bytes| SigningKey::read(&bytes).ok()).ok_or_else(|| {
        CliError::Usage(format!(
            "{} holds no release key; create one with `muster release keygen`",
            path.display()
        ))
    })
}

/// Reads a private key in PEM; `None` if the file holds none.
///
/// # Errors
/// [`CliError::File`].
pub fn read_pem(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, CliError> {
    let text = std::fs::read_to_string(path).map_err(CliError::file("read", path))?;
    Ok(decode(&Zeroizing::new(text)))
}

/// Writes a new file durably.
///
/// # Errors
/// [`CliError::File`], also if the file exists.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CliError> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = opened.map_err(CliError::file("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(CliError::file("write", path))
}

/// A private key as PEM.
pub fn pem(bytes: &[u8]) -> Zeroizing<String> {
    let encoded = Zeroizing::new(BASE64.encode(bytes));
    let mut text = Zeroizing::new(format!("{BEGIN}\n"));
    for line in encoded.as_bytes().chunks(LINE_CHARS) {
        text.push_str(std::str::from_utf8(line).unwrap_or_default());
        text.push('\n');
    }
    text.push_str(END);
    text.push('\n');
    text
}

fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (_, rest) = text.split_once(BEGIN)?;
    let (inner, _) = rest.split_once(END)?;
    let inner: Zeroizing<String> = Zeroizing::new(inner.split_whitespace().collect());
    BASE64.decode(inner.as_bytes()).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn key_is_readable_by_its_owner_only_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let fingerprint = generate(&path).unwrap();
        assert_eq!(read(&path).unwrap().public().unwrap().fingerprint(), fingerprint);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(generate(&path).is_err());
        assert_eq!(read(&path).unwrap().public().unwrap().fingerprint(), fingerprint);
        std::fs::write(&path, "nothing").unwrap();
        assert!(read(&path).is_err());
    }
}
