//! A session over plain HTTP: `POST /api/agents/exchange`.
//!
//! ```text
//! request = version u8 (1) · session id 16 bytes · sequence u64 · wait_ms u32 · part*
//! response = version u8 (1) · sequence u64 · part*
//! part    = kind u8 (1 text, 2 binary, 3 close) · length u32 · bytes
//! close   = code u16 · reason (UTF-8)
//! ```
//! Numbers are big-endian. The agent creates a random session id per link. Sequence 0 opens the
//! session; each further request increments the sequence. A repeated sequence gets the same
//! response again. A request that arrives while the previous one still waits makes the previous one
//! return at once, so that the agent can send frames at any time. At most two requests are open at
//! once; a server refuses a third before it reads its parts. A request that is repeated takes the
//! place of the one that it repeats.

use uuid::Uuid;

/// Largest body of a request or a response.
pub const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;
/// Most requests of one session that a server processes at once.
pub const MAX_OPEN_REQUESTS: usize = 2;
const VERSION: u8 = 1;
/// Bytes of a request before its first part.
pub const REQUEST_HEADER_BYTES: usize = 29;
const RESPONSE_HEADER_BYTES: usize = 9;
const PART_HEADER_BYTES: usize = 5;

/// The media type of both bodies.
pub const CONTENT_TYPE: &str = "application/vnd.muster.exchange";

/// One frame inside a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExchangePart {
    Text(String),
    Binary(Vec<u8>),
    /// Ends the session, as a WebSocket close does.
    Close {
        code: u16,
        reason: String,
    },
}

/// The body of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeRequest {
    pub session_id: Uuid,
    pub sequence: u64,
    /// How long the server may delay an empty response.
    pub wait_ms: u32,
    pub parts: Vec<ExchangePart>,
}

/// The start of a request's body, which says whether the rest is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHeader {
    pub session_id: Uuid,
    pub sequence: u64,
    /// How long the server may delay an empty response.
    pub wait_ms: u32,
}

/// One frame inside a body, borrowed from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartRef<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    Close { code: u16, reason: &'a str },
}

/// The body of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeResponse {
    pub sequence: u64,
    pub parts: Vec<ExchangePart>,
}

/// Why a body is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    #[error("the body is incomplete")]
    Cut,
    #[error("unknown version {0} of exchange bodies")]
    Version(u8),
    #[error("unknown kind {0} of part")]
    Kind(u8),
    #[error("a text part is not UTF-8")]
    Text,
}

impl ExchangeRequest {
    /// Encodes the body.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = vec![VERSION];
        body.extend_from_slice(self.session_id.as_bytes());
        body.extend_from_slice(&self.sequence.to_be_bytes());
        body.extend_from_slice(&self.wait_ms.to_be_bytes());
        encode_parts(&mut body, &self.parts);
        body
    }

    /// Decodes a request's body.
    ///
    /// # Errors
    /// [`ExchangeError`] for the first error.
    pub fn decode(body: &[u8]) -> Result<Self, ExchangeError> {
        let RequestHeader { session_id, sequence, wait_ms } = RequestHeader::decode(body)?;
        Ok(Self {
            session_id,
            sequence,
            wait_ms,
            parts: decode_parts(&body[REQUEST_HEADER_BYTES..])?,
        })
    }
}

impl RequestHeader {
    /// Decodes the header of a request from the start of its body.
    ///
    /// # Errors
    /// [`ExchangeError`] if there are fewer than [`REQUEST_HEADER_BYTES`], or of another version.
    pub fn decode(body: &[u8]) -> Result<Self, ExchangeError> {
        let header = body.first_chunk::<REQUEST_HEADER_BYTES>().ok_or(ExchangeError::Cut)?;
        if header[0] != VERSION {
            return Err(ExchangeError::Version(header[0]));
        }
        let mut id = [0; 16];
        id.copy_from_slice(&header[1..17]);
        let mut sequence = [0; 8];
        sequence.copy_from_slice(&header[17..25]);
        let mut wait = [0; 4];
        wait.copy_from_slice(&header[25..29]);
        Ok(Self {
            session_id: Uuid::from_bytes(id),
            sequence: u64::from_be_bytes(sequence),
            wait_ms: u32::from_be_bytes(wait),
        })
    }
}

impl ExchangeResponse {
    /// Encodes the body.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = vec![VERSION];
        body.extend_from_slice(&self.sequence.to_be_bytes());
        encode_parts(&mut body, &self.parts);
        body
    }

    /// Decodes a response's body.
    ///
    /// # Errors
    /// [`ExchangeError`] for the first error.
    pub fn decode(body: &[u8]) -> Result<Self, ExchangeError> {
        let header = body.first_chunk::<RESPONSE_HEADER_BYTES>().ok_or(ExchangeError::Cut)?;
        if header[0] != VERSION {
            return Err(ExchangeError::Version(header[0]));
        }
        let mut sequence = [0; 8];
        sequence.copy_from_slice(&header[1..9]);
        Ok(Self {
            sequence: u64::from_be_bytes(sequence),
            parts: decode_parts(&body[RESPONSE_HEADER_BYTES..])?,
        })
    }
}

