//! `/v1/me/…`: the caller's own lists.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use service_kit::auth::Member;
use service_kit::cursor::{self, InvalidCursor};
use service_kit::extract::{Json, Query};
use service_kit::number;
use service_kit::problem::Problem;

use super::error::checked;
use super::posts::{self, LIMIT_DEFAULT, LIMIT_MAX, Page};
use crate::store::{Favorite, FavoritesPosition, Filter, Sort, Store};

const TAG: &str = "me";

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// `next_cursor` of the previous page of the same list.
    #[param(nullable = false)]
    cursor: Option<String>,
    #[serde(default, deserialize_with = "number::in_query::<_, 1, LIMIT_MAX>")]
    #[param(nullable = false, minimum = 1, maximum = 100, default = 20)]
    limit: Option<i64>,
}

impl PageQuery {
    fn limit(&self) -> Result<i64, Problem> {
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        let mut found = Vec::new();
        posts::limit(&mut found, limit);
        checked(found)?;
        Ok(limit)
    }
}

/// List your own trade posts
///
/// Those that you sell, the newest first.
#[utoipa::path(
    get,
    path = "/v1/me/posts",
    operation_id = "list_my_posts",
    tag = TAG,
    params(PageQuery),
    responses((status = 200, description = "A page of posts.", body = Page)),
)]
pub(super) async fn posts(
    State(store): State<Store>,
    member: Member,
    Query(query): Query<PageQuery>,
) -> Result<Response, Problem> {
    let filter = Filter {
        seller_id: Some(member.id),
        ..Filter::default()
    };
    newest(&store, filter, &query).await
}

/// List your purchases
///
/// Posts whose seller has chosen you as their buyer: reserved for you, or sold to you. The newest post first.
#[utoipa::path(
    get,
    path = "/v1/me/purchases",
    operation_id = "list_my_purchases",
    tag = TAG,
    params(PageQuery),
    responses((status = 200, description = "A page of posts.", body = Page)),
)]
pub(super) async fn purchases(
    State(store): State<Store>,
    member: Member,
    Query(query): Query<PageQuery>,
) -> Result<Response, Problem> {
    let filter = Filter {
        buyer_id: Some(member.id),
        ..Filter::default()
    };
    newest(&store, filter, &query).await
}

async fn newest(store: &Store, filter: Filter, query: &PageQuery) -> Result<Response, Problem> {
    let limit = query.limit()?;
    let sort = Sort::Newest;
    let after = query.cursor.as_deref();
    let after = after.map(|cursor| posts::position(cursor, sort)).transpose()?;
    let part = store.list(&filter, sort, after, limit).await?;
    Ok(Json(Page::from(part)).into_response())
}

/// List your favourites
///
/// What you kept last comes first.
#[utoipa::path(
    get,
    path = "/v1/me/favorites",
    operation_id = "list_my_favorites",
    tag = TAG,
    params(PageQuery),
    responses((status = 200, description = "A page of posts.", body = Page)),
)]
pub(super) async fn favorites(
    State(store): State<Store>,
    member: Member,
    Query(query): Query<PageQuery>,
) -> Result<Response, Problem> {
    let limit = query.limit()?;
    let after = query.cursor.as_deref().map(favorites_position).transpose()?;
    let items = store.favorites(member.id, after, limit + 1).await?;
    let page = Page::cut(items, limit, Favorite::position, |favorite| favorite.post);
    Ok(Json(page).into_response())
}

fn favorites_position(cursor: &str) -> Result<FavoritesPosition, InvalidCursor> {
    let position: FavoritesPosition = cursor::decode(cursor)?;
    if posts::is_time(position.favorite.0) {
        Ok(position)
    } else {
        Err(InvalidCursor)
    }
}

#[cfg(test)]
mod tests {
    use utoipa::IntoParams;

    use super::*;

    #[test]
    fn the_document_has_the_limits() {
        let parameters = serde_json::to_value(PageQuery::into_params(|| None)).unwrap();
        let limit = &parameters[1]["schema"];
        assert_eq!(parameters[1]["name"], "limit");
        assert_eq!(limit["maximum"], LIMIT_MAX);
        assert_eq!(limit["default"], LIMIT_DEFAULT);
    }
}
