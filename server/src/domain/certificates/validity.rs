//! How long certificates are valid, and when they are renewed.

use crate::domain::time::Timestamp;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// Certificates are valid from so long before they are issued, because clocks of clients may be behind.
pub const BACKDATED_MS: u64 = DAY_MS;
/// Of the server's certificate, from when it is issued.
pub const SERVER_CERTIFICATE_MS: u64 = 90 * DAY_MS;
/// Of the certificate of an agent.
pub const AGENT_CERTIFICATE_MS: u64 = 30 * DAY_MS;
/// Of the certificate of a person or a program.
pub const CALLER_CERTIFICATE_MS: u64 = 90 * DAY_MS;
/// A certificate that ends within this time should have been renewed already, and is reported.
pub const EXPIRY_WARNING_MS: u64 = 7 * DAY_MS;
/// Of the authority's certificate.
pub const AUTHORITY_CERTIFICATE_MS: u64 = 3_650 * DAY_MS;

/// The time for which a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    renew_at: Timestamp,
}

impl Validity {
    /// Of a certificate that is issued at `issued_at` and valid for `lifetime_ms` from then.
    pub fn issued(issued_at: Timestamp, lifetime_ms: u64) -> Self {
        Self {
            not_before: issued_at.minus_ms(BACKDATED_MS),
            not_after: issued_at.plus_ms(lifetime_ms),
            renew_at: issued_at.plus_ms(lifetime_ms - Self::renewed_before_ms(lifetime_ms)),
        }
    }

    /// How long before its end a certificate is renewed: a third of its time.
    pub const fn renewed_before_ms(lifetime_ms: u64) -> u64 {
        lifetime_ms / 3
    }

    /// Of a certificate that was issued for `lifetime_ms` and is valid until `not_after`.
    pub fn until(not_after: Timestamp, lifetime_ms: u64) -> Self {
        Self::issued(not_after.minus_ms(lifetime_ms), lifetime_ms)
    }

    /// True if it must be renewed: at two thirds of its time, or if the clock was set back before its start.
    pub fn is_due(&self, now: Timestamp) -> bool {
        now >= self.renew_at || now < self.not_before
    }

    /// When the renewal becomes due.
    pub fn renew_at(&self) -> Timestamp {
        self.renew_at
    }

    /// True if it can be used.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_certificate_is_renewed_between_half_and_the_whole_of_its_time(
            start in 0_i64..4_000_000_000_000,
            lifetime_ms in DAY_MS..AUTHORITY_CERTIFICATE_MS,
            after_ms in 0..2 * AUTHORITY_CERTIFICATE_MS,
        ) {
            let issued_at = Timestamp(start);
            let validity = Validity::issued(issued_at, lifetime_ms);
            prop_assert!(!validity.is_due(issued_at) && validity.is_valid(issued_at));
            prop_assert!(validity.is_valid(issued_at.minus_ms(BACKDATED_MS)));
            prop_assert!(!validity.is_valid(issued_at.minus_ms(BACKDATED_MS + 1)));
            prop_assert!(validity.is_due(issued_at.minus_ms(BACKDATED_MS + 1)), "the clock was set back");
            let now = issued_at.plus_ms(after_ms);
            prop_assert!(validity.is_due(now) || after_ms <= lifetime_ms / 3 * 2 + 2);
            prop_assert!(!validity.is_due(now) || after_ms >= lifetime_ms / 2);
            prop_assert!(validity.is_due(now) || validity.is_valid(now), "never expired and not due");
        }
    }
}
