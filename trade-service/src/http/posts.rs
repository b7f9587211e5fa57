//! `/v1/trade-posts`: anybody reads, a member writes, only the seller changes and deletes.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{ETAG, IF_MATCH, LOCATION};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use service_kit::auth::Member;
use service_kit::cursor::{self, InvalidCursor};
use service_kit::extract::{Json, Path, Query};
use service_kit::problem::Problem;

use super::error::checked;
use crate::post::{self, Changes, NewPost, Post, Status};
use crate::store::{Filter, Position, Sort, Store};

const LIMIT_DEFAULT: i64 = 20;
const LIMIT_MAX: i64 = 100;
const SEARCH_MAX: usize = 100;

pub(super) async fn create(
    State(store): State<Store>,
    member: Member,
    Json(new): Json<NewPost>,
) -> Result<Response, Problem> {
    checked(new.violations())?;
    let post = store.create(member.id, &new).await?;
    let location = format!("/v1/trade-posts/{}", post.id);
    Ok((StatusCode::CREATED, [(LOCATION, location)], with_etag(post)).into_response())
}

pub(super) async fn show(State(store): State<Store>, Path(id): Path<i64>) -> Result<Response, Problem> {
    Ok(with_etag(store.get(id).await?))
}

pub(super) async fn change(
    State(store): State<Store>,
    member: Member,
    Path(id): Path<i64>,
    headers: HeaderMap,
    Json(changes): Json<Changes>,
) -> Result<Response, Problem> {
    checked(changes.violations())?;
    let versions = expected_versions(&headers);
    let post = store.update(id, member.id, versions.as_deref(), &changes).await?;
    Ok(with_etag(post))
}

pub(super) async fn delete(
    State(store): State<Store>,
    member: Member,
    Path(id): Path<i64>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let versions = expected_versions(&headers);
    store.delete(id, member.id, versions.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    q: Option<String>,
    category: Option<String>,
    status: Option<Status>,
    seller_id: Option<i64>,
    min_price: Option<i64>,
    max_price: Option<i64>,
    #[serde(default)]
    sort: Sort,
    cursor: Option<String>,
    limit: Option<i64>,
}

#[derive(Debug, Serialize)]
struct Page {
    items: Vec<Post>,
    /// Of the last item, if there are more behind it.
    next_cursor: Option<String>,
}

pub(super) async fn list(
    State(store): State<Store>,
    Query(query): Query<ListQuery>,
) -> Result<Response, Problem> {
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    checked(violations(&query, limit))?;
    let sort = query.sort;
    let after = query
        .cursor
        .as_deref()
        .map(|cursor| position(cursor, sort))
        .transpose()?;
    let filter = Filter {
        text: query.q,
        category: query.category,
        status: query.status,
        seller_id: query.seller_id,
        min_price: query.min_price,
        max_price: query.max_price,
    };
    // One more than asked for tells whether there is a next page.
    let mut items = store.list(&filter, sort, after, limit + 1).await?;
    let page = usize::try_from(limit).unwrap_or_default();
    let more = items.len() > page;
    items.truncate(page);
    let last = items.last().filter(|_| more);
    let next_cursor = last.map(|post| cursor::encode(&Position::of(post, sort)));
    Ok(Json(Page { items, next_cursor }).into_response())
}

fn violations(query: &ListQuery, limit: i64) -> Vec<post::Violation> {
    let mut found = Vec::new();
    if let Some(q) = &query.q {
        post::text(&mut found, "q", q, 1, SEARCH_MAX);
    }
    if let Some(category) = &query.category {
        post::category(&mut found, category);
    }
    for (field, price) in [("min_price", query.min_price), ("max_price", query.max_price)] {
        price.inspect(|price| post::price(&mut found, field, *price));
    }
    if !(1..=LIMIT_MAX).contains(&limit) {
        post::add(
            &mut found,
            "limit",
            format!("must be 1 to {LIMIT_MAX}, got {limit}"),
        );
    }
    found
}

fn position(cursor: &str, sort: Sort) -> Result<Position, InvalidCursor> {
    let position: Position = cursor::decode(cursor)?;
    if position.sort() == sort {
        Ok(position)
    } else {
        Err(InvalidCursor)
    }
}

fn with_etag(post: Post) -> Response {
    let etag = format!("\"{}\"", post.version);
    ([(ETAG, etag)], Json(post)).into_response()
}

/// The versions that `If-Match` names, `None` if it names none or `*`. A weak or malformed tag matches
/// no version (RFC 9110, 13.1.1).
fn expected_versions(headers: &HeaderMap) -> Option<Vec<String>> {
    let mut values = headers.get_all(IF_MATCH).iter().peekable();
    values.peek()?;
    let tags: Vec<&str> = values
        .flat_map(|value| value.to_str().unwrap_or_default().split(','))
        .map(str::trim)
        .collect();
    if tags.contains(&"*") {
        return None;
    }
    let strong = |tag: &&str| tag.strip_prefix('"')?.strip_suffix('"').map(str::to_owned);
    Some(tags.iter().filter_map(strong).collect())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn if_match_is_a_list_of_strong_tags() {
        let versions = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IF_MATCH, HeaderValue::from_static(value));
            }
            expected_versions(&headers)
        };
        assert_eq!(versions(&[]), None);
        assert_eq!(versions(&["*"]), None);
        assert_eq!(versions(&["\"7\""]), Some(vec!["7".to_owned()]));
        assert_eq!(versions(&["\"7\", \"8\"", "\"9\""]).unwrap(), ["7", "8", "9"]);
        for no_version in ["", "7", "W/\"7\"", "\""] {
            assert_eq!(versions(&[no_version]), Some(vec![]), "{no_version}");
        }
    }
}
