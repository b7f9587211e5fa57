//! Trade posts in PostgreSQL: every statement that the API runs.
//!
//! Invariant: each write is one statement that carries the member and the expected version in its
//! `WHERE`, so that of two writers at the same time exactly one wins; why a write matched no row is
//! asked afterwards.
//!
//! The version of a row is its `xmin`, the transaction that wrote it: it needs no column and changes
//! with every write, also with those that do not come through this service.
//!
//! The `query!` macros are checked at build time against the files in `.sqlx/`. After changing a
//! statement or a migration, write them anew with a migrated database of your own, from this folder:
//!
//! ```text
//! rm -r .sqlx && mkdir .sqlx && touch src/store.rs
//! SQLX_DATABASE_URL=postgres://… SQLX_OFFLINE_DIR=$PWD/.sqlx cargo check
//! ```

pub(crate) mod keywords;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPool;
use sqlx::{Postgres, QueryBuilder};
use utoipa::ToSchema;

use crate::database;
use crate::post::{Changes, NewPost, Post, Status};

/// Why a statement had no effect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("there is no such trade post")]
    NotFound,
    #[error("the trade post is another member's")]
    NotTheSeller,
    #[error("the trade post was changed since the expected version")]
    VersionMismatch,
    #[error("the member has no such keyword")]
    NoKeyword,
    #[error("the member has as many keywords as there may be")]
    TooManyKeywords,
    #[error("PostgreSQL does not answer")]
    Unavailable(#[source] sqlx::Error),
    #[error("PostgreSQL failed")]
    Failed(#[source] sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if database::is_unavailable(&error) {
            Self::Unavailable(error)
        } else {
            Self::Failed(error)
        }
    }
}

/// Which posts a list shows.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// Must occur in title or body, whatever its case.
    pub(crate) text: Option<String>,
    pub(crate) category: Option<String>,
    pub(crate) status: Option<Status>,
    pub(crate) seller_id: Option<i64>,
    pub(crate) min_price: Option<i64>,
    pub(crate) max_price: Option<i64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sort {
    #[default]
    Newest,
    PriceAsc,
    PriceDesc,
}

/// The sort key of the last post of a page; the next page begins behind it, whether or not that post
/// still exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Position {
    Newest(DateTime<Utc>, i64),
    PriceAsc(i64, i64),
    PriceDesc(i64, i64),
}

impl Position {
    pub(crate) fn of(post: &Post, sort: Sort) -> Self {
        match sort {
            Sort::Newest => Self::Newest(post.created_at, post.id),
            Sort::PriceAsc => Self::PriceAsc(post.price, post.id),
            Sort::PriceDesc => Self::PriceDesc(post.price, post.id),
        }
    }

    pub(crate) fn sort(self) -> Sort {
        match self {
            Self::Newest(..) => Sort::Newest,
            Self::PriceAsc(..) => Sort::PriceAsc,
            Self::PriceDesc(..) => Sort::PriceDesc,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Store {
    pool: PgPool,
}

impl Store {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool }
    }

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

    /// At most `limit` posts behind `after`, which must be of the same sort.
    pub(crate) async fn list(
        &self,
        filter: &Filter,
        sort: Sort,
        after: Option<Position>,
        limit: i64,
    ) -> Result<Vec<Post>, StoreError> {
        let mut query = select(filter, sort, after);
        query.push(" LIMIT ").push_bind(limit);
        // Planned anew for its parameters each time: a plan for any text would not use the search index.
        let posts = query.build_query_as().persistent(false);
        Ok(posts.fetch_all(&self.pool).await?)
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

fn select(filter: &Filter, sort: Sort, after: Option<Position>) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new(
        "SELECT id, seller_id, buyer_id, title, body, price, category, status, image_urls, \
         created_at, updated_at, xmin::text AS version FROM trade_posts WHERE true",
    );
    if let Some(text) = &filter.text {
        let pattern = contains(text);
        query.push(" AND (title ILIKE ").push_bind(pattern.clone());
        query.push(" OR body ILIKE ").push_bind(pattern).push(")");
    }
    if let Some(category) = &filter.category {
        query.push(" AND category = ").push_bind(category.clone());
    }
    if let Some(status) = filter.status {
        query.push(" AND status = ").push_bind(status);
    }
    if let Some(seller_id) = filter.seller_id {
        query.push(" AND seller_id = ").push_bind(seller_id);
    }
    if let Some(price) = filter.min_price {
        query.push(" AND price >= ").push_bind(price);
    }
    if let Some(price) = filter.max_price {
        query.push(" AND price <= ").push_bind(price);
    }
    // Row comparison, which an index on the same columns answers.
    match after {
        None => {}
        Some(Position::Newest(at, id)) => {
            query
                .push(" AND (created_at, id) < (")
                .push_bind(at)
                .push(", ")
                .push_bind(id)
                .push(")");
        }
        Some(Position::PriceAsc(price, id)) => {
            query
                .push(" AND (price, id) > (")
                .push_bind(price)
                .push(", ")
                .push_bind(id)
                .push(")");
        }
        Some(Position::PriceDesc(price, id)) => {
            query
                .push(" AND (price, id) < (")
                .push_bind(price)
                .push(", ")
                .push_bind(id)
                .push(")");
        }
    }
    query.push(match sort {
        Sort::Newest => " ORDER BY created_at DESC, id DESC",
        Sort::PriceAsc => " ORDER BY price, id",
        Sort::PriceDesc => " ORDER BY price DESC, id DESC",
    });
    query
}

/// A LIKE pattern for texts that contain `text` literally.
fn contains(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_in_a_search_are_literal() {
        assert_eq!(contains(r"100%_\의자"), r"%100\%\_\\의자%");
    }
}
