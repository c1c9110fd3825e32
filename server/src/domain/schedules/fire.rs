//! Fires: what the server does about each due time of a schedule.

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

use crate::domain::ids::ScheduleId;
use crate::domain::time::Timestamp;

/// Longest spread of a schedule's starts: 24 h.
pub const MAX_JITTER_MS: u64 = 24 * 3_600_000;

/// Whether a schedule fires.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    utoipa::ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ScheduleState {
    Active,
    /// A person disabled it.
    Disabled,
    /// Its owner may not run it any more. The person who enables it becomes its owner.
    Stopped,
    /// It is not due again.
    Ended,
}

/// The state of a fire.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    utoipa::ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum FireState {
    /// Its job is created at the planned time.
    Pending,
    /// It waits for the end of the previous job.
    Waiting,
    /// Its job was created.
    Fired,
    /// No job was created; the reason says why.
    Skipped,
    /// The job was refused.
    Refused,
}

/// Why a fire has no job.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    utoipa::ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum FireReason {
    /// The server did not run at its time, and the schedule skips missed fires.
    Missed,
    /// A later fire runs instead.
    Replaced,
    /// More fires were missed than the schedule catches up on.
    OverLimit,
    /// The late limit had passed.
    TooLate,
    /// The previous job had not ended.
    Overlap,
    /// The schedule was disabled, changed or stopped first.
    NotActive,
    /// The owner of the schedule may not run it any more.
    OwnerInvalid,
    /// The job was refused; the detail says why.
    JobRefused,
    /// A calendar did not allow it; the detail says which.
    Calendar,
    /// The schedule was snoozed.
    Snoozed,
}

/// The delay of a due time, from 0 to `jitter_ms`. The same for every server and every attempt.
pub fn jitter(schedule_id: ScheduleId, due_at: Timestamp, jitter_ms: u64) -> u64 {
    let (high, low) = schedule_id.0.as_u64_pair();
    let mixed = [high, low, due_at.0.cast_unsigned()].into_iter().fold(0, |hash, part| {
        // SplitMix64, whose every output bit depends on every input bit.
        let sum: u64 = (hash ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let sum = (sum ^ (sum >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let sum = (sum ^ (sum >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        sum ^ (sum >> 31)
    });
    mixed % jitter_ms.saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_the_same_for_the_same_fire_and_spreads_others() {
        let id = ScheduleId::new();
        let delays: Vec<u64> =
            (0..1_000).map(|due| jitter(id, Timestamp(due * 60_000), 9_999)).collect();
        let again = (0..1_000).map(|due| jitter(id, Timestamp(due * 60_000), 9_999));
        assert!(delays.iter().copied().eq(again));
        assert!(delays.iter().all(|delay| *delay <= 9_999));
        for tenth in 0..10 {
            let share = delays.iter().filter(|delay| **delay / 1_000 == tenth).count();
            assert!((50..150).contains(&share), "{share} of 1000 in second {tenth}");
        }
        assert_eq!(jitter(id, Timestamp(5), 0), 0);
    }
}
