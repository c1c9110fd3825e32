//! Frames on their way to the server.

use futures_util::FutureExt as _;
use tokio::time::timeout;

use super::{Ending, FRAMES_PER_TURN, Session, looking_after};
use crate::link::{Incoming, LinkError};

impl Session<'_> {
    /// Sends one frame; jobs are looked after meanwhile, however slow the link is.
    pub(super) async fn send_next(&mut self) -> Result<(), Ending> {
        let next = match self.pending.pop_front() {
            Some(frame) => Some(frame),
            None => self.outbox.next_frame(&self.agent.custody),
        };
        let Some(frame) = next else { return Ok(()) };
        let mut notices = Vec::new();
        let sending = timeout(self.silence, self.link.send(frame));
        let sent = looking_after(&mut self.agent.custody, sending, &mut notices).await;
        for notice in notices {
            self.notice(notice);
        }
        match sent {
            Ok(Ok(())) => Ok(()),
            // A server that closes and cuts the link has put its reason where it can still be read.
            Ok(Err(error)) => Err(self.reason_of(error).await),
            Err(_) => Err(Ending::Broken(LinkError::TimedOut("a frame"))),
        }
    }

    async fn reason_of(&mut self, error: LinkError) -> Ending {
        for _ in 0..FRAMES_PER_TURN {
            match self.link.receive().now_or_never() {
                Some(Ok(Incoming::Closed { code, reason })) => return Ending::closed(code, reason),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break,
            }
        }
        Ending::Broken(error)
    }
}
