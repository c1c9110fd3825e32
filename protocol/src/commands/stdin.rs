//! Standard input of an execution: bytes in memory and on disk, base64 in JSON.

use std::fmt;

use data_encoding::BASE64;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most bytes of the standard input of an execution.
pub const MAX_STDIN_BYTES: usize = 256 * 1024;

/// Standard input, at most [`MAX_STDIN_BYTES`]. `Debug` shows only its size.
#[derive(Clone, PartialEq, Eq)]
pub struct Stdin(Vec<u8>);

/// The text is no base64, or has too many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StdinError {
    #[error("must be base64 with padding")]
    Encoding,
    #[error("must be at most 256 KiB")]
    TooLong,
}

impl Stdin {
    /// # Errors
    /// [`StdinError::TooLong`]
    pub fn new(bytes: Vec<u8>) -> Result<Self, StdinError> {
        match bytes.len() > MAX_STDIN_BYTES {
            true => Err(StdinError::TooLong),
            false => Ok(Self(bytes)),
        }
    }

    /// Reads base64.
    ///
    /// # Errors
    /// [`StdinError`]
    pub fn decode(text: &str) -> Result<Self, StdinError> {
        if text.len() > BASE64.encode_len(MAX_STDIN_BYTES) {
            return Err(StdinError::TooLong);
        }
        Self::new(BASE64.decode(text.as_bytes()).map_err(|_| StdinError::Encoding)?)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Stdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stdin({} bytes)", self.0.len())
    }
}

impl Serialize for Stdin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Stdin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::decode(&text).map_err(|error| D::Error::custom(format!("`stdin` {error}")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn too_much_and_other_texts_are_refused() {
        let most = Stdin::new(vec![0; MAX_STDIN_BYTES]).expect("the most");
        assert_eq!(Stdin::new(vec![0; MAX_STDIN_BYTES + 1]), Err(StdinError::TooLong));
        let text = BASE64.encode(most.bytes());
        assert_eq!(Stdin::decode(&text), Ok(most));
        assert_eq!(Stdin::decode(&format!("{text}AAAA")), Err(StdinError::TooLong));
        for text in ["?", "YQ", "Y Q="] {
            assert_eq!(Stdin::decode(text), Err(StdinError::Encoding), "{text}");
        }
    }

    #[test]
    fn input_is_in_no_debug_output() {
        let stdin = Stdin::new(b"hunter2".to_vec()).expect("short");
        assert_eq!(format!("{stdin:?}"), "Stdin(7 bytes)");
    }

    proptest! {
        #[test]
        fn bytes_come_back_from_json(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let stdin = Stdin::new(bytes).expect("short");
            let text = serde_json::to_string(&stdin).expect("JSON");
            prop_assert_eq!(serde_json::from_str::<Stdin>(&text).expect("its own form"), stdin);
        }
    }
}
