//! Rooms and messages without what they belong to: found, told from work under way, and set right.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use chat_service::{
    cdc::{
        change_event::Change,
        plan::{Step, plan},
    },
    orphan::OrphanKind,
    store::{Store, now},
};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use mongodb::bson::{self, doc, oid::ObjectId};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    chat::{BUYER, Chat, SELLER, arrive, create, delete, events, eventually},
    deletion::left,
};

const BY_REQUEST: [&str; 2] = ["--orphan-sweep-every=0s", "--orphan-look-again=100ms"];

/// As far as a process comes that is killed once it has fenced.
async fn fence_only(store: &Store, changes: impl IntoIterator<Item = (i64, i64, Change)>) {
    for step in plan(events(changes)) {
        let Step::Posts(posts) = step else {
            panic!("{step:?}")
        };
        store.project(&posts, now()).await.unwrap();
    }
}

/// A room with two messages about a new post.
async fn chat_about(chat: &Chat, post: i64) -> String {
    chat.on_sale(post, 100).await;
    let room = chat.room(post).await;
    for (member, id) in [(BUYER, "1"), (SELLER, "2")] {
        assert_eq!(chat.send(member, &room, id, "안녕하세요").await.status, 201);
    }
    room
}

async fn kinds(chat: &Chat) -> BTreeMap<String, String> {
    let answer = chat.operator("/admin/v1/orphans?limit=100").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let items = answer.body["items"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |item: &Value| (text(&item["room_id"]), text(&item["kind"]));
    items.iter().map(of).collect()
}

/// Has a sweep done, and answers what it says when it ended.
async fn sweep(chat: &Chat, query: &str) -> Value {
    let before = chat.operator("/admin/v1/orphans").await.body["sweep"]["ended_at"].clone();
    let path = format!("/admin/v1/orphans/sweep{query}");
    let asked = chat.operate(Method::POST, &path, None).await;
    assert_eq!(asked.status, 202, "{asked:?}");
    eventually("the sweep ends", async || {
        let sweep = chat.operator("/admin/v1/orphans").await.body["sweep"].clone();
        (sweep["state"] == "ended" && sweep["ended_at"] != before).then_some(sweep)
    })
    .await
}

async fn told_of_end(chat: &Chat, member: i64, room: &str) -> usize {
    let answer = chat.get(member, "/v1/notifications?limit=100").await;
    let items = answer.body["items"].as_array().unwrap().clone();
    let told = |item: &&Value| item["kind"] == "room_closed" && item["room_id"] == room;
    items.iter().filter(told).count()
}

fn id(room: &str) -> ObjectId {
    ObjectId::parse_str(room).unwrap()
}

async fn close(chat: &Chat, post: i64) {
    assert_eq!(chat.capture([(post, 101, delete(200))]).await, 1);
}

/// Rooms as they should be: open, kept, kept longer than its fence, moved.
async fn in_order(chat: &Chat) -> [String; 4] {
    let store = &chat.store;
    let fine = chat_about(chat, 1).await;
    let kept = chat_about(chat, 2).await;
    close(chat, 2).await;
    let outlives = chat_about(chat, 3).await;
    close(chat, 3).await;
    store.posts.delete_one(doc! { "_id": 3 }).await.unwrap();
    let again = chat_about(chat, 4).await;
    chat.capture([(4, 101, Change::Move { lsn: 200, to: 5 })]).await;
    [fine, kept, outlives, again]
}

/// Rooms as no crash leaves them, and a hand in the database may.
struct Broken {
    fenced: String,
    left_behind: String,
    replaced: String,
    unknown: String,
    lacking: String,
    done: String,
    deserted: String,
    gone: String,
}

async fn out_of_order(chat: &Chat) -> Broken {
    let store = &chat.store;
    let fenced = chat_about(chat, 10).await;
    fence_only(store, [(10, 101, delete(200))]).await;
    let left_behind = chat_about(chat, 11).await;
    fence_only(store, [(11, 101, Change::Move { lsn: 200, to: 12 })]).await;
    chat.capture([(12, 1, arrive(200))]).await;
    // Its delete was missed, and another row was created with its id.
    let replaced = chat_about(chat, 18).await;
    chat.capture([
        (18, 101, create(200)),
        (18, 102, Change::Move { lsn: 300, to: 19 }),
    ])
    .await;
    let unknown = chat_about(chat, 13).await;
    store.posts.delete_one(doc! { "_id": 13 }).await.unwrap();
    let lacking = chat_about(chat, 14).await;
    close(chat, 14).await;
    store
        .deletions
        .delete_one(doc! { "_id": "14@200" })
        .await
        .unwrap();
    let done = chat_about(chat, 15).await;
    close(chat, 15).await;
    let is_done = doc! { "$set": { "state": "done", "lease": null } };
    store
        .deletions
        .update_one(doc! { "_id": "15@200" }, is_done)
        .await
        .unwrap();
    let deserted = chat_about(chat, 16).await;
    let closed = doc! { "$set": { "state": "closed", "listed_for": [] } };
    store
        .rooms
        .update_one(doc! { "_id": id(&deserted) }, closed)
        .await
        .unwrap();
    let gone = chat_about(chat, 17).await;
    store.rooms.delete_one(doc! { "_id": id(&gone) }).await.unwrap();
    Broken {
        fenced,
        left_behind,
        replaced,
        unknown,
        lacking,
        done,
        deserted,
        gone,
    }
}

#[tokio::test]
async fn orphans_are_reported_and_set_right_on_request() {
    let chat = Chat::start_with(&[&BY_REQUEST[..], &["--erase-after=1h"]].concat()).await;
    let healthy = in_order(&chat).await;
    let Broken {
        fenced,
        left_behind,
        replaced,
        unknown,
        lacking,
        done,
        deserted,
        gone,
    } = out_of_order(&chat).await;
    assert_eq!(
        chat.operator("/admin/v1/orphans").await.body["sweep"]["state"],
        "never"
    );
    let swept = sweep(&chat, "").await;
    let expected: BTreeMap<String, String> = [
        (&fenced, "open_room"),
        (&left_behind, "open_room"),
        (&replaced, "open_room"),
        (&unknown, "unknown_post"),
        (&lacking, "closed_room"),
        (&done, "closed_room"),
        (&deserted, "deserted_room"),
        (&gone, "messages"),
    ]
    .map(|(room, kind)| (room.clone(), kind.to_owned()))
    .into();
    assert_eq!(kinds(&chat).await, expected);
    assert_eq!(chat.operator("/admin/v1/orphans?limit=1").await.body["total"], 8);
    assert_eq!(
        (&swept["found"], &swept["repaired"], &swept["is_complete"]),
        (&json!(8), &json!(0), &json!(true)),
        "{swept}"
    );
    assert_eq!(
        (&swept["rooms_seen"], &swept["next_at"]),
        (&json!(11), &json!(null))
    );
    eventually("metrics tell", async || {
        let metrics = chat.metrics().await;
        let tells = |line: &str| metrics.lines().any(|said| said == line);
        (tells(r#"orphans{kind="open_room"} 3"#) && tells(r#"orphans{kind="messages"} 1"#)).then_some(())
    })
    .await;
    for room in expected.keys() {
        assert!(
            left(&chat, std::slice::from_ref(room)).await >= 2,
            "reported only"
        );
    }

    let swept = sweep(&chat, "?repair=true").await;
    assert_eq!(
        (&swept["found"], &swept["repaired"]),
        (&json!(8), &json!(8)),
        "{swept}"
    );
    assert_eq!(kinds(&chat).await, BTreeMap::new());
    for member in [SELLER, BUYER] {
        for room in [&fenced, &replaced, &unknown, &lacking, &done] {
            assert_eq!(told_of_end(&chat, member, room).await, 1, "{room} {member}");
        }
        assert_eq!(told_of_end(&chat, member, &left_behind).await, 0, "it went along");
        let moved = chat.get(member, &format!("/v1/rooms/{left_behind}")).await;
        assert_eq!(moved.body["trade_post"]["id"], 12, "{moved:?}");
    }
    // What was closed now is kept as any other is; what had been closed before is erased at once.
    eventually("all of it is erased", async || {
        let rooms = [&lacking, &done, &deserted, &gone].map(Clone::clone);
        (left(&chat, &rooms).await == 0).then_some(())
    })
    .await;
    assert_eq!(
        left(&chat, &[fenced.clone(), replaced.clone(), unknown.clone()]).await,
        9
    );

    let swept = sweep(&chat, "").await;
    assert_eq!(
        (&swept["found"], &swept["rooms_seen"]),
        (&json!(0), &json!(8)),
        "{swept}"
    );
    assert_eq!(left(&chat, &healthy).await, 4 * 3);
}

#[tokio::test]
async fn what_is_set_right_by_itself_is_no_orphan_at_the_second_look() {
    let chat = Chat::start_with(&BY_REQUEST).await;
    let store = &chat.store;
    let room = chat_about(&chat, 1).await;
    fence_only(store, [(1, 101, delete(200))]).await;
    let looked = store.look_on(None, 10).await.unwrap();
    let suspected: Vec<_> = looked
        .suspects
        .iter()
        .map(|suspect| (suspect.room_id, suspect.kind))
        .collect();
    assert_eq!(suspected, [(id(&room), OrphanKind::OpenRoom)]);
    assert_eq!(
        store.look_again(&looked.suspects).await.unwrap(),
        looked.suspects,
        "as long as nothing is done about it"
    );
    assert_eq!(chat.capture([(1, 101, delete(200))]).await, 1);
    assert_eq!(store.look_again(&looked.suspects).await.unwrap(), []);

    // A room that was opened behind the walk, with its messages.
    let erased = Some(id(&room));
    let room = chat_about(&chat, 2).await;
    assert_eq!(store.stray(erased, None, &[]).await.unwrap(), Some(id(&room)));
    assert_eq!(store.stray(erased, None, &[id(&room)]).await.unwrap(), None);
    assert_eq!(store.stray(Some(id(&room)), None, &[]).await.unwrap(), None);
    let mut stray = looked.suspects[0].clone();
    (stray.room_id, stray.kind) = (id(&room), OrphanKind::Messages);
    assert_eq!(store.look_again(&[stray]).await.unwrap(), []);
}

/// Nothing of what two instances have under way is reported, however often they sweep meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sweeps_beside_deletes_and_sends_find_nothing() {
    let flags = ["--orphan-sweep-every=0s", "--orphan-look-again=3s"];
    let chat = Chat::start_with(&flags).await;
    let other = chat.beside(&flags).await;
    let over = AtomicBool::new(false);
    let churn = async |lane: i64| {
        let (mut post, mut looks) = (1000 * lane, 0);
        while !over.load(Ordering::Relaxed) {
            post += 1;
            chat.on_sale(post, 100).await;
            let room = chat.room(post).await;
            let ids: Vec<String> = (0..4).map(|id: i64| id.to_string()).collect();
            let sends = ids
                .iter()
                .map(|id| chat.send_at(&other.base, BUYER, &room, id, "아직 있나요?"));
            let close = chat.capture([(post, 101, delete(200)), (post, 102, Change::Tombstone)]);
            let (_, closed, looked) = tokio::join!(join_all(sends), close, chat.store.look_on(None, 200));
            assert_eq!(closed, 1);
            looks += looked.unwrap().suspects.len();
        }
        (post - 1000 * lane, looks)
    };
    let sweeps = async {
        let mut rooms = 0;
        for number in 0..3 {
            let swept = sweep(&chat, if number % 2 == 0 { "" } else { "?repair=true" }).await;
            assert_eq!(
                (&swept["found"], &swept["repaired"]),
                (&json!(0), &json!(0)),
                "{swept}"
            );
            rooms += swept["rooms_seen"].as_i64().unwrap();
        }
        over.store(true, Ordering::Relaxed);
        rooms
    };
    let (first, second, rooms) = tokio::join!(churn(1), churn(2), sweeps);
    println!("posts and suspects of single looks: {first:?} {second:?}; rooms swept: {rooms}");
    assert!(rooms > 0, "rooms were there to be looked at");
    assert_eq!(kinds(&chat).await, BTreeMap::new());
    eventually("everything is erased", async || {
        let rooms = chat.store.rooms.count_documents(doc! {}).await.unwrap();
        (rooms == 0).then_some(())
    })
    .await;
    assert_eq!(chat.store.messages.count_documents(doc! {}).await.unwrap(), 0);
}

#[tokio::test]
async fn a_sweep_is_planned_paced_and_goes_to_another_instance_when_its_own_died() {
    let flags = |look_again, every| {
        [
            format!("--orphan-sweep-every={every}"),
            format!("--orphan-look-again={look_again}"),
            "--orphan-sweep-rate=50".to_owned(),
        ]
    };
    let flags_of = |flags: &[String; 3]| flags.each_ref().map(|flag| flag.clone().leak() as &str);
    let patient = Chat::start_with(&flags_of(&flags("1h", "1s"))).await;
    for post in 1..=30 {
        patient.on_sale(post, 100).await;
        patient.room_of(post, 1000 + post).await;
    }
    let gone = chat_about(&patient, 99).await;
    patient
        .store
        .rooms
        .delete_one(doc! { "_id": id(&gone) })
        .await
        .unwrap();
    // It is planned, and waits for its second look.
    let owner = eventually("it has looked once", async || {
        let sweep = patient.store.sweep().await.unwrap()?;
        sweep.owner.filter(|_| sweep.seen.rooms == 30)
    })
    .await;
    let other = patient.beside(&flags_of(&flags("100ms", "1s"))).await;
    // The other one asks every second whether the lease has run out.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let sweep = patient.store.sweep().await.unwrap().unwrap();
    assert_eq!(sweep.owner, Some(owner), "one at a time");
    assert_eq!(kinds(&other).await, BTreeMap::new());

    patient.kill().await;
    let run_out = doc! { "$set": { "due_at": bson::DateTime::from_millis(0) } };
    other.store.sweeps.update_one(doc! {}, run_out).await.unwrap();
    eventually("the other one finds it", async || {
        (kinds(&other).await == BTreeMap::from([(gone.clone(), "messages".to_owned())])).then_some(())
    })
    .await;
    let sweep = eventually("the sweep ends", async || {
        let sweep = other.operator("/admin/v1/orphans").await.body["sweep"].clone();
        (sweep["state"] == "ended").then_some(sweep)
    })
    .await;
    assert_ne!(sweep["next_at"], json!(null), "the next one is planned");
    let time = |field: &str| sweep[field].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    // Of each of the 30 rooms it and its parent, at 50 a second.
    let took = time("ended_at") - time("begun_at");
    assert!(took >= TimeDelta::milliseconds(1_200), "{took}");
    other.stop().await;
}

/// So much cannot have happened by itself: it is for an operator to look at, and to repair in several sweeps.
#[tokio::test]
async fn a_sweep_that_finds_too_much_says_so() {
    let flags = [&BY_REQUEST[..], &["--orphan-sweep-rate=1000000"]].concat();
    let chat = Chat::start_with(&flags).await;
    let room = chat_about(&chat, 1).await;
    let mut message = chat.store.messages.find_one(doc! { "room_id": id(&room) }).await;
    let message = message.as_mut().unwrap().as_mut().unwrap();
    let strays = (0..1_010).map(|_| {
        message.room_id = ObjectId::new();
        message.clone()
    });
    let strays: Vec<_> = strays.collect();
    chat.store.messages.insert_many(strays).await.unwrap();
    let swept = sweep(&chat, "").await;
    assert_eq!(
        (&swept["found"], &swept["is_complete"]),
        (&json!(1_000), &json!(false)),
        "{swept}"
    );
    let listed = chat.operator("/admin/v1/orphans?limit=3").await.body;
    assert_eq!(
        (&listed["total"], listed["items"].as_array().unwrap().len()),
        (&json!(1_000), 3)
    );
}

#[tokio::test]
async fn wishes_that_make_no_sense_are_refused() {
    let chat = Chat::start_with(&BY_REQUEST).await;
    for path in ["/admin/v1/orphans?limit=0", "/admin/v1/orphans?limit=101"] {
        chat.operator(path).await.refused(422, "invalid-input");
    }
    for query in ["?repair=perhaps", "?mend=true"] {
        let path = format!("/admin/v1/orphans/sweep{query}");
        let answer = chat.operate(Method::POST, &path, None).await;
        assert!(answer.status.is_client_error(), "{answer:?}");
    }
    assert_eq!(
        chat.operator("/admin/v1/orphans").await.body["sweep"]["state"],
        "never"
    );
}
