//! Archives that are whole, damaged, cut and hostile.

use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};

use super::ustar;
use super::*;

/// Remembers names and contents.
#[derive(Default)]
struct Seen(Vec<(EntryName, Vec<u8>)>);

impl EntrySink<String> for Seen {
    fn take(
        &mut self,
        _: &BackupHeader<String>,
        name: &EntryName,
        content: &mut (dyn Read + Send),
    ) -> Result<(), BackupFileError> {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).map_err(BackupFileError::sink)?;
        self.0.push((name.clone(), bytes));
        Ok(())
    }
}

fn header() -> BackupHeader<String> {
    BackupHeader {
        format: FORMAT,
        created_at: 1,
        server_version: "0.1.0".to_owned(),
        database: "sqlite".to_owned(),
        schema: vec!["one".to_owned()],
        tables: vec![],
        master_key_id: None,
        has_keys: false,
    }
}

fn written(folder: &Path) -> PathBuf {
    let path = folder.join("one.tar.zst");
    let mut writer = BackupWriter::create(&path, &header()).expect("create");
    let large = vec![7; 700_000];
    writer.add("database.sqlite", 700_000, &mut large.as_slice()).expect("add");
    let name = format!("files/releases/{}/{}/muster-agent", "v".repeat(90), "p".repeat(60));
    writer.add(&name, 3, &mut &b"abc"[..]).expect("add");
    let totals = writer.finish().expect("finish");
    assert_eq!(totals.entries, 3);
    path
}

fn check(path: &Path) -> Result<BackupTotals, BackupFileError> {
    read::<String>(path, u64::MAX, &mut NoSink).map(|(_, totals)| totals)
}

/// An archive with these entries, as a stranger would make one.
fn forged(folder: &Path, entries: &[(&str, &[u8])]) -> PathBuf {
    let path = folder.join("forged.tar.zst");
    let mut archive = Vec::new();
    for (name, content) in entries {
        archive.extend(ustar::encode(name, content.len() as u64).expect("a name"));
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1_024, 0);
    std::fs::write(&path, zstd::encode_all(archive.as_slice(), 1).expect("compress"))
        .expect("write");
    path
}

#[test]
fn what_was_written_is_read_and_other_programs_read_it_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = written(folder.path());
    let mut seen = Seen::default();
    let (read_header, totals) = read(&path, u64::MAX, &mut seen).expect("read");
    assert_eq!((read_header, totals.entries), (header(), 3));
    assert_eq!(seen.0[0], (EntryName::Database, vec![7; 700_000]));
    assert_eq!(seen.0[1].1, b"abc");
    assert!(matches!(&seen.0[1].0, EntryName::File(path) if path.starts_with("releases")));
    assert!(!path.with_added_extension("new").exists());
    assert!(matches!(
        BackupWriter::create(&path, &header()),
        Err(BackupFileError::Exists(existing)) if existing == path
    ));
    let plain = folder.path().join("plain.tar");
    let archive = zstd::decode_all(std::fs::File::open(&path).expect("open")).expect("expand");
    std::fs::write(&plain, archive).expect("write");
    let listed = std::process::Command::new("tar").arg("-tf").arg(&plain).output().expect("tar");
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.status.success() && names.ends_with("manifest.jsonl\n"), "{names}");
}

#[test]
fn a_writer_that_is_dropped_leaves_no_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("one.tar.zst");
    let mut writer = BackupWriter::create(&path, &header()).expect("create");
    let short = writer.add("database.sqlite", 10, &mut &b"abc"[..]);
    assert_eq!(short.expect_err("too short").kind(), io::ErrorKind::UnexpectedEof);
    drop(writer);
    assert_eq!(std::fs::read_dir(folder.path()).expect("list").count(), 0);
}

