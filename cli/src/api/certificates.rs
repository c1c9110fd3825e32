//! Additional certificate authorities, for servers whose certificate no public authority issued, and the
//! certificate of this client.

use std::path::Path;

use reqwest::{Certificate, Identity, Url};

use crate::context;
use crate::error::CliError;

/// The certificates in a PEM file.
///
/// # Errors
/// [`CliError::File`] if the file can't be read, [`CliError::Usage`] if it holds no certificate.
pub fn read_authorities(path: &Path) -> Result<Vec<Certificate>, CliError> {
    let pem = std::fs::read(path).map_err(CliError::file("read", path))?;
    let certificates = Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if certificates.is_empty() {
        return Err(CliError::Usage(format!(
            "{} holds no certificate; --ca-file needs the authority's certificate in PEM",
            path.display()
        )));
    }
    Ok(certificates)
}

/// The certificate and the key that are stored for a server; `None` if there are none, or over plain HTTP.
///
/// # Errors
/// [`CliError::File`] if the file can't be read, [`CliError::Usage`] if it is damaged.
pub fn read_identity(server: &Url) -> Result<Option<Identity>, CliError> {
    let path = context::certificate_path(server).filter(|_| server.scheme() == "https");
    let Some(path) = path.filter(|path| path.exists()) else { return Ok(None) };
    let pem = std::fs::read(&path).map_err(CliError::file("read", &path))?;
    Identity::from_pem(&pem).map(Some).map_err(|_| {
        CliError::Usage(format!(
            "{} is damaged; remove it, and run `muster login --certificate` again",
            path.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_of_a_file_without_a_certificate_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        assert_eq!(read_authorities(&path).unwrap_err().exit_code(), 1);
        std::fs::write(&path, "-----BEGIN NONSENSE-----").unwrap();
        let error = read_authorities(&path).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("ca.pem"), "{error}");
    }
}
