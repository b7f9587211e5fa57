//! A connection whose peer has to take what is sent.
//!
//! hyper waits for ever to write. A peer that keeps its connection open and reads nothing, by intent or
//! because it vanished, would hold what waits for it, and what belongs to its request, for as long.
//! Invariant: where nothing can be written for a while, writing fails, and that ends the connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// How long a peer may take nothing.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub usual: Duration,
    /// Once the server shuts down.
    pub at_shutdown: Duration,
}

pub struct Impatient<T> {
    io: T,
    patience: Patience,
    shutdown: CancellationToken,
    /// Since when nothing could be written, and when to look again.
    stalled: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<T> Impatient<T> {
    pub fn new(io: T, patience: Patience, shutdown: CancellationToken) -> Self {
        Self {
            io,
            patience,
            shutdown,
            stalled: None,
        }
    }

    pub fn into_inner(self) -> T {
        self.io
    }

    /// Passes on what became of a write, or fails when the peer took nothing for too long.
    fn judge<R>(&mut self, written: Poll<io::Result<R>>, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = if self.shutdown.is_cancelled() {
            self.patience.at_shutdown
        } else {
            self.patience.usual
        };
        let now = Instant::now();
        let timer = || (now, Box::pin(sleep_until(now + patience)));
        let (since, timer) = self.stalled.get_or_insert_with(timer);
        let deadline = *since + patience;
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the peer took nothing of what was sent to it",
        )))
    }
}

impl<T: Write + Unpin> Write for Impatient<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.judge(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.judge(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<T: Read + Unpin> Read for Impatient<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}
