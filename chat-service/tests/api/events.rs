//! The event stream: live, resumed, limited, ended.

use std::time::Duration;

use local_stack::client::{Bases, Client, EventStream};
use reqwest::Method;
use tokio::time::{Instant, timeout};

use crate::chat::{Answer, BUYER, Chat, SELLER, STRANGER, delete, eventually};

pub async fn open(chat: &Chat, member: i64, last_event_id: Option<i64>) -> EventStream {
    let bases = Bases {
        trade: String::new(),
        chat: chat.base.clone(),
        chat_admin: chat.admin.clone(),
    };
    Client::new(bases, chat.token(member))
        .unwrap()
        .events(last_event_id)
        .await
        .unwrap()
}

pub async fn next(stream: &mut EventStream) -> (i64, String, serde_json::Value) {
    let event = timeout(Duration::from_secs(10), stream.next())
        .await
        .expect("an event in time")
        .unwrap();
    let event = event.expect("the stream goes on");
    (event.id, event.name.clone(), event.json().unwrap())
}

/// Nothing else comes: the next event is the one that is caused now.
async fn only_then(chat: &Chat, stream: &mut EventStream, room: &str, sender: i64, seq: i64) {
    chat.send(sender, room, &format!("only then {seq}"), "끝").await;
    assert_eq!(next(stream).await.0, seq);
}

#[tokio::test]
async fn members_are_told_of_rooms_messages_and_closes() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let (mut seller, mut buyer) = (open(&chat, SELLER, None).await, open(&chat, BUYER, None).await);
    let mut stranger = open(&chat, STRANGER, None).await;
    let room = chat.room(10).await;
    let (id, name, data) = next(&mut seller).await;
    assert_eq!(
        (id, name.as_str(), &data["room_id"]),
        (1, "room_created", &room.clone().into())
    );

    let sent = chat.send(BUYER, &room, "1", "안녕하세요\n아직 있나요?").await;
    let (id, name, data) = next(&mut seller).await;
    assert_eq!((id, name.as_str(), &data["message"]), (2, "message", &sent.body));

    chat.capture([(10, 101, delete(200))]).await;
    for (stream, seq) in [(&mut seller, 3), (&mut buyer, 1)] {
        let (id, name, data) = next(stream).await;
        assert_eq!((id, name.as_str()), (seq, "room_closed"));
        assert_eq!(
            (&data["room_id"], &data["trade_post_id"], &data["reason"]),
            (&room.clone().into(), &10.into(), &"trade_post_deleted".into())
        );
    }
    // The stranger heard nothing of it.
    chat.on_sale(11, 300).await;
    let other = chat.room_of(11, STRANGER).await;
    only_then(&chat, &mut stranger, &other, SELLER, 1).await;
}

#[tokio::test]
async fn all_streams_of_a_member_hear_the_same() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let mut streams = [open(&chat, SELLER, None).await, open(&chat, SELLER, None).await];
    chat.room(10).await;
    for stream in &mut streams {
        assert_eq!(next(stream).await.1, "room_created");
    }
}

#[tokio::test]
async fn a_reader_who_comes_back_misses_and_repeats_nothing() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    let mut stream = open(&chat, SELLER, Some(0)).await;
    assert_eq!(next(&mut stream).await.0, 1);
    // More than one page of what is read from MongoDB, while nobody listens.
    drop(stream);
    for i in 2..=230 {
        chat.send(BUYER, &room, &i.to_string(), "부재중").await;
    }
    let mut stream = open(&chat, SELLER, Some(1)).await;
    let sender = async {
        for i in 231..=260 {
            chat.send(BUYER, &room, &i.to_string(), "이제는 실시간").await;
        }
    };
    let reader = async {
        for seq in 2..=260 {
            assert_eq!(next(&mut stream).await.0, seq);
        }
    };
    tokio::join!(sender, reader);
    only_then(&chat, &mut stream, &room, BUYER, 261).await;
}

#[tokio::test]
async fn the_position_of_a_list_joins_the_stream() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    let position = chat.get(SELLER, "/v1/rooms").await.body["last_event_id"]
        .as_i64()
        .unwrap();
    chat.send(BUYER, &room, "1", "목록과 스트림 사이").await;
    assert_eq!(
        next(&mut open(&chat, SELLER, Some(position)).await).await.1,
        "message"
    );
}

