//! Reads an execution's output file by payload offset while a shim may still be writing it.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use muster_protocol::frame::ExecuteResult;
use muster_protocol::frame::output::{
    FRAME_HEADER_BYTES, RECORD_HEADER_BYTES, Stream, read_record_header, record_header,
    write_frame_header,
};
use muster_protocol::limits::MAX_OUTPUT_FRAME_BYTES;
use uuid::Uuid;

use crate::executions::ledger::checkpoints::{self, Checkpoint};
use crate::executions::output_hashes::OutputHashes;

/// Large enough that skipping small records does not cost one system call each.
const BUFFER_BYTES: usize = 4 * 1024;
/// Smallest piece of a record that fills up a frame.
const MIN_PIECE_BYTES: usize = 64;

/// The payload of all complete records of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recorded {
    pub payload_bytes: u64,
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
}

impl Recorded {
    fn add(&mut self, stream: Stream, length: usize) {
        self.payload_bytes += length as u64;
        match stream {
            Stream::Stdout => self.stdout_bytes += length as u64,
            Stream::Stderr => self.stderr_bytes += length as u64,
        }
    }

    /// The result of a run of which only the output is known.
    pub fn result_of_lost_execution(self) -> ExecuteResult {
        ExecuteResult {
            exit_code: None,
            signal: None,
            duration_ms: 0,
            output_bytes: self.payload_bytes,
            stdout_bytes: self.stdout_bytes,
            stderr_bytes: self.stderr_bytes,
            dropped_bytes: 0,
            output_complete: false,
            output_sha256: None,
            stdout_sha256: None,
            stderr_sha256: None,
            steps: Vec::new(),
            rehearsal: None,
        }
    }
}

/// Adds up the complete records of a file that a shim may be writing, starting at its last
/// checkpoint.
///
/// # Errors
/// If the file does not exist or can't be read.
pub fn recorded(path: &Path) -> io::Result<Recorded> {
    let file_bytes = std::fs::metadata(path)?.len();
    recorded_from(path, checkpoints::last(path, file_bytes, |_| true))
}

/// Adds up and hashes the complete records of a file from its start: after a power loss a part in its middle
/// may be missing, and nothing behind that part is output.
///
/// # Errors
/// As [`recorded`].
pub fn recorded_from_start(path: &Path) -> io::Result<(Recorded, OutputHashes)> {
    let mut reader = OutputReader::open(path)?;
    let (mut sum, mut hashes) = (Recorded::default(), OutputHashes::default());
    let mut payload = Vec::new();
    while let Some((stream, length)) = reader.next_header()? {
        payload.resize(length, 0);
        reader.file.read_exact(&mut payload)?;
        reader.advance(length);
        sum.add(stream, length);
        hashes.update(stream, &payload);
    }
    Ok((sum, hashes))
}

fn recorded_from(path: &Path, mark: Checkpoint) -> io::Result<Recorded> {
    let mut reader = OutputReader::open(path)?;
    reader.seek_to(mark)?;
    let mut sum = Recorded {
        payload_bytes: mark.payload_bytes(),
        stdout_bytes: mark.stdout_bytes,
        stderr_bytes: mark.stderr_bytes,
    };
    while let Some((stream, length)) = reader.next_header()? {
        reader.skip(length)?;
        sum.add(stream, length);
    }
    Ok(sum)
}

/// A read position in an output file.
#[derive(Debug)]
pub struct OutputReader {
    file: BufReader<File>,
    file_bytes: u64,
    /// File position of the next header.
    position: u64,
    /// Payload before that header.
    offset: u64,
    /// Payload of the record at `position` that was acknowledged before and is skipped.
    skipped: usize,
    /// There is no valid record at the position, so the rest of the file can't be read.
    is_damaged: bool,
}

