//! Trade posts in PostgreSQL: every statement that the API runs, a file for each concept.
//!
//! Invariant: each write is one statement that carries the member and the expected version in its
//! `WHERE`, so that of two writers at the same time exactly one wins; why a write matched no row is
//! asked afterwards. A statement that writes more than the post locks the post first, so that none waits
//! for another that waits for it.
//!
//! The version of a row is its `xmin`, the transaction that wrote it: it needs no column and changes
//! with every write, also with those that do not come through this service.
//!
//! The `query!` macros are checked at build time against the files in `.sqlx/`. After changing a
//! statement or a migration, write them anew with a migrated database of your own, from this folder:
//!
//! ```text
//! rm -r .sqlx && mkdir .sqlx && touch src/lib.rs
//! SQLX_DATABASE_URL=postgres://… SQLX_OFFLINE_DIR=$PWD/.sqlx cargo check
//! ```

mod favorites;
mod idempotency;
pub(crate) mod keywords;
mod list;
mod posts;
mod views;

use std::time::Duration;

use sqlx::postgres::PgPool;

pub(crate) use self::favorites::{Favorite, FavoritesPosition};
pub(crate) use self::idempotency::Created;
pub(crate) use self::list::{Filter, Part, Position, Sort};
pub(crate) use self::posts::Expected;
use crate::config::DatabaseLimits;
use crate::database;
use crate::status::{Status, Step};

/// The columns of a [`Post`](crate::post::Post), for statements that are put together at run time.
const COLUMNS: &str = "id, seller_id, buyer_id, title, body, price, category, status, image_urls, \
    trade_posts.created_at, updated_at, trade_posts.xmin::text AS version, \
    coalesce((SELECT views FROM post_counters WHERE trade_post_id = trade_posts.id), 0) AS views, \
    coalesce((SELECT favorites FROM post_counters WHERE trade_post_id = trade_posts.id), 0) AS favorites";

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
    #[error("a version has to be expected, because the trade post has a buyer")]
    VersionRequired,
    #[error("{step:?} is not open to a trade post that is {current:?}")]
    NotOpen { step: Step, current: Status },
    #[error("the buyer would be the seller")]
    BuyerIsSeller,
    #[error("another request was made under the same key")]
    KeyReused,
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

#[derive(Clone, Debug)]
pub(crate) struct Store {
    pool: PgPool,
    /// How long the statements of one list may take together.
    list: Duration,
}

impl Store {
    pub(crate) fn new(pool: PgPool, limits: DatabaseLimits) -> Self {
        // The rest is for waiting for connections.
        let list = limits.statement.min(limits.request / 2);
        Self { pool, list }
    }
}
