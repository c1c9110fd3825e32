//! The output of an execution, derived from its id, so that every byte can be checked. Shared by
//! the program that prints and the checker.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::random::Random;

/// Bytes of one write of [`Print::Both`], so that the streams alternate.
const PIECE: usize = 1024;

/// How much is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Print {
    Nothing,
    /// 17 bytes to stdout.
    Line,
    /// 1 MiB to stdout.
    Mebibyte,
    /// 48 KiB to stdout and 16 KiB to stderr, alternately.
    Both,
}

/// One write.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    pub is_stderr: bool,
    pub bytes: Vec<u8>,
}

impl Print {
    /// Every write of the execution with this id, in order.
    pub fn pieces(self, id: Uuid) -> Vec<Piece> {
        let (high, low) = id.as_u64_pair();
        let mut random = Random::new(high ^ low.rotate_left(32));
        let stdout = |bytes| Piece { is_stderr: false, bytes };
        match self {
            Self::Nothing => vec![],
            Self::Line => vec![stdout(format!("{:016x}\n", random.roll()).into_bytes())],
            Self::Mebibyte => {
                (0..16).map(|_| stdout(random_bytes(&mut random, 64 * PIECE))).collect()
            }
            Self::Both => (0..64)
                .map(|turn| Piece {
                    is_stderr: turn % 4 == 3,
                    bytes: random_bytes(&mut random, PIECE),
                })
                .collect(),
        }
    }

    /// Everything that goes to stdout, and everything that goes to stderr.
    pub fn streams(self, id: Uuid) -> [Vec<u8>; 2] {
        let mut streams = [vec![], vec![]];
        for piece in self.pieces(id) {
            streams[usize::from(piece.is_stderr)].extend(piece.bytes);
        }
        streams
    }
}

fn random_bytes(random: &mut Random, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend(random.roll().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

impl fmt::Display for Print {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing",
            Self::Line => "line",
            Self::Mebibyte => "mebibyte",
            Self::Both => "both",
        })
    }
}

impl FromStr for Print {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Nothing, Self::Line, Self::Mebibyte, Self::Both]
            .into_iter()
            .find(|print| print.to_string() == text)
            .ok_or_else(|| format!("print `{text}`: it is none of nothing, line, mebibyte, both"))
    }
}
