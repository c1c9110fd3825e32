//! Which events of one resource become a message of their own: flapping agents, failing schedules and
//! repeated alerts are one message, and not many.

use uuid::Uuid;

use super::event_type::{EventGroup, EventType};
use crate::domain::time::Timestamp;

/// Events of an agent in an hour above which it flaps: the next are held and become one message.
const FLAPS_IN_AN_HOUR: usize = 4;
/// How long events of a flapping agent are held.
const FLAP_HOLD_MS: u64 = 600_000;
/// For how long failures of a schedule and alerts of an agent are held after the first.
pub const FAILURE_HOLD_MS: u64 = 3_600_000;

/// A message about the same resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownMessage {
    pub id: Uuid,
    pub event: EventType,
    pub created_at: Timestamp,
    pub ready_at: Timestamp,
    /// It was never tried.
    pub is_waiting: bool,
    /// Events that it reports beside its own.
    pub repeat_count: i32,
}

/// What to do with a new event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupStep {
    /// A message of its own, not sent before the instant.
    Add { ready_at: Timestamp },
    /// The message reports this event instead, and counts one more.
    Renew { id: Uuid },
    /// The message has nothing to report any more.
    Drop { id: Uuid },
}

/// Decides about an event from the messages about its resource, oldest first. `is_taken`: the
/// integration sends events of this type. `offline_after_ms`: its grace period.
pub fn group(
    new: EventType,
    at: Timestamp,
    known: &[KnownMessage],
    is_taken: bool,
    offline_after_ms: u64,
) -> Vec<GroupStep> {
    match new.group() {
        Some(EventGroup::Presence) => presence(new, at, known, is_taken, offline_after_ms),
        Some(EventGroup::ScheduleHealth | EventGroup::Identity) => {
            problem(new, at, known, is_taken)
        }
        None if is_taken => vec![GroupStep::Add { ready_at: at }],
        None => vec![],
    }
}

fn presence(
    new: EventType,
    at: Timestamp,
    known: &[KnownMessage],
    is_taken: bool,
    offline_after_ms: u64,
) -> Vec<GroupStep> {
    if let Some(held) = held(known, at) {
        // It was away for less than its grace period: there is nothing to report.
        let is_over = new == EventType::AgentOnline
            && held.event == EventType::AgentOffline
            && held.repeat_count == 0;
        let id = held.id;
        return vec![if is_over || !is_taken {
            GroupStep::Drop { id }
        } else {
            GroupStep::Renew { id }
        }];
    }
    if !is_taken {
        return vec![];
    }
    let recent = known.iter().filter(|known| at.ms_since(known.created_at) < 3_600_000).count();
    let hold_ms = match new {
        _ if recent >= FLAPS_IN_AN_HOUR => FLAP_HOLD_MS.max(offline_after_ms),
        EventType::AgentOffline => offline_after_ms,
        _ => 0,
    };
    vec![GroupStep::Add { ready_at: at.plus_ms(hold_ms) }]
}

fn problem(
    new: EventType,
    at: Timestamp,
    known: &[KnownMessage],
    is_taken: bool,
) -> Vec<GroupStep> {
    let held = held(known, at);
    if new != EventType::ScheduleRecovered {
        let is_repeated = known.iter().any(|known| {
            known.event != EventType::ScheduleRecovered
                && at.ms_since(known.created_at) < FAILURE_HOLD_MS
        });
        return match held {
            Some(held) if is_taken => vec![GroupStep::Renew { id: held.id }],
            None if is_taken && is_repeated => {
                vec![GroupStep::Add { ready_at: at.plus_ms(FAILURE_HOLD_MS) }]
            }
            None if is_taken => vec![GroupStep::Add { ready_at: at }],
            _ => vec![],
        };
    }
    let mut steps: Vec<_> = held.map(|held| GroupStep::Drop { id: held.id }).into_iter().collect();
    let last = known.iter().rev().find(|known| held.is_none_or(|held| held.id != known.id));
    if is_taken && last.is_some_and(|last| last.event != EventType::ScheduleRecovered) {
        steps.push(GroupStep::Add { ready_at: at });
    }
    steps
}

/// The message that waits for the end of its time.
fn held(known: &[KnownMessage], at: Timestamp) -> Option<&KnownMessage> {
    known.iter().rev().find(|known| known.is_waiting && known.ready_at > at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);
    const GRACE_MS: u64 = 60_000;

    /// Applies events one after the other; a message is sent when its time has come.
    fn messages(events: &[(EventType, u64)]) -> Vec<(EventType, i32)> {
        let mut known: Vec<KnownMessage> = Vec::new();
        for (number, (event, after_ms)) in events.iter().enumerate() {
            let at = NOW.plus_ms(*after_ms);
            for known in &mut known {
                known.is_waiting &= known.ready_at > at;
            }
            for step in group(*event, at, &known, true, GRACE_MS) {
                match step {
                    GroupStep::Add { ready_at } => known.push(KnownMessage {
                        id: Uuid::from_u128(number as u128 + 1),
                        event: *event,
                        created_at: at,
                        ready_at,
                        is_waiting: true,
                        repeat_count: 0,
                    }),
                    GroupStep::Renew { id } => {
                        let found = known.iter_mut().find(|known| known.id == id).expect("known");
                        found.event = *event;
                        found.repeat_count += 1;
                    }
                    GroupStep::Drop { id } => known.retain(|known| known.id != id),
                }
            }
        }
        known.into_iter().map(|known| (known.event, known.repeat_count)).collect()
    }

    #[test]
    fn agent_that_is_back_within_its_grace_period_is_not_reported() {
        use EventType::{AgentOffline, AgentOnline};
        assert_eq!(messages(&[(AgentOffline, 0), (AgentOnline, 59_999)]), []);
        let told = messages(&[(AgentOffline, 0), (AgentOnline, 60_000)]);
        assert_eq!(told, [(AgentOffline, 0), (AgentOnline, 0)]);
    }

    #[test]
    fn flapping_agent_becomes_one_message_after_four() {
        use EventType::{AgentOffline, AgentOnline};
        let mut events = Vec::new();
        for round in 0..20 {
            let at = round * 120_000;
            events.extend([(AgentOffline, at), (AgentOnline, at + 61_000)]);
        }
        let told = messages(&events);
        assert_eq!(told.len(), 4, "it is as it was reported: {told:?}");
        events.push((AgentOffline, 2_400_000));
        let told = messages(&events);
        assert_eq!((told.len(), told[4].0), (5, AgentOffline), "{told:?}");
    }

    #[test]
    fn failing_schedule_is_reported_at_once_then_hourly_and_its_recovery_once() {
        use EventType::{ScheduleFailed, ScheduleMissed, ScheduleRecovered};
        let minute = 60_000;
        let mut events: Vec<_> = (0..30).map(|round| (ScheduleFailed, round * minute)).collect();
        events.push((ScheduleMissed, 30 * minute));
        assert_eq!(messages(&events), [(ScheduleFailed, 0), (ScheduleMissed, 29)]);
        events.extend([(ScheduleRecovered, 31 * minute), (ScheduleRecovered, 32 * minute)]);
        assert_eq!(messages(&events), [(ScheduleFailed, 0), (ScheduleRecovered, 0)]);
        assert_eq!(messages(&[(ScheduleRecovered, 0)]), [], "nothing had failed");
    }
}
