//! User codes: what a person types to decide about a sign-in on another device.

use muster_protocol::identity::SignedMessage;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::domain::access::credential::{NoRandomness, SecretHash};
use crate::domain::secret_box::SecretBox;

/// Consonants, as RFC 8628 advises: no look-alikes, and no words. Without Y, which is one of both.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
/// Letters of a code: some 35 bits, which live for 10 minutes.
const USER_CODE_LETTERS: usize = 8;

/// A code in its plain form, without a hyphen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserCode(String);

impl UserCode {
    /// A new code.
    ///
    /// # Errors
    /// [`NoRandomness`] if the system's random source fails.
    pub fn random() -> Result<Self, NoRandomness> {
        let random = SystemRandom::new();
        let mut code = String::with_capacity(USER_CODE_LETTERS);
        while code.len() < USER_CODE_LETTERS {
            let mut byte = [0];
            random.fill(&mut byte).map_err(|_| NoRandomness)?;
            // The greatest multiple of 20 in a byte, so that every letter is as likely.
            if byte[0] < 240 {
                code.push(char::from(LETTERS[usize::from(byte[0] % 20)]));
            }
        }
        Ok(Self(code))
    }

    /// Reads a code as people type it: in any case, with hyphens and spaces. `None` for another text.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > 4 * USER_CODE_LETTERS {
            return None;
        }
        let letters = text.chars().filter(|c| !matches!(c, '-' | ' '));
        let code: String = letters.map(|c| c.to_ascii_uppercase()).collect();
        let is_code = code.len() == USER_CODE_LETTERS && code.bytes().all(|b| LETTERS.contains(&b));
        is_code.then_some(Self(code))
    }

    /// The code as people read it: `BCDF-GHJK`.
    pub fn text(&self) -> String {
        let (first, last) = self.0.split_at(USER_CODE_LETTERS / 2);
        format!("{first}-{last}")
    }

    /// What the database stores. A code is short, so its plain hash could be inverted.
    pub fn hash(&self, secret_box: &SecretBox) -> SecretHash {
        let message = SignedMessage::new("muster user code 1").field(self.0.as_bytes());
        SecretHash(secret_box.digest(message.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::operations::master_key::MasterKey;

    #[test]
    fn a_code_is_read_as_people_type_it_and_other_texts_are_refused() {
        let code = UserCode::random().expect("randomness");
        let text = code.text();
        assert_eq!(text.len(), 9);
        let typed = [text.clone(), text.to_lowercase(), text.replace('-', " "), code.0.clone()];
        for typed in typed {
            assert_eq!(UserCode::parse(&typed).as_ref(), Some(&code), "{typed}");
        }
        for other in ["", "BCDF-GHJ", "BCDF-GHJKL", "BCDF-GHJA", "BCDF-GHJ0", "BCDF_GHJK", "é"] {
            assert_eq!(UserCode::parse(other), None, "{other}");
        }
        assert_eq!(UserCode::parse(&"-".repeat(1 << 20)), None);
        assert_ne!(code, UserCode::random().expect("randomness"));
    }

    #[test]
    fn the_hash_of_a_code_depends_on_the_master_key() {
        let boxed = |byte: u8| {
            let key = data_encoding::BASE64.encode(&[byte; 32]);
            SecretBox::new(&MasterKey::from_base64(&key).expect("a key")).expect("a box")
        };
        let code = UserCode::parse("BCDF-GHJK").expect("a code");
        assert_eq!(code.hash(&boxed(1)), code.hash(&boxed(1)));
        assert_ne!(code.hash(&boxed(1)), code.hash(&boxed(2)));
    }
}
