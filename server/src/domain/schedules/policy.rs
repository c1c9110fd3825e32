//! What happens to due times that the server gets to late. Pure.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

use super::fire::FireReason;
use super::rule::DueTimes;
use crate::domain::time::Timestamp;

/// A due time that the server gets to within this time is not missed, unless the next one has come:
/// 60 s.
pub const ON_TIME_MS: u64 = 60_000;
/// Most due times that one catch-up records; older ones are only counted.
pub const MAX_RECORDED: usize = 100;
/// Most missed fires of one catch-up that get a job.
pub const MAX_CATCH_UP: u32 = 100;
/// How far a catch-up looks back: 366 days.
const MAX_LOOK_BACK_MS: u64 = 366 * 86_400_000;

/// Which missed fires get a job.
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
pub enum MissedPolicy {
    /// None.
    Skip,
    /// One for all of them.
    Once,
    /// The newest, up to `max_catch_up`.
    All,
}

/// What a fire does while the previous job of the schedule has not ended.
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
pub enum OverlapPolicy {
    /// It starts.
    Allow,
    /// It is skipped.
    Skip,
    /// It waits. While one waits, others are skipped.
    Queue,
    /// It cancels the previous job, waits for its end and starts. It replaces one that waits.
    CancelPrevious,
}

/// How a schedule treats missed fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatchUp {
    pub missed: MissedPolicy,
    /// For [`MissedPolicy::All`].
    pub max_catch_up: u32,
    /// A fire that can't start within this time after its due time is skipped.
    pub late_limit_ms: u64,
}

/// A due time with what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedFire {
    pub due_at: Timestamp,
    pub is_missed: bool,
    /// Why it gets no job.
    pub skipped: Option<FireReason>,
}

/// All due times up to an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirePlan {
    pub fires: Vec<PlannedFire>,
    /// Missed due times before these, which are not recorded.
    pub omitted: u64,
    /// The next due time; `None` if there is none.
    pub next_due_at: Option<Timestamp>,
}

/// Decides about all due times after `handled_until` up to `now`.
pub fn plan(
    due_times: &DueTimes,
    handled_until: Timestamp,
    now: Timestamp,
    catch_up: CatchUp,
) -> FirePlan {
    let mut due = VecDeque::new();
    let mut omitted = 0;
    let after = handled_until.max(now.minus_ms(MAX_LOOK_BACK_MS));
    let mut next_due_at = due_times.next_after(after);
    while let Some(due_at) = next_due_at.filter(|due_at| *due_at <= now) {
        if due.len() == MAX_RECORDED {
            due.pop_front();
            omitted += 1;
        }
        due.push_back(due_at);
        next_due_at = due_times.next_after(due_at);
    }
    let mut fires: Vec<PlannedFire> = due
        .into_iter()
        .map(|due_at| PlannedFire { due_at, is_missed: true, skipped: None })
        .collect();
    if let Some(newest) = fires.last_mut() {
        newest.is_missed = now.ms_since(newest.due_at) > ON_TIME_MS;
    }
    skip_missed(&mut fires, now, catch_up);
    FirePlan { fires, omitted, next_due_at }
}

fn skip_missed(fires: &mut [PlannedFire], now: Timestamp, catch_up: CatchUp) {
    let mut starts = fires.iter().filter(|fire| !fire.is_missed).count();
    let mut caught_up = 0;
    // The newest first: each policy prefers it.
    for fire in fires.iter_mut().rev().filter(|fire| fire.is_missed) {
        fire.skipped = match catch_up.missed {
            _ if now.ms_since(fire.due_at) > catch_up.late_limit_ms => Some(FireReason::TooLate),
            MissedPolicy::Skip => Some(FireReason::Missed),
            MissedPolicy::Once if starts > 0 => Some(FireReason::Replaced),
            MissedPolicy::All if caught_up >= catch_up.max_catch_up => Some(FireReason::OverLimit),
            MissedPolicy::Once | MissedPolicy::All => None,
        };
        if fire.skipped.is_none() {
            starts += 1;
            caught_up += 1;
        }
    }
}

/// A recorded fire whose time to start has come.
#[derive(Debug, Clone, Copy)]
pub struct ReadyFire {
    pub due_at: Timestamp,
    pub planned_at: Timestamp,
    /// The policy for missed fires let it through already, or it waited for another job.
    pub is_decided: bool,
    /// A later fire of the schedule is ready too.
    pub has_successor: bool,
}

