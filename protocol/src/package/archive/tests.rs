use std::io::{Cursor, Write as _};

use tar::{Builder, Header};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

/// What an archive is made of.
#[derive(Clone, Copy)]
struct Part<'a> {
    path: &'a str,
    kind: EntryType,
    mode: u32,
    content: &'a [u8],
}

const fn file<'a>(path: &'a str, content: &'a [u8]) -> Part<'a> {
    Part { path, kind: EntryType::Regular, mode: 0o644, content }
}

fn compressed(tar: &[u8]) -> Vec<u8> {
    zstd::encode_all(tar, 3).expect("compressed")
}

/// Writes the path as it is, which the library's own functions refuse for bad ones.
fn tar_zst(parts: &[Part<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for part in parts {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..part.path.len()].copy_from_slice(part.path.as_bytes());
        header.set_entry_type(part.kind);
        header.set_mode(part.mode);
        header.set_size(part.content.len() as u64);
        header.set_cksum();
        builder.append(&header, part.content).expect("appended");
    }
    compressed(&builder.into_inner().expect("finished"))
}

fn zip(parts: &[Part<'_>]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for part in parts {
        let options = SimpleFileOptions::default().unix_permissions(part.mode);
        match part.kind {
            EntryType::Directory => writer.add_directory(part.path, options).expect("added"),
            EntryType::Symlink => {
                let target = String::from_utf8_lossy(part.content);
                writer.add_symlink(part.path, target, options).expect("added");
            }
            _ => {
                writer.start_file(part.path, options).expect("started");
                writer.write_all(part.content).expect("written");
            }
        }
    }
    let mut archive = writer.finish().expect("finished").into_inner();
    // The writer leaves out all bits but those of the permissions.
    let mut left = parts.iter();
    for at in 0..archive.len() - 46 {
        if archive[at..at + 4] == ZIP_DIRECTORY_MAGIC {
            let mode = left.next().map_or(0, |part| part.mode).to_le_bytes();
            archive[at + 40] |= mode[0];
            archive[at + 41] |= mode[1];
        }
    }
    archive
}

/// The paths and contents of an archive, or the code of its problem.
fn contents(archive: &[u8]) -> Result<Vec<(String, Vec<u8>)>, &'static str> {
    let mut found = Vec::new();
    let mut visit = |entry: ArchiveEntry<'_>, content: &mut dyn Read| {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        found.push((entry.path.to_owned(), bytes));
        Ok(())
    };
    let read = read(Cursor::new(archive), archive.len() as u64, &mut visit);
    read.map(|_| ()).map_err(|error| error.code())?;
    Ok(found)
}

#[test]
fn both_formats_give_the_same_files() {
    let parts = [
        Part { path: "bin/", kind: EntryType::Directory, mode: 0o755, content: b"" },
        file("bin/run.sh", b"echo hi\n"),
        file("muster.toml", b"name = 'a'\n"),
    ];
    let expected = [("bin", ""), ("bin/run.sh", "echo hi\n"), ("muster.toml", "name = 'a'\n")];
    let expected = expected.map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()));
    assert_eq!(contents(&tar_zst(&parts)), Ok(expected.to_vec()));
    assert_eq!(contents(&zip(&parts)), Ok(expected.to_vec()));
    assert_eq!(contents(b"#!/bin/sh\n"), Err("unknown_format"));
    assert_eq!(contents(b""), Err("unknown_format"));
}

#[test]
fn a_dot_before_each_path_is_left_out_and_long_paths_are_read() {
    let dot = Part { path: "./", kind: EntryType::Directory, mode: 0o755, content: b"" };
    let archive = tar_zst(&[dot, file("./a", b"x")]);
    assert_eq!(contents(&archive), Ok(vec![("a".into(), b"x".to_vec())]));
    let long = format!("{}/b", "a".repeat(200));
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    builder.append_data(&mut header, &long, &b"x"[..]).expect("appended");
    let archive = compressed(&builder.into_inner().expect("finished"));
    assert_eq!(contents(&archive), Ok(vec![(long, b"x".to_vec())]));
}

#[test]
fn each_refusal_has_a_code_in_both_formats() {
    let link = Part { path: "a", kind: EntryType::Symlink, mode: 0o777, content: b"/etc/passwd" };
    for (parts, code) in [
        (vec![file("../a", b"")], "path_traversal"),
        (vec![file("a/../../b", b"")], "path_traversal"),
        (vec![file("/a", b"")], "path_absolute"),
        (vec![file("a\\b", b"")], "path_characters"),
        (vec![link], "link"),
        (vec![Part { mode: 0o4755, ..file("a", b"") }], "special_mode"),
        (vec![Part { mode: 0o2755, ..file("a", b"") }], "special_mode"),
        (vec![file("a", b""), file("A", b"")], "case_collision"),
        (vec![file("a", b""), file("a/b", b"")], "file_as_folder"),
    ] {
        assert_eq!(contents(&tar_zst(&parts)), Err(code), "tar");
        assert_eq!(contents(&zip(&parts)), Err(code), "zip");
    }
}

