//! The certificate in use, and the renewed one that takes its place while the server runs.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::signal::unix::Signal;
use tokio::sync::watch;

use super::certificate::{CertificateError, FileStamps, Pair, TlsFiles};

/// The certificate that new connections are shown.
#[derive(Debug)]
pub struct Certificate {
    files: TlsFiles,
    digest: [u8; 32],
    stamps: FileStamps,
    settings: watch::Sender<Arc<ServerConfig>>,
}

impl Certificate {
    /// Between two checks of the files.
    pub const CHECK_INTERVAL: Duration = Duration::from_secs(30);

    /// Reads it for the first time.
    ///
    /// # Errors
    /// [`CertificateError`]: a server that is configured for TLS does not start
    /// without.
    pub fn load(files: TlsFiles) -> Result<Self, CertificateError> {
        let stamps = files.stamps();
        let Pair { settings, digest } = files.read()?;
        if files.is_key_open() {
            tracing::warn!(
                key = %files.key.display(),
                "every user of this machine may read the private key; take that right away (chmod 640)"
            );
        }
        Ok(Self { files, digest, stamps, settings: watch::Sender::new(settings) })
    }

    /// Where new connections find it.
    pub(super) fn settings(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.settings.subscribe()
    }

    /// Looks at the files every `interval`, and reads them at once when the process is told to by
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
                    tokio::task::block_in_place(|| certificate.renew_if_changed());
                }
            }
        }
    }

    /// Reads it again if the files were changed since they were last read.
    fn renew_if_changed(&mut self) {
        if self.files.stamps() != self.stamps {
            self.renew();
        }
    }

    /// Reads it again. Open connections stay as they are; a pair that can't be used changes
    /// nothing, and the log says what to do.
    fn renew(&mut self) {
        // Before the reading: what is written meanwhile is noticed at the next check.
        self.stamps = self.files.stamps();
        match self.files.read() {
            Ok(pair) if pair.digest == self.digest => {
                tracing::info!("read the certificate again; it is the same");
            }
            Ok(pair) => {
                self.digest = pair.digest;
                self.settings.send_replace(pair.settings);
                tracing::info!(
                    certificate = %self.files.certificate.display(),
                    "new connections use the new certificate"
                );
            }
            Err(error) => tracing::error!(
                "{error}; the previous certificate stays in use until the files are correct"
            ),
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
        let refusal = || Certificate::load(files.clone()).expect_err("refused").to_string();
        assert!(refusal().contains("tls.crt"), "{}", refusal());
        write(&files, &one.cert.pem(), "");
        assert!(refusal().contains("no private key"), "{}", refusal());
        write(&files, "", &one.signing_key.serialize_pem());
        assert!(refusal().contains("no certificate"), "{}", refusal());
        write(&files, &one.cert.pem(), &other.signing_key.serialize_pem());
        assert!(refusal().contains("does not belong to"), "{}", refusal());
        write(&files, &one.cert.pem(), &one.signing_key.serialize_pem());
        assert!(Certificate::load(files.clone()).is_ok());
    }

    #[test]
    fn a_renewal_takes_the_place_of_the_old_pair_and_half_of_one_does_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = files(&folder);
        let (old, new) = (pair(), pair());
        write(&files, &old.cert.pem(), &old.signing_key.serialize_pem());
        let mut certificate = Certificate::load(files.clone()).expect("a pair");
        let mut settings = certificate.settings();
        certificate.renew();
        assert!(!settings.has_changed().expect("open"), "the same pair is no change");

        fs::write(&files.certificate, new.cert.pem()).expect("write");
        certificate.renew_if_changed();
        assert!(!settings.has_changed().expect("open"), "half a pair is no pair");
        // As a renewal does it: another file in the place of the old one.
        fs::write(folder.path().join("new.key"), new.signing_key.serialize_pem()).expect("write");
        fs::rename(folder.path().join("new.key"), &files.key).expect("rename");
        certificate.renew_if_changed();
        assert!(settings.has_changed().expect("open"));
        settings.mark_unchanged();
        certificate.renew_if_changed();
        assert!(!settings.has_changed().expect("open"));
    }
}