/// Why a recorded fire must not start any more: the server stopped between recording and starting it,
/// which must not bypass the policy.
pub fn reason_to_skip(fire: ReadyFire, now: Timestamp, catch_up: CatchUp) -> Option<FireReason> {
    // Jitter is no delay of the server's.
    let late_ms = now.ms_since(fire.planned_at);
    if late_ms > catch_up.late_limit_ms {
        return Some(FireReason::TooLate);
    }
    if fire.is_decided || (late_ms <= ON_TIME_MS && !fire.has_successor) {
        return None;
    }
    match catch_up.missed {
        MissedPolicy::Skip => Some(FireReason::Missed),
        MissedPolicy::Once if fire.has_successor => Some(FireReason::Replaced),
        MissedPolicy::Once | MissedPolicy::All => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::rule::RuleSpec;
    use super::*;

    const MINUTE: u64 = 60_000;

    fn every_minute() -> DueTimes {
        let spec = RuleSpec {
            every_ms: Some(MINUTE),
            anchor_at: Some(Timestamp(0)),
            ..RuleSpec::default()
        };
        DueTimes::new(&spec, None, None).expect("valid")
    }

    fn policy(missed: MissedPolicy) -> CatchUp {
        CatchUp { missed, max_catch_up: 2, late_limit_ms: 86_400_000 }
    }

    fn minutes(count: u64) -> Timestamp {
        Timestamp(0).plus_ms(count * MINUTE)
    }

    fn skipped(plan: &FirePlan) -> Vec<Option<FireReason>> {
        plan.fires.iter().map(|fire| fire.skipped).collect()
    }

    #[test]
    fn a_fire_on_time_is_not_missed() {
        let now = minutes(7).plus_ms(300);
        let plan = plan(&every_minute(), minutes(6), now, policy(MissedPolicy::Skip));
        let expected = PlannedFire { due_at: minutes(7), is_missed: false, skipped: None };
        assert_eq!(plan.fires, [expected]);
        assert_eq!(plan.next_due_at, Some(minutes(8)));
    }

    #[test]
    fn missed_fires_follow_the_policy_and_all_are_recorded() {
        use FireReason::{Missed, OverLimit, Replaced};
        // Five were missed, the sixth is on time.
        let plan = |missed| plan(&every_minute(), minutes(0), minutes(6), policy(missed));
        assert_eq!(
            skipped(&plan(MissedPolicy::Skip)),
            [Some(Missed), Some(Missed), Some(Missed), Some(Missed), Some(Missed), None]
        );
        assert_eq!(
            skipped(&plan(MissedPolicy::Once)),
            [Some(Replaced), Some(Replaced), Some(Replaced), Some(Replaced), Some(Replaced), None]
        );
        assert_eq!(
            skipped(&plan(MissedPolicy::All)),
            [Some(OverLimit), Some(OverLimit), Some(OverLimit), None, None, None]
        );
    }

    #[test]
    fn once_runs_the_newest_missed_fire_if_none_is_on_time() {
        let spec = RuleSpec {
            every_ms: Some(60 * MINUTE),
            anchor_at: Some(Timestamp(0)),
            ..RuleSpec::default()
        };
        let hourly = DueTimes::new(&spec, None, None).expect("valid");
        let plan = plan(&hourly, minutes(0), minutes(150), policy(MissedPolicy::Once));
        assert_eq!(skipped(&plan), [Some(FireReason::Replaced), None]);
        assert!(plan.fires.iter().all(|fire| fire.is_missed));
    }

    #[test]
    fn fires_over_the_late_limit_are_skipped_by_every_policy() {
        for missed in [MissedPolicy::Skip, MissedPolicy::Once, MissedPolicy::All] {
            let catch_up = CatchUp { missed, max_catch_up: 100, late_limit_ms: 2 * MINUTE };
            let plan = plan(&every_minute(), minutes(0), minutes(6), catch_up);
            let late = plan.fires.iter().filter(|fire| fire.skipped == Some(FireReason::TooLate));
            assert_eq!(late.count(), 3, "{missed:?}");
        }
    }

    #[test]
    fn a_long_downtime_is_recorded_up_to_a_bound_and_counted_beyond() {
        let plan = plan(&every_minute(), minutes(0), minutes(1_000), policy(MissedPolicy::Once));
        assert_eq!((plan.fires.len(), plan.omitted), (MAX_RECORDED, 900));
        assert_eq!(plan.fires.last().expect("some").due_at, minutes(1_000));
    }

    #[test]
    fn nothing_is_due_again_that_was_handled() {
        let plan = plan(&every_minute(), minutes(9), minutes(5), policy(MissedPolicy::All));
        assert_eq!(plan.fires, [], "the clock was set back");
        assert_eq!(plan.next_due_at, Some(minutes(10)));
    }

    #[test]
    fn a_restart_between_recording_and_starting_does_not_bypass_the_policy() {
        let ready = ReadyFire {
            due_at: minutes(1),
            planned_at: minutes(1),
            is_decided: false,
            has_successor: false,
        };
        let skip = |fire, now, missed| reason_to_skip(fire, now, policy(missed));
        let next = ReadyFire { has_successor: true, ..ready };
        assert_eq!(skip(ready, minutes(2), MissedPolicy::Skip), None, "still on time");
        assert_eq!(skip(ready, minutes(5), MissedPolicy::Skip), Some(FireReason::Missed));
        assert_eq!(skip(ready, minutes(5), MissedPolicy::Once), None);
        assert_eq!(skip(next, minutes(5), MissedPolicy::Once), Some(FireReason::Replaced));
        assert_eq!(skip(next, minutes(5), MissedPolicy::All), None);
        assert_eq!(skip(ready, minutes(2_000), MissedPolicy::All), Some(FireReason::TooLate));
        let decided = ReadyFire { is_decided: true, ..ready };
        assert_eq!(skip(decided, minutes(5), MissedPolicy::Skip), None);
    }
}
