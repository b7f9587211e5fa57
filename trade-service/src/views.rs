//! Views of posts: counted in memory as posts are shown, and written by one statement for all of them.
//!
//! A request never writes, and never waits for what is written. Each instance adds what it has counted, so
//! any number of them count together. Invariant: memory is bounded by the number of posts; a view is lost
//! only if that is reached or the process is killed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::database::Chain;
use crate::metrics::TradeMetrics;
use crate::store::{Store, StoreError};

const INTERVAL: Duration = Duration::from_secs(2);
/// Some 100 bytes each.
const POSTS_MAX: usize = 10_000;
/// How long the last ones may take at shutdown.
const LAST: Duration = Duration::from_secs(1);
/// Until the last ones are tried again that another instance, or a delete, was in the way of.
const AGAIN: Duration = Duration::from_millis(50);

/// Views by post.
#[derive(Debug, Default)]
struct Pending(HashMap<i64, i64>);

impl Pending {
    /// `false` if that would be one post too many.
    fn add(&mut self, post: i64, views: i64) -> bool {
        let room = self.0.len() < POSTS_MAX;
        match self.0.entry(post) {
            Entry::Occupied(mut there) => *there.get_mut() += views,
            Entry::Vacant(place) if room => drop(place.insert(views)),
            Entry::Vacant(_) => return false,
        }
        true
    }
}

#[derive(Debug)]
pub(crate) struct Views {
    pending: Mutex<Pending>,
    /// One write at a time: the last one has to find what could not be written before.
    writing: tokio::sync::Mutex<()>,
    /// There is room for no other post.
    full: Notify,
    store: Store,
    metrics: Arc<TradeMetrics>,
}

impl Views {
    pub(crate) fn new(store: Store, metrics: Arc<TradeMetrics>) -> Self {
        Self {
            pending: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            full: Notify::new(),
            store,
            metrics,
        }
    }

    /// One more. Never waits.
    pub(crate) fn count(&self, post: i64) {
        if self.add(&[(post, 1)]) >= POSTS_MAX {
            self.full.notify_one();
        }
    }

    /// Answers how many posts have views now.
    fn add(&self, views: &[(i64, i64)]) -> usize {
        let mut dropped = 0;
        let pending = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            for &(post, views) in views {
                if !pending.add(post, views) {
                    dropped += views.unsigned_abs();
                }
            }
            pending.0.len()
        };
        self.metrics.views_dropped.inc_by(dropped);
        self.metrics
            .viewed_posts
            .set(i64::try_from(pending).unwrap_or(i64::MAX));
        pending
    }

    fn take(&self) -> HashMap<i64, i64> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut pending.0)
    }

    /// Writes what has come together. What cannot be written now is kept for the next time; answers whether nothing
    /// was. If the connection breaks before PostgreSQL's answer has come, views may be counted twice.
    async fn write(&self) -> Result<bool, StoreError> {
        let _turn = self.writing.lock().await;
        let taken = self.take();
        if taken.is_empty() {
            return Ok(true);
        }
        let (posts, views): (Vec<i64>, Vec<i64>) = taken.iter().unzip();
        let busy = self.store.add_views(&posts, &views).await;
        let kept: Vec<(i64, i64)> = match &busy {
            Ok(busy) => busy.iter().map(|post| (*post, taken[post])).collect(),
            Err(_) => taken.into_iter().collect(),
        };
        if busy.is_ok() {
            let all: i64 = views.iter().sum();
            let kept: i64 = kept.iter().map(|(_, views)| views).sum();
            self.metrics.views_written.inc_by((all - kept).unsigned_abs());
        }
        self.add(&kept);
        busy.map(|busy| busy.is_empty())
    }

    /// Writes every few seconds, until `shutdown`.
    pub(crate) async fn run(self: Arc<Self>, shutdown: CancellationToken) -> Result<(), StoreError> {
        let mut failing = false;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = sleep(INTERVAL) => {}
                () = self.full.notified(), if !failing => {}
            }
            match self.write().await {
                Ok(_) => {
                    if std::mem::take(&mut failing) {
                        info!("views are written again");
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        warn!(error = %Chain(&error), "views are not written for now, and kept in memory");
                    }
                }
            }
        }
    }

    /// Once no more come.
    pub(crate) async fn write_last(&self) {
        let all = async {
            while !self.write().await? {
                sleep(AGAIN).await;
            }
            Ok::<(), StoreError>(())
        };
        match timeout(LAST, all).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(error = %Chain(&error), "the last views are lost"),
            Err(_) => warn!("the last views are lost: PostgreSQL has not taken them within {LAST:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_many_posts_as_there_is_room_for_are_counted() {
        let mut pending = Pending::default();
        let last = i64::try_from(POSTS_MAX).unwrap();
        assert!((1..=last).all(|post| pending.add(post, 1)));
        assert!(!pending.add(last + 1, 1), "one too many");
        assert!(pending.add(1, 5), "a post that has room already");
        assert_eq!((pending.0.len(), pending.0[&1]), (POSTS_MAX, 6));
    }

    proptest! {
        #[test]
        fn views_add_up(views in prop::collection::vec((1..20_i64, 1..4_i64), 0..200)) {
            let mut pending = Pending::default();
            for (post, views) in &views {
                prop_assert!(pending.add(*post, *views));
            }
            for post in 1..20 {
                let of_post: i64 = views.iter().filter(|(of, _)| *of == post).map(|(_, views)| views).sum();
                prop_assert_eq!(pending.0.get(&post).copied().unwrap_or_default(), of_post);
            }
        }
    }
}