#[tokio::test]
async fn a_history_that_is_gone_says_reset() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    for i in 2..=5 {
        chat.send(BUYER, &room, &i.to_string(), "오래된 소식").await;
    }
    // As the TTL does.
    let old = mongodb::bson::doc! { "member_id": SELLER, "seq": { "$lte": 3 } };
    chat.store.notifications.delete_many(old).await.unwrap();
    let mut stream = open(&chat, SELLER, Some(1)).await;
    let (id, name, data) = next(&mut stream).await;
    assert_eq!((id, name.as_str(), &data["sequence"]), (5, "reset", &5.into()));
    only_then(&chat, &mut stream, &room, BUYER, 6).await;

    let mut kept = open(&chat, SELLER, Some(3)).await;
    assert_eq!(next(&mut kept).await.0, 4);
    let mut ahead = open(&chat, SELLER, Some(1_000_000)).await;
    let (id, name, _) = next(&mut ahead).await;
    assert_eq!((id, name.as_str()), (6, "reset"));
}

#[tokio::test]
async fn a_stream_shows_its_headers_and_position_at_once() {
    let chat = Chat::start().await;
    let request = chat
        .http
        .get(format!("{}/v1/events", chat.base))
        .bearer_auth(chat.token(BUYER));
    let mut response = request.send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-cache, no-transform");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    let opening = String::from_utf8(response.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    let (retry, rest) = opening.split_once('\n').unwrap();
    assert!(retry.starts_with("retry: "), "{opening}");
    assert_eq!(rest, "id: 0\n\n");

    let head = chat
        .http
        .head(format!("{}/v1/events", chat.base))
        .bearer_auth(chat.token(BUYER));
    let head = head.send().await.unwrap();
    assert_eq!(
        (head.status().as_u16(), &head.headers()["content-type"]),
        (200, &"text/event-stream".parse().unwrap())
    );
}

#[tokio::test]
async fn silence_is_kept_open_by_comments_and_a_stream_ends_by_age() {
    let chat = Chat::start_with(&["--stream-heartbeat", "100ms", "--stream-max-age", "2s"]).await;
    let begun = Instant::now();
    let request = chat
        .http
        .get(format!("{}/v1/events", chat.base))
        .bearer_auth(chat.token(BUYER));
    let text = timeout(Duration::from_secs(10), request.send().await.unwrap().text())
        .await
        .unwrap()
        .unwrap();
    assert!(text.matches("\n:\n").count() >= 5, "{text:?}");
    assert!(
        begun.elapsed() > Duration::from_millis(1_500),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn too_many_streams_are_refused_and_a_closed_one_makes_room() {
    let chat = Chat::start_with(&["--streams-per-member", "2", "--streams-per-instance", "3"]).await;
    let get = |member| {
        chat.http
            .get(format!("{}/v1/events", chat.base))
            .bearer_auth(chat.token(member))
    };
    let first = get(BUYER).send().await.unwrap();
    let _second = get(BUYER).send().await.unwrap();
    let refused = Answer::of(get(BUYER)).await;
    refused.refused(429, "too-many-streams");
    assert!(refused.headers.contains_key("retry-after"));
    let _third = get(SELLER).send().await.unwrap();
    Answer::of(get(STRANGER)).await.refused(429, "instance-full");
    drop(first);
    eventually("the place is free again", async || {
        get(BUYER)
            .send()
            .await
            .unwrap()
            .status()
            .is_success()
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_ends_open_streams_at_once() {
    let chat = Chat::start().await;
    let mut stream = open(&chat, BUYER, None).await;
    let begun = Instant::now();
    let ended = tokio::spawn(async move {
        let end = stream.next().await;
        (end.map(|event| event.is_none()), begun.elapsed())
    });
    chat.stop().await;
    let (end, after) = ended.await.unwrap();
    assert!(end.unwrap(), "the body ends well");
    assert!(after < Duration::from_secs(1), "{after:?}");
}

#[tokio::test]
async fn a_stream_is_only_read() {
    let chat = Chat::start().await;
    assert_eq!(
        chat.call(BUYER, Method::POST, "/v1/events", None).await.status,
        405
    );
}
