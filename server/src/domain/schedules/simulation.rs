//! What schedules will do: their due times in a span of time, changes of the clocks, blocked times, due
//! times of several schedules at once, and the load per hour. Pure and bounded.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use serde::Serialize;

use super::calendar::{Calendar, Start};
use super::cron::ClockChange;
use super::rule::DueTimes;
use crate::domain::ids::ScheduleId;
use crate::domain::time::Timestamp;

/// How far a simulation looks ahead: 731 days.
pub const MAX_SIMULATED_MS: u64 = 731 * 86_400_000;
/// Most due times of a simulation.
pub const MAX_SIMULATED: usize = 50_000;
/// Most entries of calendars that a simulation compares with due times.
pub const MAX_CHECKS: usize = 5_000_000;
/// Most items of each list of a simulation.
pub const MAX_LISTED: usize = 200;
const HOUR_MS: i64 = 3_600_000;

/// A schedule to simulate.
#[derive(Debug, Clone)]
pub struct SimulatedSchedule {
    pub id: ScheduleId,
    pub due_times: DueTimes,
}

/// A due time that is unusual.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct SimulatedFire {
    pub schedule_id: ScheduleId,
    pub at: Timestamp,
    /// What a change of the clocks did to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_change: Option<ClockChange>,
    /// Why a calendar blocks it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked: Option<String>,
}

/// An instant at which several schedules are due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Collision {
    pub at: Timestamp,
    pub schedule_ids: Vec<ScheduleId>,
}

/// The due times of one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct HourLoad {
    /// The start of the hour.
    pub at: Timestamp,
    pub due_count: u64,
}

/// What schedules will do. Each list has its first items; the counts are of all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Simulation {
    pub from: Timestamp,
    /// Everything before this instant is in the simulation.
    pub until: Timestamp,
    /// It ended early, because there are too many due times or entries of calendars.
    pub is_cut: bool,
    pub due_count: u64,
    /// Those that start a job.
    pub start_count: u64,
    pub blocked_count: u64,
    pub blocked: Vec<SimulatedFire>,
    pub clock_change_count: u64,
    pub clock_changes: Vec<SimulatedFire>,
    pub collision_count: u64,
    pub collisions: Vec<Collision>,
    /// The busiest hours, the busiest first, without blocked due times.
    pub busiest_hours: Vec<HourLoad>,
}

/// Simulates schedules from an instant, which is not included, until another one.
pub fn simulate(
    schedules: &[SimulatedSchedule],
    calendars: &[Calendar],
    from: Timestamp,
    until: Timestamp,
) -> Simulation {
    let mut simulation = Simulation { from, until, ..Simulation::default() };
    let mut hours: BTreeMap<i64, u64> = BTreeMap::new();
    let mut next: BinaryHeap<Reverse<(Timestamp, usize)>> = schedules
        .iter()
        .enumerate()
        .filter_map(|(n, schedule)| Some(Reverse((schedule.due_times.next_after(from)?, n))))
        .collect();
    let mut at_once: Option<Collision> = None;
    let checks = calendars.iter().map(Calendar::entry_count).sum::<usize>().max(1);
    let most = MAX_SIMULATED.min(MAX_CHECKS / checks);
    while let Some(Reverse((at, n))) = next.pop() {
        if at >= until {
            break;
        }
        let same_time = at_once.as_ref().is_some_and(|known| known.at == at);
        // Whole instants only: the end of a cut simulation is one that it does not have.
        if simulation.due_count as usize >= most && !same_time {
            simulation.until = at;
            simulation.is_cut = true;
            break;
        }
        let schedule = &schedules[n];
        simulation.due_count += 1;
        let start = Start::Fire(schedule.id);
        let blocked = calendars.iter().find_map(|calendar| calendar.block(start, at));
        let clock_change = schedule.due_times.clock_change(at);
        let fire = || SimulatedFire {
            schedule_id: schedule.id,
            at,
            clock_change,
            blocked: blocked.as_ref().map(ToString::to_string),
        };
        if clock_change.is_some() {
            simulation.clock_change_count += 1;
            push(&mut simulation.clock_changes, fire);
        }
        match &blocked {
            Some(_) => {
                simulation.blocked_count += 1;
                push(&mut simulation.blocked, fire);
            }
            None => {
                simulation.start_count += 1;
                *hours.entry(at.0.div_euclid(HOUR_MS)).or_default() += 1;
                match &mut at_once {
                    Some(known) if known.at == at => known.schedule_ids.push(schedule.id),
                    _ => {
                        end_instant(&mut simulation, at_once.take());
                        at_once = Some(Collision { at, schedule_ids: vec![schedule.id] });
                    }
                }
            }
        }
        if let Some(due_at) = schedule.due_times.next_after(at) {
            next.push(Reverse((due_at, n)));
        }
    }
    end_instant(&mut simulation, at_once);
    let mut hours: Vec<_> = hours
        .into_iter()
        .map(|(hour, due_count)| HourLoad { at: Timestamp(hour * HOUR_MS), due_count })
        .collect();
    // Stable: of hours with the same load the earliest first.
    hours.sort_by_key(|hour| Reverse(hour.due_count));
    hours.truncate(24);
    simulation.busiest_hours = hours;
    simulation
}

