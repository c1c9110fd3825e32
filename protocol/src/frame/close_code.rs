//! Why a server closes an agent's session.

use serde::{Deserialize, Serialize};

/// A WebSocket close code of Muster with its reason text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseCode {
    /// 4001: the connection sent no key.
    KeyMissing,
    /// 4002: the key was deleted.
    KeyDeleted,
    /// 4002: the key was replaced by a newer secret.
    KeyRegenerated,
    /// 4002: the server does not know this key.
    KeyUnknown,
    /// 4003: the key is disabled; an operator may enable it again.
    KeyDisabled,
    /// 4003: the key is past its `expires_at`; an operator may extend it.
    KeyExpired,
    /// 4003: the tenant is being deleted; its owner may restore it.
    TenantClosed,
    /// 4004: the key has reached its limit of agents.
    AgentLimit,
    /// 4004: the plan of the tenant allows no more agents.
    PlanLimit,
    /// 4009: a newer session of the same agent took over; wait 30 s or more.
    SessionReplaced,
    /// 4010: two hosts use one identity; both wait for an operator.
    IdentityConflict,
    /// 4011: the server requires a certificate of the agent, and none that is valid arrived.
    CertificateMissing,
    /// 4011: the connection showed a valid certificate of another key pair.
    CertificateMismatch,
    /// 4011: a person has revoked the certificate of this key pair.
    CertificateRevoked,
    /// 1000: the agent was deleted at its own request.
    Deregistered,
    /// 1001: the server is shutting down; reconnect after the announced delay.
    GoingAway,
    /// 1009: a frame exceeds the size limit.
    FrameTooBig,
    /// 1008: the peer violated the protocol; the reason says how.
    PolicyViolation,
    /// 1008: nothing arrived from the agent for three heartbeat intervals.
    HeartbeatsMissed,
    /// 1013: the server can't accept the session now; back off and retry.
    TryAgainLater,
}

impl CloseCode {
    /// Every code, for tables and tests.
    pub const ALL: [Self; 20] = [
        Self::KeyMissing,
        Self::KeyDeleted,
        Self::KeyRegenerated,
        Self::KeyUnknown,
        Self::KeyDisabled,
        Self::KeyExpired,
        Self::TenantClosed,
        Self::AgentLimit,
        Self::PlanLimit,
        Self::SessionReplaced,
        Self::IdentityConflict,
        Self::CertificateMissing,
        Self::CertificateMismatch,
        Self::CertificateRevoked,
        Self::Deregistered,
        Self::GoingAway,
        Self::FrameTooBig,
        Self::PolicyViolation,
        Self::HeartbeatsMissed,
        Self::TryAgainLater,
    ];

    /// The number on the wire.
    pub const fn code(self) -> u16 {
        match self {
            Self::KeyMissing => 4001,
            Self::KeyDeleted | Self::KeyRegenerated | Self::KeyUnknown => 4002,
            Self::KeyDisabled | Self::KeyExpired | Self::TenantClosed => 4003,
            Self::AgentLimit | Self::PlanLimit => 4004,
            Self::SessionReplaced => 4009,
            Self::IdentityConflict => 4010,
            Self::CertificateMissing | Self::CertificateMismatch | Self::CertificateRevoked => 4011,
            Self::Deregistered => 1000,
            Self::GoingAway => 1001,
            Self::FrameTooBig => 1009,
            Self::PolicyViolation | Self::HeartbeatsMissed => 1008,
            Self::TryAgainLater => 1013,
        }
    }

    /// The reason on the wire: stable `snake_case`, for programs.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::KeyMissing => "key_missing",
            Self::KeyDeleted => "key_deleted",
            Self::KeyRegenerated => "key_regenerated",
            Self::KeyUnknown => "key_unknown",
            Self::KeyDisabled => "key_disabled",
            Self::KeyExpired => "key_expired",
            Self::TenantClosed => "tenant_closed",
            Self::AgentLimit => "agent_limit",
            Self::PlanLimit => "plan_limit",
            Self::SessionReplaced => "session_replaced",
            Self::IdentityConflict => "identity_conflict",
            Self::CertificateMissing => "certificate_missing",
            Self::CertificateMismatch => "certificate_mismatch",
            Self::CertificateRevoked => "certificate_revoked",
            Self::Deregistered => "deregistered",
            Self::GoingAway => "going_away",
            Self::FrameTooBig => "frame_too_big",
            Self::PolicyViolation => "policy_violation",
            Self::HeartbeatsMissed => "heartbeats_missed",
            Self::TryAgainLater => "try_again_later",
        }
    }

    /// Parses a close. An unknown reason maps to the mildest meaning of its code.
    pub fn from_wire(code: u16, reason: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.code() == code && known.reason() == reason).or(
            match code {
                4001 => Some(Self::KeyMissing),
                4002 => Some(Self::KeyUnknown),
                4003 => Some(Self::KeyDisabled),
                4004 => Some(Self::AgentLimit),
                4009 => Some(Self::SessionReplaced),
                4010 => Some(Self::IdentityConflict),
                4011 => Some(Self::CertificateMissing),
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
    fn every_close_code_round_trips() {
        for close in CloseCode::ALL {
            assert_eq!(CloseCode::from_wire(close.code(), close.reason()), Some(close));
        }
    }

    #[test]
    fn unknown_reason_of_4002_is_not_treated_as_a_deleted_key() {
        assert_eq!(CloseCode::from_wire(4002, "whatever"), Some(CloseCode::KeyUnknown));
    }
}
