//! Certificates of clients: who must show one, what a connection showed, and what follows for a session.

use muster_protocol::CloseCode;
use muster_protocol::identity::AgentPublicKey;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};
use uuid::Uuid;

use super::validity::{AGENT_CERTIFICATE_MS, CALLER_CERTIFICATE_MS, EXPIRY_WARNING_MS, Validity};
use crate::domain::ids::CertificateId;
use crate::domain::time::Timestamp;

/// Certificates of one person or one API key that are valid at once.
pub const MAX_CERTIFICATES_OF_HOLDER: usize = 10;
/// How long the permission counts to get another certificate without showing a valid one: 24 h.
pub const NEXT_CERTIFICATE_MS: u64 = 24 * 3_600_000;
/// Longest certificate request, in bytes.
pub const MAX_REQUEST_BYTES: usize = 8_192;

/// Which clients must show a valid certificate.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Default,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum CertificatePolicy {
    #[default]
    Off,
    /// Agents. Their enrolment needs none.
    Agents,
    /// Agents, people and programs.
    All,
}

/// Who a certificate is for.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    utoipa::ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum CertificateHolder {
    Agent,
    ApiKey,
    Member,
}

/// What a certificate is worth now.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    EnumIter,
    IntoStaticStr,
    utoipa::ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum CertificateState {
    Valid,
    /// Two thirds of its time have passed: the next session of the agent renews it.
    Due,
    /// It ends within 7 days, and was not renewed.
    Expiring,
    Expired,
    /// A person has revoked it.
    Revoked,
}

/// A certificate of a client, without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificateRecord {
    pub id: CertificateId,
    pub holder: CertificateHolder,
    /// Of the agent, the API key or the member.
    pub holder_id: Uuid,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
}

/// The SHA-256 of a public key, DER-encoded as `SubjectPublicKeyInfo`. All certificates of a key have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

/// What a connection showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PeerCertificate {
    /// This server does not end TLS on the connection, so it can't know.
    #[default]
    Unknown,
    /// It asked for a certificate and received none.
    Absent,
    /// Expired, not valid yet, or not issued by this server.
    Invalid,
    /// Valid, and the client has proven that it has the key.
    Valid(KeyHash),
}

/// What an agent that registers has of certificates.
#[derive(Debug, Clone, Copy)]
pub struct AgentClaims {
    /// Of the key pair that it has proven; a basic agent has none.
    pub key: Option<KeyHash>,
    /// It can store a certificate.
    pub can_store: bool,
    /// It says that it has one, and shows it.
    pub has_certificate: bool,
}

/// How far a session may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionAdmission {
    Open,
    /// It is registered and gets a certificate, and nothing else.
    EnrolOnly,
    Refused(CloseCode),
}

impl CertificateHolder {
    /// How long its certificates are valid, from when they are issued.
    pub const fn lifetime_ms(self) -> u64 {
        match self {
            Self::Agent => AGENT_CERTIFICATE_MS,
            Self::ApiKey | Self::Member => CALLER_CERTIFICATE_MS,
        }
    }
}

impl ClientCertificateRecord {
    /// Its state at `now`.
    pub fn state(&self, now: Timestamp) -> CertificateState {
        if self.revoked_at.is_some() {
            CertificateState::Revoked
        } else if self.expires_at <= now {
            CertificateState::Expired
        } else if self.expires_at <= now.plus_ms(EXPIRY_WARNING_MS) {
            CertificateState::Expiring
        } else if Validity::until(self.expires_at, self.holder.lifetime_ms()).is_due(now) {
            CertificateState::Due
        } else {
            CertificateState::Valid
        }
    }

    /// When the renewal becomes due.
    pub fn renew_at(&self) -> Timestamp {
        Validity::until(self.expires_at, self.holder.lifetime_ms()).renew_at()
    }
}

impl KeyHash {
    pub fn of_key_info(key_info: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, key_info).as_ref());
        Self(hash)
    }

    pub fn of_agent(key: &AgentPublicKey) -> Self {
        Self::of_key_info(&key.key_info())
    }

    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PeerCertificate {
    /// True if this server ends TLS, and so can use certificates.
    pub fn is_asked(self) -> bool {
        self != Self::Unknown
    }

    /// The key that the client has proven with a valid certificate.
    pub fn key(self) -> Option<KeyHash> {
        match self {
            Self::Valid(key) => Some(key),
            Self::Unknown | Self::Absent | Self::Invalid => None,
        }
    }
}

impl CertificatePolicy {
    /// What a session may do whose agent registers over a connection that showed this.
    pub fn admit_session(self, shown: PeerCertificate, agent: AgentClaims) -> SessionAdmission {
        match shown {
            PeerCertificate::Valid(key) if agent.key == Some(key) => SessionAdmission::Open,
            PeerCertificate::Valid(_) => SessionAdmission::Refused(CloseCode::CertificateMismatch),
            _ if self == Self::Off => SessionAdmission::Open,
            // The agent would show the next certificate in vain, as it has shown this one.
            PeerCertificate::Unknown => SessionAdmission::Refused(CloseCode::CertificateMissing),
            PeerCertificate::Absent if agent.has_certificate => {
                SessionAdmission::Refused(CloseCode::CertificateMissing)
            }
            PeerCertificate::Absent | PeerCertificate::Invalid => {
                match agent.key.is_some() && agent.can_store {
                    true => SessionAdmission::EnrolOnly,
                    false => SessionAdmission::Refused(CloseCode::CertificateMissing),
                }
            }
        }
    }

