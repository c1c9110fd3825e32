//! A clock that survives a restart of the agent but not a reboot of the host.

use serde::{Deserialize, Serialize};

use super::native;

/// An instant on the host's boot clock, in milliseconds, valid only for that boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootInstant {
    pub boot_id: String,
    pub at_ms: u64,
}

impl BootInstant {
    /// The instant `delay_ms` from now, saturating.
    pub fn after_ms(delay_ms: u64) -> Self {
        Self { boot_id: boot_id(), at_ms: boot_now_ms().saturating_add(delay_ms) }
    }
}

/// Milliseconds since the host booted, time asleep included.
pub fn boot_now_ms() -> u64 {
    native::boot_now_ms()
}

/// Identifies this boot of the host; different after every boot.
pub fn boot_id() -> String {
    native::boot_id()
}
