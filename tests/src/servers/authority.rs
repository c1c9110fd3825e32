//! A certificate authority for one test, and clients that trust only it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{Datelike as _, TimeDelta, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::processes::test_dir::TestDir;

/// A connection over TLS.
pub type Secured = TlsStream<TcpStream>;

/// The authority, and the files of the certificate that it issued last.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
    file: PathBuf,
}

/// The files for a TLS server.
#[derive(Debug, Clone)]
pub struct Certificate {
    pub chain: PathBuf,
    pub key: PathBuf,
}

/// A certificate and its key, in PEM.
#[derive(Debug)]
pub struct Issued {
    pub certificate: String,
    pub key: String,
    /// The certificate as clients receive it.
    pub der: CertificateDer<'static>,
}

impl Authority {
    /// A new authority, which has issued a certificate into the folder `tls` of the test's
    /// directory.
    pub fn new(test_dir: &TestDir) -> Self {
        // Fails if a provider is installed already, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = test_dir.folder("tls");
        let mut params = CertificateParams::new([]).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "Office CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let file = folder.join("ca.pem");
        std::fs::write(&file, issuer.pem()).expect("write the authority");
        let authority = Self { issuer, folder, file };
        let issued = authority.issue();
        authority.install(&issued.certificate, &issued.key);
        authority
    }

    /// A certificate for this machine that is valid for some months, with a new key. Not installed.
    pub fn issue(&self) -> Issued {
        self.issue_for(&["localhost", "127.0.0.1"], (-1, 90))
    }

    /// A certificate for these names and addresses, valid between these days from now.
    fn issue_for(&self, names: &[&str], days: (i64, i64)) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("valid names");
        let day = |offset: i64| {
            let day = (Utc::now() + TimeDelta::days(offset)).date_naive();
            let number = |number: u32| u8::try_from(number).expect("a small number");
            date_time_ymd(day.year(), number(day.month()), number(day.day()))
        };
        (params.not_before, params.not_after) = (day(days.0), day(days.1));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().clone(),
        }
    }

    /// Installs a certificate for these names and addresses, and returns its files.
    pub fn certify(&self, names: &[&str], days: (i64, i64)) -> Certificate {
        let issued = self.issue_for(names, days);
        self.install(&issued.certificate, &issued.key);
        self.installed()
    }

    /// The files of the certificate that was installed last. The first one is for this machine.
    pub fn installed(&self) -> Certificate {
        Certificate { chain: self.certificate(), key: self.key() }
    }

    /// Replaces certificate and key as a renewal does, by renaming. Every user can read the key.
    pub fn install(&self, certificate: &str, key: &str) {
        for (path, text) in [(self.key(), key), (self.certificate(), certificate)] {
            let new = path.with_extension("new");
            std::fs::write(&new, text).expect("write a file");
            let everybody = Permissions::from_mode(0o644);
            std::fs::set_permissions(&new, everybody).expect("let everybody read");
            std::fs::rename(&new, &path).expect("put it in place");
        }
    }

    /// The certificate of the authority.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The path of the server's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("server.crt")
    }

    /// The path of the server's key.
    pub fn key(&self) -> PathBuf {
        self.folder.join("server.key")
    }

    /// A client that trusts only this authority, and offers these versions and protocols.
    pub fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("a root");
        let mut config = ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// Connects to a server with any version of TLS.
    pub async fn connect(&self, address: &str) -> Secured {
        connect(self.client(rustls::ALL_VERSIONS, &[]), address).await
    }
}

/// Connects to a server.
pub async fn connect(client: Arc<ClientConfig>, address: &str) -> Secured {
    let stream = TcpStream::connect(address).await.expect("reach the server");
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    TlsConnector::from(client).connect(name, stream).await.expect("shake hands")
}

/// Tries to connect to a server, as a client that trusts only the authority in this file.
///
/// # Errors
/// The handshake failed.
pub async fn try_connect(authority: &Path, address: &str) -> std::io::Result<Secured> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).expect("PEM")).expect("a root");
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(address).await.expect("reach the server");
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    TlsConnector::from(Arc::new(client)).connect(name, stream).await
}

/// The certificate that a server presented.
pub fn shown(connection: &Secured) -> CertificateDer<'static> {
    let certificates = connection.get_ref().1.peer_certificates().expect("certificates");
    certificates[0].clone().into_owned()
}