impl OutputReader {
    /// Opens the file at its start.
    ///
    /// # Errors
    /// If the file does not exist.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let file_bytes = file.metadata()?.len();
        // A small buffer serves headers and short payloads; long payloads bypass it.
        let file = BufReader::with_capacity(BUFFER_BYTES, file);
        Ok(Self { file, file_bytes, position: 0, offset: 0, skipped: 0, is_damaged: false })
    }

    fn seek_to(&mut self, mark: Checkpoint) -> io::Result<()> {
        self.position = mark.position;
        self.offset = mark.payload_bytes();
        self.seek_back(self.position)
    }

    /// Opens the file at this payload offset, or at its end if the file is shorter.
    ///
    /// # Errors
    /// If the file does not exist.
    pub fn open_at(path: &Path, offset_bytes: u64) -> io::Result<Self> {
        let mut reader = Self::open(path)?;
        let fits = |mark: &Checkpoint| mark.payload_bytes() <= offset_bytes;
        reader.seek_to(checkpoints::last(path, reader.file_bytes, fits))?;
        loop {
            let (position, before) = (reader.position, reader.offset);
            let Some((_, length)) = reader.next_header()? else { return Ok(reader) };
            if before + length as u64 > offset_bytes {
                reader.position = position;
                reader.file.seek(SeekFrom::Start(position))?;
                reader.skipped = (offset_bytes - before) as usize;
                return Ok(reader);
            }
            reader.skip(length)?;
        }
    }

    /// Payload before the next byte that will be sent.
    pub fn offset_bytes(&self) -> u64 {
        self.offset + self.skipped as u64
    }

    /// True if there is no complete record to send.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn is_at_end(&mut self) -> io::Result<bool> {
        self.file_bytes = self.file.get_ref().metadata()?.len();
        let start = self.position;
        let is_at_end = self.next_header()?.is_none();
        self.seek_back(start)?;
        Ok(is_at_end)
    }

    /// A binary frame with the next output, as large as the wire format and `max_payload` allow;
    /// `None` if there is no complete record. Contains at least one byte.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn next_frame(
        &mut self,
        command_id: Uuid,
        max_payload: u64,
    ) -> io::Result<Option<Vec<u8>>> {
        self.file_bytes = self.file.get_ref().metadata()?.len();
        let available = self.file_bytes.saturating_sub(self.position);
        if available == 0 || max_payload == 0 {
            return Ok(None);
        }
        let wanted = available.min(MAX_OUTPUT_FRAME_BYTES as u64) as usize;
        let mut frame =
            Vec::with_capacity((FRAME_HEADER_BYTES + wanted).min(MAX_OUTPUT_FRAME_BYTES));
        write_frame_header(&mut frame, command_id, self.offset_bytes());
        let mut payload_left = max_payload;
        while payload_left > 0 {
            let start = self.position;
            let Some((stream, length)) = self.next_header()? else { break };
            let free_bytes = MAX_OUTPUT_FRAME_BYTES - frame.len();
            if free_bytes <= RECORD_HEADER_BYTES {
                self.seek_back(start)?;
                break;
            }
            let wanted = length - self.skipped;
            let taken = wanted.min(free_bytes - RECORD_HEADER_BYTES).min(payload_left as usize);
            // A small piece of a record costs more than it saves.
            let is_small = taken < wanted.min(MIN_PIECE_BYTES);
            if is_small && frame.len() > FRAME_HEADER_BYTES {
                self.seek_back(start)?;
                break;
            }
            if self.skipped > 0 {
                self.file.seek_relative(self.skipped as i64)?;
            }
            frame.extend_from_slice(&record_header(stream, taken as u32));
            let payload_at = frame.len();
            frame.resize(payload_at + taken, 0);
            self.file.read_exact(&mut frame[payload_at..])?;
            payload_left -= taken as u64;
            if taken < wanted {
                self.skipped += taken;
                self.seek_back(start)?;
                break;
            }
            self.skipped = 0;
            self.advance(length);
        }
        Ok((frame.len() > FRAME_HEADER_BYTES).then_some(frame))
    }

    /// The header at the position, with the file positioned behind it; `None` if the record is not
    /// complete yet.
    fn next_header(&mut self) -> io::Result<Option<(Stream, usize)>> {
        let header_end = self.position + RECORD_HEADER_BYTES as u64;
        if header_end > self.file_bytes || self.is_damaged {
            return Ok(None);
        }
        let mut header = [0; RECORD_HEADER_BYTES];
        self.file.read_exact(&mut header)?;
        let Ok((stream, length)) = read_record_header(header) else {
            tracing::error!(position = self.position, "stored output is damaged and ends here");
            self.is_damaged = true;
            return Ok(None);
        };
        if header_end + length as u64 > self.file_bytes {
            self.seek_back(self.position)?;
            return Ok(None);
        }
        Ok(Some((stream, length)))
    }

    fn skip(&mut self, length: usize) -> io::Result<()> {
        self.file.seek_relative(length as i64)?;
        self.advance(length);
        Ok(())
    }

    fn advance(&mut self, length: usize) {
        self.position += (RECORD_HEADER_BYTES + length) as u64;
        self.offset += length as u64;
    }

    fn seek_back(&mut self, position: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(position)).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::frame::output::{decode_frame, records_of};
    use proptest::prelude::*;
    use std::io::Write as _;

    fn write_records(file: &mut File, records: &[(bool, Vec<u8>)]) {
        for (is_stderr, payload) in records {
            let stream = if *is_stderr { Stream::Stderr } else { Stream::Stdout };
            file.write_all(&record_header(stream, payload.len() as u32)).expect("written");
            file.write_all(payload).expect("written");
        }
    }

    /// Writes checkpoints at some of the record ends.
    fn write_marks(path: &Path, records: &[(bool, Vec<u8>)], marked: &[prop::sample::Index]) {
        let mut ends = vec![Checkpoint::default()];
        for (is_stderr, payload) in records {
            let mut end = *ends.last().expect("never empty");
            end.position += (RECORD_HEADER_BYTES + payload.len()) as u64;
            let bytes = if *is_stderr { &mut end.stderr_bytes } else { &mut end.stdout_bytes };
            *bytes += payload.len() as u64;
            ends.push(end);
        }
        let checkpoints: Vec<u8> =
            marked.iter().flat_map(|index| index.get(&ends).encode()).collect();
        std::fs::write(checkpoints::path_of(path), checkpoints).expect("written");
    }

    fn payload_of(records: &[(bool, Vec<u8>)]) -> Vec<(bool, u8)> {
        records.iter().flat_map(|(tag, bytes)| bytes.iter().map(|byte| (*tag, *byte))).collect()
    }

    proptest! {
        #[test]
        fn frames_from_any_offset_contain_exactly_the_rest_of_the_output(
            records in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 1..200)), 0..30),
            start in any::<prop::sample::Index>(),
            max_payload in 1u64..500,
            half in 0usize..20,
            marked in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let folder = tempfile::tempdir().expect("temporary folder");
            let path = folder.path().join("output");
            let mut file = File::create(&path).expect("created");
            write_records(&mut file, &records);
            write_marks(&path, &records, &marked);
            // A record that a shim is still writing does not count yet.
            file.write_all(&record_header(Stream::Stdout, 64)[..half.min(5)]).expect("written");
            file.write_all(&vec![7; half.saturating_sub(5)]).expect("written");
            let all = payload_of(&records);
            let start = start.index(all.len() + 1);
            let mut reader = OutputReader::open_at(&path, start as u64).expect("opened");
            prop_assert_eq!(reader.offset_bytes(), start as u64);
            let mut read = Vec::new();
            while let Some(frame) = reader.next_frame(Uuid::from_u128(1), max_payload).expect("read") {
                let decoded = decode_frame(&frame).expect("well formed");
                prop_assert_eq!(decoded.offset_bytes, (start + read.len()) as u64);
                prop_assert!(decoded.payload_bytes <= max_payload);
                for record in records_of(decoded.records) {
                    let record = record.expect("checked");
                    let tag = record.stream == Stream::Stderr;
                    read.extend(record.payload.iter().map(|byte| (tag, *byte)));
                }
            }
            prop_assert_eq!(&read, &all[start..].to_vec());
            let sum = recorded(&path).expect("read");
            prop_assert_eq!(sum.payload_bytes, all.len() as u64);
            prop_assert_eq!(sum, recorded_from_start(&path).expect("read").0);
        }
    }

    #[test]
    fn bytes_behind_a_damaged_record_do_not_count_as_output() {
        let mut file = tempfile::NamedTempFile::new().expect("temporary file");
        write_records(file.as_file_mut(), &[(false, vec![1; 10]), (true, vec![2; 5])]);
        file.write_all(&[0; 100]).expect("written");
        write_records(file.as_file_mut(), &[(false, vec![3; 7])]);
        let (sum, _) = recorded_from_start(file.path()).expect("read");
        assert_eq!((sum.stdout_bytes, sum.stderr_bytes), (10, 5));
        let mut reader = OutputReader::open_at(file.path(), 4).expect("opened");
        let frame = reader.next_frame(Uuid::from_u128(1), 100).expect("read").expect("a frame");
        assert_eq!(decode_frame(&frame).expect("well formed").payload_bytes, 11);
        assert!(reader.next_frame(Uuid::from_u128(1), 100).expect("read").is_none());
    }

    #[test]
    fn large_output_fills_frames_to_their_limit() {
        let mut file = tempfile::NamedTempFile::new().expect("temporary file");
        let records: Vec<_> = (0..20).map(|_| (false, vec![1; 64 * 1024])).collect();
        write_records(file.as_file_mut(), &records);
        let mut reader = OutputReader::open(file.path()).expect("opened");
        let mut total = 0;
        while let Some(frame) = reader.next_frame(Uuid::from_u128(1), u64::MAX).expect("read") {
            assert!(frame.len() <= MAX_OUTPUT_FRAME_BYTES);
            total += decode_frame(&frame).expect("well formed").payload_bytes;
        }
        assert_eq!(total, 20 * 64 * 1024);
    }

    #[test]
    fn output_that_is_appended_later_is_read_from_the_same_position() {
        let mut file = tempfile::NamedTempFile::new().expect("temporary file");
        let mut reader = OutputReader::open(file.path()).expect("opened");
        let id = Uuid::from_u128(1);
        assert!(reader.next_frame(id, 100).expect("read").is_none());
        write_records(file.as_file_mut(), &[(true, vec![5; 10])]);
        assert!(reader.next_frame(id, 100).expect("read").is_some());
        assert!(reader.next_frame(id, 100).expect("read").is_none());
        write_records(file.as_file_mut(), &[(false, vec![6; 3])]);
        let frame = reader.next_frame(id, 100).expect("read").expect("appended");
        assert_eq!(decode_frame(&frame).expect("well formed").offset_bytes, 10);
    }
}
