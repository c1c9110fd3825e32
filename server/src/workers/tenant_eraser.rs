//! Sleeps until the grace period of a tenant is over, and lets the service delete it.

use std::time::Duration;

use muster_protocol::error_chain;
use tokio::time::Instant;

use crate::services::access::tenants::tenant_deletion::TenantDeletion;

/// Longest sleep: clocks are set, machines are suspended, and other servers take requests.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Pause after a database error, and between two parts of a large tenant.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs until it is dropped, which loses nothing: each round reads what is left.
pub async fn run(deletion: TenantDeletion) {
    loop {
        let requested = deletion.requested();
        let due_in = match deletion.erase_due().await {
            Ok(due_in_ms) => due_in_ms.map_or(LONGEST_SLEEP, Duration::from_millis),
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(error, "failed to delete a tenant; retrying");
                PAUSE
            }
        };
        let wake_at = Instant::now() + due_in.clamp(PAUSE, LONGEST_SLEEP);
        tokio::select! {
            () = requested => {}
            () = tokio::time::sleep_until(wake_at) => {}
        }
    }
}
