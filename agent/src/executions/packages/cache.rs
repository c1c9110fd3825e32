//! The archives of packages, by their SHA-256. The longest unused are removed if there are too many bytes.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use data_encoding::HEXLOWER;
use muster_protocol::commands::file_transfer::is_sha256;
use ring::digest::{Context, SHA256};

use super::PackageError;
use crate::storage::ensure_private_directory;
use crate::storage::layout::StateDir;

/// Size of the archives that are kept: 1 GiB.
const MAX_CACHE_BYTES: u64 = 1024 * 1024 * 1024;
/// Ending of downloads that did not end.
const PARTIAL: &str = "partial";

/// The file of an archive. The server, which may be hostile, says what its SHA-256 is.
///
/// # Errors
/// [`PackageError::Name`] for what is no SHA-256.
pub fn path_of(state: &StateDir, sha256: &str) -> Result<PathBuf, PackageError> {
    match is_sha256(sha256) {
        true => Ok(state.package_archives().join(sha256)),
        false => Err(PackageError::Name),
    }
}

/// Opens a kept archive whose bytes have this SHA-256, at its start. Removes one whose bytes do not.
///
/// # Errors
/// [`PackageError::Disk`]
pub async fn open(state: &StateDir, sha256: &str) -> Result<Option<File>, PackageError> {
    let (path, sha256) = (path_of(state, sha256)?, sha256.to_owned());
    let opened = blocking(move || {
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if hash(&mut file)? != sha256 {
            tracing::warn!(path = %path.display(), "a kept archive has changed; it is downloaded again");
            fs::remove_file(&path)?;
            return Ok(None);
        }
        // The time of the last use decides what is removed first; without it nothing is lost.
        let _ = file.set_modified(SystemTime::now());
        Ok(Some(file))
    });
    opened.await.map_err(PackageError::disk("read"))
}

/// The file that a download fills.
///
/// # Errors
/// [`PackageError::Disk`]
pub fn partial(state: &StateDir, sha256: &str) -> Result<PathBuf, PackageError> {
    let path = path_of(state, sha256)?;
    ensure_private_directory(&state.package_archives())
        .map_err(|error| PackageError::disk("stored")(io::Error::other(error)))?;
    Ok(path.with_extension(PARTIAL))
}

/// Keeps a complete download and opens it, at its start. `kept`: archives that make no room for it.
///
/// # Errors
/// [`PackageError::Hash`] if its bytes have another SHA-256; it is removed then.
pub async fn accept(
    state: &StateDir,
    sha256: &str,
    kept: BTreeSet<String>,
) -> Result<File, PackageError> {
    let (partial, path) = (partial(state, sha256)?, path_of(state, sha256)?);
    let (folder, expected) = (state.package_archives(), sha256.to_owned());
    let accepted = blocking(move || {
        let mut file = File::open(&partial)?;
        if hash(&mut file)? != expected {
            fs::remove_file(&partial)?;
            return Ok(None);
        }
        fs::rename(&partial, path)?;
        shrink(&folder, &kept, MAX_CACHE_BYTES);
        Ok(Some(file))
    });
    accepted.await.map_err(PackageError::disk("stored"))?.ok_or(PackageError::Hash)
}

/// Gives the complete content of a push its name.
///
/// # Errors
/// [`PackageError::Hash`] if its bytes have another SHA-256; it is removed then.
pub async fn accept_content(
    partial: PathBuf,
    to: PathBuf,
    sha256: String,
) -> Result<(), PackageError> {
    let accepted = blocking(move || {
        // Nothing was fetched of an empty file.
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&partial)?;
        if hash(&mut file)? != sha256 {
            fs::remove_file(&partial)?;
            return Ok(false);
        }
        fs::rename(&partial, &to)?;
        Ok(true)
    });
    match accepted.await.map_err(PackageError::disk("stored"))? {
        true => Ok(()),
        false => Err(PackageError::Hash),
    }
}

/// Removes an archive and its download, if they are there.
pub fn remove(state: &StateDir, sha256: &str) {
    // Nothing else is in the cache.
    let Ok(path) = path_of(state, sha256) else { return };
    for path in [path.with_extension(PARTIAL), path] {
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "failed to remove an archive");
        }
    }
}

/// Removes the archives that were not used for the longest time, except some. An execution that unpacks a
/// removed one has it open.
pub(super) fn shrink(folder: &Path, kept: &BTreeSet<String>, most_bytes: u64) {
    let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        let used_at = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        files.push((used_at, metadata.len(), entry.path()));
    }
    files.sort_unstable();
    let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, file_bytes, path) in files {
        if bytes <= most_bytes {
            return;
        }
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| kept.contains(name)) {
            continue;
        }
        match fs::remove_file(&path) {
            Ok(()) => bytes -= file_bytes,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "failed to remove an archive");
            }
        }
    }
}

fn hash(file: &mut File) -> io::Result<String> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => context.update(&buffer[..count]),
        }
    }
    file.rewind()?;
    Ok(HEXLOWER.encode(context.finish().as_ref()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_outside_of_the_cache_is_opened_or_removed_whatever_a_server_names() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let precious = folder.path().join("policy.json");
        fs::write(&precious, "{}").expect("written");
        let absolute = precious.to_str().expect("text").to_owned();
        for name in
            ["../policy.json", "..", "", absolute.as_str(), &"A".repeat(64), &"a".repeat(63)]
        {
            for found in [open(&state, name).await.map(drop), partial(&state, name).map(drop)] {
                assert!(matches!(found, Err(PackageError::Name)), "{name}: {found:?}");
            }
            accept(&state, name, BTreeSet::new()).await.expect_err(name);
            remove(&state, name);
            assert!(precious.exists(), "{name}");
        }
    }
}
