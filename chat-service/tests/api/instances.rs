//! Several instances over one database, and one that is started anew.

use std::collections::BTreeMap;

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
    let instance = chat.beside(&[]).await;
    let first = chat.send_at(&instance.base, BUYER, &room, "one", "하나").await;
    assert_eq!(first.status, 201);
    let there = chat.send(BUYER, &room, "one", "다른 글").await;
    assert_eq!((there.status.as_u16(), &there.body), (200, &first.body));
    instance.stop().await;
    let restarted = chat.beside(&[]).await;
    let again = chat.send_at(&restarted.base, BUYER, &room, "one", "하나").await;
    assert_eq!((again.status.as_u16(), &again.body), (200, &first.body));
    assert_eq!(ids(&chat, &room).await, [(BUYER, "one".to_owned())]);
    assert_eq!(
        chat.store.last_seq(SELLER).await.unwrap(),
        2,
        "the seller was told of the room and of the message, each once"
    );
}

#[tokio::test]
async fn messages_sent_at_two_instances_at_once_are_each_kept_once_and_in_one_order() {
    let chat = Chat::start().await;
    let other = chat.beside(&[]).await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    // Each at both instances, some twice, by both members under the same ids.
    let sends = (0..120).map(|place| {
        let base = [&chat.base, &other.base][place % 2];
        let sender = [BUYER, BUYER, SELLER, SELLER][place % 4];
        let id = (place / 4 % 20).to_string();
        let (chat, room) = (&chat, &room);
        async move {
            let sent = chat.send_at(base, sender, room, &id, "동시에").await;
            ((sender, id), sent)
        }
    });
    let sent = join_all(sends).await;
    let mut answers: BTreeMap<&(i64, String), Vec<&Value>> = BTreeMap::new();
    for (id, answer) in &sent {
        assert!(answer.status == 201 || answer.status == 200, "{answer:?}");
        answers.entry(id).or_default().push(&answer.body);
    }
    for (id, answers) in &answers {
        assert!(
            answers.iter().all(|answer| *answer == answers[0]),
            "{id:?}: {answers:?}"
        );
    }
    let new = sent.iter().filter(|(_, answer)| answer.status == 201).count();
    let mut kept = ids(&chat, &room).await;
    kept.sort();
    let expected: Vec<(i64, String)> = answers.into_keys().cloned().collect();
    assert_eq!((new, kept), (40, expected));
}
