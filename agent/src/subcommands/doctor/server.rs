//! Checks the server's clock and version with its public health check.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header::DATE;
use serde::Deserialize;

use super::detail_and_hint;
use super::finding::{Check, Finding};
use crate::link::{Connector, LinkError, http_client};

/// Time limit of the whole request.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer that is read, in bytes.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;
const WARNING_SECONDS: i64 = 60;
const FAILURE_SECONDS: i64 = 600;

/// The server's clock and version.
#[derive(Debug, Default)]
pub struct ServerHealth {
    /// How far the server's clock is ahead of this host's.
    ahead: Option<TimeDelta>,
    version: Option<String>,
}

#[derive(Deserialize)]
struct Health {
    version: String,
}

/// Requests the health check.
///
/// # Errors
/// [`LinkError`] if there is no answer. Any answer contains the time.
pub async fn fetch_health(connector: &Connector) -> Result<ServerHealth, LinkError> {
    let asking =
        http_client(connector, HEALTH_TIMEOUT)?.get(connector.endpoint.health_url()).send();
    let asked_at = Utc::now();
    let answer = asking.await.map_err(LinkError::broken("request the server's health check"))?;
    let middle = asked_at + (Utc::now() - asked_at) / 2;
    let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
    let is_health = answer.status().is_success()
        && answer.content_length().is_some_and(|bytes| bytes <= MAX_ANSWER_BYTES);
    let health = if is_health { answer.json::<Health>().await.ok() } else { None };
    Ok(ServerHealth {
        ahead: date.map(|date| date.to_utc() - middle),
        version: health.map(|health| health.version),
    })
}

/// Compares this host's clock with the server's.
pub fn clock(health: &Result<ServerHealth, LinkError>) -> Finding {
    let check = Check::Clock;
    let ahead = match health {
        Ok(ServerHealth { ahead: Some(ahead), .. }) => ahead.num_seconds(),
        Ok(_) => return Finding::skipped(check, "the server's answer contains no time"),
        Err(error) => {
            let (detail, hint) = detail_and_hint(error);
            return Finding::warn(check, format!("the server's time is unknown: {detail}"), hint);
        }
    };
    let direction = if ahead > 0 { "behind" } else { "ahead of" };
    let off = ahead.abs();
    let now = Utc::now().format("%Y-%m-%dT%H:%M:%SZ");
    let detail = format!("this host's clock is {off} s {direction} the server's; it shows {now}");
    let hint = "set this host's clock and synchronise it with NTP";
    match off {
        0..=1 => Finding::ok(check, "this host's clock agrees with the server's"),
        2..=WARNING_SECONDS => Finding::ok(check, detail),
        off if off <= FAILURE_SECONDS => Finding::warn(check, detail, hint),
        _ => Finding::fail(check, detail, hint),
    }
}

/// Compares the versions of agent and server.
pub fn version(health: &Result<ServerHealth, LinkError>) -> Finding {
    let check = Check::Version;
    let own = muster_protocol::program::version::own();
    let Ok(ServerHealth { version: Some(theirs), .. }) = health else {
        return Finding::skipped(check, format!("agent {own}; the server's version is unknown"));
    };
    let theirs: String = theirs.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
    match (numbers(own), numbers(&theirs)) {
        (Some(ours), Some(their)) if ours[..2] < their[..2] => Finding::warn(
            check,
            format!("agent {own} is older than server {theirs}"),
            "update the agent to the server's version",
        ),
        (Some(ours), Some(their)) if ours[..2] > their[..2] => Finding::warn(
            check,
            format!("agent {own} is newer than server {theirs}"),
            "update the server first, then its agents",
        ),
        _ => Finding::ok(check, format!("agent {own}, server {theirs}")),
    }
}

/// Major, minor and patch number of a version.
fn numbers(version: &str) -> Option<[u64; 3]> {
    let core = version.split(['-', '+']).next()?;
    let parts: Option<Vec<u64>> = core.split('.').map(|part| part.parse().ok()).collect();
    parts?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::super::finding::CheckStatus;
    use super::*;

    fn ahead_by(seconds: i64) -> Result<ServerHealth, LinkError> {
        Ok(ServerHealth { ahead: Some(TimeDelta::seconds(seconds)), version: None })
    }

    fn of_version(version: &str) -> Result<ServerHealth, LinkError> {
        Ok(ServerHealth { ahead: None, version: Some(version.to_owned()) })
    }

    #[test]
    fn a_clock_difference_of_one_minute_passes_and_of_ten_minutes_fails() {
        for (seconds, status) in [
            (0, CheckStatus::Ok),
            (-60, CheckStatus::Ok),
            (61, CheckStatus::Warn),
            (-600, CheckStatus::Warn),
        ] {
            assert_eq!(clock(&ahead_by(seconds)).status, status, "{seconds}");
        }
        let late = clock(&ahead_by(601));
        assert_eq!(late.status, CheckStatus::Fail);
        assert!(late.detail.contains("601 s behind the server's"), "{}", late.detail);
        assert!(clock(&ahead_by(-700)).detail.contains("ahead of"));
    }

    #[test]
    fn versions_are_compared_by_their_first_two_numbers() {
        let own = muster_protocol::program::version::own();
        assert_eq!(version(&of_version(own)).status, CheckStatus::Ok);
        assert!(version(&of_version("9999.0.0")).detail.contains("older"));
        assert!(version(&of_version("0.0.9-beta")).detail.contains("newer"));
        assert_eq!(version(&of_version("nightly")).status, CheckStatus::Ok);
        assert_eq!(version(&ahead_by(0)).status, CheckStatus::Skipped);
    }
}
