//! Ways to the server. A link carries frames and knows nothing of what they mean.

mod connect_error;
mod connector;
pub mod endpoint;
mod exchange;
pub mod memory;
mod proxy;
mod socket;
mod tls;
mod tunnel;
mod websocket;

use futures_util::future::BoxFuture;
use muster_protocol::CloseCode;

pub use connect_error::{ConnectError, instant};
pub use connector::Connector;
pub use exchange::{Exchange, client as http_client};
pub use proxy::{Proxy, ProxyError};
pub use socket::{Socket, resolve};
pub use tls::{Authorities, AuthoritiesError, TlsSetup};
pub use websocket::WebSocket;

/// What the agent calls itself in HTTP.
const USER_AGENT: &str = concat!("muster-agent/", env!("CARGO_PKG_VERSION"));

/// A frame on its way to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    Text(String),
    Binary(Vec<u8>),
}

/// What came from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    Text(String),
    /// Servers send no binary frames; one that does is a curiosity, not an error.
    Binary,
    /// The server ended the session.
    Closed {
        code: u16,
        reason: String,
    },
}

/// Why a link is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The server took the connection and said no.
    #[error("the server closed the link: {reason} ({code})")]
    Closed { code: u16, reason: String },
    /// Something stands in the way that has a name.
    #[error("{0}; {hint}", hint = .0.hint())]
    Blocked(ConnectError),
    /// Broken, refused, or cut.
    #[error("{action}")]
    Broken {
        action: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the server did not answer in time: {0}")]
    TimedOut(&'static str),
    #[error("the server answered {status}{} to {action}", behind_space(problem))]
    Refused {
        action: &'static str,
        status: u16,
        /// The stable word of its problem document; empty if it sent none.
        problem: String,
    },
    #[error("the link has ended")]
    Ended,
}

impl From<ConnectError> for LinkError {
    fn from(error: ConnectError) -> Self {
        Self::Blocked(error)
    }
}

impl LinkError {
    pub(crate) fn broken<E>(action: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Broken { action, source: source.into() }
    }

    /// The close that the error stands for, if the server said one.
    pub fn close_code(&self) -> Option<CloseCode> {
        match self {
            Self::Closed { code, reason } => CloseCode::from_wire(*code, reason),
            _ => None,
        }
    }
}

fn behind_space(word: &str) -> String {
    if word.is_empty() { String::new() } else { format!(" {word}") }
}

/// One connection, or what passes for one.
///
/// `receive` may be dropped at any point and loses nothing. A `send` that is dropped half-way
/// leaves the link unusable.
pub trait Link: Send {
    /// What the link is, for logs.
    fn name(&self) -> &'static str;
    /// Hands a frame over; returns once there is room for the next.
    fn send(&mut self, frame: Outgoing) -> BoxFuture<'_, Result<(), LinkError>>;
    /// The next frame.
    fn receive(&mut self) -> BoxFuture<'_, Result<Incoming, LinkError>>;
    /// Says goodbye as well as it can in a short time.
    fn close(&mut self) -> BoxFuture<'_, ()>;
}
