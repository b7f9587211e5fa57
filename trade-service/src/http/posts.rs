//! `/v1/trade-posts`: anybody reads, a member writes, only the seller changes and deletes.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::DateTime;
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

const TAG: &str = "trade posts";
const LIMIT_DEFAULT: i64 = 20;
const LIMIT_MAX: i64 = 100;
const SEARCH_MAX: usize = 100;

/// Create a trade post
///
/// The caller is its seller.
#[utoipa::path(
    post,
    path = "/v1/trade-posts",
    operation_id = "create_trade_post",
    tag = TAG,
    request_body = NewPost,
    responses((
        status = 201,
        description = "The new post.",
        body = Post,
        headers(
            ("Location" = String, description = "Where the post is."),
            ("ETag" = String, description = "Its version, for `If-Match`."),
        ),
    )),
)]
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

/// Show a trade post
#[utoipa::path(
    get,
    path = "/v1/trade-posts/{id}",
    operation_id = "show_trade_post",
    tag = TAG,
    params(Id),
    security(()),
    responses(
        (
            status = 200,
            description = "The post.",
            body = Post,
            headers(("ETag" = String, description = "Its version, for `If-Match`.")),
        ),
        (status = 404, description = "`not-found`: there is no such post."),
    ),
)]
pub(super) async fn show(State(store): State<Store>, Path(id): Path<i64>) -> Result<Response, Problem> {
    Ok(with_etag(store.get(id).await?))
}

/// Change a trade post
///
/// Fields that are left out stay as they are. Only its seller may change it.
#[utoipa::path(
    patch,
    path = "/v1/trade-posts/{id}",
    operation_id = "change_trade_post",
    tag = TAG,
    params(Id, Expected),
    request_body = Changes,
    responses(
        (
            status = 200,
            description = "The post as it is now.",
            body = Post,
            headers(("ETag" = String, description = "Its version, for `If-Match`.")),
        ),
        (status = 403, description = "`not-the-seller`: the post is another member's."),
        (status = 404, description = "`not-found`: there is no such post."),
        (status = 412, description = "`version-mismatch`: the post is not of a version that `If-Match` names."),
    ),
)]
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

/// Delete a trade post
///
/// For good, and the chats about it with it. Only its seller may delete it.
#[utoipa::path(
    delete,
    path = "/v1/trade-posts/{id}",
    operation_id = "delete_trade_post",
    tag = TAG,
    params(Id, Expected),
    responses(
        (status = 204, description = "The post is deleted."),
        (status = 403, description = "`not-the-seller`: the post is another member's."),
        (status = 404, description = "`not-found`: there is no such post."),
        (status = 412, description = "`version-mismatch`: the post is not of a version that `If-Match` names."),
    ),
)]
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

/// For the document.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "handlers take it out of the path by itself")]
pub(super) struct Id {
    id: i64,
}

/// For the document.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(
    dead_code,
    reason = "it may be sent in several headers; see `expected_versions`"
)]
pub(super) struct Expected {
    /// Versions that the post may have, as `ETag` named them, or `*`.
    #[param(rename = "If-Match", nullable = false, example = "\"748\"")]
    if_match: Option<String>,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Occurs in title or body, whatever its case.
    #[param(nullable = false, min_length = 1, max_length = 100, pattern = "^[^\\u0000]*$")]
    q: Option<String>,
    #[param(nullable = false, min_length = 1, max_length = 50, pattern = "^[^\\u0000]*$")]
    category: Option<String>,
    #[param(nullable = false, inline)]
    status: Option<Status>,
    #[param(nullable = false)]
    seller_id: Option<i64>,
    #[param(nullable = false, minimum = 0, maximum = 10_000_000_000_i64)]
    min_price: Option<i64>,
    #[param(nullable = false, minimum = 0, maximum = 10_000_000_000_i64)]
    max_price: Option<i64>,
    #[serde(default)]
    #[param(inline)]
    sort: Sort,
    /// `next_cursor` of the previous page, with the same `sort`.
    #[param(nullable = false)]
    cursor: Option<String>,
    #[param(nullable = false, minimum = 1, maximum = 100, default = 20)]
    limit: Option<i64>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = TradePosts)]
struct Page {
    /// May be fewer than `limit`, even none, though there are more: where those that match are far apart.
    items: Vec<Post>,
    /// Where to go on, if there may be more.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// List trade posts
#[utoipa::path(
    get,
    path = "/v1/trade-posts",
    operation_id = "list_trade_posts",
    tag = TAG,
    params(ListQuery),
    security(()),
    responses((status = 200, description = "A page of posts.", body = Page)),
)]
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
    let page = store.list(&filter, sort, after, limit).await?;
    let (items, next_cursor) = (page.posts, page.next.as_ref().map(cursor::encode));
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
    match cursor::decode(cursor)? {
        // PostgreSQL refuses times that are too long ago, and no post is.
        Position::Newest(at, _) if at < DateTime::UNIX_EPOCH => Err(InvalidCursor),
        position if position.sort() == sort => Ok(position),
        _ => Err(InvalidCursor),
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
    use utoipa::IntoParams;

    use super::*;

    #[test]
    fn the_document_has_the_limits() {
        let parameters = ListQuery::into_params(|| None);
        let parameters = serde_json::to_value(parameters).unwrap();
        let of = |name: &str| {
            let all = parameters.as_array().unwrap();
            &all.iter().find(|parameter| parameter["name"] == name).unwrap()["schema"]
        };
        assert_eq!(of("q")["maxLength"], SEARCH_MAX);
        assert_eq!(of("limit")["maximum"], LIMIT_MAX);
        assert_eq!(of("limit")["default"], LIMIT_DEFAULT);
        for price in ["min_price", "max_price"] {
            assert_eq!(of(price)["maximum"], post::PRICE_MAX);
        }
    }

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
