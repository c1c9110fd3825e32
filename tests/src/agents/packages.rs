//! Archives of packages.

use std::io::{Cursor, Write as _};

use tar::{Builder, EntryType, Header};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// A file or another entry of an archive.
#[derive(Debug, Clone, Copy)]
pub struct PackageEntry<'a> {
    pub path: &'a str,
    pub kind: EntryType,
    pub mode: u32,
    pub content: &'a [u8],
}

/// A plain file.
pub fn file<'a>(path: &'a str, content: &'a str) -> PackageEntry<'a> {
    PackageEntry { path, kind: EntryType::Regular, mode: 0o644, content: content.as_bytes() }
}

/// A tar.zst archive, with any paths.
pub fn tar_zst(entries: &[PackageEntry<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for entry in entries {
        let mut header = Header::new_gnu();
        // The library's own function refuses paths that a package must not have.
        header.as_old_mut().name[..entry.path.len()].copy_from_slice(entry.path.as_bytes());
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_size(entry.content.len() as u64);
        header.set_cksum();
        builder.append(&header, entry.content).expect("append to an archive");
    }
    zstd::encode_all(&*builder.into_inner().expect("finish an archive"), 3).expect("compress")
}

/// A zip archive of plain files.
pub fn zip(entries: &[PackageEntry<'_>]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for entry in entries {
        let options = SimpleFileOptions::default().unix_permissions(entry.mode);
        writer.start_file(entry.path, options).expect("start a file");
        writer.write_all(entry.content).expect("write a file");
    }
    writer.finish().expect("finish an archive").into_inner()
}
