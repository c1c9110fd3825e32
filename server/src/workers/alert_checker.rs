//! Sleeps until the next alert rule is checked, or until agents connect or disconnect.

use std::time::Duration;

use muster_protocol::error_chain;
use tokio::time::Instant;

use crate::services::integrations::alerts::Alerts;

/// Longest sleep: clocks are set, machines are suspended, and other servers change rules.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Pause between two rounds while agents connect, so that one round covers many agents.
const PAUSE: Duration = Duration::from_millis(500);
/// Pause after a database error.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Runs until its future is dropped. The next round continues what an interrupted one left.
pub async fn run(alerts: Alerts) {
    let mut presence_changed_at = Some(alerts.now());
    loop {
        let work = match alerts.check_round(presence_changed_at).await {
            Ok(work) => work,
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(error, "failed to check alert rules; retrying");
                tokio::time::sleep(RETRY_PAUSE).await;
                continue;
            }
        };
        if work.has_more {
            // The next round checks agents that connect meanwhile too.
            tokio::select! {
                biased;
                () = alerts.presence_changed() => presence_changed_at = Some(alerts.now()),
                () = std::future::ready(()) => {}
            }
            continue;
        }
        let due_in = work.due_in_ms.map_or(LONGEST_SLEEP, Duration::from_millis);
        let wake_at = Instant::now() + due_in.min(LONGEST_SLEEP);
        // Without a rule, connecting agents do not wake this worker.
        let has_rules = work.due_in_ms.is_some();
        presence_changed_at = tokio::select! {
            () = alerts.changed() => None,
            () = tokio::time::sleep_until(wake_at) => None,
            () = alerts.presence_changed(), if has_rules => {
                tokio::time::sleep(PAUSE).await;
                Some(alerts.now())
            }
        };
    }
}
