//! Writes a compacted file, block by block.

use std::io::Write;

use muster_protocol::frame::output::{RECORD_HEADER_BYTES, Stream, record_header, records_of};

use super::BlobError;
use super::format::{ENTRY_BYTES, FOOTER_BYTES, HEADER_BYTES, IndexEntry, MAGIC, MAX_BLOCK_BYTES};
use super::format::{checksum, header};
use crate::domain::ids::CommandId;

/// The default of zstd: a balance between time and size.
const LEVEL: i32 = 3;

/// The size of a complete file and of its content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Payload of both streams.
    pub length_bytes: u64,
    /// Payload of stdout.
    pub stdout_bytes: u64,
    /// Size of the file.
    pub stored_bytes: u64,
}

/// Writes a compacted file to `file`.
pub struct BlockWriter<W> {
    file: W,
    header: [u8; HEADER_BYTES],
    compressor: zstd::bulk::Compressor<'static>,
    /// Records of the block that is being filled.
    block: Vec<u8>,
    current: IndexEntry,
    entries: Vec<u8>,
    written: Written,
}

impl<W: Write> BlockWriter<W> {
    /// Starts the file of a command.
    ///
    /// # Errors
    /// [`BlobError::Io`].
    pub fn new(mut file: W, command_id: CommandId) -> Result<Self, BlobError> {
        let header = header(command_id);
        file.write_all(&header).map_err(BlobError::io("write output"))?;
        let compressor =
            zstd::bulk::Compressor::new(LEVEL).map_err(BlobError::io("compress output"))?;
        Ok(Self {
            file,
            header,
            compressor,
            block: Vec::with_capacity(MAX_BLOCK_BYTES),
            current: IndexEntry::default(),
            entries: Vec::new(),
            written: Written { stored_bytes: HEADER_BYTES as u64, ..Written::default() },
        })
    }

    /// Adds whole records.
    ///
    /// # Errors
    /// [`BlobError::Damaged`] if the bytes are not whole records; [`BlobError::Io`].
    pub fn push(&mut self, records: &[u8]) -> Result<(), BlobError> {
        for record in records_of(records) {
            let record = record.map_err(|_| BlobError::Damaged("it holds no records"))?;
            let length = record.payload.len();
            if self.block.len() + RECORD_HEADER_BYTES + length > MAX_BLOCK_BYTES {
                self.end_block()?;
            }
            self.block.extend_from_slice(&record_header(record.stream, length as u32));
            self.block.extend_from_slice(record.payload);
            self.current.length_bytes += length as u32;
            if record.stream == Stream::Stdout {
                self.current.stdout_bytes += length as u32;
            }
        }
        Ok(())
    }

    fn end_block(&mut self) -> Result<(), BlobError> {
        if self.block.is_empty() {
            return Ok(());
        }
        let stored =
            self.compressor.compress(&self.block).map_err(BlobError::io("compress output"))?;
        self.file.write_all(&stored).map_err(BlobError::io("write output"))?;
        let entry = IndexEntry {
            stored_bytes: stored.len() as u32,
            records_bytes: self.block.len() as u32,
            checksum: crc32fast::hash(&stored),
            ..std::mem::take(&mut self.current)
        };
        self.block.clear();
        self.written.length_bytes += u64::from(entry.length_bytes);
        self.written.stdout_bytes += u64::from(entry.stdout_bytes);
        self.written.stored_bytes += stored.len() as u64;
        self.entries.extend_from_slice(&entry.encode());
        Ok(())
    }

    /// Writes the index. The file is then complete, but not durable yet.
    ///
    /// # Errors
    /// [`BlobError::Io`].
    pub fn finish(mut self) -> Result<(W, Written), BlobError> {
        self.end_block()?;
        let blocks = (self.entries.len() / ENTRY_BYTES) as u32;
        let mut end = std::mem::take(&mut self.entries);
        let sum = checksum(&self.header, &end, blocks);
        end.extend_from_slice(&blocks.to_be_bytes());
        end.extend_from_slice(&sum.to_be_bytes());
        end.extend_from_slice(&MAGIC);
        debug_assert_eq!(end.len() % ENTRY_BYTES, FOOTER_BYTES % ENTRY_BYTES);
        self.file.write_all(&end).map_err(BlobError::io("write output"))?;
        self.written.stored_bytes += end.len() as u64;
        Ok((self.file, self.written))
    }
}
