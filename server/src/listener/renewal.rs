//! The certificate in use, and the renewed one that takes its place while the server runs.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::signal::unix::Signal;
use tokio::sync::watch;

use super::certificate::{self, CertificateError, Clients, FileStamps, Pair, TlsFiles};
use super::client_verifier::ClientVerifier;
use crate::domain::certificates::validity::Validity;
use crate::domain::time::{Clock, Timestamp};
use crate::services::certificates::authority::{ServedCertificate, ServerAuthority};

/// The certificate that new connections are shown.
#[derive(Debug)]
pub struct Certificate {
    source: Source,
    /// Issues and checks certificates of clients.
    authority: Option<ServerAuthority>,
    clock: Clock,
    settings: watch::Sender<TlsSettings>,
}

/// Where the next certificate comes from.
#[derive(Debug)]
enum Source {
    Files { files: TlsFiles, digest: [u8; 32], stamps: FileStamps },
    Authority { authority: ServerAuthority, validity: Validity },
}

/// What new connections are served with.
#[derive(Debug, Clone)]
pub(super) struct TlsSettings {
    pub config: Arc<ServerConfig>,
    /// Checks what clients show.
    pub clients: Option<Clients>,
}

/// Why a certificate is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// It may be the same.
    Asked,
    /// Other authorities count for clients.
    OtherAuthority,
}

impl Certificate {
    /// Between two checks of the files, or of the time of a certificate that the server issued.
    pub const CHECK_INTERVAL: Duration = Duration::from_secs(30);

    /// Reads it for the first time. Clients are asked for certificates of the authority.
    ///
    /// # Errors
    /// [`CertificateError`]: a server that is configured for TLS does not start
    /// without.
    pub fn load(
        files: TlsFiles,
        authority: Option<ServerAuthority>,
        clock: &Clock,
    ) -> Result<Self, CertificateError> {
        let clients = clients(authority.as_ref(), clock)?;
        let stamps = files.stamps();
        let Pair { settings: config, digest, expires_at } = files.read(clients.as_ref())?;
        if files.is_key_open() {
            tracing::warn!(
                key = %files.key.display(),
                "every user of this machine may read the private key; take that right away (chmod 640)"
            );
        }
        let source = Source::Files { files, digest, stamps };
        note_served(authority.as_ref(), expires_at, None);
        let settings = watch::Sender::new(TlsSettings { config, clients });
        Ok(Self { source, authority, clock: clock.clone(), settings })
    }

    /// Issues the first one.
    ///
    /// # Errors
    /// [`CertificateError`]
    pub fn issue(authority: ServerAuthority, clock: &Clock) -> Result<Self, CertificateError> {
        let clients = clients(Some(&authority), clock)?;
        let issued = authority.issue_server_certificate()?;
        let config = certificate::issued(&issued, clients.as_ref())?;
        let validity = issued.validity;
        note_served(Some(&authority), Some(validity.not_after), Some(validity.renew_at()));
        let settings = watch::Sender::new(TlsSettings { config, clients });
        let source = Source::Authority { authority: authority.clone(), validity };
        Ok(Self { source, authority: Some(authority), clock: clock.clone(), settings })
    }

    /// Where new connections find it.
    pub(super) fn settings(&self) -> watch::Receiver<TlsSettings> {
        self.settings.subscribe()
    }

