//! Rooms: open, list, show.

use std::sync::Arc;

use axum::{extract::State, response::IntoResponse};
use http::{StatusCode, header::LOCATION};
use mongodb::bson::oid::ObjectId;
use serde::{Deserialize, Serialize};
use service_kit::{
    auth::Member,
    extract::{Json, Path, Query},
};

use super::{
    App,
    error::ApiError,
    page::{self, Asked, ReadUpTo, RoomId, TradePostId, Wanted},
    rate::Action,
};
use crate::{
    room::Room,
    store::{
        now,
        reads::Marked,
        rooms::{Listed, Opened, Place},
    },
    view::RoomView,
};

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenRoom {
    #[schema(examples(42))]
    trade_post_id: i64,
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct Rooms {
    items: Vec<RoomView>,
    #[schema(required)]
    next_cursor: Option<String>,
    #[schema(required)]
    previous_cursor: Option<String>,
    /// Open the event stream with it, and nothing falls between this list and the stream.
    last_event_id: i64,
}

/// What a member has read of a room, and what is left.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Read {
    #[schema(examples(3))]
    read_up_to: i64,
    #[schema(examples(0))]
    unread: i64,
}

/// Open a room about a trade post
///
/// The caller is the buyer.
#[utoipa::path(
    post,
    path = "/v1/rooms",
    operation_id = "open_room",
    tag = "rooms",
    request_body = OpenRoom,
    responses(
        (status = 200, description = "The room that the caller has about the post.", body = RoomView, headers(("Location" = String, description = "Where the room is."))),
        (status = 201, description = "A new room.", body = RoomView, headers(("Location" = String, description = "Where the room is."))),
        (status = 403, description = "`blocked`, `member-erased`: the two cannot send to each other; `reason` says why."),
        (
            status = 404,
            description = "`not-found`: the post is not known here. A new one is in a moment.",
            headers(("Retry-After" = u64, description = "Seconds to wait before trying again.")),
        ),
        (status = 409, description = "`own-trade-post`: the post is the caller's own."),
        (status = 410, description = "`trade-post-deleted`: the post was deleted."),
        (status = 429, description = "`rate-limited`: too many rooms of the caller."),
    ),
)]
pub async fn open(
    State(app): State<Arc<App>>,
    caller: Member,
    Json(OpenRoom { trade_post_id }): Json<OpenRoom>,
) -> Result<impl IntoResponse, ApiError> {
    app.permit(Action::OpenRoom, caller.id)?;
    let (status, room) = match app.store.open_room(trade_post_id, caller.id, now()).await? {
        Opened::New(room) => (StatusCode::CREATED, room),
        Opened::Existing(room) => (StatusCode::OK, room),
        Opened::UnknownPost => return Err(ApiError::UnknownPost(trade_post_id)),
        Opened::PostDeleted => {
            app.metrics.fence_hit("open_room");
            return Err(ApiError::PostDeleted(trade_post_id));
        }
        Opened::OwnPost => return Err(ApiError::OwnPost(trade_post_id)),
        Opened::Refused(refusal) => return Err(ApiError::Refused(refusal)),
    };
    let location = format!("/v1/rooms/{}", room.id.to_hex());
    Ok((
        status,
        [(LOCATION, location)],
        Json(with_post(&app, room, caller.id).await?),
    ))
}

/// List the caller's rooms
#[utoipa::path(
    get,
    path = "/v1/rooms",
    operation_id = "list_rooms",
    tag = "rooms",
    params(Wanted),
    responses(
        (status = 200, description = "A page of rooms, last activity first.", body = Rooms),
    ),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Member,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Rooms>, ApiError> {
    let asked = Asked::new("rooms", &wanted)?;
    // Before the list: what happens in between is in both, rather than in neither.
    let last_event_id = app.store.last_seq(caller.id).await?;
    let rooms = app.store.rooms_of(caller.id, asked.edge, asked.rows()).await?;
    Ok(Json(Rooms::new(&asked, rooms, caller.id, last_event_id)))
}

/// Show a room
#[utoipa::path(
    get,
    path = "/v1/rooms/{room_id}",
    operation_id = "show_room",
    tag = "rooms",
    params(RoomId),
    responses(
        (status = 200, description = "The room.", body = RoomView),
        (status = 404, description = "`not-found`: there is no such room, or it is others'."),
        (status = 410, description = "`room-closed`: with its post, or its members; `reason` says which."),
    ),
)]
pub async fn show(
    State(app): State<Arc<App>>,
    caller: Member,
    Path(room_id): Path<String>,
) -> Result<Json<RoomView>, ApiError> {
    let room = readable(&app, page::room_id(&room_id)?, caller.id).await?;
    Ok(Json(with_post(&app, room, caller.id).await?))
}

