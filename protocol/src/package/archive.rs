//! Reads archives, zip or tar.zst, by the rules of [`Entries`].
//!
//! What is refused here is refused by the server at the upload, and again by each host before it writes a
//! file. The path, the size and the content of each entry come from one reader on both sides.

use std::io::{self, Read, Seek, SeekFrom};

use tar::EntryType;
use zip::ZipArchive;

use super::entries::{Entries, EntryKind, EntryProblem, MAX_ENTRIES, MAX_PATH_BYTES, SPECIAL_BITS};

/// The first bytes of a zip archive.
const ZIP_MAGIC: [u8; 4] = *b"PK\x03\x04";
/// The first bytes of a zstd frame.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Starts the entry of each file in the directory of a zip archive.
const ZIP_DIRECTORY_MAGIC: [u8; 4] = *b"PK\x01\x02";
/// Offset of the mode in the entry of a file.
const ZIP_MODE_OFFSET: u64 = 40;
/// From so many on, the directory is not read, because it would take too much memory. More than
/// entries, because the magic may also be in stored files.
const MAX_DIRECTORY_MAGICS: usize = 10 * MAX_ENTRIES;
/// Largest window of a zstd frame, as a power of two: 32 MiB.
const MAX_WINDOW_LOG: u32 = 25;
/// Longest extension header of a tar archive, in bytes.
const MAX_EXTENSION_BYTES: u64 = 16 * 1024;
/// Longest cause in a message, in characters.
const MAX_CAUSE_CHARS: usize = 200;

/// The formats of archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFormat {
    Zip,
    TarZst,
}

/// Why an archive is no package. The messages are shown to people.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("it is neither a zip archive nor a tar archive compressed with zstd")]
    Format,
    #[error("{0}")]
    Entry(#[from] EntryProblem),
    #[error("two of its entries have the same path; `unzip -l` lists them")]
    DuplicateNames,
    #[error("it can't be read: {0}")]
    Damaged(String),
    /// The reader of an entry's content failed.
    #[error("an entry could not be stored")]
    Visit(#[source] io::Error),
}

impl ArchiveError {
    /// The stable code for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Format => "unknown_format",
            Self::Entry(problem) => problem.code(),
            Self::DuplicateNames => "duplicate",
            Self::Damaged(_) => "damaged",
            Self::Visit(_) => "storage_failed",
        }
    }

    fn damaged(cause: impl std::fmt::Display) -> Self {
        let text = cause.to_string();
        let visible = text.chars().map(|char| if char.is_control() { ' ' } else { char });
        Self::Damaged(visible.take(MAX_CAUSE_CHARS).collect())
    }
}

/// One entry, which keeps all rules.
#[derive(Debug, Clone, Copy)]
pub struct ArchiveEntry<'a> {
    /// Relative, with `/` between its parts.
    pub path: &'a str,
    pub kind: EntryKind,
    pub is_executable: bool,
}

/// Takes an entry and its content, of which it may read less than there is.
pub type Visit<'a> = dyn FnMut(ArchiveEntry<'_>, &mut dyn Read) -> io::Result<()> + 'a;

impl ArchiveFormat {
    /// The format of an archive with these first bytes.
    pub fn of(first: &[u8]) -> Option<Self> {
        if first.starts_with(&ZIP_MAGIC) {
            return Some(Self::Zip);
        }
        first.starts_with(&ZSTD_MAGIC).then_some(Self::TarZst)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Zip => "zip",
            Self::TarZst => "tar.zst",
        }
    }
}

/// Reads all entries of an archive of `archive_bytes`, from its start.
///
/// # Errors
/// [`ArchiveError`]; the entries before the problem were visited.
pub fn read<R: Read + Seek>(
    mut archive: R,
    archive_bytes: u64,
    visit: &mut Visit<'_>,
) -> Result<(ArchiveFormat, Entries), ArchiveError> {
    let mut first = Vec::with_capacity(ZIP_MAGIC.len());
    archive.by_ref().take(4).read_to_end(&mut first).map_err(ArchiveError::damaged)?;
    archive.rewind().map_err(ArchiveError::damaged)?;
    let format = ArchiveFormat::of(&first).ok_or(ArchiveError::Format)?;
    let mut entries = Entries::of_archive(archive_bytes);
    match format {
        ArchiveFormat::Zip => read_zip(archive, &mut entries, visit)?,
        ArchiveFormat::TarZst => read_tar(archive, &mut entries, visit)?,
    }
    Ok((format, entries))
}

