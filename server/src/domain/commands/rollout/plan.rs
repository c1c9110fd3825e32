//! Which agent belongs to which wave.

use super::{Offline, Rollout};

/// The place of an agent's execution in the rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// In this wave, counted from 1.
    Wave(u32),
    /// Skipped, because the agent is offline.
    Skipped,
}

/// All waves of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WavePlan {
    /// One for each agent, in the order of the agents.
    pub placements: Vec<Placement>,
    pub wave_count: u32,
    /// The wave of offline agents, if they form one. It may be empty.
    pub offline_wave: Option<u32>,
}

impl Rollout {
    /// Assigns each agent to a wave. `online` has one entry for each agent, in order.
    ///
    /// Percentages are of all agents. Agents keep their order. Agents that are skipped or go last
    /// leave no gaps.
    pub fn plan(&self, online: &[bool]) -> WavePlan {
        let wave_size = self.wave_size.wave_size(online.len() as u64);
        let keeps_wave = |is_online: bool| is_online || self.offline.is_none();
        let regular = online.iter().filter(|is_online| keeps_wave(**is_online)).count() as u64;
        let last_regular = wave_number(regular.div_ceil(wave_size));
        let offline_wave = (self.offline == Some(Offline::LastWave)).then_some(last_regular + 1);
        let mut placed = 0;
        let placements: Vec<Placement> = online
            .iter()
            .map(|is_online| {
                if keeps_wave(*is_online) {
                    let wave = wave_number(placed / wave_size) + 1;
                    placed += 1;
                    return Placement::Wave(wave);
                }
                offline_wave.map_or(Placement::Skipped, Placement::Wave)
            })
            .collect();
        let wave_count = placements.iter().map(|placement| match placement {
            Placement::Wave(wave) => *wave,
            Placement::Skipped => 0,
        });
        WavePlan { wave_count: wave_count.max().unwrap_or(0), placements, offline_wave }
    }
}

/// There are at most as many waves as agents.
fn wave_number(waves: u64) -> u32 {
    u32::try_from(waves).unwrap_or(u32::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::waves::amount::Amount;
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

    fn waves(plan: &WavePlan) -> Vec<u32> {
        let wave = |placement: &Placement| match placement {
            Placement::Wave(wave) => *wave,
            Placement::Skipped => 0,
        };
        plan.placements.iter().map(wave).collect()
    }

    #[test]
    fn offline_agents_stay_in_their_wave_or_go_last_or_are_skipped() {
        let online = [true, false, true, true, true];
        let plan = |offline| rollout(Amount::Count(2), offline).plan(&online);
        assert_eq!(waves(&plan(None)), [1, 1, 2, 2, 3]);
        let last = plan(Some(Offline::LastWave));
        assert_eq!(waves(&last), [1, 3, 1, 2, 2]);
        assert_eq!((last.wave_count, last.offline_wave), (3, Some(3)));
        assert_eq!(waves(&plan(Some(Offline::Skip))), [1, 0, 1, 2, 2]);
    }

    #[test]
    fn an_empty_wave_for_offline_agents_is_not_counted() {
        let plan = rollout(Amount::Count(2), Some(Offline::LastWave)).plan(&[true, true]);
        assert_eq!((plan.wave_count, plan.offline_wave), (1, Some(2)));
    }

    proptest! {
        #[test]
        fn every_agent_has_one_wave_and_no_wave_is_too_large_or_empty(
            online in prop::collection::vec(any::<bool>(), 1..300),
            size in prop_oneof![
                (1u64..=400).prop_map(Amount::Count), (1u64..=100).prop_map(Amount::Percent),
            ],
            offline in prop_oneof![
                Just(None), Just(Some(Offline::LastWave)), Just(Some(Offline::Skip)),
            ],
        ) {
            let plan = rollout(size, offline).plan(&online);
            let most = size.wave_size(online.len() as u64) as usize;
            prop_assert_eq!(plan.placements.len(), online.len());
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