fn end_instant(simulation: &mut Simulation, at_once: Option<Collision>) {
    if let Some(collision) = at_once.filter(|known| known.schedule_ids.len() > 1) {
        simulation.collision_count += 1;
        push(&mut simulation.collisions, || collision);
    }
}

fn push<T>(list: &mut Vec<T>, item: impl FnOnce() -> T) {
    if list.len() < MAX_LISTED {
        list.push(item());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::rule::RuleSpec;
    use super::*;

    fn cron(entry: &str, zone: &str) -> SimulatedSchedule {
        let spec = RuleSpec {
            cron: Some(entry.into()),
            time_zone: Some(zone.into()),
            ..RuleSpec::default()
        };
        SimulatedSchedule {
            id: ScheduleId::new(),
            due_times: DueTimes::new(&spec, None, None).expect("valid"),
        }
    }

    fn every(every_ms: u64, anchor: i64) -> SimulatedSchedule {
        let spec = RuleSpec {
            every_ms: Some(every_ms),
            anchor_at: Some(Timestamp(anchor)),
            ..RuleSpec::default()
        };
        SimulatedSchedule {
            id: ScheduleId::new(),
            due_times: DueTimes::new(&spec, None, None).expect("valid"),
        }
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("an instant")
    }

    #[test]
    fn two_years_of_a_schedule_have_both_changes_of_the_clocks_each_year() {
        let nightly = cron("30 2 * * *", "Europe/Berlin");
        let from = at("2026-01-01T00:00:00Z");
        let simulation = simulate(&[nightly], &[], from, at("2028-01-01T00:00:00Z"));
        assert_eq!((simulation.due_count, simulation.is_cut), (730, false));
        let changes: Vec<_> =
            simulation.clock_changes.iter().map(|fire| (fire.at, fire.clock_change)).collect();
        assert_eq!(
            changes,
            [
                (at("2026-03-29T01:00:00Z"), Some(ClockChange::AfterGap)),
                (at("2026-10-25T00:30:00Z"), Some(ClockChange::RepeatedTime)),
                (at("2027-03-28T01:00:00Z"), Some(ClockChange::AfterGap)),
                (at("2027-10-31T00:30:00Z"), Some(ClockChange::RepeatedTime)),
            ]
        );
    }

    #[test]
    fn collisions_and_load_are_counted() {
        let (hourly, quarter) = (cron("0 * * * *", "UTC"), cron("*/15 * * * *", "UTC"));
        let ids = [hourly.id, quarter.id];
        let from = at("2026-01-01T00:00:00Z");
        let simulation = simulate(&[hourly, quarter], &[], from, at("2026-01-02T00:00:00Z"));
        // The instant `from` itself is not included.
        assert_eq!((simulation.due_count, simulation.collision_count), (23 + 95, 23));
        assert_eq!(simulation.collisions[0].schedule_ids, ids);
        assert_eq!(simulation.busiest_hours[0].due_count, 5);
        assert_eq!(simulation.busiest_hours.len(), 24);
    }

    #[test]
    fn too_many_due_times_cut_the_simulation_at_an_instant() {
        let from = at("2026-01-01T00:00:00Z");
        let both = [every(1_000, 0), every(1_000, 0)];
        let simulation = simulate(&both, &[], from, from.plus_ms(MAX_SIMULATED_MS));
        assert!(simulation.is_cut);
        assert_eq!(simulation.due_count as usize, MAX_SIMULATED);
        assert_eq!(simulation.until, from.plus_ms(MAX_SIMULATED as u64 / 2 * 1_000 + 1_000));
        assert_eq!(simulation.collisions.len(), MAX_LISTED);
    }

    proptest! {
        /// Against the due times of each schedule alone.
        #[test]
        fn simulation_has_each_due_time_once(
            intervals in prop::collection::vec((60_u64..7_200, 0_i64..100_000), 1..6),
            hours in 1_u64..72,
        ) {
            let from = at("2026-10-24T00:00:00Z");
            let until = from.plus_ms(hours * 3_600_000);
            let schedules: Vec<_> = intervals
                .iter()
                .map(|(every_s, anchor_s)| every(every_s * 1_000, anchor_s * 1_000))
                .collect();
            let mut by_instant: BTreeMap<Timestamp, u64> = BTreeMap::new();
            for schedule in &schedules {
                let due = std::iter::successors(
                    schedule.due_times.next_after(from),
                    |last| schedule.due_times.next_after(*last),
                );
                for at in due.take_while(|at| *at < until) {
                    *by_instant.entry(at).or_default() += 1;
                }
            }
            let simulation = simulate(&schedules, &[], from, until);
            prop_assert!(!simulation.is_cut);
            prop_assert_eq!(simulation.due_count, by_instant.values().sum::<u64>());
            prop_assert_eq!(simulation.start_count, simulation.due_count);
            let collisions = by_instant.values().filter(|count| **count > 1).count() as u64;
            prop_assert_eq!(simulation.collision_count, collisions);
        }
    }
}
