//! A database of its own, filled beside the service, and a count of the commands that are sent to it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use chat_service::{
    cdc::{
        change_event::{Arrival, CaptureTimes, Change, ChangeEvent, Event, Position, Post},
        close::carry_out,
        plan::plan,
    },
    message::{Content, Message},
    room::Room,
    store::{Store, deletions::Deletion, now},
    trade_post::Look,
};
use futures_util::TryStreamExt;
use mongodb::{
    bson::doc,
    event::{EventHandler, command::CommandEvent},
    options::ClientOptions,
};

pub const SELLER: i64 = 1;
const BUYER: i64 = 1_000_000;

pub struct Bed {
    pub store: Store,
    uri: &'static str,
    database: String,
}

/// How often each command was sent.
#[derive(Clone, Debug, Default)]
pub struct Commands(Arc<Mutex<BTreeMap<String, usize>>>);

impl Commands {
    pub fn take(&self) -> BTreeMap<String, usize> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    pub fn of(&self, name: &str) -> usize {
        self.0.lock().unwrap().get(name).copied().unwrap_or_default()
    }
}

impl Bed {
    pub async fn new() -> Self {
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        let database = format!("chat_pipeline_{}_{number}", std::process::id());
        let uri = local_stack::testing::mongo().await.uri();
        let store = Store::new(uri, &database).await.unwrap();
        let day = Duration::from_hours(24);
        store.create_indexes(day, day).await.unwrap();
        Self { store, uri, database }
    }

    /// A client of its own, as another instance would have, whose commands are counted.
    pub async fn counted(&self) -> (Store, Commands) {
        let commands = Commands::default();
        let counted = commands.clone();
        let mut options = ClientOptions::parse(self.uri).await.unwrap();
        options.command_event_handler = Some(EventHandler::callback(move |event| {
            if let CommandEvent::Started(started) = event {
                *counted.0.lock().unwrap().entry(started.command_name).or_default() += 1;
            }
        }));
        (Store::with_options(options, &self.database).unwrap(), commands)
    }

    /// Opens rooms about a post that was created at `lsn`, with so many messages each.
    pub async fn rooms(&self, post: i64, lsn: i64, messages: &[i64]) {
        let look = Look {
            lsn,
            title: "자전거".into(),
            status: "on_sale".into(),
        };
        let mut rooms: Vec<Room> = (0..)
            .zip(messages)
            .map(|(number, _)| Room::new((post, lsn), [SELLER, BUYER + number], look.clone(), now()))
            .collect();
        let messages = rooms.iter_mut().zip(messages).flat_map(|(room, messages)| {
            (0..*messages).map(|number| {
                let text = Content::Text {
                    sender_id: room.buyer_id,
                    body: "아직 있나요?".into(),
                };
                room.take_in(text, Some(number.to_string()), now())
            })
        });
        let messages: Vec<Message> = messages.collect();
        for messages in messages.chunks(10_000) {
            self.store.messages.insert_many(messages).await.unwrap();
        }
        self.store.rooms.insert_many(&rooms).await.unwrap();
    }

    /// Carries out one batch. Answers the rooms closed.
    pub async fn batch(&self, events: impl IntoIterator<Item = Event>) -> usize {
        batch(&self.store, events, Duration::ZERO).await
    }

    /// A post with such rooms is created and deleted.
    pub async fn deleted(&self, post: i64, messages: &[i64]) {
        self.batch([event(post, 0, create(10))]).await;
        self.rooms(post, 10, messages).await;
        assert_eq!(self.batch([event(post, 1, delete(20))]).await, messages.len());
    }

    pub async fn deletions(&self) -> Vec<Deletion> {
        let all = self
            .store
            .deletions
            .find(doc! {})
            .sort(doc! { "trade_post_id": 1 });
        all.await.unwrap().try_collect().await.unwrap()
    }

    /// Rooms and messages that are there.
    pub async fn left(&self) -> (u64, u64) {
        let rooms = self.store.rooms.count_documents(doc! {}).await.unwrap();
        (rooms, self.store.messages.count_documents(doc! {}).await.unwrap())
    }
}

/// Carries out one batch. Answers the rooms closed.
pub async fn batch(store: &Store, events: impl IntoIterator<Item = Event>, erase_after: Duration) -> usize {
    let mut rooms = 0;
    for step in plan(events) {
        rooms += carry_out(store, &step, now(), erase_after).await.unwrap().rooms;
    }
    rooms
}

pub fn event(trade_post_id: i64, offset: i64, change: Change) -> Event {
    Event::Post(ChangeEvent {
        trade_post_id,
        position: Position { partition: 0, offset },
        change,
    })
}

pub fn create(lsn: i64) -> Change {
    Change::Upsert {
        lsn,
        arrival: Some(Arrival::Created),
        post: post("자전거"),
    }
}

pub fn update(lsn: i64, title: &str) -> Change {
    Change::Upsert {
        lsn,
        arrival: None,
        post: post(title),
    }
}

fn post(title: &str) -> Post {
    Post {
        seller_id: SELLER,
        title: title.into(),
        status: "on_sale".into(),
    }
}

pub fn delete(lsn: i64) -> Change {
    Change::Delete {
        lsn,
        times: CaptureTimes {
            committed_ms: 1_000,
            captured_ms: 2_000,
        },
    }
}

/// Waits until `probe` answers true.
pub async fn eventually(what: &str, mut probe: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !probe().await {
        assert!(
            begun.elapsed() < Duration::from_mins(1),
            "not within a minute: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
