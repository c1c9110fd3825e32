//! A stream that takes a slot among the connections for as long as it lives, also as a WebSocket,
//! and that ends when its peer reads nothing of what it asked for.

use std::future::Future as _;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};

use super::source_limiter::SourcePermit;
use crate::services::sessions::Activity;

/// The slot of a connection, given up when dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "held, not read")]
pub(super) struct ConnectionSlot {
    /// Among all connections.
    pub(super) of_all: OwnedSemaphorePermit,
    /// Among those of its source.
    pub(super) of_source: SourcePermit,
}

/// The stream and its slot.
#[derive(Debug)]
pub(super) struct Bounded<S> {
    stream: S,
    patience: Duration,
    /// Runs while the peer takes nothing; an idle connection has none.
    stalled: Option<Pin<Box<Sleep>>>,
    activity: Activity,
    _slot: ConnectionSlot,
}

impl<S: AsyncWrite + Unpin> Bounded<S> {
    /// A write fails when it has waited as long as `patience` for the peer.
    pub(super) fn new(stream: S, patience: Duration, slot: ConnectionSlot) -> Self {
        Self { stream, patience, stalled: None, activity: Activity::default(), _slot: slot }
    }

    /// When bytes last arrived on this stream.
    pub(super) fn activity(&self) -> Activity {
        self.activity.clone()
    }

    fn in_time<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let written = write(Pin::new(&mut self.stream), context);
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(self.patience)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the peer reads nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.activity.note();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.in_time(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(context, |stream, context| stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(context, |stream, context| stream.poll_shutdown(context))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.in_time(context, |stream, context| stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
