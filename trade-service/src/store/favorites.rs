//! Which posts a member keeps, and how many members keep a post.
//!
//! Invariant: `post_counters.favorites` is how many rows of `favorites` a post has, because one statement
//! writes both.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::QueryBuilder;

use super::{COLUMNS, Store, StoreError};
use crate::post::Post;

/// Of the last favourite of a page: since when the member keeps it, and its post.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FavoritesPosition {
    pub(crate) favorite: (DateTime<Utc>, i64),
}

/// A post in the list of a member's favourites.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Favorite {
    #[sqlx(flatten)]
    pub(crate) post: Post,
    pub(crate) kept_since: DateTime<Utc>,
}

impl Favorite {
    pub(crate) fn position(&self) -> FavoritesPosition {
        FavoritesPosition {
            favorite: (self.kept_since, self.post.id),
        }
    }
}

impl Store {
    /// Has no further effect if the member keeps the post already.
    pub(crate) async fn add_favorite(&self, member_id: i64, post: i64) -> Result<(), StoreError> {
        let there = sqlx::query_scalar!(
            r#"WITH post AS (SELECT id FROM trade_posts WHERE id = $2 FOR KEY SHARE),
                    added AS (INSERT INTO favorites (member_id, trade_post_id) SELECT $1, id FROM post
                              ON CONFLICT DO NOTHING RETURNING trade_post_id),
                    counted AS (UPDATE post_counters SET favorites = favorites + 1
                                WHERE trade_post_id IN (SELECT trade_post_id FROM added))
               SELECT EXISTS (SELECT FROM post) AS "there!""#,
            member_id,
            post,
        );
        known(there.fetch_one(&self.pool).await?)
    }

    /// Has no effect if the member does not keep the post. Does not count below zero, because an operator may have
    /// put favourites into the table without counting them.
    pub(crate) async fn remove_favorite(&self, member_id: i64, post: i64) -> Result<(), StoreError> {
        let there = sqlx::query_scalar!(
            r#"WITH post AS (SELECT id FROM trade_posts WHERE id = $2 FOR KEY SHARE),
                    removed AS (DELETE FROM favorites
                                WHERE member_id = $1 AND trade_post_id IN (SELECT id FROM post)
                                RETURNING trade_post_id),
                    counted AS (UPDATE post_counters SET favorites = greatest(favorites - 1, 0)
                                WHERE trade_post_id IN (SELECT trade_post_id FROM removed))
               SELECT EXISTS (SELECT FROM post) AS "there!""#,
            member_id,
            post,
        );
        known(there.fetch_one(&self.pool).await?)
    }

    /// At most `limit` of the member's favourites, those kept last first.
    pub(crate) async fn favorites(
        &self,
        member_id: i64,
        after: Option<FavoritesPosition>,
        limit: i64,
    ) -> Result<Vec<Favorite>, StoreError> {
        let mut query = QueryBuilder::new("SELECT kept_since, ");
        query
            .push(COLUMNS)
            .push(" FROM (SELECT trade_post_id, created_at AS kept_since FROM favorites WHERE member_id = ")
            .push_bind(member_id);
        if let Some(FavoritesPosition {
            favorite: (since, post),
        }) = after
        {
            query
                .push(" AND (created_at, trade_post_id) < (")
                .push_bind(since)
                .push(", ")
                .push_bind(post)
                .push(")");
        }
        query
            .push(" ORDER BY created_at DESC, trade_post_id DESC LIMIT ")
            .push_bind(limit)
            .push(") AS kept JOIN trade_posts ON id = kept.trade_post_id ORDER BY kept_since DESC, id DESC");
        Ok(query.build_query_as().fetch_all(&self.pool).await?)
    }
}

fn known(there: bool) -> Result<(), StoreError> {
    if there { Ok(()) } else { Err(StoreError::NotFound) }
}
