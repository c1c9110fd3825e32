//! The proof in `register` that an agent holds the private half of its key pair.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{AgentKeyPair, AgentPublicKey, InvalidAgentKey, SignedMessage};
use crate::frame::Registration;

/// What a proof is signed as.
const CONTEXT: &str = "muster register 1";

/// Random bytes that a server sends in `connected`, so that a proof is valid for one connection. As
/// text: base64 of 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(with = "String"))]
#[serde(try_from = "String", into = "String")]
pub struct Challenge([u8; 32]);

impl Challenge {
    /// A new challenge.
    ///
    /// # Errors
    /// [`InvalidAgentKey`] if the system provides no randomness.
    pub fn random() -> Result<Self, InvalidAgentKey> {
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).map_err(|_| InvalidAgentKey)?;
        Ok(Self(bytes))
    }

    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl Registration {
    /// Adds the public key and the proof. Every claim must be set before.
    #[must_use]
    pub fn prove(mut self, pair: &AgentKeyPair, challenge: &Challenge, agent_key_id: Uuid) -> Self {
        let public_key = pair.public_key();
        let message = self.message(&public_key, challenge, agent_key_id);
        self.proof = Some(pair.sign(message.as_bytes()));
        self.public_key = Some(public_key.to_string());
        self
    }

    /// The key whose private half the agent has proven to hold, on the connection with this
    /// challenge, for exactly these claims. `None` without a valid proof.
    pub fn proven_key(&self, challenge: &Challenge, agent_key_id: Uuid) -> Option<AgentPublicKey> {
        let public_key: AgentPublicKey = self.public_key.as_deref()?.parse().ok()?;
        let message = self.message(&public_key, challenge, agent_key_id);
        public_key.has_signed(message.as_bytes(), self.proof.as_deref()?).then_some(public_key)
    }

    fn message(
        &self,
        public_key: &AgentPublicKey,
        challenge: &Challenge,
        agent_key_id: Uuid,
    ) -> SignedMessage {
        let id = |id: Option<Uuid>| id.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
        SignedMessage::new(CONTEXT)
            .field(&challenge.0)
            .field(agent_key_id.as_bytes())
            .field(public_key.as_bytes())
            .field(self.agent_id.as_deref().unwrap_or_default().as_bytes())
            .field(self.machine_id.as_deref().unwrap_or_default().as_bytes())
            .field(&id(self.ledger_id))
            .field(&id(self.instance_id))
    }
}

impl FromStr for Challenge {
    type Err = InvalidAgentKey;

    fn from_str(text: &str) -> Result<Self, InvalidAgentKey> {
        let bytes = BASE64.decode(text.as_bytes()).map_err(|_| InvalidAgentKey)?;
        bytes.try_into().map(Self).map_err(|_| InvalidAgentKey)
    }
}

impl TryFrom<String> for Challenge {
    type Error = InvalidAgentKey;

    fn try_from(text: String) -> Result<Self, InvalidAgentKey> {
        text.parse()
    }
}

impl From<Challenge> for String {
    fn from(challenge: Challenge) -> Self {
        challenge.to_string()
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&BASE64.encode(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Uuid = Uuid::from_u128(5);
    const CHALLENGE: Challenge = Challenge([9; 32]);

    fn pair(seed: u8) -> AgentKeyPair {
        AgentKeyPair::from_seed(&[seed; 32]).expect("a seed")
    }

    fn proven() -> Registration {
        let registration = Registration {
            agent_id: Some(Uuid::from_u128(1).to_string()),
            machine_id: Some("machine".into()),
            ledger_id: Some(Uuid::from_u128(2)),
            instance_id: Some(Uuid::from_u128(3)),
            ..Registration::default()
        };
        registration.prove(&pair(1), &CHALLENGE, KEY)
    }

    #[test]
    fn a_proof_is_valid_for_its_challenge_its_agent_key_and_its_claims_only() {
        let proven = proven();
        assert_eq!(proven.proven_key(&CHALLENGE, KEY), Some(pair(1).public_key()));
        assert_eq!(proven.proven_key(&Challenge([8; 32]), KEY), None, "an old challenge");
        assert_eq!(proven.proven_key(&CHALLENGE, Uuid::from_u128(6)), None, "another agent key");
        let changes: [fn(&mut Registration); 7] = [
            |data| data.agent_id = None,
            |data| data.machine_id = Some("another".into()),
            |data| data.ledger_id = Some(Uuid::from_u128(9)),
            |data| data.instance_id = None,
            |data| data.public_key = Some(pair(2).public_key().to_string()),
            |data| data.public_key = None,
            |data| data.proof = None,
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut changed = proven.clone();
            change(&mut changed);
            assert_eq!(changed.proven_key(&CHALLENGE, KEY), None, "change {index}");
        }
    }
}
