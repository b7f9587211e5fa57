//! Keywords that members wait for.
//!
//! Invariant: a member has at most as many as there are places, because each has a place of its own and the
//! table has no more of them; of requests that reach for the same place at once one gets it, and the others
//! look again.

use super::{Store, StoreError};
use crate::keyword::Keyword;

/// Whether a keyword was there already.
#[derive(Debug)]
pub(crate) enum Kept {
    New(Keyword),
    Before(Keyword),
}

impl Store {
    pub(crate) async fn keep_keyword(&self, member_id: i64, keyword: &str) -> Result<Kept, StoreError> {
        loop {
            let new = sqlx::query_as!(
                Keyword,
                "INSERT INTO keywords (member_id, keyword, place)
                 SELECT $1, $2, place FROM generate_series(1, 30) AS free (place)
                 WHERE NOT EXISTS (SELECT FROM keywords WHERE member_id = $1 AND keywords.place = free.place)
                 ORDER BY place LIMIT 1
                 ON CONFLICT DO NOTHING
                 RETURNING id, keyword, created_at",
                member_id,
                keyword,
            );
            if let Some(new) = new.fetch_optional(&self.pool).await? {
                return Ok(Kept::New(new));
            }
            let all = self.keywords(member_id).await?;
            let places = all.len();
            if let Some(before) = all.into_iter().find(|before| before.keyword == keyword) {
                return Ok(Kept::Before(before));
            }
            if places >= crate::keyword::KEYWORDS_MAX {
                return Err(StoreError::TooManyKeywords);
            }
            // Another request took the place first, so each turn is somebody's success.
        }
    }

    /// The newest first; never more than a member may have.
    pub(crate) async fn keywords(&self, member_id: i64) -> Result<Vec<Keyword>, StoreError> {
        let keywords = sqlx::query_as!(
            Keyword,
            "SELECT id, keyword, created_at FROM keywords WHERE member_id = $1 ORDER BY created_at DESC, id DESC",
            member_id,
        );
        Ok(keywords.fetch_all(&self.pool).await?)
    }

    pub(crate) async fn forget_keyword(&self, member_id: i64, id: i64) -> Result<(), StoreError> {
        let delete = sqlx::query!(
            "DELETE FROM keywords WHERE id = $1 AND member_id = $2",
            id,
            member_id,
        );
        match delete.execute(&self.pool).await?.rows_affected() {
            0 => Err(StoreError::NoKeyword),
            _ => Ok(()),
        }
    }
}
