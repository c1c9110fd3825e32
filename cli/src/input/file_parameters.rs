//! The value of a parameter of the type file: the bytes of a file, in base64.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use data_encoding::BASE64;
use muster_protocol::library::MAX_FILE_BYTES;

use crate::error::CliError;

/// Reads a file.
///
/// # Errors
/// [`CliError`] if it can't be read or is too large.
pub fn file_value(path: &Path) -> Result<String, CliError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(CliError::file("read", path))?;
    // One byte more than the limit shows that it is too large.
    file.take(MAX_FILE_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(CliError::file("read", path))?;
    if bytes.len() > MAX_FILE_BYTES {
        let text = format!("{} is larger than 48 KiB, the most for a parameter", path.display());
        return Err(CliError::Usage(text));
    }
    Ok(BASE64.encode(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_too_large_is_refused_before_it_is_sent() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        std::fs::write(&path, [0, 255]).expect("written");
        assert_eq!(file_value(&path).expect("small"), "AP8=");
        std::fs::write(&path, vec![0; MAX_FILE_BYTES]).expect("written");
        assert!(file_value(&path).is_ok());
        std::fs::write(&path, vec![0; MAX_FILE_BYTES + 1]).expect("written");
        assert!(file_value(&path).is_err());
    }
}
