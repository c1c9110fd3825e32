//! The frames that wait for a request: urgent ones, and output and results in their order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use muster_protocol::frame::exchange::ExchangePart;
use muster_protocol::frame::output::split_frame;
use tokio::sync::mpsc;

use super::{BODY_MARGIN_BYTES, FRAME_MARGIN_BYTES};
use crate::link::PathLimits;

/// Both queues.
pub(super) struct Frames {
    urgent: Queue,
    bulk: Queue,
    /// Where one body with output or results ends and the next one starts.
    batch_bytes: Arc<AtomicUsize>,
    limits: PathLimits,
}

struct Queue {
    channel: mpsc::Receiver<ExchangePart>,
    /// Go before those in the channel.
    first: VecDeque<ExchangePart>,
}

/// The frames of one body.
#[derive(Debug, Default)]
pub(super) struct FrameBatch {
    pub parts: Vec<ExchangePart>,
    pub is_urgent: bool,
}

impl FrameBatch {
    /// The size of the frames in a body.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(ExchangePart::encoded_bytes).sum()
    }
}

impl Frames {
    pub(super) fn new(
        urgent: mpsc::Receiver<ExchangePart>,
        bulk: mpsc::Receiver<ExchangePart>,
        batch_bytes: Arc<AtomicUsize>,
        limits: PathLimits,
    ) -> Self {
        let queue = |channel| Queue { channel, first: VecDeque::new() };
        Self { urgent: queue(urgent), bulk: queue(bulk), batch_bytes, limits }
    }

    /// Waits for a frame. False if there are none, and there will be none. Dropping the future loses
    /// no frame.
    pub(super) async fn wait(&mut self) -> bool {
        if !self.urgent.first.is_empty() || !self.bulk.first.is_empty() {
            return true;
        }
        tokio::select! {
            biased;
            Some(part) = self.urgent.channel.recv() => self.urgent.first.push_back(part),
            Some(part) = self.bulk.channel.recv() => self.bulk.first.push_back(part),
            else => return false,
        }
        true
    }

    /// Takes the next frames for one body: urgent ones, as many as fit, or else one batch of others.
    pub(super) fn take(&mut self) -> FrameBatch {
        let max_bytes = self.limits.max_body_bytes() - BODY_MARGIN_BYTES;
        let parts = self.urgent.take(max_bytes, max_bytes);
        if !parts.is_empty() {
            return FrameBatch { parts, is_urgent: true };
        }
        let batch_bytes = self.batch_bytes.load(Ordering::Relaxed);
        FrameBatch { parts: self.bulk.take(max_bytes, batch_bytes), is_urgent: false }
    }

    /// Returns frames that did not pass, all from one queue. They are the next that it gives.
    pub(super) fn put_back(&mut self, parts: Vec<ExchangePart>, is_urgent: bool) {
        let queue = if is_urgent { &mut self.urgent } else { &mut self.bulk };
        for part in parts.into_iter().rev() {
            queue.first.push_front(part);
        }
    }
}

impl Queue {
    /// Takes frames up to `batch_bytes`, but at least one, and never more than `max_bytes`.
    fn take(&mut self, max_bytes: usize, batch_bytes: usize) -> Vec<ExchangePart> {
        let mut parts = Vec::new();
        let mut free_bytes = max_bytes;
        while let Some(part) = self.first.pop_front().or_else(|| self.channel.try_recv().ok()) {
            let bytes = part.encoded_bytes();
            let taken_bytes = max_bytes - free_bytes;
            let is_in_batch = parts.is_empty() || taken_bytes + bytes <= batch_bytes;
            if bytes <= free_bytes && is_in_batch {
                free_bytes -= bytes;
                parts.push(part);
            } else if bytes <= max_bytes {
                self.first.push_front(part);
                return parts;
            } else {
                self.split(part, max_bytes);
            }
        }
        parts
    }

    /// Cuts output that is larger than a body may be. Other frames can't be cut: the ones behind
    /// them pass, and the next session tries again.
    fn split(&mut self, part: ExchangePart, max_bytes: usize) {
        let max_frame_bytes = max_bytes - FRAME_MARGIN_BYTES;
        let pieces = match &part {
            ExchangePart::Binary(frame) => split_frame(frame, max_frame_bytes).ok(),
            ExchangePart::Text(_) | ExchangePart::Close { .. } => None,
        };
        match pieces {
            Some(pieces) => {
                let pieces = pieces.into_iter().rev().map(ExchangePart::Binary);
                pieces.for_each(|piece| self.first.push_front(piece));
            }
            None => tracing::error!(
                bytes = part.encoded_bytes(),
                max_bytes,
                "a frame is larger than a proxy on the way permits; raise its limit of request \
                 bodies (nginx: client_max_body_size 2m)"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn body_contains_urgent_frames_or_one_batch_of_others() {
        let (urgent, urgent_frames) = mpsc::channel(8);
        let (bulk, bulk_frames) = mpsc::channel(8);
        let batch_bytes = Arc::new(AtomicUsize::new(1_000));
        let mut frames =
            Frames::new(urgent_frames, bulk_frames, batch_bytes, PathLimits::default());
        for bytes in [400, 400, 400, 3_000] {
            bulk.send(ExchangePart::Binary(vec![0; bytes])).await.expect("taken");
        }
        urgent.send(ExchangePart::Text("ping".into())).await.expect("taken");
        let mut next = || {
            let body = frames.take();
            (body.parts.len(), body.is_urgent)
        };
        assert_eq!(
            [next(), next(), next(), next(), next()],
            [(1, true), (2, false), (1, false), (1, false), (0, false)]
        );
    }
}
