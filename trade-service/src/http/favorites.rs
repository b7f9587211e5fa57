//! `/v1/trade-posts/{id}/favorite`: a member keeps a post.

use axum::extract::State;
use http::StatusCode;
use service_kit::auth::Member;
use service_kit::extract::Path;
use service_kit::problem::Problem;

use super::posts::{Id, TAG};
use crate::store::Store;

/// Keep a trade post as a favourite
///
/// A post that is kept already stays so.
#[utoipa::path(
    put,
    path = "/v1/trade-posts/{id}/favorite",
    operation_id = "add_favorite",
    tag = TAG,
    params(Id),
    responses(
        (status = 204, description = "The post is one of the caller's favourites."),
        (status = 404, description = "`not-found`: there is no such post."),
    ),
)]
pub(super) async fn add(
    State(store): State<Store>,
    member: Member,
    Path(id): Path<i64>,
) -> Result<StatusCode, Problem> {
    store.add_favorite(member.id, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Keep a trade post no longer
///
/// Also answered so if it was not kept.
#[utoipa::path(
    delete,
    path = "/v1/trade-posts/{id}/favorite",
    operation_id = "remove_favorite",
    tag = TAG,
    params(Id),
    responses(
        (status = 204, description = "The post is none of the caller's favourites."),
        (status = 404, description = "`not-found`: there is no such post."),
    ),
)]
pub(super) async fn remove(
    State(store): State<Store>,
    member: Member,
    Path(id): Path<i64>,
) -> Result<StatusCode, Problem> {
    store.remove_favorite(member.id, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
