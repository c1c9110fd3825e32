//! When a delivery is retried, and when the server gives up.

use std::time::{Duration, UNIX_EPOCH};

use muster_protocol::program::backoff::Delays;

use crate::domain::time::Timestamp;

/// How long a delivery is retried: one day.
pub const TRIED_FOR_MS: u64 = 24 * 3_600_000;
/// Longest delay between two attempts.
const MAX_CEILING: Duration = Duration::from_secs(2 * 3_600);
/// Doublings after which the longest delay is reached for any first delay.
const MAX_DOUBLINGS: u32 = 24;

/// The outcome of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookOutcome {
    /// A 2xx status.
    Accepted,
    /// Status 410: the receiver wants no more messages.
    Gone,
    /// Any other status, or no response. `retry_after_ms`: the delay that the receiver asked for.
    Refused { retry_after_ms: Option<u64> },
}

/// The next step of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextWebhookDelivery {
    Delivered,
    GivenUp,
    Retry { due_at: Timestamp },
}

/// Decides whether and when there is another attempt after attempt number `tries` (from 1). The
/// delay is random below a ceiling that doubles from `first_ceiling` to two hours, but not shorter
/// than the receiver asks for. No attempt is made after `give_up_at`.
pub fn plan_delivery(
    outcome: WebhookOutcome,
    tries: u32,
    first_ceiling: Duration,
    now: Timestamp,
    give_up_at: Timestamp,
) -> NextWebhookDelivery {
    let retry_after_ms = match outcome {
        WebhookOutcome::Accepted => return NextWebhookDelivery::Delivered,
        WebhookOutcome::Gone => return NextWebhookDelivery::GivenUp,
        WebhookOutcome::Refused { retry_after_ms } => retry_after_ms.unwrap_or(0),
    };
    let due_at = now.plus_ms(delay_ms(tries, first_ceiling).max(retry_after_ms));
    if due_at >= give_up_at {
        NextWebhookDelivery::GivenUp
    } else {
        NextWebhookDelivery::Retry { due_at }
    }
}

/// When the next attempt is made if the result of attempt number `tries` (from 1) cannot be
/// recorded: as after a refusal.
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

/// Parses `Retry-After`: seconds, or an HTTP date.
pub fn retry_after_ms(value: &str, now: Timestamp) -> Option<u64> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(seconds.saturating_mul(1_000));
    }
    let since_epoch =
        httpdate::parse_http_date(value.trim()).ok()?.duration_since(UNIX_EPOCH).ok()?;
    let at = Timestamp(i64::try_from(since_epoch.as_millis()).ok()?);
    Some(at.ms_since(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);
    const FIRST: Duration = Duration::from_secs(10);

    #[test]
    fn a_delivery_fails_when_the_receiver_answers_410() {
        let later = NOW.plus_ms(TRIED_FOR_MS);
        assert_eq!(
            plan_delivery(WebhookOutcome::Gone, 1, FIRST, NOW, later),
            NextWebhookDelivery::GivenUp
        );
        assert_eq!(
            plan_delivery(WebhookOutcome::Accepted, 1, FIRST, NOW, later),
            NextWebhookDelivery::Delivered
        );
    }

    #[test]
    fn both_forms_of_retry_after_are_read() {
        assert_eq!(retry_after_ms("120", NOW), Some(120_000));
        let at = Timestamp(1_445_412_480_000);
        assert_eq!(retry_after_ms("Wed, 21 Oct 2015 07:28:10 GMT", at), Some(10_000));
        assert_eq!(retry_after_ms("Wed, 21 Oct 2015 07:28:10 GMT", NOW), Some(0));
        assert_eq!(retry_after_ms("Wednesday, 21-Oct-15 07:28:10 GMT", at), Some(10_000));
        assert_eq!(retry_after_ms("soon", NOW), None);
        assert_eq!(retry_after_ms("-1", NOW), None);
        assert_eq!(retry_after_ms("99999999999999999999", NOW), None);
    }

    proptest! {
        #[test]
        fn retries_respect_their_ceiling_the_requested_delay_and_the_day(
            tries in 1u32..1_000,
            requested in prop::option::of(0u64..200_000_000),
            elapsed in 0u64..TRIED_FOR_MS,
        ) {
            let give_up_at = NOW.plus_ms(TRIED_FOR_MS);
            let now = NOW.plus_ms(elapsed);
            let outcome = WebhookOutcome::Refused { retry_after_ms: requested };
            match plan_delivery(outcome, tries, FIRST, now, give_up_at) {
                NextWebhookDelivery::Retry { due_at } => {
                    let delay = due_at.ms_since(now);
                    let ceiling = 10_000 * (1 << tries.saturating_sub(1).min(10));
                    prop_assert!(delay >= requested.unwrap_or(0));
                    prop_assert!(delay <= ceiling.min(7_200_000).max(requested.unwrap_or(0)));
                    prop_assert!(due_at < give_up_at);
                }
                NextWebhookDelivery::GivenUp => prop_assert!(
                    elapsed + requested.unwrap_or(0).max(7_200_000) >= TRIED_FOR_MS
                ),
                NextWebhookDelivery::Delivered => prop_assert!(false, "no attempt succeeded"),
            }
        }
    }

    #[test]
    fn an_unreachable_receiver_is_tried_about_twenty_times_in_a_day() {
        let give_up_at = NOW.plus_ms(TRIED_FOR_MS);
        let (mut now, mut tries) = (NOW, 1);
        let outcome = WebhookOutcome::Refused { retry_after_ms: None };
        while let NextWebhookDelivery::Retry { due_at } =
            plan_delivery(outcome, tries, FIRST, now, give_up_at)
        {
            (now, tries) = (due_at, tries + 1);
        }
        assert!((12..200).contains(&tries), "{tries}");
    }
}
