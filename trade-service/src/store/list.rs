//! The list of posts: filters, orders, and pages that go on where the last one ended.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{Postgres, QueryBuilder};
use utoipa::ToSchema;

use super::{COLUMNS, Store, StoreError};
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

impl Store {
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
}

fn select(filter: &Filter, sort: Sort, after: Option<Position>) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new("SELECT ");
    query.push(COLUMNS).push(match sort {
        Sort::Newest | Sort::PriceAsc | Sort::PriceDesc => " FROM trade_posts WHERE true",
        // Every post has a row of counters, so none is left out.
        Sort::Popular => " FROM post_counters JOIN trade_posts ON id = trade_post_id WHERE true",
    });
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
    if let Some(buyer_id) = filter.buyer_id {
        query.push(" AND buyer_id = ").push_bind(buyer_id);
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
                .push(" AND (trade_posts.created_at, id) < (")
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
        Some(Position::Popular(popularity, id)) => {
            query
                .push(" AND (popularity, trade_post_id) < (")
                .push_bind(popularity)
                .push(", ")
                .push_bind(id)
                .push(")");
        }
    }
    query.push(match sort {
        Sort::Newest => " ORDER BY trade_posts.created_at DESC, id DESC",
        Sort::PriceAsc => " ORDER BY price, id",
        Sort::PriceDesc => " ORDER BY price DESC, id DESC",
        Sort::Popular => " ORDER BY popularity DESC, trade_post_id DESC",
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
