//! Reads a backup file, and checks all of it against its manifest.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::Path;

use data_encoding::HEXLOWER;
use ring::digest::{Context, SHA256, digest};
use serde::de::DeserializeOwned;
use zstd::stream::read::Decoder;

use super::ustar::{self, BLOCK};
use super::{
    BackupFileError, BackupHeader, BackupTotals, EntryName, FORMAT, MAX_BACKUP_ENTRIES,
    MAX_BACKUP_HEADER_BYTES, MAX_KEY_FILE_BYTES, MAX_MANIFEST_LINE_BYTES, ManifestLine,
};

/// Largest window that an archive may ask for: 8 MiB.
const WINDOW_LOG_MAX: u32 = 23;

type Archive = Decoder<'static, BufReader<File>>;

/// Takes the contents of a backup file.
pub trait EntrySink<T> {
    /// Takes the content of an entry, which is not checked yet. What it does not read is skipped.
    ///
    /// # Errors
    /// [`BackupFileError::Sink`]
    fn take(
        &mut self,
        header: &BackupHeader<T>,
        name: &EntryName,
        content: &mut (dyn Read + Send),
    ) -> Result<(), BackupFileError>;
}

/// Takes nothing, to check a file.
pub struct NoSink;

impl<T> EntrySink<T> for NoSink {
    fn take(
        &mut self,
        _: &BackupHeader<T>,
        _: &EntryName,
        _: &mut (dyn Read + Send),
    ) -> Result<(), BackupFileError> {
        Ok(())
    }
}

/// Reads a whole file and checks it. The contents may have at most `max_bytes` together.
///
/// # Errors
/// [`BackupFileError`]; what the sink has taken is then worthless.
pub fn read<T: DeserializeOwned>(
    path: &Path,
    max_bytes: u64,
    sink: &mut dyn EntrySink<T>,
) -> Result<(BackupHeader<T>, BackupTotals), BackupFileError> {
    let failed = |source| BackupFileError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mut archive = Decoder::new(file).map_err(failed)?;
    archive.window_log_max(WINDOW_LOG_MAX).map_err(failed)?;
    let mut reading = ReadState { header: None, digests: Vec::new(), bytes: 0, max_bytes };
    while let Some((name, bytes)) = next(&mut archive)? {
        let kind = EntryName::parse(&name);
        let kind = kind.ok_or_else(|| damaged("it has an entry with an invalid name"))?;
        if kind == EntryName::Manifest {
            reading.check_manifest(&mut archive, bytes)?;
            return reading.end(&mut archive);
        }
        reading.take(&mut archive, (&name, &kind, bytes), sink)?;
    }
    Err(BackupFileError::Truncated)
}

struct ReadState<T> {
    header: Option<BackupHeader<T>>,
    /// Of the lines that the manifest must have.
    digests: Vec<[u8; 32]>,
    bytes: u64,
    max_bytes: u64,
}

