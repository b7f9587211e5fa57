//! `/v1/me/keywords`: the words that the caller wants to be told of when they occur in a new post's title.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use service_kit::auth::Member;
use service_kit::extract::{Json, Path};
use service_kit::problem::Problem;

use super::error::checked;
use crate::keyword::{Keyword, NewKeyword};
use crate::store::Store;
use crate::store::keywords::Kept;

const TAG: &str = "keywords";

/// Keep a keyword
///
/// From then on the caller is told of new posts of others whose title has it, by a notification of
/// `trade_post_matched`. To keep it again answers the first.
#[utoipa::path(
    post,
    path = "/v1/me/keywords",
    operation_id = "keep_keyword",
    tag = TAG,
    request_body = NewKeyword,
    responses(
        (status = 201, description = "The new keyword.", body = Keyword),
        (status = 200, description = "The caller has it already.", body = Keyword),
        (status = 409, description = "`too-many-keywords`: the caller has 30 already."),
    ),
)]
pub(super) async fn keep(
    State(store): State<Store>,
    member: Member,
    Json(new): Json<NewKeyword>,
) -> Result<Response, Problem> {
    let keyword = match new.keyword() {
        Ok(keyword) => keyword,
        Err(violations) => return Err(checked(violations).expect_err("something is wrong with it")),
    };
    Ok(match store.keep_keyword(member.id, &keyword).await? {
        Kept::New(keyword) => (StatusCode::CREATED, Json(keyword)).into_response(),
        Kept::Before(keyword) => Json(keyword).into_response(),
    })
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Keywords {
    items: Vec<Keyword>,
}

/// List the caller's keywords
#[utoipa::path(
    get,
    path = "/v1/me/keywords",
    operation_id = "list_keywords",
    tag = TAG,
    responses((status = 200, description = "All of them, the newest first.", body = Keywords)),
)]
pub(super) async fn list(State(store): State<Store>, member: Member) -> Result<Response, Problem> {
    let items = store.keywords(member.id).await?;
    Ok(Json(Keywords { items }).into_response())
}

/// For the document.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "handlers take it out of the path by itself")]
pub(super) struct Id {
    id: i64,
}

/// Forget a keyword
#[utoipa::path(
    delete,
    path = "/v1/me/keywords/{id}",
    operation_id = "forget_keyword",
    tag = TAG,
    params(Id),
    responses(
        (status = 204, description = "It is forgotten."),
        (status = 404, description = "`not-found`: the caller has no such keyword."),
    ),
)]
pub(super) async fn forget(
    State(store): State<Store>,
    member: Member,
    Path(id): Path<i64>,
) -> Result<StatusCode, Problem> {
    store.forget_keyword(member.id, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
