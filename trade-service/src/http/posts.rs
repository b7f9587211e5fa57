//! `/v1/trade-posts`: anybody reads, a member writes, only the seller changes and deletes.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use http::header::{ETAG, IF_MATCH, LOCATION};
use http::{HeaderMap, Method, StatusCode};
use serde::{Deserialize, Serialize};
use service_kit::auth::Member;
use service_kit::cursor::{self, InvalidCursor};
use service_kit::extract::{Json, Path, Query};
use service_kit::number;
use service_kit::problem::Problem;

use super::error::checked;
use crate::idempotency::Key;
use crate::metrics::TradeMetrics;
use crate::post::{self, Changes, NewPost, Post};
use crate::status::Status;
use crate::store::{Created, Expected, Filter, Part, Position, Sort, Store};
use crate::views::Views;

pub(super) const TAG: &str = "trade posts";
pub(super) const LIMIT_DEFAULT: i64 = 20;
pub(super) const LIMIT_MAX: i64 = 100;
const SEARCH_MAX: usize = 100;

/// Create a trade post
///
/// The caller is its seller. A request that names an `Idempotency-Key` may be repeated for 24 hours, at any
/// instance: the post is created once, and every repetition is answered as the first request was, also if the
/// post was changed or deleted since.
#[utoipa::path(
    post,
    path = "/v1/trade-posts",
    operation_id = "create_trade_post",
    tag = TAG,
    params(IdempotencyKey),
    request_body = NewPost,
    responses(
        (
            status = 201,
            description = "The new post.",
            body = Post,
            headers(
                ("Location" = String, description = "Where the post is."),
                ("ETag" = String, description = "Its version, for `If-Match`."),
            ),
        ),
        (
            status = 422,
            description = "`invalid-input`: fields are not acceptable; `errors` names each. \
                           `idempotency-key-reused`: another body was sent under this key.",
        ),
    ),
)]
pub(super) async fn create(
    State(store): State<Store>,
    State(metrics): State<Arc<TradeMetrics>>,
    member: Member,
    headers: HeaderMap,
    Json(new): Json<NewPost>,
) -> Result<Response, Problem> {
    let mut violations = new.violations();
    let key = Key::of(&headers).unwrap_or_else(|violation| {
        violations.push(violation);
        None
    });
    checked(violations)?;
    let post = match key {
        None => store.create(member.id, &new).await?,
        Some(key) => match store.create_once(member.id, &key, &new).await? {
            Created::Now(post) => post,
            Created::Before(post) => {
                metrics.creates_repeated.inc();
                post
            }
        },
    };
    let location = format!("/v1/trade-posts/{}", post.id);
    Ok((StatusCode::CREATED, [(LOCATION, location)], with_etag(post)).into_response())
}

/// Show a trade post
///
/// Which counts as a view, unless the token of the request is the seller's; nobody needs one. `ETag` is the
/// version of what the seller has written: it stays when `views` and `favorites` change.
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
pub(super) async fn show(
    State(store): State<Store>,
    State(views): State<Arc<Views>>,
    method: Method,
    // Whoever does not prove who they are is anybody.
    member: Result<Member, Problem>,
    Path(id): Path<i64>,
) -> Result<Response, Problem> {
    let post = store.get(id).await?;
    // HEAD comes here, too.
    if method == Method::GET && member.map_or(true, |member| member.id != post.seller_id) {
        views.count(id);
    }
    Ok(with_etag(post))
}

/// Change a trade post
///
/// Fields that are left out stay as they are. Only its seller may change it. `status` completes the sale to the
/// chosen buyer (`sold`) or reopens it (`on_sale`); whatever else is changed with it is changed only if that
/// is possible.
#[utoipa::path(
    patch,
    path = "/v1/trade-posts/{id}",
    operation_id = "change_trade_post",
    tag = TAG,
    params(Id, IfMatch),
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
        (
            status = 409,
            description = "`not-in-this-status`: the post cannot get that status now; `current_status` is its own.",
        ),
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
    let post = store.update(id, member.id, &expected(&headers), &changes).await?;
    Ok(with_etag(post))
}

