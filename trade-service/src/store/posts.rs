//! One post: created, read, changed, deleted.

use super::{Store, StoreError};
use crate::post::{Changes, NewPost, Post, Status};

impl Store {
    pub(crate) async fn create(&self, seller_id: i64, post: &NewPost) -> Result<Post, StoreError> {
        let post = sqlx::query_as!(
            Post,
            r#"INSERT INTO trade_posts (seller_id, title, body, price, category, image_urls)
               VALUES ($1, $2, $3, $4, $5, $6)
               RETURNING id, seller_id, buyer_id, title, body, price, category, status AS "status: Status",
                         image_urls, created_at, updated_at, xmin::text AS "version!""#,
            seller_id,
            post.title,
            post.body,
            post.price,
            post.category,
            &post.image_urls,
        );
        Ok(post.fetch_one(&self.pool).await?)
    }

    pub(crate) async fn get(&self, id: i64) -> Result<Post, StoreError> {
        let post = sqlx::query_as!(
            Post,
            r#"SELECT id, seller_id, buyer_id, title, body, price, category, status AS "status: Status",
                      image_urls, created_at, updated_at, xmin::text AS "version!"
               FROM trade_posts WHERE id = $1"#,
            id,
        );
        post.fetch_optional(&self.pool).await?.ok_or(StoreError::NotFound)
    }

    /// `versions` are those the caller expects to change, `None` for any.
    pub(crate) async fn update(
        &self,
        id: i64,
        seller_id: i64,
        versions: Option<&[String]>,
        changes: &Changes,
    ) -> Result<Post, StoreError> {
        let post = sqlx::query_as!(
            Post,
            r#"UPDATE trade_posts
               SET title = coalesce($4, title), body = coalesce($5, body), price = coalesce($6, price),
                   category = coalesce($7, category), status = coalesce($8, status),
                   image_urls = coalesce($9, image_urls), updated_at = now()
               WHERE id = $1 AND seller_id = $2 AND ($3::text[] IS NULL OR xmin::text = ANY ($3))
               RETURNING id, seller_id, buyer_id, title, body, price, category, status AS "status: Status",
                         image_urls, created_at, updated_at, xmin::text AS "version!""#,
            id,
            seller_id,
            versions,
            changes.title,
            changes.body,
            changes.price,
            changes.category,
            changes.status as Option<Status>,
            changes.image_urls.as_deref(),
        );
        match post.fetch_optional(&self.pool).await? {
            Some(post) => Ok(post),
            None => Err(self.why_untouched(id, seller_id).await),
        }
    }

    /// Chats about the post go with it: the row's deletion is all that the rest of the system needs.
    pub(crate) async fn delete(
        &self,
        id: i64,
        seller_id: i64,
        versions: Option<&[String]>,
    ) -> Result<(), StoreError> {
        let delete = sqlx::query!(
            "DELETE FROM trade_posts
             WHERE id = $1 AND seller_id = $2 AND ($3::text[] IS NULL OR xmin::text = ANY ($3))",
            id,
            seller_id,
            versions,
        );
        match delete.execute(&self.pool).await?.rows_affected() {
            0 => Err(self.why_untouched(id, seller_id).await),
            _ => Ok(()),
        }
    }

    async fn why_untouched(&self, id: i64, member_id: i64) -> StoreError {
        let seller = sqlx::query_scalar!("SELECT seller_id FROM trade_posts WHERE id = $1", id);
        match seller.fetch_optional(&self.pool).await {
            Ok(None) => StoreError::NotFound,
            Ok(Some(seller_id)) if seller_id != member_id => StoreError::NotTheSeller,
            Ok(Some(_)) => StoreError::VersionMismatch,
            Err(e) => e.into(),
        }
    }
}
