//! When the parts of an output were received. Pure: knows neither storage nor wire.

use crate::domain::time::Timestamp;

/// Most times that are kept for the output of one command. More are thinned to longer intervals.
pub const MAX_MARKS: usize = 4_096;
/// Times of one output that are less than this apart are one time.
pub const SHORTEST_INTERVAL_MS: u64 = 1_000;
/// Size of a stored mark: the offset and the instant, each eight bytes, big-endian.
const MARK_BYTES: usize = 16;

/// Output from here to the next mark was received from this instant on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Payload of both streams before it.
    pub offset_bytes: u64,
    pub received_at: Timestamp,
}

/// The marks as they are stored.
pub fn encode(marks: &[Mark]) -> Vec<u8> {
    let bytes = |mark: &Mark| [mark.offset_bytes.to_be_bytes(), mark.received_at.0.to_be_bytes()];
    marks.iter().flat_map(bytes).flatten().collect()
}

/// Reads stored marks.
pub fn decode(bytes: &[u8]) -> Vec<Mark> {
    let (marks, _) = bytes.as_chunks::<MARK_BYTES>();
    let mark = |bytes: &[u8; MARK_BYTES]| {
        let [a, b, c, d, e, f, g, h, at @ ..] = *bytes;
        Mark {
            offset_bytes: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            received_at: Timestamp(i64::from_be_bytes(at)),
        }
    };
    marks.iter().map(mark).collect()
}

/// Leaves out marks that follow another one at once, and more of them if there are more than
/// [`MAX_MARKS`]. The first one stays.
pub fn thin(mut marks: Vec<Mark>) -> Vec<Mark> {
    let mut interval_ms = SHORTEST_INTERVAL_MS;
    loop {
        let mut last: Option<Timestamp> = None;
        marks.retain(|mark| {
            let is_kept = last.is_none_or(|last| mark.received_at.ms_since(last) >= interval_ms);
            if is_kept {
                last = Some(mark.received_at);
            }
            is_kept
        });
        if marks.len() <= MAX_MARKS {
            return marks;
        }
        interval_ms = interval_ms.saturating_mul(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mark(offset_bytes: u64, at: i64) -> Mark {
        Mark { offset_bytes, received_at: Timestamp(at) }
    }

    proptest! {
        #[test]
        fn stored_marks_are_read_as_they_were(marks in prop::collection::vec((any::<u64>(), any::<i64>()), 0..40)) {
            let marks: Vec<_> = marks.into_iter().map(|(offset, at)| mark(offset, at)).collect();
            prop_assert_eq!(decode(&encode(&marks)), marks);
        }

        #[test]
        fn thinned_marks_are_few_and_each_is_one_of_those_before(
            steps in prop::collection::vec(0..5_000u64, 1..9_000),
        ) {
            let mut at = 0;
            let marks: Vec<_> = (0..).zip(&steps).map(|(offset, step)| { at += step.cast_signed(); mark(offset, at) }).collect();
            let thinned = thin(marks.clone());
            prop_assert!(thinned.len() <= MAX_MARKS);
            prop_assert_eq!(thinned[0], marks[0]);
            prop_assert!(thinned.iter().all(|kept| marks[kept.offset_bytes as usize] == *kept));
            prop_assert!(thinned.windows(2).all(|pair| pair[1].received_at.ms_since(pair[0].received_at) >= SHORTEST_INTERVAL_MS));
        }
    }

    #[test]
    fn a_clock_that_is_set_earlier_leaves_the_times_that_come_after() {
        let marks = vec![mark(0, 10_000), mark(5, 2_000), mark(9, 11_500)];
        assert_eq!(thin(marks), [mark(0, 10_000), mark(9, 11_500)]);
    }
}
