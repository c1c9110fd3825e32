//! A link without a network, for tests: the test holds the other end.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::{Incoming, Link, LinkError, Outgoing, Progress};

/// Capacity of each direction, in frames; real sockets are bounded too.
const FRAMES: usize = 8;

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
    let (to_server, from_agent) = mpsc::channel(FRAMES);
    let (to_agent, from_server) = mpsc::channel(FRAMES);
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
