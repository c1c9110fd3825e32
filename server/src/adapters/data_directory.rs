//! The files of a data directory that a backup contains, and the place where a restore puts them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::backup_file::{EntryName, KEY_NAMES};

/// Folders that a backup contains.
const FOLDERS: [&str; 4] = ["output", "releases", "install", "packages"];
/// What a data directory may contain before a restore: its lock, a key that belongs to the backup, and the
/// folder that file systems make.
const ALLOWED: [&str; 5] = ["lock", KEY_NAMES[0], KEY_NAMES[1], "lost+found", "restore.new"];

/// Calls `take` with the name and the path of each file that belongs into a backup. Files that are not
/// complete yet, and those that vanish meanwhile, are left out.
///
/// # Errors
/// Of the file system, of `take`, or if a name can't be in a backup.
pub fn each_file(
    data_dir: &Path,
    take: &mut dyn FnMut(&str, File) -> io::Result<()>,
) -> io::Result<()> {
    for folder in FOLDERS {
        each_in(&data_dir.join(folder), &format!("files/{folder}"), take)?;
    }
    Ok(())
}

fn each_in(
    folder: &Path,
    prefix: &str,
    take: &mut dyn FnMut(&str, File) -> io::Result<()>,
) -> io::Result<()> {
    let Some(entries) = unless_gone(fs::read_dir(folder))? else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let own = entry.file_name().to_string_lossy().into_owned();
        let name = format!("{prefix}/{own}");
        // Links are not followed: they may lead out of the directory.
        let kind = entry.file_type()?;
        if kind.is_dir() {
            each_in(&entry.path(), &name, take)?;
        } else if kind.is_file() && !is_unfinished(&own) {
            if EntryName::parse(&name).is_none() {
                let reason = format!("{name} has a name that a backup can't have; rename it");
                return Err(io::Error::new(io::ErrorKind::InvalidFilename, reason));
            }
            if let Some(file) = unless_gone(File::open(entry.path()))? {
                take(&name, file)?;
            }
        }
    }
    Ok(())
}

/// Output that is being compacted, and uploads.
fn is_unfinished(name: &str) -> bool {
    name.ends_with(".new") || name.starts_with(".upload-")
}

fn unless_gone<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Prepares a data directory for a restore: makes the folder that is filled first, and removes what a
/// restore left that did not end. The name of a file that should not be there, if there is one.
///
/// # Errors
/// Of the file system.
pub fn prepare(data_dir: &Path, filled: &Path) -> io::Result<Option<String>> {
    // Made only in a directory that was empty, so everything in there is of the backup.
    let is_repeated = filled.exists();
    for entry in fs::read_dir(data_dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let is_left = is_repeated && FOLDERS.contains(&name.as_str());
        if !is_left && !ALLOWED.contains(&name.as_str()) {
            return Ok(Some(name));
        }
    }
    if is_repeated {
        for folder in FOLDERS {
            unless_gone(fs::remove_dir_all(data_dir.join(folder)))?;
        }
        fs::remove_dir_all(filled)?;
    }
    fs::create_dir(filled)?;
    sync(data_dir)?;
    Ok(None)
}

/// Stores a file beneath a folder. It is durable when this returns.
///
/// # Errors
/// Of the file system, of the content, or if the file exists.
pub fn store(folder: &Path, name: &Path, content: &mut dyn Read) -> io::Result<()> {
    let path = folder.join(name);
    let parent = path.parent().unwrap_or(folder);
    fs::create_dir_all(parent)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    io::copy(content, &mut file)?;
    file.sync_all()?;
    sync(parent)
}

/// Moves the restored folders and keys to their places. A key that is there already must be the same one;
/// the name of another one.
///
/// # Errors
/// Of the file system.
pub fn place(data_dir: &Path, filled: &Path) -> io::Result<Option<&'static str>> {
    for key in KEY_NAMES {
        let (restored, own) = (filled.join(key), data_dir.join(key));
        if let Some(content) = unless_gone(fs::read(&restored))? {
            if unless_gone(fs::read(&own))?.is_some_and(|known| known != content) {
                return Ok(Some(key));
            }
            fs::rename(restored, own)?;
        }
    }
    for folder in FOLDERS {
        unless_gone(fs::rename(filled.join(folder), data_dir.join(folder)))?;
    }
    sync(data_dir)?;
    Ok(None)
}

/// Moves a restored file to its place, also on another file system.
///
/// # Errors
/// Of the file system.
pub fn move_file(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let draft = to.with_added_extension("new");
            fs::copy(from, &draft)?;
            File::open(&draft)?.sync_all()?;
            fs::rename(&draft, to)?;
        }
        moved => moved?,
    }
    sync(to.parent().unwrap_or(Path::new(".")))
}

/// Removes the folder that was filled, which ends the restore.
///
/// # Errors
/// Of the file system.
pub fn end(data_dir: &Path, filled: &Path) -> io::Result<()> {
    fs::remove_dir_all(filled)?;
    sync(data_dir)
}

/// Free space of the disk; everything if it is unknown.
pub fn free_bytes(folder: &Path) -> u64 {
    let disk = statvfs(folder);
    disk.map_or(u64::MAX, |disk| disk.blocks_available().saturating_mul(disk.fragment_size()))
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The user that this program runs as: its name, or its number if it has none.
pub fn own_user() -> String {
    let id = nix::unistd::geteuid();
    let known = nix::unistd::User::from_uid(id).ok().flatten();
    known.map_or_else(|| id.to_string(), |user| user.name)
}

/// The user of a directory that belongs to another user than this process.
pub fn other_owner(directory: &Path) -> Option<u32> {
    let owner = std::fs::metadata(directory).ok()?.uid();
    (owner != nix::unistd::geteuid().as_raw()).then_some(owner)
}
