//! Chats written into MongoDB beside the service, as it would have written them: by the API, a million messages
//! would take an hour.

use chat_service::{
    message::Message,
    room::{Room, RoomState},
    store::{Store, now},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use mongodb::bson::oid::ObjectId;

const BATCH: i64 = 10_000;
const AT_ONCE: usize = 2;

/// Opens the buyer's room about each of the posts, which are known, with so many messages.
///
/// # Panics
/// If a post is not known or MongoDB does not answer.
pub async fn rooms(store: &Store, posts: &[i64], buyer: i64, messages: i64) {
    for posts in posts.chunks(1_000) {
        let posts = store.posts_by_id(posts).await.expect("MongoDB answers");
        let rooms = posts.into_iter().map(|post| {
            let seller_id = post.seller_id.expect("a live post");
            Room {
                id: ObjectId::new(),
                trade_post_id: post.id,
                generation: post.generation,
                seller_id,
                buyer_id: buyer,
                members: [seller_id, buyer],
                state: RoomState::Open,
                closed_by: None,
                next_seq: messages + 1,
                last_message: None,
                created_at: now(),
                last_activity_at: now(),
            }
        });
        let rooms: Vec<Room> = rooms.collect();
        store
            .rooms
            .insert_many(&rooms)
            .await
            .expect("MongoDB takes rooms");
        let parts = rooms
            .iter()
            .flat_map(|room| (1..=messages).map(move |seq| (room, seq)));
        stream::iter(parts.map(|(room, seq)| message(room, seq)))
            .chunks(usize::try_from(BATCH).expect("a size"))
            .map(|batch| async move { store.messages.insert_many(batch).await.map(drop) })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await
            .expect("MongoDB takes messages");
    }
}

fn message(room: &Room, seq: i64) -> Message {
    let sender = usize::from(seq % 2 == 0);
    Message {
        room_id: room.id,
        seq,
        sender_id: room.members[sender],
        client_message_id: seq.to_string(),
        body: "안녕하세요, 아직 있나요? 내일 저녁 일곱 시쯤 역 앞에서 뵐 수 있을까요?".into(),
        sent_at: now(),
    }
}
