//! Packages: archives and the `muster.toml` in them.

use std::io::{Cursor, Read};
use std::path::{Component, Path};

use muster_protocol::package::archive::{self, ArchiveEntry};
use muster_protocol::package::description::{ArchiveFacts, read as read_description};
use muster_protocol::package::{
    EntryKind, MAX_ENTRIES, MAX_UNPACK_RATIO, MAX_UNPACKED_BYTES, MIN_RATIO_BYTES, PackageDocument,
};
use muster_protocol::schedule::TaskTimes;

/// What is read of an archive stays beneath its folder and within its bounds.
pub fn archive(bytes: &[u8]) {
    let archive_bytes = bytes.len() as u64;
    let (mut unpacked_bytes, mut count) = (0, 0);
    let mut visit = |entry: ArchiveEntry<'_>, content: &mut dyn Read| {
        let is_plain = |part| matches!(part, Component::Normal(_));
        assert!(Path::new(entry.path).components().all(is_plain), "{}", entry.path);
        assert!(!entry.path.is_empty() && entry.path.is_ascii(), "{}", entry.path);
        count += 1;
        assert!(count <= MAX_ENTRIES);
        let read = std::io::copy(content, &mut std::io::sink())?;
        assert!(entry.kind == EntryKind::File || read == 0 || archive_bytes > 0);
        unpacked_bytes += read;
        let most = (archive_bytes * MAX_UNPACK_RATIO).max(MIN_RATIO_BYTES);
        assert!(unpacked_bytes <= most.min(MAX_UNPACKED_BYTES), "{unpacked_bytes} bytes");
        Ok(())
    };
    match archive::read(Cursor::new(bytes), archive_bytes, &mut visit) {
        Ok((_, entries)) => {
            assert!(entries.count() >= count && entries.unpacked_bytes() >= unpacked_bytes);
        }
        Err(refusal) => super::check_refusal(&refusal),
    }
}

/// 2026-01-01.
const NOW_MS: i64 = 1_767_225_600_000;

/// An accepted description is a document that hosts accept, too.
pub fn description(bytes: &[u8]) {
    let facts = ArchiveFacts { sha256: "0".repeat(64), archive_bytes: 1, unpacked_bytes: 1 };
    match read_description(bytes, facts) {
        Ok(document) => {
            assert_eq!(document.check(), Ok(()));
            if let Some(schedule) = &document.schedule {
                let times = TaskTimes::of(schedule).expect("checked");
                let due_ms = times.next_after(NOW_MS).expect("it is due some day");
                assert!(due_ms > NOW_MS);
                assert_eq!(times.last_due(NOW_MS, due_ms), Some(due_ms));
            }
            assert!(document.entry.split('/').all(|part| !matches!(part, "" | "..")));
            let text = document.to_text();
            let read: PackageDocument = serde_json::from_str(&text).expect("just written");
            assert_eq!((read.to_text(), read), (text, document));
        }
        Err(refusal) => super::check_refusal(&refusal),
    }
}