/// Delete a trade post
///
/// For good, and the chats about it with it. Only its seller may delete it. If a buyer was chosen, the version
/// to delete has to be named.
#[utoipa::path(
    delete,
    path = "/v1/trade-posts/{id}",
    operation_id = "delete_trade_post",
    tag = TAG,
    params(Id, IfMatch),
    responses(
        (status = 204, description = "The post is deleted."),
        (status = 403, description = "`not-the-seller`: the post is another member's."),
        (status = 404, description = "`not-found`: there is no such post."),
        (status = 412, description = "`version-mismatch`: the post is not of a version that `If-Match` names."),
        (
            status = 428,
            description = "`precondition-required`: a buyer was chosen; send `If-Match` to delete the post all the same.",
        ),
    ),
)]
pub(super) async fn delete(
    State(store): State<Store>,
    member: Member,
    Path(id): Path<i64>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    store.delete(id, member.id, &expected(&headers)).await?;
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
#[expect(dead_code, reason = "it may be sent in several headers; see `expected`")]
pub(super) struct IfMatch {
    /// Versions that the post may have, as `ETag` named them, or `*`.
    #[param(rename = "If-Match", nullable = false, example = "\"748\"")]
    if_match: Option<String>,
}

/// For the document.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "see `Key::of`")]
pub(super) struct IdempotencyKey {
    /// Chosen by the client for this request and its repetitions: 1 to 255 visible ASCII characters.
    #[param(
        rename = "Idempotency-Key",
        nullable = false,
        min_length = 1,
        max_length = 255,
        pattern = "^[!-~]+$",
        example = "8e03978e-40d5-43e8-bc93-6894a57f9324"
    )]
    idempotency_key: Option<String>,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Occurs in title or body, whatever its case, and whether or not it is composed (Unicode's form NFC, in which its
    /// characters are counted).
    #[serde(default, deserialize_with = "post::composed_if_present")]
    #[param(nullable = false, min_length = 1, max_length = 100, pattern = "^[^\\u0000]*$")]
    q: Option<String>,
    #[serde(default, deserialize_with = "post::composed_if_present")]
    #[param(nullable = false, min_length = 1, max_length = 50, pattern = "^[^\\u0000]*$")]
    category: Option<String>,
    #[param(nullable = false, inline)]
    status: Option<Status>,
    #[serde(default, deserialize_with = "number::in_query::<_, 1, { i64::MAX }>")]
    #[param(nullable = false)]
    seller_id: Option<i64>,
    #[serde(default, deserialize_with = "number::in_query::<_, 0, { post::PRICE_MAX }>")]
    #[param(nullable = false, minimum = 0, maximum = 10_000_000_000_i64)]
    min_price: Option<i64>,
    #[serde(default, deserialize_with = "number::in_query::<_, 0, { post::PRICE_MAX }>")]
    #[param(nullable = false, minimum = 0, maximum = 10_000_000_000_i64)]
    max_price: Option<i64>,
    #[serde(default)]
    #[param(inline)]
    sort: Sort,
    /// `next_cursor` of the previous page, with the same `sort`.
    #[param(nullable = false)]
    cursor: Option<String>,
    #[serde(default, deserialize_with = "number::in_query::<_, 1, LIMIT_MAX>")]
    #[param(nullable = false, minimum = 1, maximum = 100, default = 20)]
    limit: Option<i64>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = TradePosts)]
pub(super) struct Page {
    /// May be fewer than `limit`, even none, though there are more: where those that match are far apart.
    items: Vec<Post>,
    /// Where to go on, if there may be more.
    #[schema(required)]
    next_cursor: Option<String>,
}

impl From<Part> for Page {
    fn from(part: Part) -> Self {
        Self {
            items: part.posts,
            next_cursor: part.next.as_ref().map(cursor::encode),
        }
    }
}

impl Page {
    /// Of one row more than asked for, which tells whether there is a next page.
    pub(super) fn cut<T, P: Serialize>(
        mut rows: Vec<T>,
        limit: i64,
        position: impl FnOnce(&T) -> P,
        post: impl FnMut(T) -> Post,
    ) -> Self {
        let page = usize::try_from(limit).unwrap_or_default();
        let more = rows.len() > page;
        rows.truncate(page);
        let last = rows.last().filter(|_| more);
        let next_cursor = last.map(|row| cursor::encode(&position(row)));
        let items = rows.into_iter().map(post).collect();
        Self { items, next_cursor }
    }
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
        buyer_id: None,
        min_price: query.min_price,
        max_price: query.max_price,
    };
    let part = store.list(&filter, sort, after, limit).await?;
    Ok(Json(Page::from(part)).into_response())
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
    self::limit(&mut found, limit);
    found
}

pub(super) fn limit(found: &mut Vec<post::Violation>, limit: i64) {
    if !(1..=LIMIT_MAX).contains(&limit) {
        post::add(found, "limit", number::outside(1, LIMIT_MAX, limit));
    }
}

pub(super) fn position(cursor: &str, sort: Sort) -> Result<Position, InvalidCursor> {
    match cursor::decode(cursor)? {
        Position::Newest(at, _) if !is_time(at) => Err(InvalidCursor),
        position if position.sort() == sort => Ok(position),
        _ => Err(InvalidCursor),
    }
}

/// PostgreSQL refuses times that are too long ago, and no post is.
pub(super) fn is_time(at: DateTime<Utc>) -> bool {
    at >= DateTime::UNIX_EPOCH
}

pub(super) fn with_etag(post: Post) -> Response {
    let etag = format!("\"{}\"", post.version);
    ([(ETAG, etag)], Json(post)).into_response()
}

/// What `If-Match` names. A weak or malformed tag matches no version (RFC 9110, 13.1.1).
pub(super) fn expected(headers: &HeaderMap) -> Expected {
    let mut values = headers.get_all(IF_MATCH).iter().peekable();
    if values.peek().is_none() {
        return Expected::Unsaid;
    }
    let tags: Vec<&str> = values
        .flat_map(|value| value.to_str().unwrap_or_default().split(','))
        .map(str::trim)
        .collect();
    if tags.contains(&"*") {
        return Expected::Any;
    }
    let strong = |tag: &&str| tag.strip_prefix('"')?.strip_suffix('"').map(str::to_owned);
    Expected::Versions(tags.iter().filter_map(strong).collect())
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
        let expected = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IF_MATCH, HeaderValue::from_static(value));
            }
            expected(&headers)
        };
        let versions =
            |versions: &[&str]| Expected::Versions(versions.iter().map(|&v| v.to_owned()).collect());
        assert_eq!(expected(&[]), Expected::Unsaid);
        assert_eq!(expected(&["*"]), Expected::Any);
        assert_eq!(expected(&["\"7\""]), versions(&["7"]));
        assert_eq!(expected(&["\"7\", \"8\"", "\"9\""]), versions(&["7", "8", "9"]));
        for no_version in ["", "7", "W/\"7\"", "\""] {
            assert_eq!(expected(&[no_version]), versions(&[]), "{no_version}");
        }
    }
}
