//! Whether the agents of a wave are well.

use super::Gate;
use crate::domain::time::Timestamp;

/// An agent of a wave, as it is known now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// It is connected, and was heard of lately.
    pub is_online: bool,
    /// When its session began.
    pub connected_at: Timestamp,
}

/// What a gate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Open,
    /// It may be open by then.
    Closed {
        look_at: Timestamp,
    },
    /// It was not open in time; this many agents are not well.
    TooLate {
        unwell: usize,
    },
}

/// Between two looks at agents that are not well.
const LOOK_AGAIN_MS: u64 = 1_000;

impl Gate {
    /// Judges the agents of a wave that ended at `ended_at`; `waits_since` is when the wait for
    /// them began: after the pause, and not while this server was not there.
    ///
    /// A session that began anew breaks the time of an agent: it was not online in between.
    pub fn judge(
        &self,
        agents: &[Health],
        ended_at: Timestamp,
        waits_since: Timestamp,
        now: Timestamp,
    ) -> Verdict {
        let well_at = |agent: &Health| {
            let since = Ord::max(agent.connected_at, ended_at);
            agent.is_online.then(|| since.plus_ms(self.for_ms))
        };
        let deadline = Ord::max(ended_at, waits_since).plus_ms(self.within_ms);
        let unwell = agents.iter().filter(|agent| well_at(agent).is_none_or(|at| at > now)).count();
        if unwell == 0 && ended_at.plus_ms(self.for_ms) <= now {
            return Verdict::Open;
        }
        if now >= deadline {
            return Verdict::TooLate { unwell };
        }
        let last = agents.iter().filter_map(well_at).max();
        let last = Ord::max(last.unwrap_or(ended_at), ended_at.plus_ms(self.for_ms));
        let is_anyone_away = agents.iter().any(|agent| !agent.is_online);
        let soon = now.plus_ms(LOOK_AGAIN_MS);
        // Those who are away may be back at any time; those who are here may leave.
        let look_at = if is_anyone_away || last <= now { soon } else { last };
        Verdict::Closed { look_at: Ord::min(look_at, deadline) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GATE: Gate = Gate { for_ms: 30, within_ms: 100 };
    const END: Timestamp = Timestamp(1_000);

    fn at(ms: i64) -> Timestamp {
        Timestamp(ms)
    }

    fn agent(is_online: bool, connected_at: i64) -> Health {
        Health { is_online, connected_at: at(connected_at) }
    }

    #[test]
    fn agents_that_stayed_open_the_gate_after_its_time_and_not_before() {
        let agents = [agent(true, 500), agent(true, 900)];
        let closed = GATE.judge(&agents, END, END, at(1_029));
        assert_eq!(closed, Verdict::Closed { look_at: at(1_030) });
        assert_eq!(GATE.judge(&agents, END, END, at(1_030)), Verdict::Open);
    }

    #[test]
    fn an_agent_that_came_back_begins_anew() {
        let agents = [agent(true, 1_020)];
        assert!(matches!(GATE.judge(&agents, END, END, at(1_049)), Verdict::Closed { .. }));
        assert_eq!(GATE.judge(&agents, END, END, at(1_050)), Verdict::Open);
    }

    #[test]
    fn an_agent_that_is_away_too_long_keeps_it_shut() {
        let agents = [agent(false, 500), agent(true, 500)];
        let closed = GATE.judge(&agents, END, END, at(1_099));
        assert_eq!(closed, Verdict::Closed { look_at: at(1_100) });
        assert_eq!(GATE.judge(&agents, END, END, at(1_100)), Verdict::TooLate { unwell: 1 });
        // A server that was away itself has not waited yet.
        let later = GATE.judge(&agents, END, at(5_000), at(5_050));
        assert!(matches!(later, Verdict::Closed { .. }));
    }

    #[test]
    fn a_wave_without_agents_is_well_after_its_time() {
        assert!(matches!(GATE.judge(&[], END, END, at(1_029)), Verdict::Closed { .. }));
        assert_eq!(GATE.judge(&[], END, END, at(1_030)), Verdict::Open);
    }

    proptest! {
        #[test]
        fn a_gate_is_never_open_while_an_agent_is_away_and_never_waits_for_the_past(
            agents in prop::collection::vec((any::<bool>(), 0i64..3_000), 0..20),
            now in 1_000i64..3_000,
        ) {
            let agents: Vec<_> = agents.into_iter().map(|(is, since)| agent(is, since)).collect();
            match GATE.judge(&agents, END, END, at(now)) {
                Verdict::Open => prop_assert!(agents.iter().all(|agent| agent.is_online)),
                Verdict::Closed { look_at } => prop_assert!(look_at > at(now)),
                Verdict::TooLate { .. } => prop_assert!(now >= 1_100),
            }
        }
    }
}
