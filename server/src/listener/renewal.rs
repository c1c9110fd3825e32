//! The certificate in use, and the renewed one that takes its place while the server runs.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::signal::unix::Signal;
use tokio::sync::watch;

use super::certificate::{self, CertificateError, Clients, FileStamps, Pair, TlsFiles};
use super::client_verifier::ClientVerifier;
use crate::domain::certificates::validity::Validity;
use crate::services::certificates::authority::ServerAuthority;

/// The certificate that new connections are shown.
#[derive(Debug)]
pub struct Certificate {
    source: Source,
    /// Asks clients for certificates.
    clients: Option<Clients>,
    settings: watch::Sender<Arc<ServerConfig>>,
}

/// Where the next certificate comes from.
#[derive(Debug)]
enum Source {
    Files { files: TlsFiles, digest: [u8; 32], stamps: FileStamps },
    Authority { authority: ServerAuthority, validity: Validity },
}

impl Certificate {
    /// Between two checks of the files, or of the time of a certificate that the server issued.
    pub const CHECK_INTERVAL: Duration = Duration::from_secs(30);

    /// Reads it for the first time.
    ///
    /// # Errors
    /// [`CertificateError`]: a server that is configured for TLS does not start
    /// without.
    pub fn load(
        files: TlsFiles,
        clients: Option<ClientVerifier>,
    ) -> Result<Self, CertificateError> {
        let clients = clients.map(Arc::new);
        let stamps = files.stamps();
        let Pair { settings, digest } = files.read(clients.as_ref())?;
        if files.is_key_open() {
            tracing::warn!(
                key = %files.key.display(),
                "every user of this machine may read the private key; take that right away (chmod 640)"
            );
        }
        let source = Source::Files { files, digest, stamps };
        Ok(Self { source, clients, settings: watch::Sender::new(settings) })
    }

    /// Issues the first one.
    ///
    /// # Errors
    /// [`CertificateError`]
    pub fn issue(
        authority: ServerAuthority,
        clients: ClientVerifier,
    ) -> Result<Self, CertificateError> {
        let clients = Some(Arc::new(clients));
        let issued = authority.issue_server_certificate()?;
        let settings = watch::Sender::new(certificate::issued(&issued, clients.as_ref())?);
        let source = Source::Authority { authority, validity: issued.validity };
        Ok(Self { source, clients, settings })
    }

    /// Where new connections find it.
    pub(super) fn settings(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.settings.subscribe()
    }

    /// What asks clients for certificates.
    pub(super) fn clients(&self) -> Option<Clients> {
        self.clients.clone()
    }

    /// Checks every `interval` whether it must be renewed, and renews it at once when the process receives
    /// HUP. Never ends.
    pub async fn follow(certificate: Option<Self>, mut hangup: Signal, interval: Duration) {
        let Some(mut certificate) = certificate else {
            while hangup.recv().await.is_some() {
                tracing::info!("there is nothing to read again: no certificate is set");
            }
            return std::future::pending().await;
        };
        loop {
            // Files may lie on a slow disk.
            tokio::select! {
                _ = hangup.recv() => tokio::task::block_in_place(|| certificate.renew()),
                () = tokio::time::sleep(interval) => {
                    tokio::task::block_in_place(|| certificate.renew_if_due());
                }
            }
        }
    }

    /// Renews it if the files were changed since they were last read, or if it is time.
    fn renew_if_due(&mut self) {
        let is_due = match &self.source {
            Source::Files { files, stamps, .. } => files.stamps() != *stamps,
            Source::Authority { authority, validity } => authority.is_due(validity),
        };
        if is_due {
            self.renew();
        }
    }

    /// Renews it. Open connections stay as they are; if there is no usable new one, nothing changes, and the
    /// log says what to do.
    fn renew(&mut self) {
        let clients = self.clients.as_ref();
        match &mut self.source {
            Source::Files { files, digest, stamps } => {
                // Before the reading: what is written meanwhile is noticed at the next check.
                *stamps = files.stamps();
                match files.read(clients) {
                    Ok(pair) if pair.digest == *digest => {
                        tracing::info!("read the certificate again; it is the same");
                    }
                    Ok(pair) => {
                        *digest = pair.digest;
                        self.settings.send_replace(pair.settings);
                        tracing::info!(
                            certificate = %files.certificate.display(),
                            "new connections use the new certificate"
                        );
                    }
                    Err(error) => tracing::error!(
                        "{error}; the previous certificate stays in use until the files are correct"
                    ),
                }
            }
            Source::Authority { authority, validity } => {
                let renewed = authority.issue_server_certificate().map_err(CertificateError::from);
                match renewed
                    .and_then(|new| Ok((certificate::issued(&new, clients)?, new.validity)))
                {
                    Ok((settings, new)) => {
                        *validity = new;
                        self.settings.send_replace(settings);
                        tracing::info!(not_after = %new.not_after, "new connections use a new certificate of this server");
                    }
                    Err(error) => tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "failed to renew the certificate; the previous one stays in use, and the server tries again"
                    ),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use rcgen::{CertifiedKey, generate_simple_self_signed};

    fn pair() -> CertifiedKey<rcgen::KeyPair> {
        generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate")
    }

    fn files(folder: &tempfile::TempDir) -> TlsFiles {
        let path = |name| folder.path().join(name);
        TlsFiles { certificate: path("tls.crt"), key: path("tls.key") }
    }

    fn write(files: &TlsFiles, certificate: &str, key: &str) {
        fs::write(&files.certificate, certificate).expect("write");
        fs::write(&files.key, key).expect("write");
    }

    #[test]
    fn what_can_not_be_used_is_refused_in_a_sentence_that_names_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = files(&folder);
        let (one, other) = (pair(), pair());
        let refusal = || Certificate::load(files.clone(), None).expect_err("refused").to_string();
        assert!(refusal().contains("tls.crt"), "{}", refusal());
        write(&files, &one.cert.pem(), "");
        assert!(refusal().contains("no private key"), "{}", refusal());
        write(&files, "", &one.signing_key.serialize_pem());
        assert!(refusal().contains("no certificate"), "{}", refusal());
        write(&files, &one.cert.pem(), &other.signing_key.serialize_pem());
        assert!(refusal().contains("does not belong to"), "{}", refusal());
        write(&files, &one.cert.pem(), &one.signing_key.serialize_pem());
        assert!(Certificate::load(files.clone(), None).is_ok());
    }

    #[test]
    fn a_renewal_takes_the_place_of_the_old_pair_and_half_of_one_does_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = files(&folder);
        let (old, new) = (pair(), pair());
        write(&files, &old.cert.pem(), &old.signing_key.serialize_pem());
        let mut certificate = Certificate::load(files.clone(), None).expect("a pair");
        let mut settings = certificate.settings();
        certificate.renew();
        assert!(!settings.has_changed().expect("open"), "the same pair is no change");

        fs::write(&files.certificate, new.cert.pem()).expect("write");
        certificate.renew_if_due();
        assert!(!settings.has_changed().expect("open"), "half a pair is no pair");
        // As a renewal does it: another file in the place of the old one.
        fs::write(folder.path().join("new.key"), new.signing_key.serialize_pem()).expect("write");
        fs::rename(folder.path().join("new.key"), &files.key).expect("rename");
        certificate.renew_if_due();
        assert!(settings.has_changed().expect("open"));
        settings.mark_unchanged();
        certificate.renew_if_due();
        assert!(!settings.has_changed().expect("open"));
    }
}
