//! Views of posts, written many at a time.

use super::{Store, StoreError};

impl Store {
    /// Adds to the views of these posts, each named once. Answers those that somebody else is writing at the
    /// moment, to which nothing was added; posts that are gone are passed over.
    ///
    /// It never waits for a lock, so that neither a delete of many posts nor another instance that does the
    /// same can be in a deadlock with it.
    pub(crate) async fn add_views(&self, posts: &[i64], views: &[i64]) -> Result<Vec<i64>, StoreError> {
        let busy = sqlx::query_scalar!(
            "WITH seen AS (SELECT * FROM unnest($1::bigint[], $2::bigint[]) AS seen (trade_post_id, views)),
                  free AS (SELECT trade_post_id FROM post_counters WHERE trade_post_id = ANY ($1)
                           FOR NO KEY UPDATE SKIP LOCKED),
                  counted AS (UPDATE post_counters SET views = post_counters.views + seen.views
                              FROM seen JOIN free USING (trade_post_id)
                              WHERE post_counters.trade_post_id = seen.trade_post_id
                              RETURNING post_counters.trade_post_id)
             SELECT trade_post_id FROM post_counters
             WHERE trade_post_id = ANY ($1) AND trade_post_id NOT IN (SELECT trade_post_id FROM counted)",
            posts,
            views,
        );
        Ok(busy.fetch_all(&self.pool).await?)
    }
}
