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
    page::{self, Asked, ReadUpTo, Wanted},
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenRoom {
    trade_post_id: i64,
}

#[derive(Serialize)]
pub struct Rooms {
    items: Vec<RoomView>,
    next_cursor: Option<String>,
    previous_cursor: Option<String>,
    /// Open the event stream with it, and nothing falls between this list and the stream.
    last_event_id: i64,
}

/// What a member has read of a room, and what is left.
#[derive(Serialize)]
pub struct Read {
    read_up_to: i64,
    unread: i64,
}

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

pub async fn show(
    State(app): State<Arc<App>>,
    caller: Member,
    Path(room_id): Path<String>,
) -> Result<Json<RoomView>, ApiError> {
    let room = readable(&app, page::room_id(&room_id)?, caller.id).await?;
    Ok(Json(with_post(&app, room, caller.id).await?))
}

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

/// Marks messages as read. A marker that is further already stays where it is.
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
