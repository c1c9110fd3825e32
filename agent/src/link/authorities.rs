//! Authorities of the server's certificate: those of the operator's file, and those that the server has replaced
//! them with.
//!
//! A new authority counts only if one that already counts has signed it. The state directory keeps it, because the
//! agent may not be able to write to the operator's file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER};
use muster_protocol::frame::AuthorityNotice;
use muster_protocol::identity::{MAX_CERTIFICATE_BYTES, MAX_RETIRED_AUTHORITIES};
use ring::digest::{SHA256, digest};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::ring as provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::storage::layout::StateDir;
use crate::storage::{self, StorageError};

/// Most authorities of the server that are kept, and most that are remembered as retired.
const MAX_KEPT: usize = 8;
const MAX_REMEMBERED: usize = 4 * MAX_RETIRED_AUTHORITIES;

/// Certificate authorities that are trusted in addition to the host's store.
#[derive(Debug, Clone, Default)]
pub struct Authorities {
    configured: Arc<[CertificateDer<'static>]>,
    /// The file that they were read from; absent if there are none.
    path: Option<PathBuf>,
    /// Where those of the server are kept.
    kept: Option<PathBuf>,
}

/// The content of the file in the state directory.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct KeptAuthorities {
    /// Of the last notice.
    id: Option<Uuid>,
    /// Certificates: DER, base64.
    trusted: Vec<String>,
    /// SHA-256 of certificates, hex. They count no longer, even if the operator's file has them.
    retired: BTreeSet<String>,
}

/// Why a file of certificate authorities can't be used. The messages say what to do.
#[derive(Debug, thiserror::Error)]
pub enum AuthoritiesError {
    #[error("failed to read the CA file {}: {source}; check MUSTER_CA_FILE or --ca-file", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "the CA file {} contains no certificate; add the authority's certificate as PEM, from BEGIN CERTIFICATE to END CERTIFICATE",
        path.display()
    )]
    Empty { path: PathBuf },
    #[error(
        "certificate {number} in the CA file {} is damaged or does not belong to an authority; export it again as PEM",
        path.display()
    )]
    Damaged { path: PathBuf, number: usize },
}

