//! The statements that read a list: one that walks along an index, one that collects.
//!
//! Invariant: what an index has to answer is alone in the innermost part, with a limit; what is checked row
//! by row is outside of it. So each has one plan that makes sense, whatever PostgreSQL expects of the values,
//! and reads no more rows than the limit.

use sqlx::{Postgres, QueryBuilder};

use super::way::{By, Way};
use super::{Filter, Position, Sort};
use crate::store::COLUMNS;

/// What filters and orders look at.
const ROW: &str =
    "SELECT id, buyer_id, seller_id, title, body, price, category, status, created_at FROM trade_posts";
/// The same in the order of the counters. None of it is to be joined in another way.
const ROW_BY_COUNTERS: &str = "SELECT id, buyer_id, seller_id, title, body, price, category, status FROM \
    (SELECT trade_post_id AS id, popularity FROM post_counters) AS counted CROSS JOIN LATERAL \
    (SELECT buyer_id, seller_id, title, body, price, category, status FROM trade_posts \
     WHERE trade_posts.id = counted.id OFFSET 0) AS post";
/// The same for whoever has found the post already.
const ROW_WITH_COUNTERS: &str = "SELECT id, buyer_id, seller_id, title, body, price, category, status, \
    (SELECT popularity FROM post_counters WHERE trade_post_id = id) AS popularity FROM trade_posts";

/// Up to `rows` rows behind `after`: those that pass what is to be checked (`found`), up to `wanted` of them, and the last
/// row whether it does or not. `n` counts the rows.
pub(super) fn walk(
    filter: &Filter,
    sort: Sort,
    way: &Way,
    after: Option<Position>,
    (rows, wanted): (i64, i64),
) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new("SELECT w.n, w.found, p.* FROM (SELECT id, n, found FROM (");
    query.push("SELECT id, row_number() OVER () AS n, (");
    conditions(&mut query, filter, &way.checked);
    let row = match sort {
        Sort::Newest | Sort::PriceAsc | Sort::PriceDesc => ROW,
        Sort::Popular => ROW_BY_COUNTERS,
    };
    query.push(") AS found FROM (").push(row).push(" WHERE ");
    conditions(&mut query, filter, &way.indexed);
    behind(&mut query, after);
    let order = match way.leading {
        Some(_) => order_behind_a_filter(sort),
        None => order(sort),
    };
    query
        .push(" ORDER BY ")
        .push(order)
        .push(" LIMIT ")
        .push_bind(rows);
    query
        .push(") AS walked) AS numbered WHERE found OR n = ")
        .push_bind(rows);
    query.push(" LIMIT ").push_bind(wanted);
    query.push(") AS w CROSS JOIN LATERAL (SELECT ").push(COLUMNS);
    query.push(" FROM trade_posts WHERE id = w.id OFFSET 0) AS p ORDER BY w.n");
    query
}

/// The first `wanted` posts behind `after` of all that pass `filter`, and in each row how many rows an index
/// finds by `by`. If these are `most`, there may be more, and the posts mean nothing. There is one row
/// without a post if there is none.
pub(super) fn collect(
    filter: &Filter,
    sort: Sort,
    (by, most): (By, i64),
    after: Option<Position>,
    wanted: i64,
) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new("WITH candidates AS MATERIALIZED (SELECT id, ");
    let (key, row) = match sort {
        Sort::Newest => ("created_at", ROW),
        Sort::PriceAsc | Sort::PriceDesc => ("price", ROW),
        Sort::Popular => ("popularity", ROW_WITH_COUNTERS),
    };
    query.push(key).push(", (");
    let others: Vec<By> = filter
        .all()
        .filter(|other| *other != by || by == By::Text)
        .collect();
    conditions(&mut query, filter, &others);
    behind(&mut query, after);
    query.push(") AS found FROM (").push(row).push(" WHERE ");
    match (by, &filter.text) {
        (By::Text, Some(text)) => indexed_text(&mut query, text),
        _ => conditions(&mut query, filter, &[by]),
    }
    query.push(" LIMIT ").push_bind(most).push(") AS passed) ");
    query.push("SELECT c.candidates, p.* FROM (SELECT count(*) AS candidates FROM candidates) AS c ");
    query
        .push("LEFT JOIN (SELECT id, row_number() OVER (ORDER BY ")
        .push(order(sort));
    query
        .push(") AS n FROM candidates WHERE found ORDER BY n LIMIT ")
        .push_bind(wanted);
    query
        .push(") AS w ON true LEFT JOIN LATERAL (SELECT ")
        .push(COLUMNS);
    query.push(" FROM trade_posts WHERE id = w.id OFFSET 0) AS p ON true ORDER BY w.n");
    query
}

