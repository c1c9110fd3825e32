//! What a job would do on one agent.

use serde::Serialize;

use super::offline_policy::OfflinePolicy;

/// What would happen, in the order in which a preview lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PreviewDecision {
    /// Its host would refuse.
    Refuse,
    /// The job skips it.
    Skip,
    /// It is offline: the execution waits for it.
    Wait,
    /// It would run at once, or with its wave.
    Run,
}

impl PreviewDecision {
    /// What would happen on an agent.
    pub const fn of(
        is_mismatch: bool,
        skips_mismatch: bool,
        is_online: bool,
        offline: OfflinePolicy,
    ) -> Self {
        match (is_mismatch, is_online) {
            (true, _) if skips_mismatch => Self::Skip,
            (_, false) if matches!(offline, OfflinePolicy::Skip) => Self::Skip,
            (true, _) => Self::Refuse,
            (false, false) => Self::Wait,
            (false, true) => Self::Run,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mismatch_and_absence_are_skipped_only_if_the_job_says_so() {
        use OfflinePolicy::{Fail, Skip, Wait};
        let of = PreviewDecision::of;
        assert_eq!(of(true, true, true, Wait), PreviewDecision::Skip);
        assert_eq!(of(true, false, true, Wait), PreviewDecision::Refuse);
        assert_eq!(of(true, false, false, Skip), PreviewDecision::Skip);
        assert_eq!(of(false, false, false, Wait), PreviewDecision::Wait);
        assert_eq!(of(false, false, false, Fail), PreviewDecision::Wait);
        assert_eq!(of(false, true, true, Skip), PreviewDecision::Run);
    }
}
