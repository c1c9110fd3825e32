//! Decides what follows a session: another one, later or over another transport, or the end of the
//! process. Pure except for its random delays.

use std::time::Duration;

use muster_protocol::program::backoff::Delays;
use muster_protocol::{CloseCode, ExitCode};

use crate::clock::between;
use crate::config::Fallback;

/// WebSocket failures in a row before HTTP is tried.
const MAX_FAILURES: u32 = 3;
const UNKNOWN_KEY_EVERY: Duration = Duration::from_secs(15 * 60);
const UNKNOWN_KEY_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// The transport to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    WebSocket,
    Http,
}

/// The end of a session, as far as it decides what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndCause {
    Closed(CloseCode),
    /// The server asked the agent to reconnect.
    Drained(Duration),
    /// The network answers HTTP, but permits no WebSocket.
    UpgradeForbidden,
    /// Any other failure.
    Broken,
}

/// The agent's enrolment with its servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnrolmentState {
    /// A server has issued an agent id.
    pub is_enrolled: bool,
    /// How long every server has rejected the key.
    pub key_rejected_for: Duration,
}

/// What to do after a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReconnectStep {
    After(Duration),
    Exit { code: ExitCode, reason: &'static str },
}

/// The state that the next attempt depends on.
#[derive(Debug)]
pub struct Reconnect {
    fallback: Fallback,
    transport: Transport,
    failures: u32,
    delays: Delays,
}

impl Reconnect {
    pub fn new(fallback: Fallback) -> Self {
        let transport = match fallback {
            Fallback::Only => Transport::Http,
            Fallback::Allowed | Fallback::Never => Transport::WebSocket,
        };
        Self { fallback, transport, failures: 0, delays: Delays::for_reconnect() }
    }

    /// The transport to try next.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// True while a WebSocket should replace the current transport.
    pub fn wants_upgrade(&self) -> bool {
        self.transport == Transport::Http && self.fallback == Fallback::Allowed
    }

    /// A WebSocket was opened meanwhile.
    pub fn upgraded(&mut self) {
        self.transport = Transport::WebSocket;
    }

    /// Decides what follows the end of a session, or of an attempt at one.
    pub fn next_step(
        &mut self,
        cause: EndCause,
        was_registered: bool,
        enrolment: EnrolmentState,
    ) -> ReconnectStep {
        if was_registered {
            self.failures = 0;
            self.delays.reset();
        }
        match cause {
            EndCause::Closed(code) => self.after_close(code, enrolment),
            EndCause::Drained(delay) => ReconnectStep::After(delay),
            EndCause::UpgradeForbidden if self.wants_http() => {
                // The server can be reached, so HTTP probably works at once.
                self.failures = MAX_FAILURES;
                self.transport = Transport::Http;
                ReconnectStep::After(Duration::ZERO)
            }
            EndCause::UpgradeForbidden | EndCause::Broken => {
                if !was_registered {
                    self.count_failure();
                }
                ReconnectStep::After(self.delays.next_delay())
            }
        }
    }

    fn wants_http(&self) -> bool {
        self.transport == Transport::WebSocket && self.fallback == Fallback::Allowed
    }

    fn count_failure(&mut self) {
        self.failures = self.failures.saturating_add(1);
        if self.fallback == Fallback::Allowed && self.failures >= MAX_FAILURES {
            // Once both have failed they alternate: either may recover first.
            self.transport = match self.transport {
                Transport::WebSocket => Transport::Http,
                Transport::Http => Transport::WebSocket,
            };
        }
    }

