//! The `Range` header and the cursor of a list: an accepted range is within the body.

use muster_server::domain::commands::range::ByteRange;
use muster_server::domain::page::PageRequest;

/// The first byte is the length of the body; the rest is both the header and a cursor.
pub fn check(mut bytes: &[u8]) {
    let length = super::take_byte(&mut bytes) as u64;
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(request) = PageRequest::read(Some(text), length) {
        assert_eq!(request.after.map(|id| id.to_string()).as_deref(), Some(text));
    }
    let Some(range) = ByteRange::parse(text) else { return };
    for length in [0, 1, length, u64::MAX] {
        let Some((start, end)) = range.resolve(length) else { continue };
        assert!(start < end && end <= length, "{range:?} of {length}");
        match range {
            ByteRange::Whole => panic!("a header never selects the whole body"),
            ByteRange::Between(first, last) => {
                assert!(start == first && end == last.saturating_add(1).min(length));
            }
            ByteRange::From(first) => assert!(start == first && end == length),
            ByteRange::Last(count) => assert!(end - start == count.min(length) && end == length),
        }
    }
}
