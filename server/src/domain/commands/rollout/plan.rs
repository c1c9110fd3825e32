//! Who belongs to which wave.

use super::amount::Rounding;
use super::{Offline, Rollout};

/// Where an agent's execution stands when the job is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In this wave, counted from 1.
    Wave(u32),
    /// It is left out.
    Skipped,
}

/// All waves of a roll-out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The places of the agents, in their order.
    pub places: Vec<Place>,
    pub wave_count: u32,
    /// The wave of agents that are offline, if they form one. It may have none yet.
    pub offline_wave: Option<u32>,
}

impl Rollout {
    /// Gives each agent its place; `online` says of each, in their order, whether it is online.
    ///
    /// Shares are of all agents. Agents keep their order; who is left out or goes last leaves no
    /// hole.
    pub fn plan(&self, online: &[bool]) -> Plan {
        let all = online.len() as u64;
        let wave_size = self.wave_size.of(all, Rounding::Up).max(1);
        let keeps_place = |is_online: bool| is_online || self.offline.is_none();
        let regular = online.iter().filter(|is_online| keeps_place(**is_online)).count() as u64;
        let last_regular = number(regular.div_ceil(wave_size));
        let offline_wave = (self.offline == Some(Offline::LastWave)).then_some(last_regular + 1);
        let mut placed = 0;
        let places: Vec<Place> = online
            .iter()
            .map(|is_online| {
                if keeps_place(*is_online) {
                    let wave = number(placed / wave_size) + 1;
                    placed += 1;
                    return Place::Wave(wave);
                }
                offline_wave.map_or(Place::Skipped, Place::Wave)
            })
            .collect();
        let wave_count = places.iter().map(|place| match place {
            Place::Wave(wave) => *wave,
            Place::Skipped => 0,
        });
        Plan { wave_count: wave_count.max().unwrap_or(0), places, offline_wave }
    }
}

/// Waves are at most as many as agents.
fn number(waves: u64) -> u32 {
    u32::try_from(waves).unwrap_or(u32::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::commands::rollout::amount::Amount;
    use proptest::prelude::*;

    fn rollout(wave_size: Amount, offline: Option<Offline>) -> Rollout {
        Rollout {
            wave_size,
            pause_ms: 0,
            max_failures: None,
            counts_in_flight: true,
            gate: None,
            offline,
        }
    }

    fn waves(plan: &Plan) -> Vec<u32> {
        let wave = |place: &Place| match place {
            Place::Wave(wave) => *wave,
            Place::Skipped => 0,
        };
        plan.places.iter().map(wave).collect()
    }

    #[test]
    fn offline_agents_keep_their_place_go_last_or_are_left_out() {
        let online = [true, false, true, true, true];
        let plan = |offline| rollout(Amount::Count(2), offline).plan(&online);
        assert_eq!(waves(&plan(None)), [1, 1, 2, 2, 3]);
        let last = plan(Some(Offline::LastWave));
        assert_eq!(waves(&last), [1, 3, 1, 2, 2]);
        assert_eq!((last.wave_count, last.offline_wave), (3, Some(3)));
        assert_eq!(waves(&plan(Some(Offline::Skip))), [1, 0, 1, 2, 2]);
    }

    #[test]
    fn a_wave_for_offline_agents_is_counted_once_it_has_one() {
        let plan = rollout(Amount::Count(2), Some(Offline::LastWave)).plan(&[true, true]);
        assert_eq!((plan.wave_count, plan.offline_wave), (1, Some(2)));
    }

    proptest! {
        #[test]
        fn every_agent_has_one_place_and_no_wave_is_too_large_or_empty(
            online in prop::collection::vec(any::<bool>(), 1..300),
            size in prop_oneof![
                (1u64..=400).prop_map(Amount::Count), (1u64..=100).prop_map(Amount::Percent),
            ],
            offline in prop_oneof![
                Just(None), Just(Some(Offline::LastWave)), Just(Some(Offline::Skip)),
            ],
        ) {
            let plan = rollout(size, offline).plan(&online);
            let most = size.of(online.len() as u64, Rounding::Up) as usize;
            prop_assert_eq!(plan.places.len(), online.len());
            let waves = waves(&plan);
            for wave in 1..=plan.wave_count {
                let members = waves.iter().filter(|number| **number == wave).count();
                let is_offline_wave = plan.offline_wave == Some(wave);
                prop_assert!(members > 0);
                prop_assert!(is_offline_wave || members <= most);
            }
            for (wave, is_online) in waves.iter().zip(&online) {
                prop_assert!(*wave <= plan.wave_count);
                if offline == Some(Offline::Skip) {
                    prop_assert_eq!(*wave == 0, !is_online);
                } else {
                    prop_assert!(*wave > 0);
                }
                if let Some(last) = plan.offline_wave {
                    prop_assert_eq!(*wave == last, !is_online);
                }
            }
        }
    }
}