fn read_zip<R: Read + Seek>(
    mut reader: R,
    entries: &mut Entries,
    visit: &mut Visit<'_>,
) -> Result<(), ArchiveError> {
    check_directory_size(&mut reader)?;
    let archive = ZipArchive::new(reader).map_err(ArchiveError::damaged)?;
    if archive.has_duplicate_names() {
        // The library keeps one of them, so the name is not known here.
        return Err(ArchiveError::DuplicateNames);
    }
    let mut archive = with_plain_modes(archive)?;
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).map_err(ArchiveError::damaged)?;
        let path = file.name().map_err(ArchiveError::damaged)?.into_owned();
        let mode = file.unix_mode().unwrap_or(0);
        let (is_folder, is_link) = (file.is_dir(), file.is_symlink());
        let kind = match (mode & 0o170_000, is_folder) {
            (0o120_000, _) => return Err(EntryProblem::link(&path).into()),
            _ if is_link => return Err(EntryProblem::link(&path).into()),
            (0 | 0o040_000, true) => EntryKind::Folder,
            (0 | 0o100_000, false) => EntryKind::File,
            _ => return Err(EntryProblem::special(&path).into()),
        };
        take(entries, &path, kind, mode, &mut file, visit)?;
    }
    Ok(())
}

/// The same archive, if no entry has one of the bits that the library leaves out of its modes.
fn with_plain_modes<R: Read + Seek>(archive: ZipArchive<R>) -> Result<ZipArchive<R>, ArchiveError> {
    let mut headers = Vec::with_capacity(archive.len());
    for index in 0..archive.len() {
        let entry = archive.by_index_data(index).map_err(ArchiveError::damaged)?;
        let path = String::from_utf8_lossy(entry.name_raw()).into_owned();
        headers.push((entry.central_header_start(), path));
    }
    let mut reader = archive.into_inner();
    for (start, path) in headers {
        let mut mode = [0; 2];
        let at = SeekFrom::Start(start.saturating_add(ZIP_MODE_OFFSET));
        let found = reader.seek(at).and_then(|_| reader.read_exact(&mut mode));
        found.map_err(ArchiveError::damaged)?;
        if u32::from(u16::from_le_bytes(mode)) & SPECIAL_BITS != 0 {
            return Err(EntryProblem::mode(&path).into());
        }
    }
    ZipArchive::new(reader).map_err(ArchiveError::damaged)
}

fn read_tar<R: Read>(
    reader: R,
    entries: &mut Entries,
    visit: &mut Visit<'_>,
) -> Result<(), ArchiveError> {
    let mut decoder = zstd::stream::read::Decoder::new(reader).map_err(ArchiveError::damaged)?;
    decoder.window_log_max(MAX_WINDOW_LOG).map_err(ArchiveError::damaged)?;
    let mut archive = tar::Archive::new(decoder);
    // The header of an entry is read here, and not by the library, which would hold any size of it
    // in memory.
    let mut before = Extensions::default();
    for entry in archive.entries().map_err(ArchiveError::damaged)?.raw(true) {
        let mut entry = entry.map_err(ArchiveError::damaged)?;
        let kind = entry.header().entry_type();
        if before.read(kind, &mut entry, entries)? {
            continue;
        }
        let known = std::mem::take(&mut before);
        let path = match known.path {
            Some(path) => path,
            None => text(&entry.header().path_bytes())?,
        };
        if known.bytes.is_some_and(|bytes| bytes != entry.size()) {
            return Err(ArchiveError::damaged("an entry has two different sizes"));
        }
        let kind = match kind {
            EntryType::Regular => EntryKind::File,
            EntryType::Directory => EntryKind::Folder,
            EntryType::Link | EntryType::Symlink => return Err(EntryProblem::link(&path).into()),
            _ => return Err(EntryProblem::special(&path).into()),
        };
        let mode = entry.header().mode().map_err(ArchiveError::damaged)?;
        take(entries, &path, kind, mode, &mut entry, visit)?;
    }
    if before.path.is_some() || before.bytes.is_some() {
        return Err(ArchiveError::damaged("it ends before its last entry"));
    }
    Ok(())
}

/// Adds an entry and has its content taken.
fn take(
    entries: &mut Entries,
    path: &str,
    kind: EntryKind,
    mode: u32,
    content: &mut dyn Read,
    visit: &mut Visit<'_>,
) -> Result<(), ArchiveError> {
    // `tar -C folder .` writes it before each path.
    let path = path.strip_prefix("./").unwrap_or(path);
    if kind == EntryKind::Folder && matches!(path, "" | ".") {
        return Ok(entries.count_one()?);
    }
    entries.add(path, kind, mode)?;
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut counted = Counted { content, entries, problem: None, is_damaged: false };
    let entry = ArchiveEntry { path, kind, is_executable: mode & 0o111 != 0 };
    let visited = visit(entry, &mut counted);
    let rest = visited.and_then(|()| io::copy(&mut counted, &mut io::sink()));
    match (counted.problem, rest) {
        (Some(problem), _) => Err(problem.into()),
        (None, Err(error)) if counted.is_damaged => Err(ArchiveError::damaged(error)),
        (None, Err(error)) => Err(ArchiveError::Visit(error)),
        (None, Ok(_)) => Ok(()),
    }
}

