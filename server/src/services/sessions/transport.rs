//! The connection to one agent, without its transport protocol.

use std::future::Future;

use bytes::Bytes;
use muster_protocol::CloseCode;
use muster_protocol::frame::{Receipt, Response, ServerFrame};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A message from an agent.
#[derive(Debug)]
pub enum AgentMessage {
    /// A text frame. It may be neither UTF-8 nor JSON.
    Text(Bytes),
    /// A binary frame.
    Binary(Bytes),
    /// Shows that the agent is alive, without content.
    KeepAlive,
    /// The agent closes the connection.
    Closed,
    /// A response, and where to send its receipt after the commit.
    Report(Box<Response>, oneshot::Sender<Receipt>),
}

/// Why a connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportEnd {
    Gone,
    /// A frame exceeds the limit of the transport.
    TooBig,
    /// The peer broke a rule of the transport.
    Violation,
}

/// A connection to one agent. It limits the size of frames.
pub trait AgentTransport: Send {
    /// The next message. Dropping the future loses no message.
    fn receive(&mut self) -> impl Future<Output = Result<AgentMessage, TransportEnd>> + Send;

    /// When bytes of the agent last arrived, including those of a message that is not complete.
    fn last_arrival_at(&self) -> Option<Instant>;

    /// Buffers a frame. It may be sent only with the next [`flush`](Self::flush).
    fn feed(
        &mut self,
        frame: &ServerFrame,
    ) -> impl Future<Output = Result<(), TransportEnd>> + Send;

    /// Sends all buffered frames.
    fn flush(&mut self) -> impl Future<Output = Result<(), TransportEnd>> + Send;

    /// Closes the connection with a code, if the agent still reads.
    fn close(&mut self, code: CloseCode) -> impl Future<Output = ()> + Send;
}
