//! What lists cost MongoDB: how many commands, and how many keys and documents they look at. The server's
//! profiler tells which commands the service sent; the same commands are then explained.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, DateTime, Document, doc, oid::ObjectId};
use serde_json::{Value, json};

use crate::chat::{BUYER, Chat, SELLER, create};

/// What lists are made of. Without an open stream only what looks for posts to be matched reads these beside them.
const LISTED: [&str; 5] = ["rooms", "messages", "trade_posts", "inboxes", "notifications"];

/// The commands that `request` makes the service send, and its answer.
async fn commands<R>(chat: &Chat, request: impl Future<Output = R>) -> (Vec<Document>, R) {
    let db = &chat.store.db;
    let profile = async |level: i32| db.run_command(doc! { "profile": level }).await.unwrap();
    profile(2).await;
    let answer = request.await;
    profile(0).await;
    let profiled = db.collection::<Document>("system.profile");
    let entries = profiled.find(doc! {}).sort(doc! { "$natural": 1 }).await.unwrap();
    let entries: Vec<Document> = entries.try_collect().await.unwrap();
    profiled.drop().await.unwrap();
    let commands = entries
        .iter()
        .filter_map(|entry| entry.get_document("command").ok())
        .filter(|command| LISTED.contains(&name(command).1) && !command.to_string().contains("match_at"))
        .cloned();
    (commands.collect(), answer)
}

/// A command's name and collection.
fn name(command: &Document) -> (&str, &str) {
    let (name, collection) = command.iter().next().expect("a command has a name");
    (name, collection.as_str().unwrap_or_default())
}

/// Most keys or documents that a stage of the command looks at. A look at a whole collection fails.
async fn examined(chat: &Chat, command: &Document) -> i64 {
    let mut plain = command.clone();
    for of_the_session in [
        "lsid",
        "$db",
        "$clusterTime",
        "$readPreference",
        "readConcern",
        "writeConcern",
    ] {
        plain.remove(of_the_session);
    }
    let explain = doc! { "explain": plain, "verbosity": "executionStats" };
    let explained = chat.store.db.run_command(explain).await.unwrap();
    assert!(!explained.to_string().contains("COLLSCAN"), "{explained}");
    let mut most = None;
    most_in(&Bson::Document(explained.clone()), &mut most);
    most.unwrap_or_else(|| panic!("the plan does not say what it looked at: {explained}"))
}

fn most_in(explained: &Bson, most: &mut Option<i64>) {
    match explained {
        Bson::Document(document) => {
            for (field, value) in document {
                if ["totalKeysExamined", "totalDocsExamined"].contains(&field.as_str()) {
                    let count: i64 = mongodb::bson::deserialize_from_bson(value.clone()).unwrap();
                    *most = Some(most.unwrap_or_default().max(count));
                }
                most_in(value, most);
            }
        }
        Bson::Array(values) => values.iter().for_each(|value| most_in(value, most)),
        _ => {}
    }
}

