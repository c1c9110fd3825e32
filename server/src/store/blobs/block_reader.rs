//! Reads a compacted file. Each block can be read without the others.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::BlobError;
use super::format::{ENTRY_BYTES, FOOTER_BYTES, HEADER_BYTES, IndexEntry, MAGIC, MAX_BLOCK_BYTES};
use super::format::{checksum, header};
use crate::domain::ids::CommandId;

/// The position of a block in the file and in the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputBlock {
    /// Payload before the block, both streams.
    pub offset_bytes: u64,
    /// Payload in the block.
    pub length_bytes: u64,
    /// Payload of stdout before the block.
    pub stdout_offset_bytes: u64,
    /// Payload of stdout in the block.
    pub stdout_bytes: u64,
    position: u64,
    stored_bytes: usize,
    records_bytes: usize,
    checksum: u32,
}

/// A compacted file whose index has been read and checked.
#[derive(Debug)]
pub struct BlockReader {
    file: File,
    blocks: Vec<OutputBlock>,
}

impl BlockReader {
    /// Reads the index of a command's file.
    ///
    /// # Errors
    /// [`BlobError::Damaged`] if the file differs from what was written for this command.
    pub fn open(file: File, command_id: CommandId) -> Result<Self, BlobError> {
        let file_bytes = file.metadata().map_err(BlobError::reading)?.len();
        let header = header(command_id);
        let mut found = [0; HEADER_BYTES];
        file.read_exact_at(&mut found, 0).map_err(BlobError::reading)?;
        if found != header {
            return Err(BlobError::Damaged("it begins otherwise"));
        }
        let footer_at = file_bytes.saturating_sub(FOOTER_BYTES as u64);
        let mut footer = [0; FOOTER_BYTES];
        file.read_exact_at(&mut footer, footer_at).map_err(BlobError::reading)?;
        let [b0, b1, b2, b3, s0, s1, s2, s3, magic @ ..] = footer;
        let blocks = u32::from_be_bytes([b0, b1, b2, b3]);
        let index_bytes = u64::from(blocks) * ENTRY_BYTES as u64;
        if magic != MAGIC || index_bytes > footer_at {
            return Err(BlobError::Damaged("it ends otherwise"));
        }
        // No longer than the file, so the allocation is bounded.
        let mut index = vec![0; index_bytes as usize];
        file.read_exact_at(&mut index, footer_at - index_bytes).map_err(BlobError::reading)?;
        if checksum(&found, &index, blocks) != u32::from_be_bytes([s0, s1, s2, s3]) {
            return Err(BlobError::Damaged("the checksum of its index"));
        }
        let blocks = blocks_of(&index);
        let end = blocks
            .last()
            .map_or(HEADER_BYTES as u64, |block| block.position + block.stored_bytes as u64);
        if end != footer_at - index_bytes {
            return Err(BlobError::Damaged("its length"));
        }
        Ok(Self { file, blocks })
    }

    /// The same file for output whose start was removed: payload of both streams and of stdout before the file.
    pub fn starting_at(mut self, (offset_bytes, stdout_bytes): (u64, u64)) -> Self {
        for block in &mut self.blocks {
            block.offset_bytes += offset_bytes;
            block.stdout_offset_bytes += stdout_bytes;
        }
        self
    }

    /// All blocks, in order.
    pub fn blocks(&self) -> &[OutputBlock] {
        &self.blocks
    }

    /// The records of a block.
    ///
    /// # Errors
    /// [`BlobError::Damaged`] if any bit differs from what was written.
    pub fn records(&self, block: &OutputBlock) -> Result<Vec<u8>, BlobError> {
        let mut stored = vec![0; block.stored_bytes];
        self.file.read_exact_at(&mut stored, block.position).map_err(BlobError::reading)?;
        if crc32fast::hash(&stored) != block.checksum {
            return Err(BlobError::Damaged("the checksum of a block"));
        }
        let records = zstd::bulk::decompress(&stored, MAX_BLOCK_BYTES)
            .map_err(|_| BlobError::Damaged("a block can't be unpacked"))?;
        if records.len() != block.records_bytes {
            return Err(BlobError::Damaged("the length of a block"));
        }
        Ok(records)
    }
}

fn blocks_of(index: &[u8]) -> Vec<OutputBlock> {
    let (entries, _) = index.as_chunks::<ENTRY_BYTES>();
    let mut next = (HEADER_BYTES as u64, 0, 0);
    let place = |bytes| {
        let entry = IndexEntry::decode(bytes);
        let (position, offset_bytes, stdout_offset_bytes) = next;
        let block = OutputBlock {
            offset_bytes,
            length_bytes: entry.length_bytes.into(),
            stdout_offset_bytes,
            stdout_bytes: entry.stdout_bytes.into(),
            position,
            stored_bytes: entry.stored_bytes as usize,
            records_bytes: entry.records_bytes as usize,
            checksum: entry.checksum,
        };
        next = (
            position + block.stored_bytes as u64,
            offset_bytes + block.length_bytes,
            stdout_offset_bytes + block.stdout_bytes,
        );
        block
    };
    entries.iter().map(place).collect()
}