/// That a row passes all of `filters`.
fn conditions(query: &mut QueryBuilder<Postgres>, filter: &Filter, filters: &[By]) {
    query.push("true");
    for by in filters {
        match by {
            By::Buyer => {
                query.push(" AND buyer_id = ").push_bind(filter.buyer_id);
            }
            By::Seller => {
                query.push(" AND seller_id = ").push_bind(filter.seller_id);
            }
            By::Category => {
                query.push(" AND category = ").push_bind(filter.category.clone());
            }
            By::Status => {
                query.push(" AND status = ").push_bind(filter.status);
            }
            By::Price => {
                if let Some(price) = filter.min_price {
                    query.push(" AND price >= ").push_bind(price);
                }
                if let Some(price) = filter.max_price {
                    query.push(" AND price <= ").push_bind(price);
                }
            }
            By::Text => text(query, filter.text.as_deref().unwrap_or_default()),
        }
    }
}

/// That `wanted` occurs in a row, whatever its case. Making lower case is most of what a row costs, and is left out
/// where nothing has a case, as in Korean.
fn text(query: &mut QueryBuilder<Postgres>, wanted: &str) {
    let [title, body, end] = if has_case(wanted) {
        [
            " AND (strpos(lower(title), lower(",
            ")) > 0 OR strpos(lower(body), lower(",
            ")) > 0)",
        ]
    } else {
        [" AND (strpos(title, ", ") > 0 OR strpos(body, ", ") > 0)"]
    };
    query.push(title).push_bind(wanted.to_owned());
    query.push(body).push_bind(wanted.to_owned()).push(end);
}

fn has_case(text: &str) -> bool {
    text.chars()
        .any(|c| !c.to_lowercase().eq([c]) || !c.to_uppercase().eq([c]))
}

/// That an index finds the row: it may not contain `text`, but no row that does is left out.
fn indexed_text(query: &mut QueryBuilder<Postgres>, text: &str) {
    if has_trigram(text) {
        let pattern = contains(text);
        query.push("(title ILIKE ").push_bind(pattern.clone());
        query.push(" OR body ILIKE ").push_bind(pattern).push(")");
    } else {
        query.push(r"trade_post_pairs(title || E'\n' || body) @@ trade_post_pairs_query(");
        query.push_bind(text.to_owned()).push(")");
    }
}

/// Row comparison, which an index on the same columns answers.
fn behind(query: &mut QueryBuilder<Postgres>, after: Option<Position>) {
    match after {
        None => {}
        Some(Position::Newest(at, id)) => {
            query.push(" AND (created_at, id) < (").push_bind(at);
            query.push(", ").push_bind(id).push(")");
        }
        Some(Position::PriceAsc(price, id)) => {
            query.push(" AND (price, id) > (").push_bind(price);
            query.push(", ").push_bind(id).push(")");
        }
        Some(Position::PriceDesc(price, id)) => {
            query.push(" AND (price, id) < (").push_bind(price);
            query.push(", ").push_bind(id).push(")");
        }
        Some(Position::Popular(popularity, id)) => {
            query.push(" AND (popularity, id) < (").push_bind(popularity);
            query.push(", ").push_bind(id).push(")");
        }
    }
}

fn order(sort: Sort) -> &'static str {
    match sort {
        Sort::Newest => "created_at DESC, id DESC",
        Sort::PriceAsc => "price, id",
        Sort::PriceDesc => "price DESC, id DESC",
        Sort::Popular => "popularity DESC, id DESC",
    }
}

/// The same, as only those indexes have it that begin with a filter's column: see the migration.
fn order_behind_a_filter(sort: Sort) -> &'static str {
    match sort {
        Sort::Newest => "created_at DESC NULLS LAST, id DESC NULLS LAST",
        Sort::PriceAsc => "price NULLS FIRST, id NULLS FIRST",
        Sort::PriceDesc => "price DESC NULLS LAST, id DESC NULLS LAST",
        // No filter leads here.
        Sort::Popular => order(sort),
    }
}

/// Whether `pg_trgm` can look the text up: with less than three letters or digits in a row it reads its whole
/// index. What it counts as letters depends on the database, so only those are counted that always are.
fn has_trigram(text: &str) -> bool {
    let mut run = 0;
    text.chars().any(|c| {
        let is_letter = c.is_ascii_alphanumeric() || ('가'..='힣').contains(&c);
        run = if is_letter { run + 1 } else { 0 };
        run == 3
    })
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

    #[test]
    fn only_what_has_a_case_is_compared_in_lower_case() {
        assert!(has_case("아이폰 13 Pro") && has_case("é") && has_case("ß"));
        assert!(!has_case("원목 책상 120x60".replace('x', "×").as_str()) && !has_case("😀 100%"));
    }

    #[test]
    fn trigrams_need_three_letters_in_a_row() {
        for text in ["아이폰", "MacBook", "a 123", "책상 의자들"] {
            assert!(has_trigram(text), "{text}");
        }
        for text in ["책상", "책", "책상 의자", "a-b-c", "00%", "😀😀😀"] {
            assert!(!has_trigram(text), "{text}");
        }
    }
}
