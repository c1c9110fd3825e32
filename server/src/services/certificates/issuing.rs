//! Makes keys and certificates with rcgen. Knows nothing of where they are stored.

use std::time::Duration;

use muster_protocol::identity::AgentPublicKey;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateSigningRequestParams,
    DistinguishedName, DnType, Error, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKey, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm,
    date_time_ymd,
};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::domain::certificates::names::CertificateName;
use crate::domain::certificates::validity::Validity;
use crate::domain::time::Timestamp;

/// Random bits of a serial number: more than the 64 that browsers require.
const SERIAL_BYTES: usize = 16;

/// A new key that all clients of TLS support: ECDSA on P-256.
pub(super) fn new_key() -> Result<KeyPair, Error> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
}

/// The certificate of an authority, signed with its own key.
pub(super) fn authority(
    name: &str,
    key: &KeyPair,
    validity: &Validity,
) -> Result<Certificate, Error> {
    let mut params = authority_params(name);
    params.serial_number = Some(serial_number()?);
    limit(&mut params, validity);
    params.self_signed(key)
}

/// The key of the next authority, in a certificate that this authority signs. By it, clients that trust only this
/// one trust what the next one issues.
pub(super) fn next_authority(
    (authority_name, authority_key): (&str, &KeyPair),
    (name, key): (&str, &KeyPair),
    validity: &Validity,
) -> Result<Certificate, Error> {
    let issuer_params = authority_params(authority_name);
    let issuer = Issuer::from_params(&issuer_params, authority_key);
    let mut params = authority_params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(serial_number()?);
    limit(&mut params, validity);
    params.signed_by(key, &issuer)
}

/// The certificate of the server, for its key.
pub(super) fn server(
    (authority_name, authority_key): (&str, &KeyPair),
    key: &KeyPair,
    names: &[CertificateName],
    validity: &Validity,
) -> Result<Certificate, Error> {
    let issuer_params = authority_params(authority_name);
    let issuer = Issuer::from_params(&issuer_params, authority_key);
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Muster server");
    params.subject_alt_names = names
        .iter()
        .map(|name| match name {
            CertificateName::Dns(name) => Ok(SanType::DnsName(name.as_str().try_into()?)),
            CertificateName::Address(address) => Ok(SanType::IpAddress(*address)),
        })
        .collect::<Result<_, Error>>()?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(serial_number()?);
    limit(&mut params, validity);
    params.signed_by(key, &issuer)
}

/// The certificate of a client, for its public key.
pub(super) fn client(
    (authority_name, authority_key): (&str, &KeyPair),
    key: &impl PublicKeyData,
    name: &str,
    validity: &Validity,
) -> Result<Certificate, Error> {
    let issuer_params = authority_params(authority_name);
    let issuer = Issuer::from_params(&issuer_params, authority_key);
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // No server can use it: agents trust this authority for servers.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(serial_number()?);
    limit(&mut params, validity);
    params.signed_by(key, &issuer)
}

/// The public key of a certificate request in PEM, which its key has signed. Everything else in it is ignored:
/// the server decides what a certificate says.
pub(super) fn requested_key(request: &str) -> Result<PublicKey, Error> {
    let read = CertificateSigningRequestParams::from_pem(request)?;
    let algorithm = read.public_key.algorithm();
    let is_known = ALGORITHMS.iter().any(|known| **known == *algorithm);
    if is_known { Ok(read.public_key) } else { Err(Error::UnsupportedSignatureAlgorithm) }
}

/// Keys of clients. All of them can be checked in a handshake of TLS.
const ALGORITHMS: [&SignatureAlgorithm; 4] = [
    &rcgen::PKCS_ECDSA_P256_SHA256,
    &rcgen::PKCS_ECDSA_P384_SHA384,
    &rcgen::PKCS_ED25519,
    &rcgen::PKCS_RSA_SHA256,
];

/// The public key of an agent, for rcgen.
pub(super) struct AgentKey<'a>(pub &'a AgentPublicKey);

impl PublicKeyData for AgentKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

/// What its certificate and those that it issues must agree on.
fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    // It signs certificates of clients and servers, and the key of the next authority.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

fn limit(params: &mut CertificateParams, validity: &Validity) {
    let epoch = date_time_ymd(1970, 1, 1);
    // Certificates have no milliseconds.
    let seconds = |at: Timestamp| Duration::from_secs(at.ms_since(Timestamp(0)) / 1_000);
    params.not_before = epoch + seconds(validity.not_before);
    params.not_after = epoch + seconds(validity.not_after);
}

/// A key has several certificates from one authority, which must differ in their number.
fn serial_number() -> Result<SerialNumber, Error> {
    let mut bytes = [0; SERIAL_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::RingUnspecified)?;
    // Positive, and of the same length always.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}