/// Requests the page, and checks which commands that takes and that none looks at more than `most`.
async fn costs(chat: &Chat, member: i64, path: &str, expected: &[(&str, &str)], most: i64) -> Value {
    let (commands, answer) = commands(chat, chat.get(member, path)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    // Some are sent at the same time.
    let sorted = |mut names: Vec<_>| {
        names.sort_unstable();
        names
    };
    let names = sorted(commands.iter().map(name).collect());
    assert_eq!(names, sorted(expected.to_vec()), "{path}");
    for command in &commands {
        let examined = examined(chat, command).await;
        assert!(examined <= most, "{path}: {command} looks at {examined}");
    }
    answer.body
}

/// The room again and again, each about a post of its own.
async fn copies(chat: &Chat, room: &str, posts: impl Iterator<Item = i64>) {
    let rooms = chat.store.db.collection::<Document>("rooms");
    let id = ObjectId::parse_str(room).unwrap();
    let model = rooms.find_one(doc! { "_id": id }).await.unwrap().unwrap();
    let copies: Vec<Document> = posts
        .map(|post| {
            let mut copy = model.clone();
            copy.insert("_id", ObjectId::new());
            copy.insert("trade_post_id", post);
            copy.insert("last_activity_at", DateTime::from_millis(1_000 * post));
            copy
        })
        .collect();
    rooms.insert_many(copies).await.unwrap();
}

/// Adds messages to the room, as if its buyer had sent them, up to the sequence `last`.
async fn fill(chat: &Chat, room: &str, last: i64) {
    const AT_ONCE: usize = 10_000;
    let id = ObjectId::parse_str(room).unwrap();
    let messages = chat.store.db.collection::<Document>("messages");
    let model = messages.find_one(doc! { "room_id": id }).await.unwrap().unwrap();
    let copy = |seq: i64| {
        let mut copy = model.clone();
        copy.remove("_id");
        copy.insert("seq", seq);
        copy.insert("client_message_id", format!("copy {seq}"));
        copy.insert("counts", doc! { "seller": 0_i64, "buyer": seq });
        copy
    };
    let mut copies = (2..=last).map(copy).peekable();
    while copies.peek().is_some() {
        messages.insert_many(copies.by_ref().take(AT_ONCE)).await.unwrap();
    }
    let filled = doc! { "$set": { "next_seq": last + 1, "buyer.sent": last } };
    let rooms = chat.store.db.collection::<Document>("rooms");
    rooms.update_one(doc! { "_id": id }, filled).await.unwrap();
}

#[tokio::test]
async fn a_page_of_rooms_is_one_query_of_an_index_with_the_position_before_it() {
    let chat = Chat::start().await;
    let posts = 1..=600_i64;
    chat.capture(posts.clone().map(|post| (post, post, create(post))))
        .await;
    let room = chat.room(1).await;
    let others = chat.room_of(1, 77).await;
    copies(&chat, &room, posts.clone().filter(|post| post % 3 == 2)).await;
    copies(&chat, &others, posts.filter(|post| post % 3 != 2 && *post != 1)).await;
    let expected = [("find", "inboxes"), ("aggregate", "rooms")];
    for member in [BUYER, SELLER] {
        let mut path = "/v1/rooms?limit=50".to_owned();
        for way in ["next_cursor", "next_cursor", "previous_cursor"] {
            // One key more tells whether there is a next page, one is the cursor's own.
            let page = costs(&chat, member, &path, &expected, 52).await;
            assert_eq!(page["items"].as_array().unwrap().len(), 50);
            assert_eq!(page["items"][0]["trade_post"]["title"], "자전거 팔아요");
            path = format!("/v1/rooms?limit=50&cursor={}", page[way].as_str().unwrap());
        }
    }
    let path = "/v1/trade-posts/1/rooms?limit=1";
    costs(&chat, SELLER, path, &expected, 2).await;
}

#[tokio::test]
async fn a_page_of_messages_is_one_query_of_an_index() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let (room, other) = (chat.room(10).await, chat.room_of(10, 77).await);
    chat.send(BUYER, &room, "1", "글").await;
    chat.send(77, &other, "1", "글").await;
    fill(&chat, &room, 2_000).await;
    fill(&chat, &other, 2_000).await;
    let expected = [("find", "inboxes"), ("find", "rooms"), ("find", "messages")];
    for (query, first) in [("", 2_000), ("&before=1000", 999), ("&after=1000", 1_001)] {
        let path = format!("/v1/rooms/{room}/messages?limit=50{query}");
        let page = costs(&chat, SELLER, &path, &expected, 50).await;
        assert_eq!(page["items"].as_array().unwrap().len(), 50);
        assert_eq!(page["items"][0]["seq"], first);
    }
}

#[tokio::test]
async fn a_page_of_notifications_is_one_query_of_an_index_with_their_messages_behind_it() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    for place in 0..120 {
        chat.send(BUYER, &room, &place.to_string(), "글").await;
    }
    let up_to = json!({ "up_to": 100 });
    assert_eq!(
        chat.put(SELLER, "/v1/notifications/read", up_to).await.status,
        204
    );
    let expected = [
        ("find", "inboxes"),
        ("find", "notifications"),
        ("find", "messages"),
        ("find", "rooms"),
    ];
    for (query, first) in [
        ("", 121),
        ("&before=90", 89),
        ("&after=50", 51),
        ("&unread=true", 121),
        ("&unread=true&after=50", 101),
        ("&unread=true&before=112", 111),
    ] {
        let path = format!("/v1/notifications?limit=10{query}");
        let page = costs(&chat, SELLER, &path, &expected, 10).await;
        assert_eq!(page["items"][0]["seq"], first, "{query}");
        assert_eq!(page["items"].as_array().unwrap().len(), 10);
    }
}

#[tokio::test]
#[ignore = "writes a million messages; see CONTRIBUTING.md"]
async fn pages_and_sends_are_quick_with_a_million_messages() {
    let chat = Chat::start().await;
    chat.on_sale(10, 100).await;
    let room = chat.room(10).await;
    chat.send(BUYER, &room, "1", "글").await;
    fill(&chat, &room, 1_000_000).await;
    let path = format!("/v1/rooms/{room}/messages?limit=100&before=500000");
    let expected = [("find", "inboxes"), ("find", "rooms"), ("find", "messages")];
    costs(&chat, SELLER, &path, &expected, 100).await;
    let bound = Duration::from_millis(10);
    let took = median(async |_| drop(chat.get(SELLER, &path).await)).await;
    println!("a page of 100 messages of 1,000,000: {took:?} in the middle");
    assert!(took <= bound);
    let took = median(async |_| drop(chat.get(SELLER, "/v1/rooms").await)).await;
    println!("the list of rooms: {took:?} in the middle");
    assert!(took <= bound);
    let took = median(async |place| drop(chat.send(BUYER, &room, &place.to_string(), "또 하나").await)).await;
    println!("sending a message: {took:?} in the middle");
    assert!(took <= bound);
    let took = median(async |place| {
        let body = json!({ "up_to": 500_000 + place });
        drop(chat.put(SELLER, &format!("/v1/rooms/{room}/read"), body).await);
    })
    .await;
    println!("reading up to a message: {took:?} in the middle");
    assert!(took <= bound);
}

async fn median(mut request: impl AsyncFnMut(i64)) -> Duration {
    const TIMES: i64 = 301;
    let mut took = Vec::new();
    for place in 0..TIMES {
        let begun = Instant::now();
        request(place).await;
        took.push(begun.elapsed());
    }
    took.sort();
    took[took.len() / 2]
}
