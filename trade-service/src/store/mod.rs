//! Trade posts in PostgreSQL: every statement that the API runs, a file for each concept.
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
//! rm -r .sqlx && mkdir .sqlx && touch src/lib.rs
//! SQLX_DATABASE_URL=postgres://… SQLX_OFFLINE_DIR=$PWD/.sqlx cargo check
//! ```

pub(crate) mod keywords;
mod list;
mod posts;

use sqlx::postgres::PgPool;

pub(crate) use self::list::{Filter, Position, Sort};
use crate::database;

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

#[derive(Clone, Debug)]
pub(crate) struct Store {
    pool: PgPool,
}

impl Store {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}
