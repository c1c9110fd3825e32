//! What carries a session's frames.

use std::future::Future;

use bytes::Bytes;
use muster_protocol::CloseCode;
use muster_protocol::frame::{Receipt, Response, ServerFrame};
use tokio::sync::oneshot;

/// Something from an agent.
#[derive(Debug)]
pub enum Inbound {
    /// A text frame, not yet known to be UTF-8 or JSON.
    Text(Bytes),
    /// A binary frame.
    Binary(Bytes),
    /// A sign of life without content.
    Alive,
    /// The agent ends the link.
    Bye,
    /// A response, and where to say what became of it after the commit.
    Report(Box<Response>, oneshot::Sender<Receipt>),
}

/// The link is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportEnd {
    Gone,
    /// A frame is larger than the transport takes.
    TooBig,
    /// The peer broke a bound or a rule of the transport.
    Violation,
}

/// A link to one agent. It bounds the size of what it hands over.
pub trait AgentTransport: Send {
    /// The next thing from the agent. Dropping the future loses nothing.
    fn receive(&mut self) -> impl Future<Output = Result<Inbound, TransportEnd>> + Send;

    /// Takes a frame; it may leave only with the next [`flush`](Self::flush).
    fn feed(
        &mut self,
        frame: &ServerFrame,
    ) -> impl Future<Output = Result<(), TransportEnd>> + Send;

    /// Sends what was taken.
    fn flush(&mut self) -> impl Future<Output = Result<(), TransportEnd>> + Send;

    /// Ends the link and tells the agent why, if it can still be told.
    fn close(&mut self, code: CloseCode) -> impl Future<Output = ()> + Send;
}