    /// Checks a further request of a session over HTTP, which began over a connection that showed `at_start`.
    ///
    /// # Errors
    /// Why the request is refused.
    pub fn check_request(
        self,
        at_start: PeerCertificate,
        shown: PeerCertificate,
    ) -> Result<(), CloseCode> {
        match (at_start.key(), shown.key()) {
            (Some(of_session), Some(key)) if key != of_session => {
                Err(CloseCode::CertificateMismatch)
            }
            (Some(_), None) if self != Self::Off => Err(CloseCode::CertificateMissing),
            // An agent that enrols may show its first certificate at once: the session ends anyway.
            _ => Ok(()),
        }
    }

    /// Checks a single request of an agent, which is authenticated by its agent key alone.
    ///
    /// # Errors
    /// Why the request is refused.
    pub fn check_agent(self, shown: PeerCertificate) -> Result<(), CloseCode> {
        match shown.key() {
            None if self != Self::Off => Err(CloseCode::CertificateMissing),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWN: KeyHash = KeyHash([1; 32]);
    const OTHER: KeyHash = KeyHash([2; 32]);

    fn policies() -> impl Strategy<Value = CertificatePolicy> {
        use CertificatePolicy::{Agents, All, Off};
        prop_oneof![Just(Off), Just(Agents), Just(All)]
    }

    fn certificates() -> impl Strategy<Value = PeerCertificate> {
        use PeerCertificate::{Absent, Invalid, Unknown, Valid};
        prop_oneof![
            Just(Unknown),
            Just(Absent),
            Just(Invalid),
            Just(Valid(OWN)),
            Just(Valid(OTHER))
        ]
    }

    fn agents() -> impl Strategy<Value = AgentClaims> {
        (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
            |(is_full, can_store, has_certificate)| AgentClaims {
                key: is_full.then_some(OWN),
                can_store,
                has_certificate,
            },
        )
    }

    proptest! {
        #[test]
        fn session_opens_only_with_its_own_certificate_where_one_is_required(
            policy in policies(), shown in certificates(), agent in agents()
        ) {
            let admission = policy.admit_session(shown, agent);
            if shown.key().is_some() && shown.key() != agent.key {
                prop_assert_eq!(admission, SessionAdmission::Refused(CloseCode::CertificateMismatch));
            } else if policy == CertificatePolicy::Off {
                prop_assert_eq!(admission, SessionAdmission::Open);
            } else {
                prop_assert_eq!(admission == SessionAdmission::Open, shown == PeerCertificate::Valid(OWN));
            }
            if admission == SessionAdmission::EnrolOnly {
                prop_assert!(agent.key.is_some() && agent.can_store);
                prop_assert!(shown == PeerCertificate::Invalid || !agent.has_certificate, "a proxy ends TLS");
            }
        }

        #[test]
        fn certificate_is_renewed_before_it_counts_as_expiring(
            is_agent in any::<bool>(), left_ms in -100_000_000_i64..9_000_000_000
        ) {
            let now = Timestamp(1_000_000_000_000);
            let holder = if is_agent { CertificateHolder::Agent } else { CertificateHolder::Member };
            let left_ms = left_ms.min(i64::try_from(holder.lifetime_ms()).expect("some months"));
            let record = ClientCertificateRecord {
                id: CertificateId::new(),
                holder,
                holder_id: Uuid::nil(),
                issued_at: now,
                expires_at: Timestamp(now.0 + left_ms),
                revoked_at: None,
            };
            let state = record.state(now);
            prop_assert_eq!(state == CertificateState::Expired, left_ms <= 0);
            prop_assert_eq!(state == CertificateState::Valid, now < record.renew_at());
            let week = i64::try_from(EXPIRY_WARNING_MS).expect("a week");
            prop_assert_eq!(state == CertificateState::Expiring, (1..=week).contains(&left_ms));
        }

        #[test]
        fn request_of_a_session_never_shows_the_key_of_another_one(
            policy in policies(), at_start in certificates(), shown in certificates()
        ) {
            let checked = policy.check_request(at_start, shown);
            let (first, now) = (at_start.key(), shown.key());
            prop_assert!(checked.is_err() || first.is_none() || now.is_none() || first == now);
            let is_required = policy != CertificatePolicy::Off && first.is_some();
            prop_assert!(checked.is_err() || !is_required || first == now);
        }
    }

    #[test]
    fn key_of_an_agent_is_hashed_as_its_certificates_contain_it() {
        use rcgen::PublicKeyData as _;
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key pair");
        let bytes: [u8; 32] = pair.der_bytes().try_into().expect("32 bytes");
        let key = AgentPublicKey::from_bytes(bytes);
        let info = pair.subject_public_key_info();
        assert_eq!(key.key_info(), info);
        assert_eq!(KeyHash::of_agent(&key), KeyHash::of_key_info(&info));
    }
}
