//! A simulated host that keeps the certificate of its agent, and shows it to the server.

use std::path::Path;
use std::sync::Arc;

use data_encoding::BASE64;
use rcgen::{CertificateParams, Issuer, KeyPair, PublicKeyData};
use rustls::crypto::ring::sign::{any_eddsa_type, any_supported_type};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use uuid::Uuid;

use super::fake_agent::{FakeAgent, full_registration, key_pair_of, private_key_of};
use crate::servers::authority::connect;

/// What precedes the private and the public half of an Ed25519 key pair in PKCS #8.
const PRIVATE_HALF: [u8; 16] =
    [0x30, 0x51, 2, 1, 1, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
const PUBLIC_HALF: [u8; 3] = [0x81, 0x21, 0];

/// One host with its key pair.
#[derive(Debug, Clone)]
pub struct CertifiedHost {
    /// The machine id, which the key pair follows from.
    machine: String,
    ledger: Uuid,
    agent_id: Option<String>,
    name: String,
    /// It follows its server to another authority.
    can_follow: bool,
    /// The last notice about the authority that it has stored.
    notice_id: Option<String>,
    /// The certificate that the server issued last, base64.
    pub certificate: Option<String>,
}

impl CertifiedHost {
    pub fn new() -> Self {
        let machine = Uuid::new_v4().simple().to_string();
        Self {
            machine,
            ledger: Uuid::new_v4(),
            agent_id: None,
            name: "fake".into(),
            can_follow: false,
            notice_id: None,
            certificate: None,
        }
    }

    /// With this host name.
    pub fn named(self, name: &str) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Follows its server to another authority.
    pub fn following(self) -> Self {
        Self { can_follow: true, ..self }
    }

    /// Waits for a notice about the authority, and confirms it.
    pub async fn follow(&mut self, agent: &mut FakeAgent) -> Value {
        let notice = agent.expect("authorities").await;
        self.notice_id = notice["id"].as_str().map(str::to_owned);
        agent.send(json!({"type": "authorities_stored", "id": notice["id"]})).await;
        notice
    }

    /// Connects with the certificate, if there is one.
    pub async fn connect(&self, authority: &Path, address: &str, key: &str) -> FakeAgent {
        let shown = self.certificate.as_deref().map(|text| self.certified(&decoded(text)));
        Self::connect_with(shown, authority, address, key).await
    }

    /// Connects with any certificate.
    pub async fn connect_with(
        shown: Option<CertifiedKey>,
        authority: &Path,
        address: &str,
        key: &str,
    ) -> FakeAgent {
        let stream = connect(client(shown, authority), address).await;
        FakeAgent::connect_over(stream, address, key).await
    }

    /// The data of `register`.
    pub fn registration(&self) -> Value {
        let mut capabilities =
            vec!["ping", "info", "echo", "scripts", "execute", "client_certificates"];
        capabilities.extend(self.can_follow.then_some("authorities"));
        let mut data = full_registration(json!({
            "hostname": self.name, "authorities_id": self.notice_id, "machine_id": self.machine, "ledger_id": self.ledger, "capabilities": capabilities,
            "has_certificate": self.certificate.is_some(),
        }));
        if let Some(id) = &self.agent_id {
            data["agent_id"] = json!(id);
        }
        data
    }

    /// Registers in a session that only enrols it, and keeps the certificate.
    pub async fn enrol(&mut self, authority: &Path, address: &str, key: &str) {
        let mut agent = self.connect(authority, address, key).await;
        agent.expect("connected").await;
        agent.register(self.registration()).await;
        self.keep(&mut agent).await;
        agent.expect("drain").await;
        assert_eq!(agent.closed().await.code, 1001);
    }

    /// Keeps what a session brings first: the id and the certificate.
    pub async fn keep(&mut self, agent: &mut FakeAgent) {
        let registered = agent.expect("registered").await;
        self.agent_id = registered["agent_id"].as_str().map(str::to_owned);
        let frame = agent.expect("certificate").await;
        self.certificate = frame["certificate"].as_str().map(str::to_owned);
    }

    /// Opens a session with the certificate. Returns when commands may arrive.
    pub async fn session(&self, authority: &Path, address: &str, key: &str) -> FakeAgent {
        let mut agent = self.connect(authority, address, key).await;
        agent.expect("connected").await;
        agent.register(self.registration()).await;
        agent.expect("registered").await;
        agent.send(json!({"type": "inventory_end"})).await;
        agent
    }

    /// The id that the server issued.
    pub fn agent_id(&self) -> &str {
        self.agent_id.as_deref().expect("an enrolled host")
    }

    /// A certificate for this host's key pair, from an authority that the server does not know.
    pub fn self_made(&self) -> CertifiedKey {
        let issuer = Issuer::new(CertificateParams::default(), KeyPair::generate().expect("a key"));
        let issued = CertificateParams::default().signed_by(&Public(self.public()), &issuer);
        self.certified(issued.expect("a certificate").der())
    }

    fn public(&self) -> [u8; 32] {
        *key_pair_of(&self.machine).public_key().as_bytes()
    }

    fn certified(&self, certificate: &[u8]) -> CertifiedKey {
        let private = private_key_of(&self.machine);
        let public = self.public();
        let pkcs8 = [&PRIVATE_HALF[..], &private, &PUBLIC_HALF, &public].concat();
        let key = any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8)).expect("a key pair");
        CertifiedKey::new(vec![CertificateDer::from(certificate.to_vec())], key)
    }
}

impl Default for CertifiedHost {
    fn default() -> Self {
        Self::new()
    }
}

struct Public([u8; 32]);

impl PublicKeyData for Public {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

/// A client that trusts only this authority, and shows this certificate.
pub fn client(shown: Option<CertifiedKey>, authority: &Path) -> Arc<ClientConfig> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).expect("PEM")).expect("a root");
    let builder = ClientConfig::builder().with_root_certificates(roots);
    Arc::new(match shown {
        Some(shown) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown))),
        None => builder.with_no_client_auth(),
    })
}

/// A certificate and its key from PEM files.
pub fn certified_files(certificate: &Path, key: &Path) -> CertifiedKey {
    let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    CertifiedKey::new(vec![certificate], any_supported_type(&key).expect("a supported key"))
}

fn decoded(text: &str) -> Vec<u8> {
    BASE64.decode(text.as_bytes()).expect("base64")
}
