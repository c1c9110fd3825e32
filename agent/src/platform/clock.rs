//! Time that survives a restart of the agent but not one of the host.

use serde::{Deserialize, Serialize};

use super::native;

/// A point on the clock that started with the host, in milliseconds, bound to that boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootInstant {
    pub boot_id: String,
    pub at_ms: u64,
}

impl BootInstant {
    /// `delay_ms` from now; the farthest future if that can't be expressed.
    pub fn after_ms(delay_ms: u64) -> Self {
        Self { boot_id: boot_id(), at_ms: boot_now_ms().saturating_add(delay_ms) }
    }
}

/// Milliseconds since the host started, time asleep included.
pub fn boot_now_ms() -> u64 {
    native::boot_now_ms()
}

/// Names this run of the host; another after every boot.
pub fn boot_id() -> String {
    native::boot_id()
}
