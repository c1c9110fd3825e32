//! How sessions end.

use std::time::Duration;

use muster_protocol::{CloseCode, ExitCode};

use crate::agent::AgentError;
use crate::error_chain;
use crate::link::{Link, LinkError};

/// How a session ended.
pub enum SessionEnd {
    /// The server closed it and said why.
    Closed { code: u16, reason: String, meaning: Option<CloseCode> },
    /// The link is of no more use.
    Broken(LinkError),
    /// The server asked to come back after the delay.
    Drained(Duration),
    /// A command ends the agent's process.
    Exit(ExitCode),
    /// The server has deleted this agent, as it was asked to.
    Deregistered,
    /// Another link has taken this one's place.
    Upgraded(Box<dyn Link>),
    /// The process was asked to stop.
    Stopped,
    /// What the server said could not be made durable.
    Failed(AgentError),
}

impl SessionEnd {
    pub(super) fn closed(code: u16, reason: String) -> Self {
        Self::Closed { meaning: CloseCode::from_wire(code, &reason), code, reason }
    }

    /// Why there is no session, in a sentence for people; `None` if the next one is here already.
    pub fn description(&self) -> Option<String> {
        Some(match self {
            Self::Closed { code, reason, .. } => {
                format!("the server closed the session: {reason} ({code})")
            }
            Self::Broken(error) => format!("no link to the server: {}", error_chain::format(error)),
            Self::Drained(_) => "the server goes away for a moment".to_owned(),
            Self::Exit(code) => format!("the agent ended by command, with {}", code.code()),
            Self::Deregistered => "the host has left the fleet".to_owned(),
            Self::Upgraded(_) => return None,
            Self::Stopped => "the agent was stopped".to_owned(),
            Self::Failed(error) => {
                format!("the session can't be kept: {}", error_chain::format(error))
            }
        })
    }
}