#[test]
fn only_plain_files_and_folders_are_in_a_package() {
    for (kind, code) in [
        (EntryType::Link, "link"),
        (EntryType::Char, "special_file"),
        (EntryType::Block, "special_file"),
        (EntryType::Fifo, "special_file"),
        (EntryType::GNUSparse, "special_file"),
        (EntryType::Continuous, "special_file"),
        (EntryType::GNULongLink, "special_file"),
        (EntryType::new(b'S'), "special_file"),
        (EntryType::new(b'Z'), "special_file"),
    ] {
        let part = Part { kind, ..file("a", b"") };
        assert_eq!(contents(&tar_zst(&[part])), Err(code), "{kind:?}");
    }
}

#[test]
fn a_path_that_is_there_twice_is_refused() {
    let twice = [file("a", b"1"), file("a", b"2")];
    assert_eq!(contents(&tar_zst(&twice)), Err("duplicate"));
    // The writer refuses it, so the second name is changed afterwards.
    let mut archive = zip(&[file("aa", b"1"), file("ab", b"2")]);
    for at in 0..archive.len() - 1 {
        if &archive[at..at + 2] == b"ab" {
            archive[at + 1] = b'a';
        }
    }
    assert_eq!(contents(&archive), Err("duplicate"));
}

#[test]
fn a_bomb_is_refused_before_it_is_unpacked() {
    let zeros = vec![0; 32 * 1024 * 1024];
    for archive in [tar_zst(&[file("a", &zeros)]), zip(&[file("a", &zeros)])] {
        assert!(archive.len() < 64 * 1024);
        let mut unpacked = 0;
        let mut visit = |_: ArchiveEntry<'_>, content: &mut dyn Read| {
            let mut buffer = [0; 1024];
            loop {
                match content.read(&mut buffer)? {
                    0 => return Ok(()),
                    count => unpacked += count,
                }
            }
        };
        let error = read(Cursor::new(&archive), archive.len() as u64, &mut visit);
        assert_eq!(error.expect_err("refused").code(), "ratio");
        assert!(unpacked < zeros.len() / 2, "{unpacked}");
    }
    // A header before an entry is bounded too: the library itself would hold it in memory.
    let name = Part { kind: EntryType::GNULongName, ..file("x", &zeros) };
    assert_eq!(contents(&tar_zst(&[name])), Err("damaged"));
}

#[test]
fn a_damaged_archive_is_refused() {
    for archive in [tar_zst(&[file("a", &[7; 5_000])]), zip(&[file("a", &[7; 5_000])])] {
        assert!(contents(&archive).is_ok());
        assert_eq!(contents(&archive[..archive.len() - 1]).err(), Some("damaged"));
    }
    let mut changed = zip(&[file("a", b"content")]);
    let at = changed.windows(7).position(|bytes| bytes == b"content");
    if let Some(at) = at {
        changed[at] = b'C';
        assert_eq!(contents(&changed), Err("damaged"));
    }
}

#[test]
fn two_sizes_of_one_entry_are_refused() {
    let mut builder = Builder::new(Vec::new());
    builder.append_pax_extensions([("size", &b"512"[..])]).expect("appended");
    let mut header = Header::new_ustar();
    header.set_path("a").expect("a path");
    header.set_size(1_024);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append(&header, &[7; 1_024][..]).expect("appended");
    let archive = compressed(&builder.into_inner().expect("finished"));
    assert_eq!(contents(&archive), Err("damaged"));
}

#[test]
fn a_zip_archive_with_a_directory_that_fills_the_memory_is_not_opened() {
    let mut archive = ZIP_MAGIC.to_vec();
    archive.extend(ZIP_DIRECTORY_MAGIC.repeat(MAX_DIRECTORY_MAGICS + 1));
    assert_eq!(contents(&archive), Err("too_many_entries"));
    archive.truncate(archive.len() - 1);
    assert_eq!(contents(&archive), Err("damaged"), "so many may be in stored files");
}

#[test]
fn a_frame_that_needs_a_window_of_more_than_32_mib_is_refused() {
    let tar = Builder::new(Vec::new()).into_inner().expect("finished");
    for (window_log, expected) in
        [(MAX_WINDOW_LOG, Ok(vec![])), (MAX_WINDOW_LOG + 1, Err("damaged"))]
    {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).expect("an encoder");
        encoder.window_log(window_log).expect("a window");
        encoder.write_all(&tar).expect("compressed");
        let archive = encoder.finish().expect("finished");
        assert_eq!(contents(&archive), expected, "{window_log}");
    }
}
