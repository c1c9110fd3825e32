//! Links to the server. A link carries frames and does not know their meaning.

mod authorities;
mod captured_bytes;
mod clock_difference;
mod connect_error;
mod connector;
pub mod endpoint;
mod exchange;
pub mod memory;
pub mod path_limits;
mod progress;
mod proxy;
mod socket;
mod socks;
mod tls;
mod tunnel;
mod websocket;

use std::time::Duration;

use futures_util::future::BoxFuture;
use muster_protocol::CloseCode;
use muster_protocol::limits::MAX_OUTPUT_FRAME_BYTES;

pub use authorities::{Authorities, AuthoritiesError};
pub use clock_difference::clock_difference;
pub use connect_error::{ConnectError, instant};
pub use connector::Connector;
pub use exchange::{Exchange, client as http_client};
pub use path_limits::PathLimits;
pub use progress::Progress;
pub use proxy::{Proxy, ProxyError};
pub use socket::{Socket, resolve};
pub use tls::TlsSetup;
pub use websocket::WebSocket;

/// The agent's `User-Agent` in HTTP.
const USER_AGENT: &str = concat!("muster-agent/", env!("CARGO_PKG_VERSION"));

/// The action that is refused if a network permits no WebSocket.
const WEBSOCKET_UPGRADE: &str = "the WebSocket upgrade";

/// Payload that fills one packet of most networks, with all headers.
const MIN_FRAME_PAYLOAD: usize = 1_360;
/// How long output may be on its way, if the network itself is faster.
const OUTPUT_DELAY: Duration = Duration::from_secs(1);

/// How a link wants its output.
#[derive(Debug, Clone, Copy)]
pub struct OutputShape {
    /// Payload below which frames cost more than they save.
    pub min_frame_bytes: usize,
    /// Payload above which frames do not pass.
    pub max_frame_bytes: usize,
    /// How long output may be on its way.
    pub delay: Duration,
    /// Frames that are on their way at least, so that the link is not idle between them.
    pub min_frames: u64,
    /// Frames that output on its way consists of, if frames may be that small.
    pub frames_per_window: u64,
}

impl Default for OutputShape {
    fn default() -> Self {
        Self {
            min_frame_bytes: MIN_FRAME_PAYLOAD,
            max_frame_bytes: MAX_OUTPUT_FRAME_BYTES,
            delay: OUTPUT_DELAY,
            min_frames: 2,
            frames_per_window: 3,
        }
    }
}

/// A frame to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    Text(String),
    Binary(Vec<u8>),
}

/// A frame or an event from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    Text(String),
    /// Servers send no binary frames; one that does is reported in the log.
    Binary,
    /// The server ended the session.
    Closed {
        code: u16,
        reason: String,
    },
}

/// Why a link can't be used any more.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The server accepted the connection and closed it with a reason.
    #[error("the server closed the link: {reason} ({code})")]
    Closed { code: u16, reason: String },
    /// The connection failed with a known cause.
    #[error("{0}; {hint}", hint = .0.hint())]
    Blocked(ConnectError),
    /// The connection failed or was interrupted.
    #[error("failed to {action}")]
    Broken {
        action: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the server did not {0} in time")]
    TimedOut(&'static str),
    #[error("the server answered {status}{} to {action}", behind_space(problem))]
    Refused {
        action: &'static str,
        status: u16,
        /// The code of the server's problem document; empty if there was none.
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

    /// True if the WebSocket was refused over a connection that carries HTTP. Servers and proxies that
    /// are starting or overloaded answer 5xx or 429, which says nothing about WebSockets.
    pub fn is_forbidden_upgrade(&self) -> bool {
        let Self::Refused { action: WEBSOCKET_UPGRADE, status, .. } = self else { return false };
        (200..500).contains(status) && *status != 429
    }

    /// The close code that the server sent, if it sent one.
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

/// A connection to the server.
///
/// `receive` may be dropped at any await point and loses nothing. A `send` that is dropped before
/// it returns leaves the link unusable.
pub trait Link: Send {
    /// The name of the transport, for logs.
    fn name(&self) -> &'static str;
    /// Sends a frame; returns when there is room for the next one.
    fn send(&mut self, frame: Outgoing) -> BoxFuture<'_, Result<(), LinkError>>;
    /// Sends a frame that may wait: output or a result. Those frames keep their order; frames of
    /// [`Link::send`] may pass them. `batch_bytes`: how much of them may travel as one piece.
    fn send_bulk(
        &mut self,
        frame: Outgoing,
        batch_bytes: usize,
    ) -> BoxFuture<'_, Result<(), LinkError>> {
        let _ = batch_bytes;
        self.send(frame)
    }
    /// Waits for the next frame.
    fn receive(&mut self) -> BoxFuture<'_, Result<Incoming, LinkError>>;
    /// When the link last made progress, in either direction.
    fn progress(&self) -> Progress;
    /// How long the link has made no progress that it could have made.
    fn silence(&self) -> Duration {
        self.progress().last_at().elapsed()
    }
    /// How the link wants its output.
    fn output_shape(&self) -> OutputShape {
        OutputShape::default()
    }
    /// Closes the connection, within a short time limit.
    fn close(&mut self) -> BoxFuture<'_, ()>;
}
