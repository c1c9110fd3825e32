//! When a mail is tried again, and when the server gives up.

use std::time::Duration;

use muster_protocol::program::backoff::Delays;

use crate::domain::time::Timestamp;

/// Longest delay between two attempts.
const MAX_MAIL_DELAY: Duration = Duration::from_secs(1_800);
/// Doublings after which the longest delay is reached for any first delay.
const MAX_MAIL_DOUBLINGS: u32 = 24;

/// The outcome of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailOutcome {
    /// The mail server took it.
    Sent,
    /// The mail server refuses this mail for good.
    Refused,
    /// It may be taken later.
    Failed,
}

/// What follows an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextMail {
    Done,
    GivenUp,
    Retry { due_at: Timestamp },
}

/// Decides what follows attempt number `tries` (from 1). The delay is random below a ceiling that doubles
/// from `first_ceiling` to half an hour. No attempt is made after `give_up_at`.
pub fn plan_mail(
    outcome: MailOutcome,
    tries: u32,
    first_ceiling: Duration,
    now: Timestamp,
    give_up_at: Timestamp,
) -> NextMail {
    match outcome {
        MailOutcome::Sent => return NextMail::Done,
        MailOutcome::Refused => return NextMail::GivenUp,
        MailOutcome::Failed => {}
    }
    let mut delays = Delays::new(first_ceiling, MAX_MAIL_DELAY);
    for _ in 1..tries.min(MAX_MAIL_DOUBLINGS) {
        delays.next_delay();
    }
    let delay = delays.next_delay().as_millis();
    let due_at = now.plus_ms(u64::try_from(delay).unwrap_or(u64::MAX));
    if due_at >= give_up_at { NextMail::GivenUp } else { NextMail::Retry { due_at } }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);
    const FIRST: Duration = Duration::from_secs(5);

    #[test]
    fn a_mail_that_is_taken_or_refused_for_good_is_not_tried_again() {
        let later = NOW.plus_ms(600_000);
        assert_eq!(plan_mail(MailOutcome::Sent, 1, FIRST, NOW, later), NextMail::Done);
        assert_eq!(plan_mail(MailOutcome::Refused, 1, FIRST, NOW, later), NextMail::GivenUp);
    }

    #[test]
    fn another_failure_is_tried_again_below_the_ceiling_and_before_the_end() {
        let later = NOW.plus_ms(24 * 3_600_000);
        for tries in 1..200 {
            let next = plan_mail(MailOutcome::Failed, tries, FIRST, NOW, later);
            let NextMail::Retry { due_at } = next else { panic!("{next:?}") };
            let ceiling = 5_000 * (1 << (tries - 1).min(10));
            assert!(due_at.ms_since(NOW) <= ceiling.min(1_800_000), "{tries}: {due_at}");
        }
        assert_eq!(plan_mail(MailOutcome::Failed, 1, FIRST, NOW, NOW), NextMail::GivenUp);
    }
}
