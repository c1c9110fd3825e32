//! When a message is tried again, and when no more.

use std::time::Duration;

use muster_protocol::backoff::Delays;

use crate::domain::time::Timestamp;

/// How long a message is tried: a day.
pub const TRIED_FOR_MS: u64 = 24 * 3_600_000;
/// The most that lies between two tries.
const MAX_CEILING: Duration = Duration::from_secs(2 * 3_600);
/// Doublings after which the ceiling is reached, whatever the first one was.
const MAX_DOUBLINGS: u32 = 24;

/// What came of one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A 2xx.
    Taken,
    /// A 410: the receiver wants no more of it.
    Gone,
    /// Anything else, or nothing at all; `retry_after_ms` if the receiver says when to come back.
    Refused { retry_after_ms: Option<u64> },
}

/// What is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Delivered,
    GivenUp,
    RetryScope { due_at: Timestamp },
}

/// Decides after try number `tries` (from 1) whether and when there is another: within a ceiling
/// that doubles from `first_ceiling` to two hours, anywhere at all, but not before the receiver
/// asks for; nothing after `give_up_at`.
pub fn next(
    answer: Answer,
    tries: u32,
    first_ceiling: Duration,
    now: Timestamp,
    give_up_at: Timestamp,
) -> Next {
    let retry_after_ms = match answer {
        Answer::Taken => return Next::Delivered,
        Answer::Gone => return Next::GivenUp,
        Answer::Refused { retry_after_ms } => retry_after_ms.unwrap_or(0),
    };
    let due_at = now.plus_ms(delay_ms(tries, first_ceiling).max(retry_after_ms));
    if due_at >= give_up_at { Next::GivenUp } else { Next::RetryScope { due_at } }
}

/// When a delivery is tried again if nothing can be written down of its try number `tries` (from 1):
/// as after a refusal.
pub fn due_unless_recorded(tries: u32, first_ceiling: Duration, now: Timestamp) -> Timestamp {
    now.plus_ms(delay_ms(tries, first_ceiling))
}

fn delay_ms(tries: u32, first_ceiling: Duration) -> u64 {
    u64::try_from(delay(tries, first_ceiling).as_millis()).unwrap_or(u64::MAX)
}

fn delay(tries: u32, first_ceiling: Duration) -> Duration {
    let mut delays = Delays::new(first_ceiling, MAX_CEILING);
    for _ in 1..tries.min(MAX_DOUBLINGS) {
        delays.next_delay();
    }
    delays.next_delay()
}

/// Reads `Retry-After`: seconds, or an instant.
pub fn retry_after_ms(value: &str, now: Timestamp) -> Option<u64> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(seconds.saturating_mul(1_000));
    }
    let at = chrono::DateTime::parse_from_rfc2822(value.trim()).ok()?;
    Some(Timestamp(at.timestamp_millis()).ms_since(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);
    const FIRST: Duration = Duration::from_secs(10);

    #[test]
    fn a_receiver_that_wants_no_more_gets_no_more() {
        let later = NOW.plus_ms(TRIED_FOR_MS);
        assert_eq!(next(Answer::Gone, 1, FIRST, NOW, later), Next::GivenUp);
        assert_eq!(next(Answer::Taken, 1, FIRST, NOW, later), Next::Delivered);
    }

    #[test]
    fn both_forms_of_retry_after_are_read() {
        assert_eq!(retry_after_ms("120", NOW), Some(120_000));
        let at = Timestamp(1_445_412_480_000);
        assert_eq!(retry_after_ms("Wed, 21 Oct 2015 07:28:10 GMT", at), Some(10_000));
        assert_eq!(retry_after_ms("Wed, 21 Oct 2015 07:28:10 GMT", NOW), Some(0));
        assert_eq!(retry_after_ms("soon", NOW), None);
        assert_eq!(retry_after_ms("-1", NOW), None);
        assert_eq!(retry_after_ms("99999999999999999999", NOW), None);
    }

    proptest! {
        #[test]
        fn tries_lie_within_their_ceilings_after_what_was_asked_for_and_within_a_day(
            tries in 1u32..1_000,
            asked in prop::option::of(0u64..200_000_000),
            elapsed in 0u64..TRIED_FOR_MS,
        ) {
            let give_up_at = NOW.plus_ms(TRIED_FOR_MS);
            let now = NOW.plus_ms(elapsed);
            let answer = Answer::Refused { retry_after_ms: asked };
            match next(answer, tries, FIRST, now, give_up_at) {
                Next::RetryScope { due_at } => {
                    let delay = due_at.ms_since(now);
                    let ceiling = 10_000 * (1 << tries.saturating_sub(1).min(10));
                    prop_assert!(delay >= asked.unwrap_or(0));
                    prop_assert!(delay <= ceiling.min(7_200_000).max(asked.unwrap_or(0)));
                    prop_assert!(due_at < give_up_at);
                }
                Next::GivenUp => prop_assert!(
                    elapsed + asked.unwrap_or(0).max(7_200_000) >= TRIED_FOR_MS
                ),
                Next::Delivered => prop_assert!(false, "nobody took it"),
            }
        }
    }

    #[test]
    fn a_receiver_that_stays_away_is_tried_about_twenty_times_in_a_day() {
        let give_up_at = NOW.plus_ms(TRIED_FOR_MS);
        let (mut now, mut tries) = (NOW, 1);
        let answer = Answer::Refused { retry_after_ms: None };
        while let Next::RetryScope { due_at } = next(answer, tries, FIRST, now, give_up_at) {
            (now, tries) = (due_at, tries + 1);
        }
        assert!((12..200).contains(&tries), "{tries}");
    }
}
