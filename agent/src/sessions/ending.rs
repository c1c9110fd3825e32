//! How sessions end.

use std::time::Duration;

use muster_protocol::{CloseCode, ExitCode};

use crate::agent::AgentError;
use crate::link::{Link, LinkError};
use muster_protocol::error_chain;

/// Why a session ended.
pub enum SessionEnd {
    /// The server closed it with a reason.
    Closed { code: u16, reason: String, meaning: Option<CloseCode> },
    /// The link failed.
    Broken(LinkError),
    /// The server asked the agent to reconnect after the delay.
    Drained(Duration),
    /// A command ends the agent's process.
    Exit(ExitCode),
    /// The server has deleted this agent as requested.
    Deregistered,
    /// Another link replaces this one.
    Upgraded(Box<dyn Link>),
    /// The process received a stop signal.
    Stopped,
    /// State from the server could not be made durable.
    Failed(AgentError),
}

impl SessionEnd {
    pub(super) fn closed(code: u16, reason: String) -> Self {
        Self::Closed { meaning: CloseCode::from_wire(code, &reason), code, reason }
    }

    /// Why there is no session, as a sentence for people; `None` if the next session starts at
    /// once.
    pub fn description(&self) -> Option<String> {
        Some(match self {
            Self::Closed { code, reason, .. } => {
                format!("the server closed the session: {reason} ({code})")
            }
            Self::Broken(error) => {
                format!("the connection to the server failed: {}", error_chain(error))
            }
            Self::Drained(_) => "the server asked the agent to reconnect later".to_owned(),
            Self::Exit(code) => format!("a command ended the agent with exit code {}", code.code()),
            Self::Deregistered => "the host was deregistered".to_owned(),
            Self::Upgraded(_) => return None,
            Self::Stopped => "the agent was stopped".to_owned(),
            Self::Failed(error) => {
                format!("failed to store the session's state: {}", error_chain(error))
            }
        })
    }
}
