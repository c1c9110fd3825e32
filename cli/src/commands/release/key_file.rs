//! The file of a key that signs releases: PEM, for its owner alone. It never goes to a server.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use data_encoding::BASE64;
use muster_protocol::release::SigningKey;
use secrecy::zeroize::Zeroizing;

use super::file_error;
use crate::error::CliError;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";
/// Characters of a line of PEM.
const LINE: usize = 64;

/// Makes a key in a file that is not there yet; its fingerprint.
///
/// # Errors
/// [`CliError::File`]; what is there is never written over.
pub fn generate(path: &Path) -> Result<String, CliError> {
    let unusable = |_| CliError::Unsuccessful("the system has no randomness now".into());
    let bytes = SigningKey::generate().map_err(unusable)?;
    let fingerprint =
        SigningKey::read(&bytes).and_then(|key| key.public()).map_err(unusable)?.fingerprint();
    write_new(path, pem(&bytes).as_bytes(), 0o600)?;
    Ok(fingerprint)
}

/// Reads a key that [`generate`] has made.
///
/// # Errors
/// [`CliError::File`], or [`CliError::Usage`] if it is none.
pub fn read(path: &Path) -> Result<SigningKey, CliError> {
    let text = std::fs::read_to_string(path).map_err(file_error("read", path))?;
    let text = Zeroizing::new(text);
    decode(&text).and_then(|bytes| SigningKey::read(&bytes).ok()).ok_or_else(|| {
        let told = "is no key that signs releases; make one with `muster release keygen`";
        CliError::Usage(format!("{} {told}", path.display()))
    })
}

/// Writes a file that is not there yet, durably.
///
/// # Errors
/// [`CliError::File`]
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CliError> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = opened.map_err(file_error("make", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(file_error("write", path))
}

fn pem(bytes: &[u8]) -> Zeroizing<String> {
    let encoded = Zeroizing::new(BASE64.encode(bytes));
    let mut text = Zeroizing::new(format!("{BEGIN}\n"));
    for line in encoded.as_bytes().chunks(LINE) {
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
    fn a_key_is_for_its_owner_alone_and_never_written_over() {
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
