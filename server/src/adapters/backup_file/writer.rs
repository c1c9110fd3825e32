//! Writes a backup file. It has its name only once it is complete and durable.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use ring::digest::{Context, SHA256};
use serde::Serialize;
use zstd::stream::write::Encoder;

use super::ustar::{self, BLOCK};
use super::{BackupFileError, BackupHeader, BackupTotals, HEADER, MANIFEST, ManifestLine};

/// Fast enough to keep up with a disk.
const LEVEL: i32 = 3;
const COPIED_BYTES: usize = 128 * 1024;

/// A backup file that is being written. Dropping it before the end removes it.
pub struct BackupWriter {
    path: PathBuf,
    draft: PathBuf,
    archive: Option<Encoder<'static, BufWriter<File>>>,
    /// The manifest so far. It has no name.
    manifest: File,
    totals: BackupTotals,
}

impl BackupWriter {
    /// Starts a file with its header.
    ///
    /// # Errors
    /// [`BackupFileError`]
    pub fn create<T: Serialize>(
        path: &Path,
        header: &BackupHeader<T>,
    ) -> Result<Self, BackupFileError> {
        if path.exists() {
            return Err(BackupFileError::Exists(path.to_owned()));
        }
        let start = || {
            let draft = path.with_added_extension("new");
            let archive = Encoder::new(BufWriter::new(create(&draft)?), LEVEL);
            let mut archive = archive.inspect_err(|_| drop(fs::remove_file(&draft)))?;
            archive.include_checksum(true)?;
            let lines = path.with_added_extension("manifest");
            let manifest = create(&lines)?;
            fs::remove_file(&lines)?;
            let totals = BackupTotals { entries: 0, bytes: 0 };
            let archive = Some(archive);
            let mut writer = Self { path: path.to_owned(), draft, archive, manifest, totals };
            let header = serde_json::to_vec(header)?;
            writer.add(HEADER, header.len() as u64, &mut header.as_slice())?;
            Ok(writer)
        };
        start().map_err(|source| BackupFileError::Write { path: path.to_owned(), source })
    }

    /// Adds an entry with exactly this many bytes.
    ///
    /// # Errors
    /// Of the disk, of the content, or if it is shorter.
    pub fn add(&mut self, name: &str, bytes: u64, content: &mut dyn Read) -> io::Result<()> {
        let sum = self.append(name, bytes, content)?;
        let sha256 = HEXLOWER.encode(sum.as_ref());
        let line = ManifestLine { name: name.to_owned(), bytes, sha256 };
        let mut line = serde_json::to_vec(&line)?;
        line.push(b'\n');
        self.manifest.write_all(&line)?;
        self.totals.entries += 1;
        self.totals.bytes += bytes;
        Ok(())
    }

    /// Adds the manifest, makes the file durable and gives it its name.
    ///
    /// # Errors
    /// [`BackupFileError`]; there is no file then.
    pub fn finish(mut self) -> Result<BackupTotals, BackupFileError> {
        let finished = self.finish_file();
        finished.map_err(|source| BackupFileError::Write { path: self.path.clone(), source })?;
        Ok(self.totals)
    }

    fn finish_file(&mut self) -> io::Result<()> {
        let bytes = self.manifest.seek(SeekFrom::End(0))?;
        self.manifest.seek(SeekFrom::Start(0))?;
        let mut manifest = self.manifest.try_clone()?;
        self.append(MANIFEST, bytes, &mut manifest)?;
        let Some(mut archive) = self.archive.take() else { return Ok(()) };
        archive.write_all(&[0; 2 * BLOCK])?;
        let mut file = archive.finish()?;
        file.flush()?;
        file.get_ref().sync_all()?;
        fs::rename(&self.draft, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn append(
        &mut self,
        name: &str,
        bytes: u64,
        content: &mut dyn Read,
    ) -> io::Result<ring::digest::Digest> {
        let closed = || io::Error::other("the backup file is finished");
        let archive = self.archive.as_mut().ok_or_else(closed)?;
        let head = ustar::encode(name, bytes).ok_or(io::ErrorKind::InvalidFilename)?;
        archive.write_all(&head)?;
        let (mut sum, mut left) = (Context::new(&SHA256), bytes);
        let mut buffer = vec![0; COPIED_BYTES];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(COPIED_BYTES).min(COPIED_BYTES);
            let read = content.read(&mut buffer[..most])?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            sum.update(&buffer[..read]);
            archive.write_all(&buffer[..read])?;
            left -= read as u64;
        }
        archive.write_all(&[0; BLOCK][..super::reader::padding(bytes)])?;
        Ok(sum.finish())
    }
}

impl Drop for BackupWriter {
    fn drop(&mut self) {
        if self.archive.take().is_some() {
            // The next backup of this name removes it otherwise.
            let _ = fs::remove_file(&self.draft);
        }
    }
}

/// A new file for its owner only, in place of what a killed backup left.
fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}
