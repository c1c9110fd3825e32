//! What is left of a limit on attempts.

/// How many attempts are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Attempts in a minute.
    pub limit: u32,
    pub remaining: u32,
    /// Seconds until the next attempt is allowed; 0 if it is.
    pub wait_s: u64,
}