/// Why an authority that the server announces is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum NoticeError {
    #[error("this agent has no CA file, so it follows its server to no other authority")]
    NotConfigured,
    #[error("the notice is damaged or too large")]
    Malformed,
    #[error("no authority that this agent trusts has signed the new one")]
    Unproven,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Authorities {
    /// Reads a PEM file with certificates.
    ///
    /// # Errors
    /// [`AuthoritiesError`] if it contains no certificate or one that can't be used.
    pub fn read(path: &Path) -> Result<Self, AuthoritiesError> {
        let path = path.to_owned();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(source) => return Err(AuthoritiesError::Unreadable { path, source }),
        };
        let mut store = RootCertStore::empty();
        let mut certificates = Vec::new();
        for read in CertificateDer::pem_slice_iter(&bytes) {
            let number = certificates.len() + 1;
            let Ok(certificate) = read else {
                return Err(AuthoritiesError::Damaged { path, number });
            };
            if store.add(certificate.clone()).is_err() {
                return Err(AuthoritiesError::Damaged { path, number });
            }
            certificates.push(certificate);
        }
        if certificates.is_empty() {
            return Err(AuthoritiesError::Empty { path });
        }
        Ok(Self { configured: certificates.into(), path: Some(path), kept: None })
    }

    /// Also trusts what the server has replaced them with, as the state directory has it.
    pub fn kept_in(self, state_dir: &Path) -> Self {
        Self { kept: Some(StateDir::at(state_dir).authorities()), ..self }
    }

    /// Reads the file again. If it can't be used any more, the current certificates stay in use.
    pub fn reload(&self) -> Self {
        let Some(path) = &self.path else { return self.clone() };
        match Self::read(path) {
            Ok(read) => Self { kept: self.kept.clone(), ..read },
            Err(error) => {
                tracing::warn!("{error}; the current certificates stay in use");
                self.clone()
            }
        }
    }

    /// True if the agent can follow its server to another authority.
    pub fn is_managed(&self) -> bool {
        self.kept.is_some() && !self.configured.is_empty()
    }

    /// The id of the last notice that was stored.
    pub fn notice_id(&self) -> Option<Uuid> {
        self.kept().id
    }

    /// Every certificate that counts now.
    pub fn trusted(&self) -> Vec<CertificateDer<'static>> {
        self.with_kept(&self.kept())
    }

    /// Stores what the server announces. It counts for connections that are prepared from now on.
    ///
    /// # Errors
    /// [`NoticeError`]; nothing changes then.
    pub fn follow(&self, notice: &AuthorityNotice) -> Result<(), NoticeError> {
        let path = self.kept.as_ref().filter(|_| self.is_managed());
        let path = path.ok_or(NoticeError::NotConfigured)?;
        let new = decode(&notice.certificate)?;
        let mut kept = self.kept();
        if !self.with_kept(&kept).contains(&new) {
            let proof: Vec<_> =
                notice.proof.iter().take(3).map(|text| decode(text)).collect::<Result<_, _>>()?;
            check(&new, &proof, self.with_kept(&kept))?;
        }
        let is_hash = |text: &String| HEXLOWER.decode(text.as_bytes()).is_ok_and(|b| b.len() == 32);
        let is_bounded = notice.retired.len() <= MAX_RETIRED_AUTHORITIES;
        if !is_bounded || !notice.retired.iter().all(is_hash) {
            return Err(NoticeError::Malformed);
        }
        if kept.id == Some(notice.id) {
            return Ok(());
        }
        kept.id = Some(notice.id);
        if !kept.trusted.contains(&notice.certificate) {
            kept.trusted.push(notice.certificate.clone());
        }
        kept.retired.extend(notice.retired.iter().cloned());
        // What the server uses now is not retired, even if it was before.
        kept.retired.remove(&fingerprint(&new));
        let retired = kept.retired.clone();
        kept.trusted
            .retain(|text| decode(text).is_ok_and(|known| !retired.contains(&fingerprint(&known))));
        kept.trusted.drain(..kept.trusted.len().saturating_sub(MAX_KEPT));
        while kept.retired.len() > MAX_REMEMBERED {
            kept.retired.pop_first();
        }
        Ok(storage::replace_synced(path, &storage::seal(&kept))?)
    }

    fn kept(&self) -> KeptAuthorities {
        let Some(path) = self.kept.as_ref().filter(|_| self.is_managed()) else {
            return KeptAuthorities::default();
        };
        let read = storage::read_sealed(path).unwrap_or_else(|error| {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the authorities that the server announced are not used");
            None
        });
        read.unwrap_or_default()
    }

    fn with_kept(&self, kept: &KeptAuthorities) -> Vec<CertificateDer<'static>> {
        let mut all = self.configured.to_vec();
        for text in &kept.trusted {
            match decode(text) {
                Ok(known) if !all.contains(&known) => all.push(known),
                _ => {}
            }
        }
        all.retain(|known| !kept.retired.contains(&fingerprint(known)));
        all
    }
}

/// Checks that a trusted authority has signed the key of the new one, and that the new one issues certificates of
/// the server with it.
fn check(
    new: &CertificateDer<'static>,
    proof: &[CertificateDer<'static>],
    trusted: Vec<CertificateDer<'static>>,
) -> Result<(), NoticeError> {
    let [of_server, signed] = proof else { return Err(NoticeError::Unproven) };
    let unproven = |_| NoticeError::Unproven;
    let key = |certificate| {
        let parsed = ParsedCertificate::try_from(certificate).map_err(unproven)?;
        Ok::<_, NoticeError>(parsed.subject_public_key_info().to_vec())
    };
    if key(new)? != key(signed)? {
        return Err(NoticeError::Unproven);
    }
    is_issued(of_server, vec![new.clone()], &[]).map_err(unproven)?;
    is_issued(of_server, trusted, std::slice::from_ref(signed)).map_err(unproven)
}

/// Checks the chain from a certificate of a server to one of these authorities.
fn is_issued(
    certificate: &CertificateDer<'_>,
    authorities: Vec<CertificateDer<'static>>,
    between: &[CertificateDer<'_>],
) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority)?;
    }
    if roots.is_empty() {
        return Err(CertificateError::UnknownIssuer.into());
    }
    verify_server_cert_signed_by_trust_anchor(
        &ParsedCertificate::try_from(certificate)?,
        &roots,
        between,
        UnixTime::now(),
        provider::default_provider().signature_verification_algorithms.all,
    )
}

fn decode(text: &str) -> Result<CertificateDer<'static>, NoticeError> {
    if text.len() > MAX_CERTIFICATE_BYTES {
        return Err(NoticeError::Malformed);
    }
    let der = BASE64.decode(text.as_bytes()).map_err(|_| NoticeError::Malformed)?;
    Ok(CertificateDer::from(der))
}

/// SHA-256 of a certificate, hex.
fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    HEXLOWER.encode(digest(&SHA256, certificate).as_ref())
}

#[cfg(test)]
mod tests;
