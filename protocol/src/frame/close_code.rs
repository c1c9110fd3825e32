//! Why a server ends an agent's session.

use serde::{Deserialize, Serialize};

/// A WebSocket close code of Muster's own, with the reason that travels beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseCode {
    /// 4001: the connection brought no key.
    KeyMissing,
    /// 4002: the key was deleted.
    KeyDeleted,
    /// 4002: the key was replaced by a newer secret.
    KeyRegenerated,
    /// 4002: no such key is known here.
    KeyUnknown,
    /// 4003: the key is disabled; an operator may enable it again.
    KeyDisabled,
    /// 4003: the key is past its `expires_at`; an operator may extend it.
    KeyExpired,
    /// 4004: the key already has as many agents as it may.
    AgentLimit,
    /// 4009: a newer session of the same agent took over; wait 30 s or more.
    SessionReplaced,
    /// 4010: two hosts present one identity; both wait for an operator.
    IdentityConflict,
    /// 1000: the agent has asked to be deleted, and is.
    Deregistered,
    /// 1001: the server is going away; reconnect after the announced delay.
    GoingAway,
    /// 1009: a frame is larger than its bound.
    FrameTooBig,
    /// 1008: the peer broke the protocol; the reason says how.
    PolicyViolation,
    /// 1013: the server can't take the session now; back off and try again.
    TryAgainLater,
}

impl CloseCode {
    /// Every code, for tables and tests.
    pub const ALL: [Self; 14] = [
        Self::KeyMissing,
        Self::KeyDeleted,
        Self::KeyRegenerated,
        Self::KeyUnknown,
        Self::KeyDisabled,
        Self::KeyExpired,
        Self::AgentLimit,
        Self::SessionReplaced,
        Self::IdentityConflict,
        Self::Deregistered,
        Self::GoingAway,
        Self::FrameTooBig,
        Self::PolicyViolation,
        Self::TryAgainLater,
    ];

    /// The number on the wire.
    pub const fn code(self) -> u16 {
        match self {
            Self::KeyMissing => 4001,
            Self::KeyDeleted | Self::KeyRegenerated | Self::KeyUnknown => 4002,
            Self::KeyDisabled | Self::KeyExpired => 4003,
            Self::AgentLimit => 4004,
            Self::SessionReplaced => 4009,
            Self::IdentityConflict => 4010,
            Self::Deregistered => 1000,
            Self::GoingAway => 1001,
            Self::FrameTooBig => 1009,
            Self::PolicyViolation => 1008,
            Self::TryAgainLater => 1013,
        }
    }

    /// The reason on the wire: `snake_case`, stable, meant for programs.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::KeyMissing => "key_missing",
            Self::KeyDeleted => "key_deleted",
            Self::KeyRegenerated => "key_regenerated",
            Self::KeyUnknown => "key_unknown",
            Self::KeyDisabled => "key_disabled",
            Self::KeyExpired => "key_expired",
            Self::AgentLimit => "agent_limit",
            Self::SessionReplaced => "session_replaced",
            Self::IdentityConflict => "identity_conflict",
            Self::Deregistered => "deregistered",
            Self::GoingAway => "going_away",
            Self::FrameTooBig => "frame_too_big",
            Self::PolicyViolation => "policy_violation",
            Self::TryAgainLater => "try_again_later",
        }
    }

    /// Reads a close back; a reason that is not known falls back to the code's mildest meaning.
    pub fn from_wire(code: u16, reason: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.code() == code && known.reason() == reason).or(
            match code {
                4001 => Some(Self::KeyMissing),
                4002 => Some(Self::KeyUnknown),
                4003 => Some(Self::KeyDisabled),
                4004 => Some(Self::AgentLimit),
                4009 => Some(Self::SessionReplaced),
                4010 => Some(Self::IdentityConflict),
                1001 => Some(Self::GoingAway),
                1009 => Some(Self::FrameTooBig),
                1008 => Some(Self::PolicyViolation),
                1013 => Some(Self::TryAgainLater),
                _ => None,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_close_reads_back_as_itself() {
        for close in CloseCode::ALL {
            assert_eq!(CloseCode::from_wire(close.code(), close.reason()), Some(close));
        }
    }

    #[test]
    fn an_unknown_reason_of_4002_never_stops_an_agent_for_good() {
        assert_eq!(CloseCode::from_wire(4002, "whatever"), Some(CloseCode::KeyUnknown));
    }
}
