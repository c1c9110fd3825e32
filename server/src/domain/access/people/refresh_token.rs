//! Refresh tokens: opaque, replaced at each use, and one family for each session.
//!
//! A token is `mst_refresh_` and three parts: the id of its session, a secret, and a tag of both under
//! the master key. The next secret is computed from the present one, so that two clients that refresh
//! at the same moment get the same token. The tag distinguishes a token that was valid once from a guess.

use data_encoding::BASE64URL_NOPAD;
use muster_protocol::identity::SignedMessage;
use muster_protocol::parameter::secret::is_well_formed;
use ring::rand::{SecureRandom as _, SystemRandom};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::domain::access::credential::{NoRandomness, SecretHash};
use crate::domain::ids::SessionId;
use crate::domain::secret_box::SecretBox;
use crate::domain::time::Timestamp;

/// How long a refresh token is valid: 7 days.
pub const REFRESH_TOKEN_MS: u64 = 7 * 24 * 3_600_000;
/// How long a token that was replaced still gets the same next one: longer than clients wait for an answer
/// that is lost.
pub const REFRESH_OVERLAP_MS: u64 = 60_000;
/// Prefix of a refresh token.
pub const REFRESH_TOKEN_PREFIX: &str = "mst_refresh_";
/// Characters of an id, a secret and a tag.
const ID_CHARS: usize = 22;
const SECRET_CHARS: usize = 43;

/// A refresh token.
pub struct RefreshToken {
    pub session_id: SessionId,
    /// 256 bits.
    secret: Zeroizing<String>,
    tag: Zeroizing<String>,
}

impl RefreshToken {
    /// The first token of a session.
    ///
    /// # Errors
    /// [`NoRandomness`] if the system's random source fails.
    pub fn first(session_id: SessionId, secret_box: &SecretBox) -> Result<Self, NoRandomness> {
        let mut bytes = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(bytes.as_mut_slice()).map_err(|_| NoRandomness)?;
        Ok(Self::of(session_id, BASE64URL_NOPAD.encode(bytes.as_slice()), secret_box))
    }

    /// The token that replaces this one.
    #[must_use]
    pub fn next(&self, secret_box: &SecretBox) -> Self {
        let message = self.message("muster refresh next 1");
        Self::of(self.session_id, secret_box.issue_ticket(&message), secret_box)
    }

    /// Reads a token; `None` for a text of another form.
    pub fn parse(text: &str) -> Option<Self> {
        let body = text.strip_prefix(REFRESH_TOKEN_PREFIX)?;
        let is_whole =
            is_well_formed(text, REFRESH_TOKEN_PREFIX) && body.len() == ID_CHARS + 2 * SECRET_CHARS;
        if !is_whole {
            return None;
        }
        let (id, rest) = body.split_at(ID_CHARS);
        let (secret, tag) = rest.split_at(SECRET_CHARS);
        let id = BASE64URL_NOPAD.decode(id.as_bytes()).ok()?;
        let session_id = SessionId(Uuid::from_slice(&id).ok()?);
        let (secret, tag) = (secret.to_owned().into(), tag.to_owned().into());
        Some(Self { session_id, secret, tag })
    }

    /// True if this server made it, however long ago.
    pub fn is_authentic(&self, secret_box: &SecretBox) -> bool {
        secret_box.is_ticket_for(&self.message("muster refresh tag 1"), &self.tag)
    }

    /// The token itself.
    pub fn text(&self) -> Zeroizing<String> {
        let id = BASE64URL_NOPAD.encode(self.session_id.0.as_bytes());
        let (secret, tag) = (self.secret.as_str(), self.tag.as_str());
        Zeroizing::new(format!("{REFRESH_TOKEN_PREFIX}{id}{secret}{tag}"))
    }

    /// What the database stores.
    pub fn hash(&self) -> SecretHash {
        SecretHash::of(&self.text())
    }

    fn of(session_id: SessionId, secret: String, secret_box: &SecretBox) -> Self {
        let mut token =
            Self { session_id, secret: secret.into(), tag: Zeroizing::new(String::new()) };
        token.tag = secret_box.issue_ticket(&token.message("muster refresh tag 1")).into();
        token
    }

    fn message(&self, context: &str) -> SignedMessage {
        SignedMessage::new(context)
            .field(self.session_id.0.as_bytes())
            .field(self.secret.as_bytes())
    }
}

/// What a session knows of its refresh tokens.
#[derive(Debug, Clone, Copy)]
pub struct RefreshState {
    pub current: SecretHash,
    pub previous: Option<SecretHash>,
    /// When `current` replaced `previous`.
    pub refreshed_at: Timestamp,
    pub expires_at: Timestamp,
    /// The session was ended, or its member.
    pub has_ended: bool,
}

