//! What an orphan is: a room, or messages, that went on without what they belong to.
//!
//! Invariant: none of them should be possible. A room is judged by what one snapshot of the database shows of
//! it and of its parents; work under way can look like an orphan for a moment, so one look proves nothing.

use mongodb::bson::oid::ObjectId;
use serde::{Deserialize, Serialize};

use crate::{
    room::{DeletionId, RoomState},
    store::{deletions::DeletionState, posts::TradePost},
};

/// How something has lost its parents.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum OrphanKind {
    /// An open room whose row has left the post's id, deleted or for another id, or whose id is another row's.
    OpenRoom,
    /// An open room whose post is not known.
    UnknownPost,
    /// A closed room whose deletion is done, or not there.
    ClosedRoom,
    /// A room that was closed because its members have gone, and that no erasure will take along.
    DesertedRoom,
    /// Messages whose room is not there.
    Messages,
}

impl OrphanKind {
    pub const ALL: [Self; 5] = [
        Self::OpenRoom,
        Self::UnknownPost,
        Self::ClosedRoom,
        Self::DesertedRoom,
        Self::Messages,
    ];

    /// Its name in metrics, as it is stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenRoom => "open_room",
            Self::UnknownPost => "unknown_post",
            Self::ClosedRoom => "closed_room",
            Self::DesertedRoom => "deserted_room",
            Self::Messages => "messages",
        }
    }
}

/// What is judged of a room.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RoomFacts {
    #[serde(rename = "_id")]
    pub id: ObjectId,
    pub trade_post_id: i64,
    pub generation: i64,
    pub state: RoomState,
    #[serde(default)]
    pub closed_by: Option<DeletionId>,
    #[serde(default)]
    pub erasing: Vec<i64>,
}

/// What there is of a room's parents.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parents<'a> {
    pub post: Option<&'a TradePost>,
    /// The deletion that closed it.
    pub deletion: Option<DeletionState>,
    /// Whether one of the members who are erased from it still is at work.
    pub is_being_erased: bool,
}

/// Says how `room` is an orphan, if it is one. A closed room does not need its post: fences expire, and
/// kept rooms outlive them.
pub fn judge(room: &RoomFacts, parents: Parents<'_>) -> Option<OrphanKind> {
    match (room.state, room.closed_by) {
        (RoomState::Open, _) => match parents.post {
            None => Some(OrphanKind::UnknownPost),
            Some(post) => post.has_lost(room.generation).then_some(OrphanKind::OpenRoom),
        },
        (RoomState::Closed, Some(_)) => match parents.deletion {
            Some(DeletionState::Pending | DeletionState::Erasing) => None,
            Some(DeletionState::Done) | None => Some(OrphanKind::ClosedRoom),
        },
        (RoomState::Closed, None) => (!parents.is_being_erased).then_some(OrphanKind::DesertedRoom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::posts::{End, PostState};

    fn room(state: RoomState, closed_by: Option<i64>) -> RoomFacts {
        RoomFacts {
            id: ObjectId::new(),
            trade_post_id: 7,
            generation: 10,
            state,
            closed_by: closed_by.map(|lsn| DeletionId { post: 7, lsn }),
            erasing: Vec::new(),
        }
    }

    fn post(state: PostState, ends: &[(i64, Option<i64>)]) -> TradePost {
        TradePost {
            id: 7,
            seller_id: Some(1),
            title: Some("자전거".into()),
            status: Some("on_sale".into()),
            state,
            lsn: 30,
            generation: 10,
            deleted_at: None,
            ends: ends.iter().map(|(lsn, to)| End { lsn: *lsn, to: *to }).collect(),
            arrivals: Vec::new(),
        }
    }

    fn with_post(post: &TradePost) -> Parents<'_> {
        Parents {
            post: Some(post),
            ..Parents::default()
        }
    }

    #[test]
    fn an_open_room_needs_a_row_that_has_not_left_since() {
        let open = room(RoomState::Open, None);
        let cases = [
            (post(PostState::Live, &[]), None),
            (post(PostState::Live, &[(9, None)]), None),
            (
                post(PostState::Deleted, &[(10, None)]),
                Some(OrphanKind::OpenRoom),
            ),
            (
                post(PostState::Live, &[(9, None), (20, None)]),
                Some(OrphanKind::OpenRoom),
            ),
            (
                post(PostState::Deleted, &[(20, Some(8))]),
                Some(OrphanKind::OpenRoom),
            ),
        ];
        for (post, kind) in cases {
            assert_eq!(judge(&open, with_post(&post)), kind, "{post:?}");
        }
        assert_eq!(
            judge(&open, Parents::default()),
            Some(OrphanKind::UnknownPost),
            "nothing is known of its post"
        );
    }

    #[test]
    fn a_closed_room_needs_a_deletion_at_work_and_no_post() {
        let closed = room(RoomState::Closed, Some(20));
        for (deletion, kind) in [
            (Some(DeletionState::Pending), None),
            (Some(DeletionState::Erasing), None),
            (Some(DeletionState::Done), Some(OrphanKind::ClosedRoom)),
            (None, Some(OrphanKind::ClosedRoom)),
        ] {
            let parents = Parents {
                deletion,
                ..Parents::default()
            };
            assert_eq!(judge(&closed, parents), kind, "{deletion:?}");
        }
    }

    #[test]
    fn a_deserted_room_needs_an_erasure_at_work() {
        let deserted = room(RoomState::Closed, None);
        for (is_being_erased, kind) in [(true, None), (false, Some(OrphanKind::DesertedRoom))] {
            let parents = Parents {
                is_being_erased,
                ..Parents::default()
            };
            assert_eq!(judge(&deserted, parents), kind);
        }
    }

    #[test]
    fn kinds_are_named_as_they_are_stored() {
        for kind in OrphanKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }
}
