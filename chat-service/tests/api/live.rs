//! The live path under faults: a change stream that is silent or has lost its history, readers that
//! take nothing, sequences with deleted numbers. Nothing is lost, and it comes in seconds.

use std::time::Duration;

use local_stack::client::EventStream;
use mongodb::bson::doc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout},
};

use crate::{
    chat::{BUYER, Chat, SELLER, eventually},
    events::{next, open},
    wire::{Told, Wire},
};

/// Never within a test.
const NO_SWEEP: [&str; 2] = ["--stream-sweep", "1h"];

/// A room of a post, whose [`SELLER`] was told of it.
async fn room(chat: &Chat) -> String {
    chat.on_sale(10, 100).await;
    chat.room(10).await
}

async fn send(chat: &Chat, room: &str, messages: impl IntoIterator<Item = i64>) {
    for message in messages {
        chat.send(BUYER, room, &message.to_string(), "안녕하세요").await;
    }
}

/// As a member does who deletes a notification: a marker stays.
async fn delete(chat: &Chat, seq: i64) {
    let marked = doc! { "$set": { "deleted_at": mongodb::bson::DateTime::now() } };
    let notification = doc! { "member_id": SELLER, "seq": seq };
    let updated = chat
        .store
        .notifications
        .update_one(notification, marked)
        .await
        .unwrap();
    assert_eq!(updated.modified_count, 1);
}

async fn reads(stream: &mut EventStream, seqs: impl IntoIterator<Item = i64>) {
    for seq in seqs {
        assert_eq!(next(stream).await.0, seq);
    }
}

/// Opens a stream that is known to be live: it was told something.
async fn live(chat: &Chat, room: &str, seq: i64) -> EventStream {
    let mut stream = open(chat, SELLER, Some(seq - 1)).await;
    send(chat, room, [seq]).await;
    reads(&mut stream, [seq]).await;
    stream
}

async fn metric(chat: &Chat, name: &str) -> i64 {
    let metrics = chat.metrics().await;
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_default().parse().unwrap_or_default()
}

