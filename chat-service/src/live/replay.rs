//! What a stream reads in MongoDB: what it missed, and where its member's sequence is.
//!
//! Invariant: however many streams read at once, they have few connections, and those of a client of
//! their own: requests never wait for them. A connection is held for one query and never while a
//! reader takes what was read.

use mongodb::error::{Error, Result};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{notification::Frame, store::Store};

/// Streams that read at the same time.
const READERS: usize = 4;
/// Notifications read at once.
const PAGE: i64 = 100;
/// Most bytes of a page, unless its first event is larger: what a reader who takes nothing can cost.
const PAGE_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub struct Replay {
    store: Store,
    readers: Semaphore,
}

/// What lies behind a position.
#[derive(Debug, PartialEq, Eq)]
pub enum Behind {
    /// The events that follow without a gap.
    Events(Page),
    Nothing,
    /// What follows is not kept any more, or the position is of another sequence. This one is at
    /// `current`.
    Lost {
        current: i64,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// Empty if the member deleted all of them.
    pub bytes: Vec<u8>,
    /// The last sequence in it.
    pub last: i64,
    /// Whether there may be more.
    pub more: bool,
}

impl Replay {
    /// `store` is to have a client of its own.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            readers: Semaphore::new(READERS),
        }
    }

    /// The last sequence of `member`.
    pub async fn current(&self, member: i64) -> Result<i64> {
        let _turn = self.turn().await?;
        self.store.last_seq(member).await
    }

    /// What lies behind `position`.
    pub async fn behind(&self, member: i64, position: i64) -> Result<Behind> {
        let _turn = self.turn().await?;
        if let Some(page) = self.page(member, position).await? {
            return Ok(Behind::Events(page));
        }
        // In this order: what is not there afterwards, although it was numbered before, will not come.
        let current = self.store.last_seq(member).await?;
        if let Some(page) = self.page(member, position).await? {
            return Ok(Behind::Events(page));
        }
        Ok(if current == position {
            Behind::Nothing
        } else {
            Behind::Lost { current }
        })
    }

    async fn page(&self, member: i64, position: i64) -> Result<Option<Page>> {
        let notifications = self.store.notifications_after(member, position, PAGE).await?;
        if notifications
            .first()
            .is_none_or(|first| first.seq != position + 1)
        {
            return Ok(None);
        }
        let frames = self.store.frames(&notifications).await?;
        let full = i64::try_from(frames.len()).is_ok_and(|read| read == PAGE);
        Ok(page(&frames, position, full))
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>> {
        self.readers.acquire().await.map_err(Error::custom)
    }
}

/// The events that follow `position` without a gap, as many as a page may have. `full` says that more
/// were there than were read.
fn page(frames: &[Frame], position: i64, full: bool) -> Option<Page> {
    let mut page = Page {
        bytes: Vec::new(),
        last: position,
        more: full,
    };
    for frame in frames {
        let fits = page.bytes.is_empty() || page.bytes.len() + frame.bytes.len() <= PAGE_BYTES;
        if frame.seq != page.last + 1 || !fits {
            page.more = true;
            break;
        }
        page.bytes.extend_from_slice(&frame.bytes);
        page.last = frame.seq;
    }
    (page.last > position).then_some(page)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn frames(seqs: impl IntoIterator<Item = i64>, bytes: usize) -> Vec<Frame> {
        let frame = |seq| Frame {
            seq,
            bytes: Bytes::from(vec![b'.'; bytes]),
        };
        seqs.into_iter().map(frame).collect()
    }

    /// Bytes, last sequence and whether there is more.
    fn cut(frames: &[Frame], position: i64, full: bool) -> Option<(usize, i64, bool)> {
        page(frames, position, full).map(|page| (page.bytes.len(), page.last, page.more))
    }

    #[test]
    fn a_page_follows_its_position_without_a_gap() {
        assert_eq!(cut(&frames([], 10), 4, false), None);
        assert_eq!(cut(&frames([6, 7], 10), 4, false), None);
        assert_eq!(cut(&frames([5, 6], 10), 4, false), Some((20, 6, false)));
        assert_eq!(cut(&frames([5, 6], 10), 4, true), Some((20, 6, true)));
        assert_eq!(cut(&frames([5, 7], 10), 4, false), Some((10, 5, true)));
    }

    #[test]
    fn a_page_is_bounded_in_bytes() {
        assert_eq!(
            cut(&frames(1..=100, PAGE_BYTES / 3), 0, false),
            Some((PAGE_BYTES / 3 * 3, 3, true))
        );
        assert_eq!(
            cut(&frames([1, 2], 2 * PAGE_BYTES), 0, false),
            Some((2 * PAGE_BYTES, 1, true))
        );
    }

    #[test]
    fn deleted_events_are_passed_over() {
        let mut some = frames(1..=3, 0);
        assert_eq!(cut(&some, 0, false), Some((0, 3, false)));
        some.extend(frames([4], 10));
        assert_eq!(cut(&some, 0, false), Some((10, 4, false)));
    }
}
