//! A request's body that fails if its sender is too slow.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// Least progress in each period, unless the body ends in it. About 70 bytes a second: slower than
/// any network that an agent could work over.
const MIN_PROGRESS_BYTES: usize = 1024;

/// The body, and the time that is left for its next bytes.
pub(super) struct PacedBody<B> {
    body: B,
    period: Duration,
    /// Bytes since the period started.
    progress: usize,
    /// The end of the period; absent while nothing is waited for.
    timeout: Option<Pin<Box<Sleep>>>,
}

impl<B> PacedBody<B> {
    pub(super) fn new(body: B, period: Duration) -> Self {
        Self { body, period, progress: 0, timeout: None }
    }
}

impl<B> HttpBody for PacedBody<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<axum::BoxError>,
{
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
            self.progress += data.map_or(0, Bytes::len);
            if self.progress >= MIN_PROGRESS_BYTES {
                self.progress = 0;
                self.timeout = None;
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let period = self.period;
        let timeout = self.timeout.get_or_insert_with(|| Box::pin(sleep(period)));
        timeout.as_mut().poll(context).map(|()| {
            let error = io::Error::new(ErrorKind::TimedOut, "the body arrives too slowly");
            Some(Err(error.into()))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
