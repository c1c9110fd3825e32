//! Bytes that are cheap to generate, known in advance and incompressible.

use std::io::{self, Write};

use ring::digest;

const BLOCK_BYTES: usize = 1024 * 1024;

/// Writes `bytes` bytes by repeating one block of noise.
///
/// # Errors
/// The writer's error.
pub fn write(mut to: impl Write, bytes: u64) -> io::Result<()> {
    let block = block();
    let mut left = bytes;
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
        to.write_all(&block[..now])?;
        left -= now as u64;
    }
    to.flush()
}

/// Hex SHA-256 of the bytes that [`write`] writes.
///
/// # Errors
/// None.
pub fn sha256(bytes: u64) -> io::Result<String> {
    let mut hash = Hash(digest::Context::new(&digest::SHA256));
    write(&mut hash, bytes)?;
    Ok(hash.0.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

struct Hash(digest::Context);

impl Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Marsaglia's xorshift, from a fixed seed.
fn block() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    while block.len() < BLOCK_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        block.extend_from_slice(&state.to_le_bytes());
    }
    block
}
