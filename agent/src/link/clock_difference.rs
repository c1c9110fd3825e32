//! How far this host's clock is from the server's, when the server's certificate is refused because of the time.
//!
//! The request sends nothing secret, and checks issuer and name of the certificate as always. Its answer is only
//! shown to people.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header::DATE;

use super::{Connector, LinkError, http_client};

/// Time limit of the request.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A smaller difference is no reason why a certificate is refused.
const SMALLEST: TimeDelta = TimeDelta::minutes(10);

/// A sentence about the difference, if the error is about the time of a certificate and the server's clock can be
/// read.
pub async fn clock_difference(connector: &Connector, error: &LinkError) -> Option<String> {
    let LinkError::Blocked(error) = error else { return None };
    let mut connector = connector.clone();
    connector.tls = Some(connector.tls.as_ref()?.at(error.valid_at()?));
    let request = http_client(&connector, TIMEOUT).ok()?.get(connector.endpoint.health_url());
    let answer = request.send().await.ok()?;
    let date = answer.headers().get(DATE)?.to_str().ok()?;
    let theirs = DateTime::parse_from_rfc2822(date).ok()?.to_utc();
    Some(sentence(theirs - Utc::now()))
}

/// `ahead`: of the server's clock.
fn sentence(ahead: TimeDelta) -> String {
    let off = ahead.abs();
    if off < SMALLEST {
        return "the clock of this host agrees with the server's, so the certificate must be renewed"
            .into();
    }
    let (minutes, hours) = (off.num_minutes(), (off + TimeDelta::minutes(30)).num_hours());
    let (count, unit) = match (off.num_days(), off.num_hours()) {
        (2.., _) => ((off + TimeDelta::hours(12)).num_days(), "days"),
        (_, 2..) => (hours, "hours"),
        _ => (minutes, "minutes"),
    };
    let direction = if ahead > TimeDelta::zero() { "behind" } else { "ahead of" };
    format!("the clock of this host is {count} {unit} {direction} the server's")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difference_of_clocks_is_shown_in_the_unit_that_people_use() {
        let host = "the clock of this host is";
        assert_eq!(
            sentence(TimeDelta::seconds(30 * 3_600 - 5)),
            format!("{host} 30 hours behind the server's")
        );
        assert_eq!(sentence(TimeDelta::days(-40)), format!("{host} 40 days ahead of the server's"));
        assert_eq!(
            sentence(TimeDelta::minutes(-90)),
            format!("{host} 90 minutes ahead of the server's")
        );
        assert!(sentence(TimeDelta::seconds(-5)).contains("agrees"));
    }
}