impl<T: DeserializeOwned> ReadState<T> {
    fn take(
        &mut self,
        archive: &mut Archive,
        (name, kind, bytes): (&str, &EntryName, u64),
        sink: &mut dyn EntrySink<T>,
    ) -> Result<(), BackupFileError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.max_bytes {
            return Err(BackupFileError::TooLarge("its contents need more space than there is"));
        }
        if self.digests.len() as u64 >= MAX_BACKUP_ENTRIES {
            return Err(BackupFileError::TooLarge("it has more than 4,000,000 entries"));
        }
        let most = match kind {
            EntryName::Header => MAX_BACKUP_HEADER_BYTES,
            EntryName::Key(_) => MAX_KEY_FILE_BYTES,
            _ => u64::MAX,
        };
        if bytes > most {
            return Err(BackupFileError::TooLarge("its header or a key"));
        }
        let mut content = EntryContent { archive, left: bytes, sum: Context::new(&SHA256) };
        match (kind, &self.header) {
            (EntryName::Header, None) => self.header = Some(read_header(&mut content)?),
            (EntryName::Header, Some(_)) | (_, None) => {
                return Err(damaged("it does not start with its header"));
            }
            (_, Some(header)) => sink.take(header, kind, &mut content)?,
        }
        io::copy(&mut content, &mut io::sink()).map_err(unreadable)?;
        let sha256 = HEXLOWER.encode(content.sum.finish().as_ref());
        skip(archive, padding(bytes))?;
        self.digests.push(digest_of(&ManifestLine { name: name.to_owned(), bytes, sha256 })?);
        Ok(())
    }

    /// Compares the manifest with what was read.
    fn check_manifest(&mut self, archive: &mut Archive, bytes: u64) -> Result<(), BackupFileError> {
        let content = EntryContent { archive, left: bytes, sum: Context::new(&SHA256) };
        let mut lines = BufReader::new(content);
        for expected in &self.digests {
            let mut line = Vec::new();
            (&mut lines)
                .take(MAX_MANIFEST_LINE_BYTES)
                .read_until(b'\n', &mut line)
                .map_err(unreadable)?;
            let listed: ManifestLine = serde_json::from_slice(&line)
                .map_err(|_| damaged("its manifest lists fewer entries than it has"))?;
            if digest_of(&listed)? != *expected {
                let name = listed.name.escape_debug();
                return Err(damaged(&format!("{name} is not as its manifest lists it")));
            }
        }
        if !lines.fill_buf().map_err(unreadable)?.is_empty() {
            return Err(damaged("its manifest lists more entries than it has"));
        }
        skip(archive, padding(bytes))
    }

    /// Nothing follows the manifest.
    fn end(
        self,
        archive: &mut Archive,
    ) -> Result<(BackupHeader<T>, BackupTotals), BackupFileError> {
        if next(archive)?.is_some() {
            return Err(damaged("its manifest is not its last entry"));
        }
        skip(archive, BLOCK)?;
        // Also reads the checksum of the compression.
        if archive.read(&mut [0]).map_err(unreadable)? > 0 {
            return Err(damaged("something follows its end"));
        }
        let header = self.header.ok_or(BackupFileError::Truncated)?;
        Ok((header, BackupTotals { entries: self.digests.len() as u64, bytes: self.bytes }))
    }
}

fn read_header<T: DeserializeOwned>(
    content: &mut dyn Read,
) -> Result<BackupHeader<T>, BackupFileError> {
    #[derive(serde::Deserialize)]
    struct Version {
        format: u32,
    }
    let mut text = Vec::new();
    content.read_to_end(&mut text).map_err(unreadable)?;
    let unreadable = |_| damaged("its header can't be read");
    let version: Version = serde_json::from_slice(&text).map_err(unreadable)?;
    if version.format != FORMAT {
        return Err(BackupFileError::Format(version.format));
    }
    serde_json::from_slice(&text).map_err(unreadable)
}

/// The next entry; `None` at the end.
fn next(archive: &mut Archive) -> Result<Option<(String, u64)>, BackupFileError> {
    let mut head = [0; BLOCK];
    archive.read_exact(&mut head).map_err(unreadable)?;
    if head == [0; BLOCK] {
        return Ok(None);
    }
    ustar::decode(&head).map(Some).map_err(damaged)
}

fn skip(archive: &mut Archive, bytes: usize) -> Result<(), BackupFileError> {
    let mut padding = [0; BLOCK];
    archive.read_exact(&mut padding[..bytes]).map_err(unreadable)
}

/// The bytes between the end of a content and the next head.
pub(super) fn padding(bytes: u64) -> usize {
    let block = BLOCK as u64;
    usize::try_from((block - bytes % block) % block).unwrap_or(0)
}

fn digest_of(line: &ManifestLine) -> Result<[u8; 32], BackupFileError> {
    let text = serde_json::to_vec(line).map_err(|_| damaged("an entry can't be described"))?;
    let mut sum = [0; 32];
    sum.copy_from_slice(digest(&SHA256, &text).as_ref());
    Ok(sum)
}

fn damaged(reason: &str) -> BackupFileError {
    BackupFileError::Damaged(reason.to_owned())
}

fn unreadable(error: io::Error) -> BackupFileError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => BackupFileError::Truncated,
        _ => BackupFileError::Damaged(error.to_string()),
    }
}

/// The content of one entry.
struct EntryContent<'a> {
    archive: &'a mut Archive,
    left: u64,
    sum: Context,
}

impl Read for EntryContent<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let read = self.archive.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.sum.update(&buffer[..read]);
        self.left -= read as u64;
        Ok(read)
    }
}
