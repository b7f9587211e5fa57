//! Rooms: open, list, show.

use std::{collections::HashMap, sync::Arc};

use axum::{extract::State, response::IntoResponse};
use http::{StatusCode, header::LOCATION};
use mongodb::bson::{DateTime, oid::ObjectId};
use serde::{Deserialize, Serialize};
use service_kit::{
    auth::Member,
    extract::{Json, Path, Query},
};

use super::{App, error::ApiError, page, rate::Action};
use crate::{
    room::Room,
    store::{
        now,
        posts::TradePost,
        rooms::{Opened, RoomsAfter},
    },
    view::RoomView,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenRoom {
    trade_post_id: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    cursor: Option<String>,
    limit: Option<i64>,
}

#[derive(Serialize)]
pub struct Rooms {
    items: Vec<RoomView>,
    next_cursor: Option<String>,
    /// Open the event stream with it, and nothing falls between this list and the stream.
    last_event_id: i64,
}

#[derive(Serialize, Deserialize)]
struct ListKey {
    /// Milliseconds since the epoch.
    at: i64,
    id: String,
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
    Query(Page { cursor, limit }): Query<Page>,
) -> Result<Json<Rooms>, ApiError> {
    let limit = page::limit(limit)?;
    let after = page::after::<ListKey>(cursor.as_deref())?
        .map(|key| {
            Ok::<_, ApiError>(RoomsAfter {
                last_activity_at: DateTime::from_millis(key.at),
                id: page::room_id(&key.id)?,
            })
        })
        .transpose()?;
    // Before the list: what happens in between is in both, rather than in neither.
    let last_event_id = app.store.last_seq(caller.id).await?;
    let rooms = app.store.rooms_of(caller.id, after, limit).await?;
    let next_cursor = page::next(&rooms, limit, |room| ListKey {
        at: room.last_activity_at.timestamp_millis(),
        id: room.id.to_hex(),
    });
    Ok(Json(Rooms {
        items: with_posts(&app, rooms, caller.id).await?,
        next_cursor,
        last_event_id,
    }))
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
    Query(Page { cursor, limit }): Query<Page>,
) -> Result<Json<Rooms>, ApiError> {
    let limit = page::limit(limit)?;
    let after: Option<String> = page::after(cursor.as_deref())?;
    let after = after.as_deref().map(page::room_id).transpose()?;
    let last_event_id = app.store.last_seq(caller.id).await?;
    let rooms = app
        .store
        .rooms_of_post(trade_post_id, caller.id, after, limit)
        .await?;
    let next_cursor = page::next(&rooms, limit, |room| room.id.to_hex());
    Ok(Json(Rooms {
        items: with_posts(&app, rooms, caller.id).await?,
        next_cursor,
        last_event_id,
    }))
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

async fn with_posts(app: &App, rooms: Vec<Room>, member: i64) -> Result<Vec<RoomView>, ApiError> {
    let ids: Vec<i64> = rooms.iter().map(|room| room.trade_post_id).collect();
    let posts = app.store.posts_by_id(&ids).await?;
    let posts: HashMap<i64, &TradePost> = posts.iter().map(|post| (post.id, post)).collect();
    Ok(rooms
        .into_iter()
        .map(|room| {
            let post = posts.get(&room.trade_post_id).copied();
            RoomView::new(room, member, post)
        })
        .collect())
}