/// The content of an entry, counted before it is handed on.
struct Counted<'a> {
    content: &'a mut dyn Read,
    entries: &'a mut Entries,
    problem: Option<EntryProblem>,
    is_damaged: bool,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer).inspect_err(|error| {
            self.is_damaged = error.kind() != io::ErrorKind::Interrupted;
        })?;
        if let Err(problem) = self.entries.add_bytes(count as u64) {
            self.problem = Some(problem);
            return Err(io::Error::other("the archive is too large"));
        }
        Ok(count)
    }
}

/// The headers that extend the next entry of a tar archive.
#[derive(Default)]
struct Extensions {
    path: Option<String>,
    bytes: Option<u64>,
}

impl Extensions {
    /// Reads a header. False if it is an entry of its own.
    fn read(
        &mut self,
        kind: EntryType,
        content: &mut dyn Read,
        entries: &mut Entries,
    ) -> Result<bool, ArchiveError> {
        match kind {
            EntryType::GNULongName => {
                let bytes = extension(content, entries)?;
                let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
                self.set_path(text(&bytes[..end])?)?;
            }
            EntryType::XHeader => {
                let bytes = extension(content, entries)?;
                for (key, value) in records(&bytes)? {
                    match key.as_str() {
                        "path" => self.set_path(value)?,
                        "size" => self.bytes = Some(value.parse().map_err(ArchiveError::damaged)?),
                        key if key.starts_with("GNU.sparse.") => {
                            return Err(EntryProblem::special("a sparse file").into());
                        }
                        _ => {}
                    }
                }
            }
            // `git archive` writes one with the commit.
            EntryType::XGlobalHeader => {
                let bytes = extension(content, entries)?;
                let changes = records(&bytes)?;
                if changes.iter().any(|(key, _)| matches!(key.as_str(), "path" | "size")) {
                    return Err(ArchiveError::damaged("one header changes all entries"));
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn set_path(&mut self, path: String) -> Result<(), ArchiveError> {
        match self.path.replace(path) {
            None => Ok(()),
            Some(_) => Err(ArchiveError::damaged("an entry has two paths")),
        }
    }
}

/// The content of an extension header.
fn extension(content: &mut dyn Read, entries: &mut Entries) -> Result<Vec<u8>, ArchiveError> {
    entries.count_one()?;
    let mut bytes = Vec::new();
    let read = content.take(MAX_EXTENSION_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(ArchiveError::damaged)?;
    entries.add_bytes(bytes.len() as u64)?;
    if bytes.len() as u64 > MAX_EXTENSION_BYTES {
        return Err(ArchiveError::damaged("a header is larger than 16 KiB"));
    }
    Ok(bytes)
}

/// The keys and values of an extension header.
fn records(bytes: &[u8]) -> Result<Vec<(String, String)>, ArchiveError> {
    let mut records = Vec::new();
    for record in tar::PaxExtensions::new(bytes) {
        let record = record.map_err(ArchiveError::damaged)?;
        records.push((text(record.key_bytes())?, text(record.value_bytes())?));
    }
    Ok(records)
}

fn text(bytes: &[u8]) -> Result<String, ArchiveError> {
    let lossy = || String::from_utf8_lossy(bytes).into_owned();
    match str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        // Only paths are shown, and the message about one replaces what is not ASCII.
        Err(_) if bytes.len() <= MAX_PATH_BYTES => Ok(lossy()),
        Err(_) => Err(ArchiveError::damaged("a header is no text")),
    }
}

/// Refuses a zip archive whose directory could have too many entries for the memory.
fn check_directory_size(reader: &mut (impl Read + Seek)) -> Result<(), ArchiveError> {
    let (mut buffer, mut filled, mut count) = (vec![0; 64 * 1024], 0, 0);
    loop {
        let read = match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ArchiveError::damaged(error)),
        };
        filled += read;
        let found = buffer[..filled].windows(4).filter(|bytes| *bytes == ZIP_DIRECTORY_MAGIC);
        count += found.count();
        if count > MAX_DIRECTORY_MAGICS {
            return Err(EntryProblem::Count.into());
        }
        // The magic may be in two reads.
        let kept = filled.min(ZIP_DIRECTORY_MAGIC.len() - 1);
        buffer.copy_within(filled - kept..filled, 0);
        filled = kept;
    }
    reader.rewind().map_err(ArchiveError::damaged)
}

#[cfg(test)]
mod tests;
