//! A passkey that is being made or used. The client keeps what the server needs to check it, sealed under
//! the master key, so that any process of the server can.

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::domain::access::people::passkey::PASSKEY_CHALLENGE_MS;
use crate::domain::ids::{SessionId, TenantId};
use crate::domain::secret_box::SecretBox;
use crate::domain::time::Timestamp;
use crate::services::error::Result;

/// Longest challenge that is opened.
pub const MAX_PASSKEY_CHALLENGE_BYTES: usize = 8_192;
const NO_TENANT: TenantId = TenantId(Uuid::nil());
const FIELD: &str = "passkey_challenge";
const PREFIX: &str = "mst_passkey_";

/// What the device was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Purpose {
    /// A new passkey for the person of this session.
    New(SessionId),
    /// A signature. It can begin this session, once.
    Use(SessionId),
}

#[derive(Serialize, Deserialize)]
pub(super) struct Ceremony {
    pub purpose: Purpose,
    /// Of the verifier.
    pub state: String,
    pub begun_at: Timestamp,
}

impl Ceremony {
    pub(super) fn expires_at(&self) -> Timestamp {
        self.begun_at.plus_ms(PASSKEY_CHALLENGE_MS)
    }

    /// What the client keeps.
    pub(super) fn seal(&self, secret_box: &SecretBox) -> Result<Zeroizing<String>> {
        // Plain values always serialise.
        let text = Zeroizing::new(serde_json::to_vec(self).unwrap_or_default());
        let sealed = secret_box.seal(NO_TENANT, FIELD, &text)?;
        Ok(Zeroizing::new(format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&sealed))))
    }

    /// Opens a challenge that has not expired.
    pub(super) fn open(text: &str, secret_box: &SecretBox, now: Timestamp) -> Option<Self> {
        let sealed =
            text.strip_prefix(PREFIX).filter(|_| text.len() <= MAX_PASSKEY_CHALLENGE_BYTES)?;
        let sealed = BASE64URL_NOPAD.decode(sealed.as_bytes()).ok()?;
        let text = secret_box.open(NO_TENANT, FIELD, &sealed).ok()?;
        let ceremony: Self = serde_json::from_slice(&text).ok()?;
        // One that begins later is of a clock that was ahead.
        let is_open = ceremony.begun_at <= now && now < ceremony.expires_at();
        is_open.then_some(ceremony)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::operations::master_key::MasterKey;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    #[test]
    fn a_challenge_of_a_passkey_opens_in_time_and_with_the_key_that_sealed_it() {
        let boxed = |byte: u8| {
            let key = data_encoding::BASE64.encode(&[byte; 32]);
            SecretBox::new(&MasterKey::from_base64(&key).expect("a key")).expect("a box")
        };
        let mine = boxed(1);
        let id = SessionId::new();
        let begun =
            Ceremony { purpose: Purpose::Use(id), state: "state".to_owned(), begun_at: NOW };
        let text = begun.seal(&mine).expect("sealed");
        let open = |text: &str, now| Ceremony::open(text, &mine, now);
        assert_eq!(open(&text, NOW).expect("open").purpose, Purpose::Use(id));
        assert!(open(&text, NOW.plus_ms(PASSKEY_CHALLENGE_MS)).is_none());
        assert!(open(&text, NOW.minus_ms(1)).is_none(), "a clock that was ahead");
        assert!(Ceremony::open(&text, &boxed(2), NOW).is_none());
        for other in ["", PREFIX, &text[..text.len() - 1], &text[PREFIX.len()..]] {
            assert!(open(other, NOW).is_none(), "{other}");
        }
    }
}
