//! Members who block each other or have left a room hear of the end of its post like all others.

use std::slice::from_ref;

use e2e::{eventually::eventually, reader::Reader, world::World};
use local_stack::client::{Client, ClientError};
use reqwest::{Method, StatusCode};

use crate::{BOUND, chat_about, insert_posts};

const SELLER: i64 = 1;
const BUYER: i64 = 2;
const MESSAGES: u32 = 3;

/// The seller, the buyer, the post and their room about it.
async fn chat(world: &World) -> ([Client; 2], i64, String) {
    let post = insert_posts(world, SELLER, 1, "기타").await[0];
    world.known(&[post], BOUND).await;
    let room = chat_about(world, post, BUYER, MESSAGES).await;
    ([SELLER, BUYER].map(|member| world.member(member)), post, room)
}

/// Deletes the post and waits until nothing is left of it and both were told, which is all that they are told
/// from then on.
async fn delete(world: &World, post: i64, room: &String, members: &[Client; 2]) {
    let mut readers = Vec::new();
    for member in members {
        readers.push(Reader::start(member).await);
    }
    let delete = sqlx::query("DELETE FROM trade_posts WHERE id = $1").bind(post);
    assert_eq!(delete.execute(&world.sql).await.unwrap().rows_affected(), 1);
    world.erased(1, BOUND).await;
    assert_eq!(world.chats(post).await, (vec![], vec![]));
    assert_eq!(world.orphans().await, (vec![], vec![]));
    for reader in readers {
        eventually("the member is told", BOUND, async || {
            let closed = reader.closed_rooms();
            if closed.is_empty() { Err(closed) } else { Ok(()) }
        })
        .await;
        assert_eq!(reader.closed_rooms(), from_ref(room));
        assert_eq!(reader.seen().last().unwrap().kind, "room_closed");
    }
    let both = [SELLER, BUYER].map(|member| (room.clone(), member));
    world.told_once(&both.into()).await;
    let deletion = members[0].deletions(post).await.unwrap().remove(0);
    assert_eq!((deletion.rooms, deletion.messages), (1, i64::from(MESSAGES)));
}

async fn change(member: &Client, method: Method, path: &str) {
    let answer = member.chat(method, path).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{path}");
}

fn is_refused(refused: &ClientError, status: StatusCode, code: &str) -> bool {
    (refused.status(), refused.code()) == (Some(status), Some(code))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_blocked_sends_nothing_and_is_told_that_the_room_is_closed() {
    World::run(async |world| {
        let (members, post, room) = chat(world).await;
        let [seller, buyer] = &members;
        change(seller, Method::PUT, &format!("/v1/blocks/{BUYER}")).await;
        for member in &members {
            let refused = member.send(&room, "blocked", "왜요?").await.unwrap_err();
            assert!(
                is_refused(&refused, StatusCode::FORBIDDEN, "blocked"),
                "{refused}"
            );
            assert_eq!(member.messages(&room).await.unwrap().len(), MESSAGES as usize);
        }

        // The buyer tries and tries, until the room is gone.
        let tries = async {
            loop {
                let refused = buyer.send(&room, "again", "왜요?").await.unwrap_err();
                if is_refused(&refused, StatusCode::GONE, "room-closed") {
                    return;
                }
                let blocked = is_refused(&refused, StatusCode::FORBIDDEN, "blocked");
                let busy = refused.status() == Some(StatusCode::TOO_MANY_REQUESTS);
                assert!(blocked || busy, "{refused}");
            }
        };
        let deleted = delete(world, post, &room, &members);
        tokio::join!(
            async { tokio::time::timeout(BOUND, tries).await.unwrap() },
            deleted
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_left_is_told_that_the_room_is_closed() {
    World::run(async |world| {
        let (members, post, room) = chat(world).await;
        let [_, buyer] = &members;
        change(buyer, Method::POST, &format!("/v1/rooms/{room}/leave")).await;
        assert_eq!(buyer.rooms().await.unwrap(), []);
        delete(world, post, &room, &members).await;
        for member in &members {
            let gone = member.messages(&room).await.unwrap_err();
            assert!(is_refused(&gone, StatusCode::GONE, "room-closed"), "{gone}");
        }
    })
    .await;
}