    fn after_close(&mut self, code: CloseCode, enrolment: EnrolmentState) -> ReconnectStep {
        let exit = |reason| ReconnectStep::Exit { code: ExitCode::Fatal, reason };
        let minutes = |from: u64, to: u64| {
            ReconnectStep::After(between(
                Duration::from_secs(from * 60),
                Duration::from_secs(to * 60),
            ))
        };
        match code {
            CloseCode::KeyMissing => exit("the server received no agent key; set MUSTER_API_KEY"),
            CloseCode::KeyDeleted => {
                exit("this agent's key was deleted on the server; configure another key")
            }
            CloseCode::KeyRegenerated => {
                exit("this agent's key was regenerated on the server; configure the new one")
            }
            CloseCode::KeyUnknown if !enrolment.is_enrolled => exit(
                "the server does not know this agent key; check the key and the server's address",
            ),
            CloseCode::KeyUnknown => {
                if enrolment.key_rejected_for >= UNKNOWN_KEY_FOR {
                    return exit("the server has not known this agent's key for 7 days");
                }
                tracing::error!(
                    "the server does not know this agent's key; it may have been restored or replaced; trying again every 15 minutes for 7 days"
                );
                ReconnectStep::After(between(UNKNOWN_KEY_EVERY, UNKNOWN_KEY_EVERY.mul_f64(1.1)))
            }
            CloseCode::AgentLimit => {
                tracing::error!(
                    "the key has reached its limit of agents; raise the limit, delete an agent, or use another key"
                );
                ReconnectStep::After(between(Duration::from_secs(45), Duration::from_secs(75)))
            }
            CloseCode::PlanLimit => {
                tracing::error!(
                    "the plan of the tenant allows no more agents; delete an agent, or ask the operator of the server for a larger plan"
                );
                ReconnectStep::After(between(Duration::from_secs(45), Duration::from_secs(75)))
            }
            CloseCode::SessionReplaced => {
                ReconnectStep::After(between(Duration::from_secs(30), Duration::from_secs(60)))
            }
            CloseCode::IdentityConflict => {
                tracing::error!(
                    alert = true,
                    "two hosts use the same identity; give each host its own state directory, never a copy"
                );
                minutes(5, 10)
            }
            CloseCode::CertificateMissing => {
                tracing::error!(
                    "the server requires the certificate of this agent and did not receive it; a proxy on the way must not end TLS"
                );
                minutes(1, 2)
            }
            CloseCode::CertificateMismatch | CloseCode::CertificateRevoked => {
                tracing::error!(
                    reason = code.reason(),
                    "the server does not accept the certificate of this agent; an operator must look at it"
                );
                minutes(5, 10)
            }
            CloseCode::KeyDisabled | CloseCode::KeyExpired | CloseCode::TenantClosed => {
                tracing::warn!(reason = code.reason(), "the server rejects the key for now");
                ReconnectStep::After(self.delays.next_delay())
            }
            // Temporary problems of the server, and close codes of later versions.
            _ => ReconnectStep::After(self.delays.next_delay()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENROLLED: EnrolmentState =
        EnrolmentState { is_enrolled: true, key_rejected_for: Duration::ZERO };

    fn broken(reconnect: &mut Reconnect) -> Transport {
        reconnect.next_step(EndCause::Broken, false, ENROLLED);
        reconnect.transport()
    }

    #[test]
    fn http_is_tried_after_three_failures_and_then_both_transports_alternate() {
        let mut reconnect = Reconnect::new(Fallback::Allowed);
        let tried: Vec<_> = (0..5).map(|_| broken(&mut reconnect)).collect();
        use Transport::{Http, WebSocket};
        assert_eq!(tried, [WebSocket, WebSocket, Http, WebSocket, Http]);
        // A transport that worked is tried again, with three new attempts.
        reconnect.next_step(EndCause::Broken, true, ENROLLED);
        assert_eq!(reconnect.transport(), Http);
    }

    #[test]
    fn network_that_forbids_websockets_is_used_over_http_at_once_and_never_in_a_hurry() {
        let mut reconnect = Reconnect::new(Fallback::Allowed);
        for _ in 0..3 {
            let next = reconnect.next_step(EndCause::UpgradeForbidden, false, ENROLLED);
            assert_eq!(next, ReconnectStep::After(Duration::ZERO));
            assert_eq!(reconnect.transport(), Transport::Http);
            assert_eq!(broken(&mut reconnect), Transport::WebSocket);
        }
        let mut never = Reconnect::new(Fallback::Never);
        never.next_step(EndCause::UpgradeForbidden, false, ENROLLED);
        assert_eq!(never.transport(), Transport::WebSocket);
    }

    #[test]
    fn without_fallback_the_transport_never_changes() {
        let mut never = Reconnect::new(Fallback::Never);
        let mut only = Reconnect::new(Fallback::Only);
        for _ in 0..9 {
            assert_eq!(broken(&mut never), Transport::WebSocket);
            assert_eq!(broken(&mut only), Transport::Http);
        }
    }

    #[test]
    fn a_rejected_key_does_not_count_as_a_transport_failure() {
        let mut reconnect = Reconnect::new(Fallback::Allowed);
        for _ in 0..9 {
            reconnect.next_step(EndCause::Closed(CloseCode::KeyDisabled), false, ENROLLED);
        }
        assert_eq!(reconnect.transport(), Transport::WebSocket);
    }

    #[test]
    fn only_permanent_close_codes_end_the_agent() {
        for code in CloseCode::ALL {
            for is_enrolled in [false, true] {
                let next = Reconnect::new(Fallback::Allowed).next_step(
                    EndCause::Closed(code),
                    false,
                    EnrolmentState { is_enrolled, ..ENROLLED },
                );
                let is_hopeless = match code {
                    CloseCode::KeyMissing | CloseCode::KeyDeleted | CloseCode::KeyRegenerated => {
                        true
                    }
                    CloseCode::KeyUnknown => !is_enrolled,
                    _ => false,
                };
                assert_eq!(
                    matches!(next, ReconnectStep::Exit { .. }),
                    is_hopeless,
                    "{code:?} {next:?}"
                );
            }
        }
    }

    #[test]
    fn an_unknown_key_is_tried_every_15_minutes_for_a_week() {
        let after = |key_rejected_for| {
            let enrolment = EnrolmentState { key_rejected_for, ..ENROLLED };
            let cause = EndCause::Closed(CloseCode::KeyUnknown);
            Reconnect::new(Fallback::Allowed).next_step(cause, false, enrolment)
        };
        let week = Duration::from_secs(7 * 24 * 3600);
        let ReconnectStep::After(delay) = after(week - Duration::from_secs(1)) else {
            panic!("too early")
        };
        assert!((15 * 60..17 * 60).contains(&delay.as_secs()), "{delay:?}");
        assert!(matches!(after(week), ReconnectStep::Exit { code: ExitCode::Fatal, .. }));
    }

    #[test]
    fn a_replaced_session_reconnects_after_at_least_30_seconds() {
        let cause = EndCause::Closed(CloseCode::SessionReplaced);
        let ReconnectStep::After(delay) =
            Reconnect::new(Fallback::Allowed).next_step(cause, true, ENROLLED)
        else {
            panic!("a replaced session comes back");
        };
        assert!((30..=60).contains(&delay.as_secs()), "{delay:?}");
    }
}
