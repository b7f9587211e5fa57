//! Transactions of this process that write to the same member's inbox take turns.
//!
//! A transaction that meets another one's write is undone and has to begin anew. Among many short ones
//! a long one, such as the close of a batch, could lose for ever. Turns are first come, first served, so
//! that it does not; between processes conflicts remain, and are few.
//!
//! Invariant: nothing here makes a transaction right. It only keeps them from undoing each other.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

/// Members share a place in the queue by chance if there are more of them at work than this.
const PLACES: usize = 1024;

#[derive(Clone, Debug)]
pub struct Turns(Arc<Vec<Arc<Mutex<()>>>>);

/// Held while the transaction runs.
#[derive(Debug)]
pub struct Turn {
    _places: Vec<OwnedMutexGuard<()>>,
}

impl Turns {
    pub fn new() -> Self {
        Self(Arc::new((0..PLACES).map(|_| Arc::default()).collect()))
    }

    /// Waits until it is the turn of a transaction that writes to the inboxes of `members`.
    pub async fn take(&self, members: impl IntoIterator<Item = i64>) -> Turn {
        let mut places: Vec<usize> = members
            .into_iter()
            .map(|member| usize::try_from(member.unsigned_abs()).unwrap_or_default() % PLACES)
            .collect();
        // In one order, so that two do not wait for each other.
        places.sort_unstable();
        places.dedup();
        let mut held = Vec::with_capacity(places.len());
        for place in places {
            held.push(Arc::clone(&self.0[place]).lock_owned().await);
        }
        Turn { _places: held }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn who_comes_first_is_served_first() {
        let turns = Turns::new();
        let first = turns.take([1, 2]).await;
        let mut both = Box::pin(turns.take([2, 3, 2]));
        assert!((&mut both).now_or_never().is_none());
        let mut later = Box::pin(turns.take([2]));
        assert!((&mut later).now_or_never().is_none());
        assert!(turns.take([4]).now_or_never().is_some(), "others do not wait");
        drop(first);
        assert!((&mut later).now_or_never().is_none(), "not before its turn");
        let both = both.await;
        drop(both);
        later.await;
    }
}