    /// Checks every `interval` whether it must be renewed, and renews it at once when the process receives
    /// HUP or the authority is replaced. Never ends.
    pub async fn follow(certificate: Option<Self>, mut hangup: Signal, interval: Duration) {
        let Some(mut certificate) = certificate else {
            while hangup.recv().await.is_some() {
                tracing::info!("there is nothing to read again: no certificate is set");
            }
            return std::future::pending().await;
        };
        let mut changes = certificate.authority.as_ref().map(ServerAuthority::changes);
        loop {
            let changed = async {
                if let Some(changes) = &mut changes
                    && changes.changed().await.is_ok()
                {
                    return;
                }
                std::future::pending().await
            };
            // Files may lie on a slow disk.
            tokio::select! {
                _ = hangup.recv() => tokio::task::block_in_place(|| certificate.renew(Cause::Asked)),
                () = changed => {
                    tokio::task::block_in_place(|| certificate.renew(Cause::OtherAuthority));
                }
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
            self.renew(Cause::Asked);
        }
    }

    /// Renews it. Open connections stay as they are; if there is no usable new one, nothing changes, and the
    /// log says what to do.
    fn renew(&mut self, cause: Cause) {
        let clients = match clients(self.authority.as_ref(), &self.clock) {
            Ok(clients) => clients,
            Err(error) => return log_failure(&error),
        };
        match &mut self.source {
            Source::Files { files, digest, stamps } => {
                // Before the reading: what is written meanwhile is noticed at the next check.
                *stamps = files.stamps();
                match files.read(clients.as_ref()) {
                    Ok(pair) if pair.digest == *digest && cause == Cause::Asked => {
                        tracing::info!("read the certificate again; it is the same");
                    }
                    Ok(pair) => {
                        *digest = pair.digest;
                        note_served(self.authority.as_ref(), pair.expires_at, None);
                        self.settings.send_replace(TlsSettings { config: pair.settings, clients });
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
                let renewed = renewed.and_then(|new| {
                    Ok((certificate::issued(&new, clients.as_ref())?, new.validity))
                });
                match renewed {
                    Ok((config, new)) => {
                        *validity = new;
                        note_served(Some(authority), Some(new.not_after), Some(new.renew_at()));
                        self.settings.send_replace(TlsSettings { config, clients });
                        tracing::info!(not_after = %new.not_after, "new connections use a new certificate of this server");
                    }
                    Err(error) => log_failure(&error),
                }
            }
        }
    }
}

/// What asks clients for certificates, and checks them.
fn clients(
    authority: Option<&ServerAuthority>,
    clock: &Clock,
) -> Result<Option<Clients>, CertificateError> {
    let Some(authority) = authority else { return Ok(None) };
    let clients = ClientVerifier::new(&authority.client_authorities_pem(), clock.clone())?;
    Ok(Some(Arc::new(clients)))
}

/// Reports which certificate is in use, for people.
fn note_served(
    authority: Option<&ServerAuthority>,
    expires_at: Option<Timestamp>,
    renew_at: Option<Timestamp>,
) {
    if let Some((authority, expires_at)) = authority.zip(expires_at) {
        authority.set_served(ServedCertificate { expires_at, renew_at });
    }
}

fn log_failure(error: &CertificateError) {
    tracing::error!(
        error = error as &dyn std::error::Error,
        "failed to renew the certificate; the previous one stays in use, and the server tries again"
    );
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
        let refusal = || {
            Certificate::load(files.clone(), None, &Clock::system())
                .expect_err("refused")
                .to_string()
        };
        assert!(refusal().contains("tls.crt"), "{}", refusal());
        write(&files, &one.cert.pem(), "");
        assert!(refusal().contains("no private key"), "{}", refusal());
        write(&files, "", &one.signing_key.serialize_pem());
        assert!(refusal().contains("no certificate"), "{}", refusal());
        write(&files, &one.cert.pem(), &other.signing_key.serialize_pem());
        assert!(refusal().contains("does not belong to"), "{}", refusal());
        write(&files, &one.cert.pem(), &one.signing_key.serialize_pem());
        assert!(Certificate::load(files.clone(), None, &Clock::system()).is_ok());
    }

    #[test]
    fn a_renewal_takes_the_place_of_the_old_pair_and_half_of_one_does_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = files(&folder);
        let (old, new) = (pair(), pair());
        write(&files, &old.cert.pem(), &old.signing_key.serialize_pem());
        let mut certificate =
            Certificate::load(files.clone(), None, &Clock::system()).expect("a pair");
        let mut settings = certificate.settings();
        certificate.renew(Cause::Asked);
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