#[tokio::test]
async fn the_change_stream_alone_brings_every_event_at_once() {
    let chat = Chat::start_with(&NO_SWEEP).await;
    let room = room(&chat).await;
    let mut stream = live(&chat, &room, 2).await;
    for seq in 3..30 {
        let begun = Instant::now();
        send(&chat, &room, [seq]).await;
        reads(&mut stream, [seq]).await;
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn what_a_silent_change_stream_does_not_bring_comes_by_the_sweep() {
    let wire = Wire::start().await;
    let chat = Chat::start_at(&wire.uri, &["--stream-sweep", "500ms"]).await;
    let room = room(&chat).await;
    let mut stream = live(&chat, &room, 2).await;

    wire.tell(Told::Nothing);
    let begun = Instant::now();
    send(&chat, &room, 3..6).await;
    reads(&mut stream, 3..6).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    eventually("the change stream had something to tell", async || {
        (wire.falsified() > 0).then_some(())
    })
    .await;
    eventually("the late stream is counted", async || {
        (metric(&chat, "streams_reminded_total").await > 0).then_some(())
    })
    .await;

    // It speaks again, of what comes now: the gap to what it brought before does no harm.
    wire.tell(Told::Everything);
    send(&chat, &room, 6..9).await;
    reads(&mut stream, 6..9).await;
}

#[tokio::test]
async fn an_event_that_is_not_the_next_one_sends_the_stream_to_mongodb() {
    let wire = Wire::start().await;
    let chat = Chat::start_at(&wire.uri, &NO_SWEEP).await;
    let room = room(&chat).await;
    let mut stream = live(&chat, &room, 2).await;
    wire.tell(Told::Nothing);
    send(&chat, &room, 3..6).await;
    eventually("the change stream keeps it to itself", async || {
        (wire.falsified() > 0).then_some(())
    })
    .await;
    assert!(timeout(Duration::from_millis(300), stream.next()).await.is_err());
    wire.tell(Told::Everything);
    send(&chat, &room, [6]).await;
    reads(&mut stream, 3..=6).await;
}

#[tokio::test]
async fn a_change_stream_that_lost_its_history_begins_now_and_what_it_missed_is_swept_up() {
    let wire = Wire::start().await;
    let chat = Chat::start_at(&wire.uri, &NO_SWEEP).await;
    let room = room(&chat).await;
    let mut stream = live(&chat, &room, 2).await;
    let opened = wire.opened();

    // What is written in silence is behind the point where the next change stream begins.
    wire.tell(Told::Nothing);
    send(&chat, &room, 3..6).await;
    eventually("the change stream keeps it to itself", async || {
        (wire.falsified() > 0).then_some(())
    })
    .await;
    wire.tell(Told::HistoryLost);
    reads(&mut stream, 3..6).await;
    assert_eq!(wire.opened(), opened + 1, "one new change stream");
    send(&chat, &room, 6..9).await;
    reads(&mut stream, 6..9).await;
}

#[tokio::test]
async fn deleted_notifications_are_passed_over() {
    let chat = Chat::start_with(&NO_SWEEP).await;
    let room = room(&chat).await;
    send(&chat, &room, 2..=9).await;
    for seq in [2, 5, 8, 9] {
        delete(&chat, seq).await;
    }
    let mut stream = open(&chat, SELLER, Some(1)).await;
    reads(&mut stream, [3, 4, 6, 7]).await;
    send(&chat, &room, [10]).await;
    reads(&mut stream, [10]).await;

    // Where nothing else follows, the reader learns that it is up to date.
    delete(&chat, 10).await;
    let mut stream = open(&chat, SELLER, Some(7)).await;
    eventually("the position", async || {
        stream.next_frame().await.unwrap();
        (stream.last_id() == Some(10)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_sequence_that_begins_again_is_told_as_a_reset() {
    let chat = Chat::start_with(&["--stream-sweep", "200ms"]).await;
    let room = room(&chat).await;
    send(&chat, &room, [2]).await;
    let mut stream = live(&chat, &room, 3).await;
    // As erasing the member does.
    let own = doc! { "member_id": SELLER };
    chat.store.notifications.delete_many(own).await.unwrap();
    chat.store
        .inboxes
        .delete_one(doc! { "_id": SELLER })
        .await
        .unwrap();
    let (id, name, _) = next(&mut stream).await;
    assert_eq!((id, name.as_str()), (0, "reset"));
    send(&chat, &room, [4]).await;
    reads(&mut stream, [1]).await;
}

/// Reads events from the bytes of a connection: the ids, in order.
fn ids(bytes: &[u8]) -> Vec<i64> {
    let text = String::from_utf8_lossy(bytes);
    let blocks = text
        .split("\n\n")
        .filter(|block| block.contains("event: message"));
    blocks
        .filter_map(|block| {
            block
                .lines()
                .find_map(|line| line.strip_prefix("id: ")?.parse().ok())
        })
        .collect()
}

/// A reader with little room, that has sent its request.
async fn reader_with_little_room(chat: &Chat, last_event_id: i64) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let address = chat.base.strip_prefix("http://").unwrap().parse().unwrap();
    let mut connection = socket.connect(address).await.unwrap();
    let token = chat.token(SELLER);
    let request = format!(
        "GET /v1/events HTTP/1.1\r\nhost: chat\r\nauthorization: Bearer {token}\r\nlast-event-id: {last_event_id}\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    connection
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_left_behind_and_misses_nothing() {
    const LAST: i64 = 150;
    let chat = Chat::start_with(&NO_SWEEP).await;
    let room = room(&chat).await;
    let mut quick = live(&chat, &room, 2).await;
    let mut stuck = reader_with_little_room(&chat, 2).await;
    eventually("both streams are open", async || {
        (metric(&chat, "streams_open").await == 2).then_some(())
    })
    .await;
    // Megabytes: more than sockets, connection and mailbox hold.
    let body = "가".repeat(1500);
    let sending = async {
        for seq in 3..=LAST {
            let sent = chat.send(BUYER, &room, &seq.to_string(), &body).await;
            assert_eq!(sent.status, 201, "{sent:?}");
        }
    };
    tokio::join!(sending, reads(&mut quick, 3..=LAST));
    assert!(metric(&chat, "streams_overrun_total").await > 0);

    // Now it reads, to the end of the last event.
    let mut taken = Vec::new();
    let last = format!("id: {LAST}\n").into_bytes();
    let mut looked_at = 0;
    while !taken[looked_at..].windows(last.len()).any(|text| text == last) || !taken.ends_with(b"\n\n\r\n") {
        looked_at = taken.len().saturating_sub(8 * 1024);
        let read = timeout(Duration::from_secs(10), stuck.read_buf(&mut taken)).await;
        assert_ne!(
            read.unwrap().unwrap(),
            0,
            "the stream goes on; {:?} was read",
            ids(&taken).last()
        );
    }
    assert_eq!(ids(&taken), (3..=LAST).collect::<Vec<_>>());
}
