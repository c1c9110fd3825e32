//! Sends frames to the server.

use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::timeout;

use super::{FRAMES_PER_BATCH, Session, SessionEnd, poll_with};
use crate::link::{Incoming, Link, LinkError, Outgoing};

impl Session<'_> {
    /// Sends one frame; executions are managed meanwhile, however slow the link is.
    pub(super) async fn send_next(&mut self) -> Result<(), SessionEnd> {
        let (frame, batch_bytes) = match self.pending.pop_front() {
            Some(frame) => (frame, None),
            None => match self.outbox.next_frame(&self.agent.executions, &self.agent.attestor()) {
                Some(frame) => (frame, Some(self.outbox.batch_bytes())),
                None => return Ok(()),
            },
        };
        let mut events = Vec::new();
        let sending =
            send_while_it_progresses(self.link.as_mut(), frame, batch_bytes, self.max_silence);
        let sent = poll_with(&mut self.agent.executions, sending, &mut events).await;
        for event in events {
            self.handle_event(event);
        }
        match sent {
            Ok(()) => Ok(()),
            Err(error @ LinkError::TimedOut(_)) => Err(SessionEnd::Broken(error)),
            // A server that closes and then cuts the link has sent its reason, which can still be
            // read.
            Err(error) => Err(self.close_reason_after(error).await),
        }
    }

    async fn close_reason_after(&mut self, error: LinkError) -> SessionEnd {
        for _ in 0..FRAMES_PER_BATCH {
            match self.link.receive().now_or_never() {
                Some(Ok(Incoming::Closed { code, reason })) => {
                    return SessionEnd::closed(code, reason);
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break,
            }
        }
        SessionEnd::Broken(error)
    }
}

/// Sends a frame, however long it takes, as long as the server accepts parts of it. `batch_bytes`:
/// for frames that may wait.
async fn send_while_it_progresses(
    link: &mut dyn Link,
    frame: Outgoing,
    batch_bytes: Option<usize>,
    max_silence: Duration,
) -> Result<(), LinkError> {
    let progress = link.progress();
    let mut sending = match batch_bytes {
        Some(batch_bytes) => link.send_bulk(frame, batch_bytes),
        None => link.send(frame),
    };
    loop {
        let before = progress.last_at();
        match timeout(max_silence, &mut sending).await {
            Ok(sent) => return sent,
            Err(_) if progress.last_at() > before => {}
            Err(_) => return Err(LinkError::TimedOut("accept a frame")),
        }
    }
}
