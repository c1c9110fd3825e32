//! Packs a folder as an archive. The same files give the same archive.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use muster_protocol::package::{DESCRIPTION_FILE, MAX_ARCHIVE_BYTES, MAX_ENTRIES};
use tar::{Builder, EntryType, Header};

use crate::error::CliError;

/// How much the archive is compressed.
const LEVEL: i32 = 10;
/// Setuid, setgid and sticky.
const SPECIAL_BITS: u32 = 0o7000;
/// A folder of Git, which no package needs.
const GIT: &str = ".git";

/// The archive of a folder, or the bytes of an archive.
///
/// # Errors
/// [`CliError`] names the file that can't be read or packed.
pub fn read(source: &Path) -> Result<Vec<u8>, CliError> {
    let metadata = fs::metadata(source).map_err(CliError::file("read", source))?;
    let bytes = match metadata.is_dir() {
        true => pack(source)?,
        // A larger one is not read at all.
        false if metadata.len() > MAX_ARCHIVE_BYTES => return Err(too_large(source)),
        false => fs::read(source).map_err(CliError::file("read", source))?,
    };
    if bytes.len() as u64 > MAX_ARCHIVE_BYTES { Err(too_large(source)) } else { Ok(bytes) }
}

fn too_large(source: &Path) -> CliError {
    CliError::Usage(format!("the archive of {} has more than 256 MiB", source.display()))
}

/// Packs a folder.
///
/// # Errors
/// [`CliError`] names the file that can't be packed.
pub fn pack(folder: &Path) -> Result<Vec<u8>, CliError> {
    let description = folder.join(DESCRIPTION_FILE);
    if !description.is_file() {
        let text = format!("{} is missing; it describes the package", description.display());
        return Err(CliError::Usage(text));
    }
    let mut paths = Vec::new();
    collect(folder, Path::new(""), &mut paths)?;
    let failed = || CliError::file("pack", folder);
    let encoder = zstd::Encoder::new(Vec::new(), LEVEL).map_err(failed())?;
    let mut builder = Builder::new(encoder);
    for path in paths {
        let from = folder.join(&path);
        append(&mut builder, &from, &path).map_err(CliError::file("pack", &from))?;
    }
    builder.into_inner().and_then(zstd::Encoder::finish).map_err(failed())
}

/// The folders and files of a folder, sorted.
fn collect(root: &Path, within: &Path, paths: &mut Vec<PathBuf>) -> Result<(), CliError> {
    let folder = root.join(within);
    let read = || CliError::file("read", &folder);
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).map_err(read())? {
        names.push(entry.map_err(read())?.file_name());
    }
    names.sort();
    for name in names.into_iter().filter(|name| name != GIT) {
        let path = within.join(&name);
        let full = root.join(&path);
        let kind = fs::symlink_metadata(&full).map_err(CliError::file("read", &full))?.file_type();
        if !kind.is_dir() && !kind.is_file() {
            let text = format!(
                "{} is a link or a special file; packages have plain files and folders only",
                full.display()
            );
            return Err(CliError::Usage(text));
        }
        let mode = fs::symlink_metadata(&full).map_err(CliError::file("read", &full))?.mode();
        if mode & SPECIAL_BITS != 0 && kind.is_file() {
            let text = format!(
                "{} has the setuid, setgid or sticky bit, which packages can't have; remove it with chmod",
                full.display()
            );
            return Err(CliError::Usage(text));
        }
        if paths.len() >= MAX_ENTRIES {
            let text = format!("{} has more than {MAX_ENTRIES} entries", root.display());
            return Err(CliError::Usage(text));
        }
        paths.push(path.clone());
        if kind.is_dir() {
            collect(root, &path, paths)?;
        }
    }
    Ok(())
}

fn append<W: Write>(builder: &mut Builder<W>, from: &Path, path: &Path) -> io::Result<()> {
    let mut header = Header::new_gnu();
    // Without time and owner: only what runs decides the archive's SHA-256.
    header.set_mtime(0);
    let file = File::open(from)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        header.set_entry_type(EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        return builder.append_data(&mut header, path, io::empty());
    }
    let is_executable = metadata.permissions().mode() & 0o111 != 0;
    header.set_mode(if is_executable { 0o755 } else { 0o644 });
    header.set_size(metadata.len());
    builder.append_data(&mut header, path, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_give_the_same_archive_and_links_are_refused() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path();
        pack(path).expect_err("no description");
        fs::write(path.join(DESCRIPTION_FILE), "name = 'a'\n").expect("written");
        fs::create_dir_all(path.join("bin")).expect("created");
        fs::create_dir_all(path.join(GIT)).expect("created");
        fs::write(path.join("bin/run.sh"), "echo hi\n").expect("written");
        let first = pack(path).expect("packed");
        fs::write(path.join(GIT).join("HEAD"), "x").expect("written");
        fs::write(path.join("bin/run.sh"), "echo hi\n").expect("written again");
        assert_eq!(pack(path).expect("packed"), first);
        std::os::unix::fs::symlink("/etc/passwd", path.join("link")).expect("linked");
        assert!(pack(path).expect_err("a link").to_string().contains("link"));
    }
}
