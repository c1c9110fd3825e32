//! The layout of a compacted file, version 1.
//!
//! ```text
//! file   = header · block* · entry* · footer
//! header = "MSTROUT" · version u8 (1) · command id 16 bytes
//! block  = a zstd frame of whole output records, at most 256 KiB of them
//! entry  = stored u32 · records u32 · length u32 · stdout u32 · checksum u32      one a block
//! footer = blocks u32 · checksum u32 · "MSTROUT" · version u8
//! ```
//! Numbers are big-endian. An entry describes one block: `stored` is its size in the file,
//! `records` its size unpacked, `length` the payload in these records, and `stdout` the part of
//! that payload that is of stdout. `checksum` is the CRC-32 of the stored bytes. The footer's
//! checksum covers the header, the entries and the number of blocks.

use crate::domain::ids::CommandId;

pub(super) const MAGIC: [u8; 8] = *b"MSTROUT\x01";
pub(super) const HEADER_BYTES: usize = 24;
pub(super) const ENTRY_BYTES: usize = 20;
pub(super) const FOOTER_BYTES: usize = 16;
/// Most records in a block, unpacked.
pub(super) const MAX_BLOCK_BYTES: usize = 256 * 1024;

/// The start of a file, before all blocks.
pub(super) fn header(command_id: CommandId) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..].copy_from_slice(command_id.0.as_bytes());
    header
}

/// The footer's checksum.
pub(super) fn checksum(header: &[u8], entries: &[u8], blocks: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(entries);
    hasher.update(&blocks.to_be_bytes());
    hasher.finalize()
}

/// One entry of the index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub stored_bytes: u32,
    pub records_bytes: u32,
    pub length_bytes: u32,
    pub stdout_bytes: u32,
    pub checksum: u32,
}

impl IndexEntry {
    pub(super) fn encode(self) -> [u8; ENTRY_BYTES] {
        let numbers = [
            self.stored_bytes,
            self.records_bytes,
            self.length_bytes,
            self.stdout_bytes,
            self.checksum,
        ];
        let mut bytes = [0; ENTRY_BYTES];
        for (place, number) in bytes.chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let number = |at: usize| {
            let mut four = [0; 4];
            four.copy_from_slice(&bytes[at..at + 4]);
            u32::from_be_bytes(four)
        };
        Self {
            stored_bytes: number(0),
            records_bytes: number(4),
            length_bytes: number(8),
            stdout_bytes: number(12),
            checksum: number(16),
        }
    }
}