/// A token that a client presents.
#[derive(Debug, Clone, Copy)]
pub struct PresentedRefresh {
    pub hash: SecretHash,
    /// Of the token that replaces it.
    pub next: SecretHash,
    pub is_authentic: bool,
}

/// What to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshDecision {
    /// Store the next one.
    Rotate,
    /// Answer with the next one, which is stored already.
    Repeat,
    /// End the session: two hold its token.
    End,
    Refuse,
}

impl RefreshState {
    /// Decides about a token.
    ///
    /// A session that expires later than one that is refreshed now would is refused, not ended: the
    /// clock was ahead when it was stored, or is behind now.
    pub fn decide(&self, presented: PresentedRefresh, now: Timestamp) -> RefreshDecision {
        let is_valid_now =
            self.expires_at > now && self.expires_at <= now.plus_ms(REFRESH_TOKEN_MS);
        if self.has_ended || !is_valid_now {
            return RefreshDecision::Refuse;
        }
        if presented.hash == self.current {
            return RefreshDecision::Rotate;
        }
        let is_previous = self.previous == Some(presented.hash);
        let is_recent = now.ms_since(self.refreshed_at) <= REFRESH_OVERLAP_MS;
        if is_previous && is_recent && presented.next == self.current {
            return RefreshDecision::Repeat;
        }
        match is_previous || presented.is_authentic {
            true => RefreshDecision::End,
            false => RefreshDecision::Refuse,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::operations::master_key::MasterKey;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn boxed(byte: u8) -> SecretBox {
        let key = data_encoding::BASE64.encode(&[byte; 32]);
        SecretBox::new(&MasterKey::from_base64(&key).expect("a key")).expect("a box")
    }

    fn presented(token: &RefreshToken, secret_box: &SecretBox) -> PresentedRefresh {
        let (next, is_authentic) = (token.next(secret_box).hash(), token.is_authentic(secret_box));
        PresentedRefresh { hash: token.hash(), next, is_authentic }
    }

    #[test]
    fn a_token_is_read_as_it_was_written_and_other_texts_are_refused() {
        let mine = boxed(1);
        let token = RefreshToken::first(SessionId::new(), &mine).expect("randomness");
        let text = token.text();
        let read = RefreshToken::parse(&text).expect("a token");
        assert_eq!((read.session_id, read.hash()), (token.session_id, token.hash()));
        assert!(read.is_authentic(&mine) && !read.is_authentic(&boxed(2)));
        assert_ne!(token.next(&mine).hash(), token.hash());
        assert_eq!(token.next(&mine).hash(), read.next(&mine).hash());
        for other in
            ["", "mst_refresh_", &text[..text.len() - 1], &format!("{}0", text.as_str()), "é"]
        {
            assert!(RefreshToken::parse(other).is_none(), "{other}");
        }
        // Another session's id in front of a valid secret.
        let forged = RefreshToken { session_id: SessionId::new(), ..token };
        assert!(!forged.is_authentic(&mine));
    }

    #[test]
    fn the_current_token_rotates_the_previous_one_repeats_for_a_moment_and_older_ones_end_it() {
        let mine = boxed(1);
        let oldest = RefreshToken::first(SessionId::new(), &mine).expect("randomness");
        let previous = oldest.next(&mine);
        let current = previous.next(&mine);
        let state = RefreshState {
            current: current.hash(),
            previous: Some(previous.hash()),
            refreshed_at: NOW,
            expires_at: NOW.plus_ms(REFRESH_TOKEN_MS),
            has_ended: false,
        };
        let decide = |token: &RefreshToken, now| state.decide(presented(token, &mine), now);
        assert_eq!(decide(&current, NOW), RefreshDecision::Rotate);
        assert_eq!(decide(&previous, NOW.plus_ms(REFRESH_OVERLAP_MS)), RefreshDecision::Repeat);
        assert_eq!(decide(&previous, NOW.plus_ms(REFRESH_OVERLAP_MS + 1)), RefreshDecision::End);
        assert_eq!(decide(&oldest, NOW), RefreshDecision::End);
        let guess = RefreshToken::first(oldest.session_id, &boxed(2)).expect("randomness");
        assert_eq!(decide(&guess, NOW), RefreshDecision::Refuse, "a guess ends nothing");
        assert_eq!(decide(&current, state.expires_at), RefreshDecision::Refuse);
        assert_eq!(decide(&current, NOW.minus_ms(1)), RefreshDecision::Refuse, "a clock behind");
        let ended = RefreshState { has_ended: true, ..state };
        assert_eq!(ended.decide(presented(&current, &mine), NOW), RefreshDecision::Refuse);
        // Under another master key the token before it has another successor.
        assert_eq!(state.decide(presented(&current, &boxed(2)), NOW), RefreshDecision::Rotate);
    }
}