impl PartRef<'_> {
    /// A copy that lives on its own.
    pub fn to_owned(self) -> ExchangePart {
        match self {
            Self::Text(text) => ExchangePart::Text(text.to_owned()),
            Self::Binary(bytes) => ExchangePart::Binary(bytes.to_vec()),
            Self::Close { code, reason } => ExchangePart::Close { code, reason: reason.to_owned() },
        }
    }
}

impl ExchangePart {
    /// Size of this part in a body.
    pub fn encoded_bytes(&self) -> usize {
        PART_HEADER_BYTES
            + match self {
                Self::Text(text) => text.len(),
                Self::Binary(bytes) => bytes.len(),
                Self::Close { reason, .. } => 2 + reason.len(),
            }
    }
}

fn encode_parts(body: &mut Vec<u8>, parts: &[ExchangePart]) {
    body.reserve(parts.iter().map(ExchangePart::encoded_bytes).sum());
    for part in parts {
        let length = (part.encoded_bytes() - PART_HEADER_BYTES) as u32;
        match part {
            ExchangePart::Text(text) => {
                body.push(1);
                body.extend_from_slice(&length.to_be_bytes());
                body.extend_from_slice(text.as_bytes());
            }
            ExchangePart::Binary(bytes) => {
                body.push(2);
                body.extend_from_slice(&length.to_be_bytes());
                body.extend_from_slice(bytes);
            }
            ExchangePart::Close { code, reason } => {
                body.push(3);
                body.extend_from_slice(&length.to_be_bytes());
                body.extend_from_slice(&code.to_be_bytes());
                body.extend_from_slice(reason.as_bytes());
            }
        }
    }
}

/// Iterates over the parts of a request, behind its header, without copying them.
pub fn parts_of(mut bytes: &[u8]) -> impl Iterator<Item = Result<PartRef<'_>, ExchangeError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let part = next_part(bytes);
        bytes = part.as_ref().map_or(&[], |(_, rest)| rest);
        Some(part.map(|(part, _)| part))
    })
}

fn next_part(bytes: &[u8]) -> Result<(PartRef<'_>, &[u8]), ExchangeError> {
    let (header, rest) =
        bytes.split_first_chunk::<PART_HEADER_BYTES>().ok_or(ExchangeError::Cut)?;
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
    let content = rest.get(..length).ok_or(ExchangeError::Cut)?;
    Ok((decode_part(header[0], content)?, &rest[length..]))
}

fn decode_part(kind: u8, content: &[u8]) -> Result<PartRef<'_>, ExchangeError> {
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| ExchangeError::Text);
    match kind {
        1 => Ok(PartRef::Text(text(content)?)),
        2 => Ok(PartRef::Binary(content)),
        3 => {
            let (code, reason) = content.split_first_chunk::<2>().ok_or(ExchangeError::Cut)?;
            Ok(PartRef::Close { code: u16::from_be_bytes(*code), reason: text(reason)? })
        }
        other => Err(ExchangeError::Kind(other)),
    }
}

fn decode_parts(bytes: &[u8]) -> Result<Vec<ExchangePart>, ExchangeError> {
    parts_of(bytes).map(|part| part.map(PartRef::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part() -> impl Strategy<Value = ExchangePart> {
        prop_oneof![
            "\\PC{0,40}".prop_map(ExchangePart::Text),
            prop::collection::vec(any::<u8>(), 0..60).prop_map(ExchangePart::Binary),
            (any::<u16>(), "[a-z_]{0,20}")
                .prop_map(|(code, reason)| ExchangePart::Close { code, reason }),
        ]
    }

    proptest! {
        #[test]
        fn requests_and_responses_round_trip(
            id in any::<u128>(), sequence in any::<u64>(), wait_ms in any::<u32>(),
            parts in prop::collection::vec(part(), 0..10),
        ) {
            let request = ExchangeRequest { session_id: Uuid::from_u128(id), sequence, wait_ms, parts: parts.clone() };
            prop_assert_eq!(ExchangeRequest::decode(&request.encode()), Ok(request));
            let response = ExchangeResponse { sequence, parts };
            prop_assert_eq!(ExchangeResponse::decode(&response.encode()), Ok(response));
        }

        #[test]
        fn decoding_arbitrary_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = ExchangeRequest::decode(&bytes);
            let _ = ExchangeResponse::decode(&bytes);
        }
    }
}
