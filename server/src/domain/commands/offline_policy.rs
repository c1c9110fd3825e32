//! What a job does about agents that are offline when it is created.

use serde::{Deserialize, Serialize};

/// How a job without waves treats agents that are offline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OfflinePolicy {
    /// Their executions are queued, and wait for them until they expire.
    #[default]
    Wait,
    /// Their executions end as `skipped`, with the code `skipped_offline`.
    Skip,
    /// The job is refused with `agents_offline`, and nothing is sent.
    Fail,
}

impl OfflinePolicy {
    /// The name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Skip => "skip",
            Self::Fail => "fail",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_json_agree() {
        for policy in [OfflinePolicy::Wait, OfflinePolicy::Skip, OfflinePolicy::Fail] {
            assert_eq!(serde_json::to_value(policy).expect("plain"), policy.as_str());
        }
    }
}
