//! A sign-in between its two steps: the password was right, and the code is missing. The client keeps it,
//! sealed under the master key, so that the server stores nothing.

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::domain::ids::{MemberId, SessionId, TenantId, UserId};
use crate::domain::secret_box::SecretBox;
use crate::domain::time::Timestamp;
use crate::services::error::Result;
use crate::store::Store;
use crate::store::entities::access::{member, user};

/// How long a person may take for the code: 5 minutes.
pub const CHALLENGE_MS: u64 = 5 * 60_000;
/// Longest challenge that is opened.
pub const MAX_CHALLENGE_BYTES: usize = 1_024;
const NO_TENANT: TenantId = TenantId(Uuid::nil());
const FIELD: &str = "sign_in_challenge";
const PREFIX: &str = "mst_challenge_";

/// A sign-in that waits for a second factor. Beside what it names, a recovery code completes it.
pub struct WaitingSignIn {
    pub challenge: Zeroizing<String>,
    /// Whether the person has a device that shows codes.
    pub has_totp: bool,
    /// Whether the person could sign in with a passkey instead.
    pub has_passkey: bool,
    pub expires_at: Timestamp,
}

/// What a sign-in with the right password waits for; `None` if the person has no second factor.
pub(in crate::services::access::people) async fn waiting(
    (store, secret_box): (&Store, &SecretBox),
    user: &user::Model,
    member: &member::Model,
    now: Timestamp,
) -> Result<Option<WaitingSignIn>> {
    let secret = store.system().totp_secret(user.id).await?;
    let has_totp = secret.is_some_and(|secret| secret.confirmed_at.is_some());
    let has_passkey = !store.system().passkeys(user.id).await?.is_empty();
    if !has_totp && !has_passkey {
        return Ok(None);
    }
    let challenge = SignInChallenge::new(user, member, secret_box, now);
    let expires_at = challenge.expires_at;
    let challenge = challenge.seal(secret_box)?;
    Ok(Some(WaitingSignIn { challenge, has_totp, has_passkey, expires_at }))
}

/// A sign-in whose password was right.
#[derive(Serialize, Deserialize)]
pub(in crate::services::access::people) struct SignInChallenge {
    pub user_id: UserId,
    pub member_id: MemberId,
    /// The session that it begins. It can't begin twice.
    pub session_id: SessionId,
    /// A digest of the hash of the password: another password ends the challenge.
    password: [u8; 32],
    pub expires_at: Timestamp,
}

impl SignInChallenge {
    pub(in crate::services::access::people) fn new(
        user: &user::Model,
        member: &member::Model,
        secret_box: &SecretBox,
        now: Timestamp,
    ) -> Self {
        Self {
            user_id: user.id,
            member_id: member.id,
            session_id: SessionId::new(),
            password: secret_box.digest(user.password_hash.as_bytes()),
            expires_at: now.plus_ms(CHALLENGE_MS),
        }
    }

    /// What the client keeps.
    pub(in crate::services::access::people) fn seal(
        &self,
        secret_box: &SecretBox,
    ) -> Result<Zeroizing<String>> {
        // Plain values always serialise.
        let text = Zeroizing::new(serde_json::to_vec(self).unwrap_or_default());
        let sealed = secret_box.seal(NO_TENANT, FIELD, &text)?;
        Ok(Zeroizing::new(format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&sealed))))
    }

    /// Opens a challenge that has not expired.
    pub(in crate::services::access::people) fn open(
        text: &str,
        secret_box: &SecretBox,
        now: Timestamp,
    ) -> Option<Self> {
        let sealed = text.strip_prefix(PREFIX).filter(|_| text.len() <= MAX_CHALLENGE_BYTES)?;
        let sealed = BASE64URL_NOPAD.decode(sealed.as_bytes()).ok()?;
        let text = secret_box.open(NO_TENANT, FIELD, &sealed).ok()?;
        let challenge: Self = serde_json::from_slice(&text).ok()?;
        // One that is valid for longer is of a clock that was ahead.
        let is_open =
            now < challenge.expires_at && challenge.expires_at <= now.plus_ms(CHALLENGE_MS);
        is_open.then_some(challenge)
    }

    /// True while the person has the password that was right.
    pub(in crate::services::access::people) fn is_of(
        &self,
        user: &user::Model,
        secret_box: &SecretBox,
    ) -> bool {
        user.id == self.user_id && secret_box.digest(user.password_hash.as_bytes()) == self.password
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::operations::master_key::MasterKey;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    #[test]
    fn a_challenge_opens_in_time_and_for_the_password_that_was_right() {
        let boxed = |byte: u8| {
            let key = data_encoding::BASE64.encode(&[byte; 32]);
            SecretBox::new(&MasterKey::from_base64(&key).expect("a key")).expect("a box")
        };
        let mine = boxed(1);
        let user = |hash: &str| user::Model {
            id: UserId(Uuid::from_u128(1)),
            email: "ada@example.com".into(),
            name: "Ada".into(),
            password_hash: hash.into(),
            created_at: NOW,
        };
        let challenge = SignInChallenge {
            user_id: user("one").id,
            member_id: MemberId::new(),
            session_id: SessionId::new(),
            password: mine.digest(b"one"),
            expires_at: NOW.plus_ms(CHALLENGE_MS),
        };
        let text = challenge.seal(&mine).expect("sealed");
        let open = |text: &str, now| SignInChallenge::open(text, &mine, now);
        let opened = open(&text, NOW).expect("open");
        assert_eq!(opened.session_id, challenge.session_id);
        assert!(opened.is_of(&user("one"), &mine) && !opened.is_of(&user("two"), &mine));
        assert!(open(&text, NOW.plus_ms(CHALLENGE_MS)).is_none());
        assert!(open(&text, NOW.minus_ms(1)).is_none(), "a clock that was ahead");
        assert!(SignInChallenge::open(&text, &boxed(2), NOW).is_none());
        for other in ["", PREFIX, &text[..text.len() - 1], &text[PREFIX.len()..]] {
            assert!(open(other, NOW).is_none(), "{other}");
        }
    }
}