#[test]
fn every_cut_and_every_changed_byte_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = written(folder.path());
    let whole = std::fs::read(&path).expect("read");
    for end in 0..whole.len() {
        std::fs::write(&path, &whole[..end]).expect("write");
        assert!(check(&path).is_err(), "cut at {end} of {}", whole.len());
    }
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0x41;
        std::fs::write(&path, changed).expect("write");
        if let Ok(totals) = check(&path) {
            // Only bits without a meaning: the contents are the same.
            assert_eq!(totals.bytes, 700_003 + header_bytes(), "byte {at}");
        }
    }
}

fn header_bytes() -> u64 {
    serde_json::to_vec(&header()).expect("JSON").len() as u64
}

#[test]
fn names_that_lead_out_of_the_directory_are_refused() {
    for name in [
        "files/output/../../etc/passwd",
        "files/output//x",
        "/etc/passwd",
        "files/etc/passwd",
        "files/output",
        "files/output/a b",
        "files/output/a\\b",
        "keys/authorized_keys",
        "tables/x",
        "tables/../x",
        "files/output/a/b/c/d/e/f/g/h",
        "",
        "..",
        "database.sqlite/x",
    ] {
        assert_eq!(EntryName::parse(name), None, "{name}");
    }
    assert_eq!(EntryName::parse("keys/master.key"), Some(EntryName::Key("master.key")));
    let folder = tempfile::tempdir().expect("a folder");
    let head = serde_json::to_vec(&header()).expect("JSON");
    let path = forged(folder.path(), &[("backup.json", &head), ("files/output/../../x", b"x")]);
    assert!(check(&path).expect_err("refused").to_string().contains("invalid name"));
}

#[test]
fn archives_that_are_too_large_or_in_disorder_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let head = serde_json::to_vec(&header()).expect("JSON");
    let error = |entries: &[(&str, &[u8])]| {
        check(&forged(folder.path(), entries)).expect_err("refused").to_string()
    };
    assert!(error(&[("database.sqlite", b"x")]).contains("start with its header"));
    assert!(error(&[("backup.json", &head)]).contains("before its manifest"));
    assert!(error(&[("backup.json", &head), ("manifest.jsonl", b"")]).contains("fewer entries"));
    let line = b"{\"name\":\"backup.json\",\"bytes\":1,\"sha256\":\"\"}\n";
    let other = error(&[("backup.json", &head), ("manifest.jsonl", line)]);
    assert!(other.contains("backup.json is not as its manifest lists it"), "{other}");
    assert!(
        error(&[("backup.json", &head), ("keys/master.key", &[0; 2_000])]).contains("too large")
    );
    let newer = String::from_utf8_lossy(&head).replace("\"format\":1", "\"format\":2");
    assert!(error(&[("backup.json", newer.as_bytes())]).contains("format 2"));

    // Little on the disk, and much in the memory or on another disk.
    let path = folder.path().join("bomb.tar.zst");
    let mut bomb =
        zstd::Encoder::new(std::fs::File::create(&path).expect("create"), 1).expect("zstd");
    let mut add = |name, bytes: u64, content: &[u8]| {
        bomb.write_all(&ustar::encode(name, bytes).expect("a name")).expect("write");
        bomb.write_all(content).expect("write");
    };
    let mut padded = head.clone();
    padded.resize(head.len().next_multiple_of(512), 0);
    add("backup.json", head.len() as u64, &padded);
    add("files/output/x", 1 << 40, &[0; 512]);
    bomb.finish().expect("finish");
    let refused = read::<String>(&path, 1 << 30, &mut NoSink).expect_err("refused");
    assert!(matches!(refused, BackupFileError::TooLarge(_)), "{refused}");
}

#[test]
fn heads_keep_names_and_sizes_of_any_length() {
    for (name, bytes) in [("a", 0), ("files/output/x", 8 << 30), ("b", u64::MAX >> 1)] {
        let head = ustar::encode(name, bytes).expect("it fits");
        assert_eq!(ustar::decode(&head), Ok((name.to_owned(), bytes)));
        let mut link = head;
        link[156] = b'2';
        assert!(ustar::decode(&link).is_err());
    }
    assert_eq!(ustar::encode(&"x".repeat(101), 1), None);
}
