//! `/v1/trade-posts/{id}/buyer`: the seller says who gets the post.

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use service_kit::auth::Member;
use service_kit::extract::{Json, Path};
use service_kit::problem::Problem;

use super::error::checked;
use super::posts::{Id, IfMatch, TAG, expected, with_etag};
use crate::post::{Buyer, Post};
use crate::store::Store;

/// Choose the buyer of a trade post
///
/// Which reserves it for them. While it is reserved another one may be chosen. To complete the sale change the
/// post's `status` to `sold`, to reopen it to `on_sale`.
#[utoipa::path(
    put,
    path = "/v1/trade-posts/{id}/buyer",
    operation_id = "choose_buyer",
    tag = TAG,
    params(Id, IfMatch),
    request_body = Buyer,
    responses(
        (
            status = 200,
            description = "The post, reserved for the buyer.",
            body = Post,
            headers(("ETag" = String, description = "Its version, for `If-Match`.")),
        ),
        (status = 403, description = "`not-the-seller`: the post is another member's."),
        (status = 404, description = "`not-found`: there is no such post."),
        (
            status = 409,
            description = "`not-in-this-status`: the post is sold, as `current_status` says; reopen it first.",
        ),
        (status = 412, description = "`version-mismatch`: the post is not of a version that `If-Match` names."),
    ),
)]
pub(super) async fn choose(
    State(store): State<Store>,
    member: Member,
    Path(id): Path<i64>,
    headers: HeaderMap,
    Json(buyer): Json<Buyer>,
) -> Result<Response, Problem> {
    checked(buyer.violations())?;
    let expected = expected(&headers);
    let post = store
        .choose_buyer(id, member.id, &expected, buyer.buyer_id)
        .await?;
    Ok(with_etag(post))
}