/// List the rooms of one of the caller's posts
///
/// For a post of somebody else, or of nobody, the list is empty.
#[utoipa::path(
    get,
    path = "/v1/trade-posts/{trade_post_id}/rooms",
    operation_id = "list_rooms_of_trade_post",
    tag = "rooms",
    params(TradePostId, Wanted),
    responses(
        (status = 200, description = "A page of rooms, last activity first.", body = Rooms),
    ),
)]
pub async fn of_post(
    State(app): State<Arc<App>>,
    caller: Member,
    Path(trade_post_id): Path<i64>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Rooms>, ApiError> {
    let list = format!("trade-posts/{trade_post_id}/rooms");
    let asked = Asked::new(list, &wanted)?;
    let last_event_id = app.store.last_seq(caller.id).await?;
    let rooms = app
        .store
        .rooms_of_post(trade_post_id, caller.id, asked.edge, asked.rows())
        .await?;
    Ok(Json(Rooms::new(&asked, rooms, caller.id, last_event_id)))
}

impl Rooms {
    fn new(asked: &Asked<Place>, rooms: Vec<Listed>, member: i64, last_event_id: i64) -> Self {
        let page = asked.page(rooms, |Listed { room, .. }| {
            (room.last_activity_at.timestamp_millis(), room.id)
        });
        let views = page
            .items
            .into_iter()
            .map(|Listed { room, post }| RoomView::new(room, member, post.first()));
        Self {
            items: views.collect(),
            next_cursor: page.next_cursor,
            previous_cursor: page.previous_cursor,
            last_event_id,
        }
    }
}

/// Leave a room
///
/// Hides it from the caller's list until its next message. Twice is once.
#[utoipa::path(
    post,
    path = "/v1/rooms/{room_id}/leave",
    operation_id = "leave_room",
    tag = "rooms",
    params(RoomId),
    responses(
        (status = 204, description = "The room is hidden."),
        (status = 404, description = "`not-found`: there is no such room, or it is others'."),
        (status = 410, description = "`room-closed`: with its post, or its members; `reason` says which."),
    ),
)]
pub async fn leave(
    State(app): State<Arc<App>>,
    caller: Member,
    Path(room_id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let room_id = page::room_id(&room_id)?;
    if app.store.leave(room_id, caller.id).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    match app.store.closed(room_id, caller.id).await? {
        Some(closed) => Err(ApiError::RoomClosed(closed)),
        None => Err(ApiError::NoRoom),
    }
}

/// Mark messages as read
///
/// And what was told of them. A marker that is further already stays where it is.
#[utoipa::path(
    put,
    path = "/v1/rooms/{room_id}/read",
    operation_id = "read_room",
    tag = "rooms",
    params(RoomId),
    request_body = ReadUpTo,
    responses(
        (status = 200, description = "What the caller has read.", body = Read),
        (status = 404, description = "`not-found`: there is no such room, or it is others'."),
        (status = 410, description = "`room-closed`: with its post, or its members; `reason` says which."),
    ),
)]
pub async fn read(
    State(app): State<Arc<App>>,
    caller: Member,
    Path(room_id): Path<String>,
    Json(up_to): Json<ReadUpTo>,
) -> Result<Json<Read>, ApiError> {
    let (room_id, seq) = (page::room_id(&room_id)?, up_to.seq()?);
    match app.store.read_room(room_id, caller.id, seq, now()).await? {
        Marked::Read { read_up_to, unread } => Ok(Json(Read { read_up_to, unread })),
        Marked::Beyond { last } => Err(up_to.beyond(last)),
        Marked::NoRoom => Err(ApiError::NoRoom),
        Marked::Closed(closed) => Err(ApiError::RoomClosed(closed)),
    }
}

/// The room, if the member may read it.
pub async fn readable(app: &App, id: ObjectId, member: i64) -> Result<Room, ApiError> {
    match app.store.room(id, member).await? {
        Some(room) => room
            .closed()
            .map_or(Ok(room), |closed| Err(ApiError::RoomClosed(closed))),
        None => match app.store.closed(id, member).await? {
            Some(closed) => Err(ApiError::RoomClosed(closed)),
            None => Err(ApiError::NoRoom),
        },
    }
}

async fn with_post(app: &App, room: Room, member: i64) -> Result<RoomView, ApiError> {
    let post = app.store.post(room.trade_post_id).await?;
    Ok(RoomView::new(room, member, post.as_ref()))
}
