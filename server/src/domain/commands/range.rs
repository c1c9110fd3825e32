//! One byte range of an output, as in `Range: bytes=…`.

use http_range_header::{EndPosition, StartPosition, parse_range_header};

/// The part of a body that a caller requests. The body may still grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// The whole body.
    Whole,
    /// From the first offset to the last one, both included.
    Between(u64, u64),
    /// From this offset to the end.
    From(u64),
    /// The last bytes, this many.
    Last(u64),
}

impl ByteRange {
    /// Parses the header. `None` for anything but a single well-formed range: HTTP then returns the
    /// whole body.
    pub fn parse(header: &str) -> Option<Self> {
        let ranges = parse_range_header(header.trim()).ok()?.ranges;
        let [range] = ranges.as_slice() else { return None };
        match (range.start, range.end) {
            (StartPosition::FromLast(count), _) => Some(Self::Last(count)),
            (StartPosition::Index(first), EndPosition::LastByte) => Some(Self::From(first)),
            (StartPosition::Index(first), EndPosition::Index(last)) => {
                (first <= last).then_some(Self::Between(first, last))
            }
        }
    }

    /// The same for a body whose first bytes were removed: the part of the range that is kept.
    pub fn resolve_from(self, first: u64, length: u64) -> Option<(u64, u64)> {
        let (start, end) = self.resolve(length)?;
        let kept = (start.max(first), end.max(first));
        (kept.0 < kept.1 || self == Self::Whole).then_some(kept)
    }

    /// The offsets that the range covers in a body of `length` bytes, the end excluded.
    ///
    /// `None` if the range starts at or after the end.
    pub fn resolve(self, length: u64) -> Option<(u64, u64)> {
        let (start, end) = match self {
            Self::Whole => return Some((0, length)),
            Self::Between(first, last) => (first, last.saturating_add(1).min(length)),
            Self::From(first) => (first, length),
            Self::Last(0) => return None,
            Self::Last(count) => (length.saturating_sub(count), length),
        };
        (start < end).then_some((start, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn single_ranges_are_parsed_and_everything_else_is_ignored() {
        assert_eq!(ByteRange::parse("bytes=0-9"), Some(ByteRange::Between(0, 9)));
        assert_eq!(ByteRange::parse("bytes=10-"), Some(ByteRange::From(10)));
        assert_eq!(ByteRange::parse("bytes=-5"), Some(ByteRange::Last(5)));
        for odd in ["bytes=", "bytes=9-3", "bytes=0-1,3-4", "lines=1-2", "bytes=-", "bytes=1", "x"]
        {
            assert_eq!(ByteRange::parse(odd), None, "{odd}");
        }
    }

    proptest! {
        #[test]
        fn a_range_of_a_rotated_body_is_the_part_of_it_that_is_kept(first in 0u64..50, kept in 0u64..50, from in 0u64..120, to in 0u64..120) {
            let length = first + kept;
            for range in [ByteRange::Whole, ByteRange::Between(from.min(to), to.max(from)), ByteRange::From(from), ByteRange::Last(from)] {
                let whole: Vec<u64> = range.resolve(length).map(|(start, end)| (start..end).collect()).unwrap_or_default();
                let part: Vec<u64> = range.resolve_from(first, length).map(|(start, end)| (start..end).collect()).unwrap_or_default();
                prop_assert_eq!(part, whole.into_iter().filter(|offset| *offset >= first).collect::<Vec<_>>());
            }
        }

        #[test]
        fn a_resolved_range_is_within_the_body(first in any::<u64>(), last in any::<u64>(), length in any::<u64>()) {
            for range in [ByteRange::Between(first.min(last), last.max(first)), ByteRange::From(first), ByteRange::Last(last)] {
                if let Some((start, end)) = range.resolve(length) {
                    prop_assert!(start < end && end <= length);
                }
            }
        }
    }
}
