//! Chats written into MongoDB beside the service, as it would have written them: by the API, a million messages
//! would take an hour.

use chat_service::{
    message::{Content, Message},
    room::Room,
    store::{Store, now, posts::TradePost},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use mongodb::bson::doc;

const BATCH: usize = 10_000;
const AT_ONCE: usize = 2;

/// Opens the buyer's room about each of the posts, which are known, with so many messages.
///
/// # Panics
/// If a post is not known or MongoDB does not answer.
pub async fn rooms(store: &Store, posts: &[i64], buyer: i64, messages: i64) {
    for posts in posts.chunks(1_000) {
        let found = store.posts.find(doc! { "_id": { "$in": posts } }).await;
        let found = found.expect("MongoDB answers").try_collect::<Vec<_>>().await;
        let mut rooms: Vec<Room> = found
            .expect("MongoDB answers")
            .iter()
            .map(|post| room(post, buyer))
            .collect();
        let sent = rooms
            .iter_mut()
            .flat_map(|room| (0..messages).map(|number| message(room, number)));
        stream::iter(sent)
            .chunks(BATCH)
            .map(|batch| async move { store.messages.insert_many(batch).await.map(drop) })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await
            .expect("MongoDB takes messages");
        let inserted = store.rooms.insert_many(&rooms).await;
        inserted.expect("MongoDB takes rooms");
    }
}

fn room(post: &TradePost, buyer_id: i64) -> Room {
    let seller_id = post.seller_id.expect("a live post");
    let row = (post.id, post.generation);
    let look = post.look().expect("a live post");
    Room::new(row, [seller_id, buyer_id], look, now())
}

fn message(room: &mut Room, number: i64) -> Message {
    let sender_id = if number % 2 == 0 {
        room.buyer_id
    } else {
        room.seller_id
    };
    let body = "안녕하세요, 아직 있나요? 내일 저녁 일곱 시쯤 역 앞에서 뵐 수 있을까요?".into();
    room.take_in(Content::Text { sender_id, body }, Some(number.to_string()), now())
}
