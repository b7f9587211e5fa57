//! The list of posts: filters, orders, and pages that go on where the last one ended.
//!
//! `way` decides how it is read, `statement` has the SQL for that. Invariants: a page costs a bounded number
//! of rows, whatever is asked for and whatever the posts are; once its first rows are read it is answered in
//! bounded time.

mod statement;
mod way;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, FromRow, Postgres, QueryBuilder, Row};
use tokio::time::Instant;
use utoipa::ToSchema;

use self::way::{By, Step, Way};
use super::{Store, StoreError};
use crate::database;
use crate::post::Post;
use crate::status::Status;

/// Which posts a list shows.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// Must occur in title or body, whatever its case.
    pub(crate) text: Option<String>,
    pub(crate) category: Option<String>,
    pub(crate) status: Option<Status>,
    pub(crate) seller_id: Option<i64>,
    pub(crate) buyer_id: Option<i64>,
    pub(crate) min_price: Option<i64>,
    pub(crate) max_price: Option<i64>,
}

impl Filter {
    /// What it filters by. What is earlier in this is expected to leave fewer posts.
    fn all(&self) -> impl Iterator<Item = By> {
        let all = [
            (By::Buyer, self.buyer_id.is_some()),
            (By::Seller, self.seller_id.is_some()),
            (By::Text, self.text.is_some()),
            (By::Price, self.min_price.is_some() || self.max_price.is_some()),
            (By::Category, self.category.is_some()),
            (By::Status, self.status.is_some()),
        ];
        all.into_iter().filter(|(_, is)| *is).map(|(by, _)| by)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sort {
    #[default]
    Newest,
    PriceAsc,
    PriceDesc,
    /// By views and favourites. They change, so a post may move to a page that was read already, or be read
    /// on two pages.
    Popular,
}

/// The sort key of the last post of a page; the next page begins behind it, whether or not that post
/// still exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Position {
    Newest(DateTime<Utc>, i64),
    PriceAsc(i64, i64),
    PriceDesc(i64, i64),
    Popular(i64, i64),
}

impl Position {
    pub(crate) fn of(post: &Post, sort: Sort) -> Self {
        match sort {
            Sort::Newest => Self::Newest(post.created_at, post.id),
            Sort::PriceAsc => Self::PriceAsc(post.price, post.id),
            Sort::PriceDesc => Self::PriceDesc(post.price, post.id),
            Sort::Popular => Self::Popular(post.popularity(), post.id),
        }
    }

    pub(crate) fn sort(self) -> Sort {
        match self {
            Self::Newest(..) => Sort::Newest,
            Self::PriceAsc(..) => Sort::PriceAsc,
            Self::PriceDesc(..) => Sort::PriceDesc,
            Self::Popular(..) => Sort::Popular,
        }
    }
}

/// Part of a list.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) posts: Vec<Post>,
    /// Where to go on, if there may be more.
    pub(crate) next: Option<Position>,
}

impl Store {
    /// At most `limit` posts behind `after`, which must be of the same sort. There may be fewer, even none, though
    /// there are more behind: where they are too far apart to be found in a bounded number of rows, and time.
    pub(crate) async fn list(
        &self,
        filter: &Filter,
        sort: Sort,
        after: Option<Position>,
        limit: i64,
    ) -> Result<Part, StoreError> {
        // One more than asked for tells whether there is a next page.
        let wanted = limit + 1;
        let end_by = Instant::now() + self.list;
        let mut way = Way::new(filter, sort, wanted);
        let (mut posts, mut end) = (Vec::new(), after);
        loop {
            match way.next() {
                Step::Walk(rows) => {
                    let left = wanted - count(&posts);
                    let mut walk = statement::walk(filter, sort, &way, end, (rows, left));
                    let read = if way.is_begun() {
                        self.read_in_time(walk, end_by).await?
                    } else {
                        Some(walk.build().fetch_all(&self.pool).await?)
                    };
                    let Some(read) = read else {
                        return Ok(part(posts, limit, sort, end));
                    };
                    let before = posts.len();
                    let mut ended = true;
                    for row in &read {
                        let post = Post::from_row(row)?;
                        if row.try_get::<i64, _>("n")? == rows {
                            (ended, end) = (false, Some(Position::of(&post, sort)));
                        }
                        if row.try_get("found")? {
                            posts.push(post);
                        }
                    }
                    if ended || count(&posts) == wanted {
                        return Ok(part(posts, limit, sort, None));
                    }
                    way.walked(rows, count(&posts[before..]));
                }
                Step::Collect(by, most) => {
                    let collect = statement::collect(filter, sort, (by, most), after, wanted);
                    let read = self.read_in_time(collect, end_by).await?;
                    let Some(read) = read else {
                        way.not_collected();
                        continue;
                    };
                    let candidates: i64 = read.first().map_or(Ok(0), |row| row.try_get("candidates"))?;
                    if candidates < most {
                        let there = |row: &&PgRow| !matches!(row.try_get::<Option<i64>, _>("id"), Ok(None));
                        let all: Result<_, _> = read.iter().filter(there).map(Post::from_row).collect();
                        return Ok(part(all?, limit, sort, None));
                    }
                    way.not_collected();
                }
                Step::Stop => return Ok(part(posts, limit, sort, end)),
            }
        }
    }

    /// `None` if PostgreSQL has cancelled it. It may take half of the time that is left, so that there is some for
    /// what is tried instead.
    async fn read_in_time(
        &self,
        mut statement: QueryBuilder<Postgres>,
        end_by: Instant,
    ) -> Result<Option<Vec<PgRow>>, StoreError> {
        let left = end_by.saturating_duration_since(Instant::now()) / 2;
        // None at all would be no limit.
        let milliseconds = left.as_millis().max(1);
        let begin = format!("BEGIN READ ONLY; SET LOCAL statement_timeout = {milliseconds}");
        let mut transaction = self.pool.begin_with(AssertSqlSafe(begin)).await?;
        let read = statement.build().fetch_all(&mut *transaction).await;
        transaction.rollback().await?;
        match read {
            Ok(rows) => Ok(Some(rows)),
            Err(error) if database::is_cancelled(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// `end` is where reading ended, if there may be posts behind it.
fn part(mut posts: Vec<Post>, limit: i64, sort: Sort, end: Option<Position>) -> Part {
    let more = count(&posts) > limit;
    posts.truncate(usize::try_from(limit).unwrap_or_default());
    let last = posts.last().filter(|_| more);
    let next = last.map(|post| Position::of(post, sort)).or(end);
    Part { posts, next }
}

fn count(posts: &[Post]) -> i64 {
    i64::try_from(posts.len()).unwrap_or(i64::MAX)
}
