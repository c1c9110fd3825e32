//! Certificate authorities that are trusted beside the system's own: a server of one's own often
//! has a certificate that the world does not know.

use std::path::Path;

use reqwest::Certificate;

use crate::error::CliError;

/// The certificates in a PEM file.
///
/// # Errors
/// [`CliError::File`] if it can't be read, [`CliError::Usage`] if it holds none.
pub fn authorities(path: &Path) -> Result<Vec<Certificate>, CliError> {
    let pem = std::fs::read(path).map_err(|source| CliError::File {
        action: "read",
        path: path.into(),
        source,
    })?;
    let certificates = Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if certificates.is_empty() {
        return Err(CliError::Usage(format!(
            "no certificate in {}: --ca-file wants the authority's certificate in PEM",
            path.display()
        )));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_without_a_certificate_is_refused_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        assert_eq!(authorities(&path).unwrap_err().exit_code(), 1);
        std::fs::write(&path, "-----BEGIN NONSENSE-----").unwrap();
        let error = authorities(&path).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("ca.pem"), "{error}");
    }
}
