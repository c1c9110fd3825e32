//! The rollover from one authority of the server to the next: which step may follow, and who would be stranded.

use serde::{Deserialize, Serialize};
use strum::{EnumIter, IntoStaticStr};

use crate::domain::ids::{AgentId, TenantId};
use crate::domain::time::Timestamp;

/// Most agents that are listed one by one.
pub const MAX_LISTED_AGENTS: u64 = 100;
/// Most agents that a refusal names.
pub const MAX_NAMED_AGENTS: usize = 10;

/// How far a rollover is.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    EnumIter,
    IntoStaticStr,
    utoipa::ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum RolloverState {
    /// There is one authority.
    #[default]
    None,
    /// Agents learn of the new authority. The former one still signs.
    Announced,
    /// The new authority signs. The former one is still trusted.
    Switched,
}

/// A step of a rollover.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    EnumIter,
    IntoStaticStr,
    utoipa::ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum RolloverAction {
    /// Make a new authority, and send it to the agents.
    Announce,
    /// Sign with the new authority.
    Switch,
    /// Trust the former authority no more.
    Retire,
    /// Drop the new authority, before the switch.
    Abort,
}

/// Agents that have not confirmed that they trust the new authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnconfirmedAgents {
    pub online: u64,
    pub offline: u64,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnconfirmedAgent {
    pub tenant_id: TenantId,
    pub agent_id: AgentId,
    pub name: String,
    /// It can follow its server to another authority: it has a CA file, and a version that reads notices.
    pub can_follow: bool,
    pub is_online: bool,
    pub last_seen_at: Timestamp,
}

/// Why a step is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RolloverRefusal {
    #[error("a rollover is under way")]
    UnderWay,
    #[error("no rollover is under way; announce one first")]
    NotAnnounced,
    #[error("the new authority signs already; retire the former one to finish")]
    AlreadySwitched,
    #[error("the former authority still signs; switch first")]
    NotSwitched,
    #[error("{online} agents that are online have not stored the new authority")]
    OnlineUnconfirmed { online: u64 },
    #[error("{stranded} agents would be stranded")]
    Stranded { stranded: u64 },
}

impl RolloverState {
    /// The state after a step.
    ///
    /// # Errors
    /// [`RolloverRefusal`]. `is_forced` accepts unconfirmed agents, and no step in a wrong state.
    pub fn after(
        self,
        action: RolloverAction,
        unconfirmed: UnconfirmedAgents,
        is_forced: bool,
    ) -> Result<Self, RolloverRefusal> {
        let UnconfirmedAgents { online, offline } = unconfirmed;
        match (action, self) {
            (RolloverAction::Announce, Self::None) => Ok(Self::Announced),
            (RolloverAction::Announce, _) => Err(RolloverRefusal::UnderWay),
            (_, Self::None) => Err(RolloverRefusal::NotAnnounced),
            (RolloverAction::Switch | RolloverAction::Abort, Self::Switched) => {
                Err(RolloverRefusal::AlreadySwitched)
            }
            (RolloverAction::Abort, Self::Announced) => Ok(Self::None),
            // Agents that are offline come back by the proof, as long as the former authority is not retired.
            (RolloverAction::Switch, Self::Announced) if online > 0 && !is_forced => {
                Err(RolloverRefusal::OnlineUnconfirmed { online })
            }
            (RolloverAction::Switch, Self::Announced) => Ok(Self::Switched),
            (RolloverAction::Retire, Self::Announced) => Err(RolloverRefusal::NotSwitched),
            (RolloverAction::Retire, Self::Switched) if online + offline > 0 && !is_forced => {
                Err(RolloverRefusal::Stranded { stranded: online + offline })
            }
            (RolloverAction::Retire, Self::Switched) => Ok(Self::None),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use strum::IntoEnumIterator;

    use super::*;

    fn any_of<T: IntoEnumIterator + std::fmt::Debug + Clone + 'static>() -> impl Strategy<Value = T>
    {
        proptest::sample::select(T::iter().collect::<Vec<_>>())
    }

    proptest! {
        #[test]
        fn no_agent_is_stranded_by_a_step_that_is_not_forced(
            state in any_of::<RolloverState>(), action in any_of::<RolloverAction>(),
            online in 0_u64..3, offline in 0_u64..3, is_forced in any::<bool>(),
        ) {
            let unconfirmed = UnconfirmedAgents { online, offline };
            let next = state.after(action, unconfirmed, is_forced);
            let confirmed = state.after(action, UnconfirmedAgents::default(), false);
            prop_assert!(next.is_err() || next == confirmed, "force skips no state");
            match action {
                RolloverAction::Switch if online > 0 => prop_assert!(is_forced || next.is_err()),
                RolloverAction::Retire if online + offline > 0 => prop_assert!(is_forced || next.is_err()),
                _ => prop_assert_eq!(next, confirmed),
            }
            // One authority is left only by a retirement after the switch, or by an abort before it.
            if next == Ok(RolloverState::None) {
                let ends = [(RolloverAction::Retire, RolloverState::Switched), (RolloverAction::Abort, RolloverState::Announced)];
                prop_assert!(ends.contains(&(action, state)));
            }
        }
    }

    #[test]
    fn rollover_has_three_steps_in_one_order() {
        let mut state = RolloverState::None;
        for (action, next) in [
            (RolloverAction::Announce, RolloverState::Announced),
            (RolloverAction::Switch, RolloverState::Switched),
            (RolloverAction::Retire, RolloverState::None),
        ] {
            for other in RolloverAction::iter().filter(|other| {
                *other != action
                    && !(state == RolloverState::Announced && *other == RolloverAction::Abort)
            }) {
                assert!(state.after(other, UnconfirmedAgents::default(), true).is_err());
            }
            state =
                state.after(action, UnconfirmedAgents::default(), false).expect("the next step");
            assert_eq!(state, next);
        }
    }
}
