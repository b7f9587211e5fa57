//! What waits for one stream.
//!
//! Invariant: putting something in never waits, and what waits is bounded. Events beyond the bound are
//! dropped together with those that wait, and the stream is told to read them in MongoDB at its own pace.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::notification::Frame;

/// Most bytes of events that wait for a reader.
const BOUND: usize = 64 * 1024;

fn cost(frame: &Frame) -> usize {
    size_of::<Frame>() + frame.bytes.len()
}

/// What a stream is told.
#[derive(Clone, Debug)]
pub enum Signal {
    /// An event of its member; not always the next one.
    Frame(Frame),
    /// There may be events that were not brought: read on in MongoDB.
    Behind,
    /// No more will come.
    Closed,
}

/// Whether an event found room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    Waits,
    /// The reader was slower than its events.
    Overrun,
    /// The reader has yet to read in MongoDB and will find it there.
    Skipped,
}

#[derive(Debug, Default)]
pub struct Mailbox {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Frame>,
    bytes: usize,
    behind: bool,
    closed: bool,
    /// The last sequence that the stream has sent or finds here; none until it knows where it begins.
    known: Option<i64>,
    /// Of the stream, while it has found nothing.
    waker: Option<Waker>,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn put(&self, frame: &Frame) -> Put {
        let mut waiting = self.lock();
        waiting.known = waiting.known.map(|known| known.max(frame.seq));
        if waiting.behind {
            return Put::Skipped;
        }
        if waiting.bytes + cost(frame) > BOUND {
            waiting.fall_behind();
            return Put::Overrun;
        }
        waiting.bytes += cost(frame);
        waiting.frames.push_back(frame.clone());
        waiting.wake();
        Put::Waits
    }

    /// The member's last sequence is `last`; it may have `begun_again` below what streams know of. Answers
    /// whether this one has to look into MongoDB, and did not know that.
    pub fn remind(&self, last: i64, begun_again: bool) -> bool {
        let mut waiting = self.lock();
        let differs = |known: i64| known < last || (begun_again && known > last);
        let missing = !waiting.behind && waiting.known.is_some_and(differs);
        if missing {
            waiting.fall_behind();
        }
        missing
    }

    /// The stream has sent everything up to `seq`.
    pub fn reached(&self, seq: i64) {
        let mut waiting = self.lock();
        let known = waiting.frames.back().map_or(seq, |frame| frame.seq.max(seq));
        waiting.known = Some(known);
    }

    pub fn known(&self) -> Option<i64> {
        self.lock().known
    }

    pub fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.wake();
    }

    /// Whether a stream that ends now leaves events behind.
    pub fn is_waiting(&self) -> bool {
        let waiting = self.lock();
        waiting.behind || !waiting.frames.is_empty()
    }

    /// The next signal. Of this and [`Mailbox::closed`] only one may be awaited at a time.
    pub async fn next(&self) -> Signal {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Waits until it is closed, whatever else comes.
    pub async fn closed(&self) {
        poll_fn(|cx| {
            let mut waiting = self.lock();
            if waiting.closed {
                return Poll::Ready(());
            }
            waiting.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Signal> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Poll::Ready(Signal::Closed);
        }
        if waiting.behind {
            waiting.behind = false;
            return Poll::Ready(Signal::Behind);
        }
        if let Some(frame) = waiting.frames.pop_front() {
            waiting.bytes -= cost(&frame);
            if waiting.frames.is_empty() {
                // Most streams are idle most of the time; they keep no room for events.
                waiting.frames = VecDeque::new();
            }
            return Poll::Ready(Signal::Frame(frame));
        }
        waiting.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Waiting {
    fn fall_behind(&mut self) {
        self.behind = true;
        self.frames = VecDeque::new();
        self.bytes = 0;
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use futures_util::FutureExt;

    use super::*;

    fn frame(seq: i64, bytes: usize) -> Frame {
        Frame {
            seq,
            bytes: Bytes::from(vec![b'.'; bytes]),
        }
    }

    fn next(mailbox: &Mailbox) -> Option<String> {
        mailbox.next().now_or_never().map(|signal| match signal {
            Signal::Frame(frame) => frame.seq.to_string(),
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn events_wait_in_order() {
        let mailbox = Mailbox::default();
        assert_eq!(mailbox.put(&frame(1, 10)), Put::Waits);
        assert_eq!(mailbox.put(&frame(2, 10)), Put::Waits);
        assert!(mailbox.is_waiting());
        assert_eq!(next(&mailbox).as_deref(), Some("1"));
        assert_eq!(next(&mailbox).as_deref(), Some("2"));
        assert_eq!(next(&mailbox), None);
        assert!(!mailbox.is_waiting());
        mailbox.put(&frame(3, 10));
        mailbox.close();
        assert_eq!(
            next(&mailbox).as_deref(),
            Some("Closed"),
            "what waits is read elsewhere"
        );
    }

    #[test]
    fn what_does_not_fit_is_left_to_mongodb() {
        let mailbox = Mailbox::default();
        let all = BOUND - size_of::<Frame>();
        assert_eq!(mailbox.put(&frame(1, all)), Put::Waits);
        assert_eq!(mailbox.put(&frame(2, 1)), Put::Overrun);
        assert_eq!(mailbox.put(&frame(3, 1)), Put::Skipped);
        assert!(mailbox.lock().frames.is_empty(), "nothing is kept");
        assert_eq!(next(&mailbox).as_deref(), Some("Behind"));
        assert_eq!(mailbox.put(&frame(4, all)), Put::Waits, "there is room again");
        assert_eq!(next(&mailbox).as_deref(), Some("4"));
        assert_eq!(next(&mailbox), None);
    }

    #[test]
    fn only_a_stream_that_does_not_know_is_reminded() {
        let mailbox = Mailbox::default();
        assert!(!mailbox.remind(5, false), "it does not know yet where it begins");
        mailbox.reached(5);
        assert!(!mailbox.remind(5, false));
        assert!(!mailbox.remind(4, false), "who says so looked earlier");
        mailbox.put(&frame(6, 10));
        mailbox.reached(5);
        assert!(!mailbox.remind(6, false), "it waits here");
        assert!(mailbox.remind(7, false));
        assert!(!mailbox.remind(7, false), "it was told already");
        assert_eq!(next(&mailbox).as_deref(), Some("Behind"));
        mailbox.reached(7);
        assert!(mailbox.remind(1, true));
    }

    #[tokio::test]
    async fn a_stream_that_waits_is_woken() {
        type Wake = fn(&Mailbox);
        let put: Wake = |mailbox| assert_eq!(mailbox.put(&frame(1, 10)), Put::Waits);
        let remind: Wake = |mailbox| assert!(mailbox.remind(2, false));
        for wake in [put, remind, Mailbox::close] {
            let mailbox = Arc::new(Mailbox::default());
            mailbox.reached(0);
            let stream = tokio::spawn({
                let mailbox = Arc::clone(&mailbox);
                async move { mailbox.next().await }
            });
            while mailbox.lock().waker.is_none() {
                tokio::task::yield_now().await;
            }
            wake(&mailbox);
            stream.await.unwrap();
        }
    }
}
