//! Posts that are created once, however often the request is sent.
//!
//! Invariant: the key is written by the statement that makes the post, so there is one exactly if there is
//! (or was) the other, whichever instances were asked at the same time.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Store, StoreError};
use crate::idempotency::Key;
use crate::post::{NewPost, Post};
use crate::status::Status;

/// Removed by one statement.
const CHUNK: i64 = 5_000;

/// What the service decided about a new post. The rest of it is in the request.
struct Made {
    trade_post_id: i64,
    version: String,
    created_at: DateTime<Utc>,
}

/// The post as it was made, now or by an earlier request.
#[derive(Debug)]
pub(crate) enum Created {
    Now(Post),
    Before(Post),
}

impl Store {
    /// Creates the post, or answers what an earlier request under the same key was answered, also if the post
    /// was changed or deleted since.
    pub(crate) async fn create_once(
        &self,
        seller_id: i64,
        key: &Key,
        new: &NewPost,
    ) -> Result<Created, StoreError> {
        let hash = new.hash();
        loop {
            let made = sqlx::query_as!(
                Made,
                r#"WITH post AS (INSERT INTO trade_posts (seller_id, title, body, price, category, image_urls)
                                 VALUES ($1, $2, $3, $4, $5, $6)
                                 RETURNING id, xmin::text AS version, created_at)
                   INSERT INTO idempotency_keys
                       (member_id, key, request_hash, trade_post_id, version, created_at)
                   SELECT $1, $7, $8, id, version, created_at FROM post
                   RETURNING trade_post_id, version, created_at"#,
                seller_id,
                new.title,
                new.body,
                new.price,
                new.category,
                &new.image_urls,
                key.as_str(),
                &hash[..],
            );
            match made.fetch_one(&self.pool).await {
                Ok(made) => return Ok(Created::Now(made.post(seller_id, new))),
                Err(error) if is_repeated(&error) => {}
                Err(error) => return Err(error.into()),
            }
            let first = sqlx::query!(
                "SELECT request_hash, trade_post_id, version, created_at FROM idempotency_keys
                 WHERE member_id = $1 AND key = $2",
                seller_id,
                key.as_str(),
            );
            // Otherwise it was removed in between, because it was old enough: now there is none.
            if let Some(first) = first.fetch_optional(&self.pool).await? {
                if first.request_hash != hash {
                    return Err(StoreError::KeyReused);
                }
                let made = Made {
                    trade_post_id: first.trade_post_id,
                    version: first.version,
                    created_at: first.created_at,
                };
                return Ok(Created::Before(made.post(seller_id, new)));
            }
        }
    }

    /// Removes keys that are older than that. Answers how many.
    pub(crate) async fn remove_keys(&self, older_than: Duration) -> Result<u64, StoreError> {
        let mut removed = 0;
        loop {
            let chunk = sqlx::query!(
                "DELETE FROM idempotency_keys WHERE (member_id, key) IN (
                     SELECT member_id, key FROM idempotency_keys WHERE created_at < now() - make_interval(secs => $1)
                     ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
                older_than.as_secs_f64(),
                CHUNK,
            );
            let rows = chunk.execute(&self.pool).await?.rows_affected();
            removed += rows;
            if rows < CHUNK.unsigned_abs() {
                return Ok(removed);
            }
        }
    }
}

/// There is a row of that key.
fn is_repeated(error: &sqlx::Error) -> bool {
    let constraint = error.as_database_error().and_then(|error| error.constraint());
    constraint == Some("idempotency_keys_pkey")
}

impl Made {
    fn post(self, seller_id: i64, new: &NewPost) -> Post {
        let new = new.clone();
        Post {
            id: self.trade_post_id,
            seller_id,
            buyer_id: None,
            title: new.title,
            body: new.body,
            price: new.price,
            category: new.category,
            status: Status::OnSale,
            image_urls: new.image_urls,
            created_at: self.created_at,
            updated_at: self.created_at,
            views: 0,
            favorites: 0,
            version: self.version,
        }
    }
}
