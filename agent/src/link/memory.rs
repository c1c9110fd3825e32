//! A link without a network, for tests: the test holds the other end.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::{Incoming, Link, LinkError, Outgoing, Progress};

/// Frames that wait for the server at most; real sockets are bounded too.
const FRAMES_TO_SERVER: usize = 8;
/// Frames that wait for the agent at most. An agent that sends doesn't receive meanwhile, and a
/// socket holds thousands of acknowledgements: a server must not have to wait for room for one.
const FRAMES_TO_AGENT: usize = 1024;

/// The agent's end.
pub struct MemoryLink {
    to_server: mpsc::Sender<Outgoing>,
    from_server: mpsc::Receiver<Incoming>,
    progress: Progress,
}

/// The server's end.
pub struct ServerEnd {
    pub to_agent: mpsc::Sender<Incoming>,
    pub from_agent: mpsc::Receiver<Outgoing>,
}

/// Both ends of a new link.
pub fn pair() -> (MemoryLink, ServerEnd) {
    let (to_server, from_agent) = mpsc::channel(FRAMES_TO_SERVER);
    let (to_agent, from_server) = mpsc::channel(FRAMES_TO_AGENT);
    (
        MemoryLink { to_server, from_server, progress: Progress::default() },
        ServerEnd { to_agent, from_agent },
    )
}

impl Link for MemoryLink {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn send(&mut self, frame: Outgoing) -> BoxFuture<'_, Result<(), LinkError>> {
        async { self.to_server.send(frame).await.map_err(|_| LinkError::Ended) }.boxed()
    }

    fn receive(&mut self) -> BoxFuture<'_, Result<Incoming, LinkError>> {
        async {
            let received = self.from_server.recv().await.ok_or(LinkError::Ended);
            self.progress.note();
            received
        }
        .boxed()
    }

    fn progress(&self) -> Progress {
        self.progress.clone()
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}
