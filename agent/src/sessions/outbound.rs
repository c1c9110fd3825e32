//! Sends frames to the server.

use futures_util::FutureExt as _;
use tokio::time::timeout;

use super::{FRAMES_PER_BATCH, Session, SessionEnd, poll_with};
use crate::link::{Incoming, LinkError};

impl Session<'_> {
    /// Sends one frame; executions are managed meanwhile, however slow the link is.
    pub(super) async fn send_next(&mut self) -> Result<(), SessionEnd> {
        let next = match self.pending.pop_front() {
            Some(frame) => Some(frame),
            None => self.outbox.next_frame(&self.agent.executions, &self.agent.attestor()),
        };
        let Some(frame) = next else { return Ok(()) };
        let mut events = Vec::new();
        let sending = timeout(self.max_silence, self.link.send(frame));
        let sent = poll_with(&mut self.agent.executions, sending, &mut events).await;
        for event in events {
            self.handle_event(event);
        }
        match sent {
            Ok(Ok(())) => Ok(()),
            // A server that closes and then cuts the link has sent its reason, which can still be
            // read.
            Ok(Err(error)) => Err(self.close_reason_after(error).await),
            Err(_) => Err(SessionEnd::Broken(LinkError::TimedOut("accept a frame"))),
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
