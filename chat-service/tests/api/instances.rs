//! Several instances over one database, and one that is started anew.

use futures_util::future::join_all;
use serde_json::Value;

use crate::chat::{BUYER, Chat, SELLER};

/// The room's messages: who sent them, under which id.
async fn ids(chat: &Chat, room: &str) -> Vec<(i64, String)> {
    let page = chat
        .get(BUYER, &format!("/v1/rooms/{room}/messages?after=0&limit=100"))
        .await;
    let items = page.body["items"].as_array().unwrap();
    let seqs: Vec<i64> = items.iter().map(|item| item["seq"].as_i64().unwrap()).collect();
    assert_eq!(
        seqs,
        (1..=i64::try_from(items.len()).unwrap()).collect::<Vec<_>>(),
        "no gaps"
    );
    items
        .iter()
        .map(|item| {
            (
                item["sender_id"].as_i64().unwrap(),
                item["client_message_id"].as_str().unwrap().to_owned(),
            )
        })
        .collect()
}

#[tokio::test]
async fn a_message_repeated_at_another_instance_or_after_a_restart_is_the_first_one() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    let first = chat.send(BUYER, &room, "one", "하나").await;
    assert_eq!(first.status, 201);
    let second = chat.another().await;
    let there = second.send(BUYER, &room, "one", "다른 글").await;
    assert_eq!((there.status.as_u16(), &there.body), (200, &first.body));
    let restarted = chat.another().await;
    chat.stop().await;
    let again = restarted.send(BUYER, &room, "one", "하나").await;
    assert_eq!((again.status.as_u16(), &again.body), (200, &first.body));
    assert_eq!(ids(&second, &room).await, [(BUYER, "one".to_owned())]);
    assert_eq!(
        second.store.last_seq(SELLER).await.unwrap(),
        2,
        "the seller was told of the room and of the message, each once"
    );
}

#[tokio::test]
async fn messages_sent_at_two_instances_at_once_are_each_kept_once_and_in_one_order() {
    let chats = [Chat::start().await];
    let chats = [&chats[0], &chats[0].another().await];
    chats[0].on_sale(10, 100).await;
    let room = chats[0].room(10).await;
    // Each message at both instances, some twice, by both members under the same ids.
    let sends = (0..120).map(|place| {
        let (chat, room) = (chats[place % 2], &room);
        let sender = if place % 4 < 2 { BUYER } else { SELLER };
        async move {
            (
                sender,
                place / 4 % 20,
                chat.send(sender, room, &(place / 4 % 20).to_string(), "동시에")
                    .await,
            )
        }
    });
    let sent = join_all(sends).await;
    let mut by_id: std::collections::BTreeMap<(i64, usize), Vec<&Value>> = std::collections::BTreeMap::new();
    for (sender, id, answer) in &sent {
        assert!(answer.status == 201 || answer.status == 200, "{answer:?}");
        by_id.entry((*sender, *id)).or_default().push(&answer.body);
    }
    for (id, answers) in &by_id {
        assert!(
            answers.iter().all(|answer| *answer == answers[0]),
            "{id:?}: {answers:?}"
        );
    }
    let new = sent.iter().filter(|(_, _, answer)| answer.status == 201).count();
    assert_eq!((by_id.len(), new), (40, 40));
    let mut kept = ids(chats[0], &room).await;
    assert_eq!(kept.len(), 40);
    kept.sort();
    kept.dedup();
    assert_eq!(kept.len(), 40);
}
