//! Whatever happens to readers and instances, every reader ends with exactly its member's sequence: each
//! number once, in order, and no `reset`. The plans are generated; what a failed one did is printed.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chat_service::{
    notification::{CloseReason, Kind},
    store::{Store, notifications::Draft, now},
};
use futures_util::future::{join, join_all};
use local_stack::client::{Bases, Client, EventStream};
use mongodb::bson::{doc, oid::ObjectId};
use proptest::prelude::*;
use tokio::time::{sleep, timeout};

use crate::chat::Chat;

const MEMBERS: i64 = 3;
const READERS_EACH: usize = 3;
const INSTANCES: usize = 2;
/// Most notifications of one transaction.
const TRANSACTION: i64 = 500;
/// Nothing is to take so long.
const BOUND: Duration = Duration::from_mins(1);
const FLAGS: [&str; 4] = ["--stream-heartbeat", "200ms", "--stream-sweep", "500ms"];

#[derive(Clone, Debug)]
enum Step {
    /// So many notifications of a member, at once.
    Burst(i64, i64),
    Pause(u64),
    /// An instance ends in order, and comes back elsewhere.
    Restart(usize),
    /// The same without order: whatever it was doing is left as it is.
    Kill(usize),
}

/// How a reader behaves.
#[derive(Clone, Copy, Debug)]
enum Reader {
    Quick,
    /// Rests this many milliseconds after every 50 events.
    Slow(u64),
    /// Leaves after so many events, and comes back; [`LEAVES`] times.
    Flighty(usize),
}

/// A connection for each of thousands of events would take minutes and show nothing more.
const LEAVES: usize = 200;

fn step() -> impl Strategy<Value = Step> {
    let member = || 1..=MEMBERS;
    prop_oneof![
        4 => (member(), 1..100_i64).prop_map(|(member, count)| Step::Burst(member, count)),
        2 => member().prop_map(|member| Step::Burst(member, 5000)),
        3 => (0..200_u64).prop_map(Step::Pause),
        2 => (0..INSTANCES).prop_map(Step::Restart),
        1 => (0..INSTANCES).prop_map(Step::Kill),
    ]
}

fn reader() -> impl Strategy<Value = Reader> {
    prop_oneof![
        Just(Reader::Quick),
        (1..40_u64).prop_map(Reader::Slow),
        (1..400_usize).prop_map(Reader::Flighty),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 0, ..ProptestConfig::default() })]
    #[test]
    fn every_reader_ends_with_exactly_its_sequence(
        steps in prop::collection::vec(step(), 6..12),
        readers in prop::collection::vec(reader(), READERS_EACH * usize::try_from(MEMBERS).unwrap()),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(play(&steps, &readers));
    }
}

/// Where readers find an instance now.
type Addresses = Arc<Mutex<Vec<String>>>;

async fn play(steps: &[Step], readers: &[Reader]) {
    let chat = Chat::start_with(&FLAGS).await;
    let mut instances = Vec::new();
    for _ in 0..INSTANCES {
        instances.push(Some(chat.beside(&FLAGS).await));
    }
    let addresses = instances.iter().flatten().map(|instance| instance.base.clone());
    let addresses: Addresses = Arc::new(Mutex::new(addresses.collect()));
    // What each member was told in all, once that is known.
    let ends: Arc<Vec<AtomicI64>> = Arc::new((0..MEMBERS).map(|_| AtomicI64::new(i64::MAX)).collect());
    let bases = Bases {
        trade: String::new(),
        chat: String::new(),
        chat_admin: String::new(),
    };
    let client = Client::new(bases, "").unwrap();
    let reading = readers
        .iter()
        .zip((1..=MEMBERS).cycle())
        .map(|(behaviour, member)| {
            let client = client.with_token(chat.token(member));
            tokio::spawn(read(
                client,
                member,
                *behaviour,
                Arc::clone(&addresses),
                Arc::clone(&ends),
            ))
        });
    let reading = join_all(reading);
    let acting = async {
        for step in steps {
            match *step {
                Step::Burst(member, count) => write(&chat.store, member, count).await,
                Step::Pause(ms) => sleep(Duration::from_millis(ms)).await,
                Step::Restart(index) => {
                    instances[index].take().unwrap().stop().await;
                    replace(&chat, &mut instances[index], &addresses, index).await;
                }
                Step::Kill(index) => {
                    instances[index].take().unwrap().kill().await;
                    replace(&chat, &mut instances[index], &addresses, index).await;
                }
            }
        }
        for (member, end) in (1..).zip(ends.iter()) {
            end.store(chat.store.last_seq(member).await.unwrap(), Ordering::Release);
        }
    };
    let (read, ()) = timeout(2 * BOUND, join(reading, acting))
        .await
        .expect("everybody is done");
    for reader in read {
        reader.unwrap();
    }
}

async fn replace(chat: &Chat, instance: &mut Option<Chat>, addresses: &Addresses, index: usize) {
    let new = chat.beside(&FLAGS).await;
    addresses.lock().unwrap()[index].clone_from(&new.base);
    *instance = Some(new);
}

async fn write(store: &Store, member: i64, count: i64) {
    let kinds = [
        Kind::RoomCreated,
        // A message that was erased since.
        Kind::Message { message_seq: 1 },
        Kind::RoomClosed {
            reason: CloseReason::TradePostDeleted,
        },
    ];
    let mut left = count;
    while left > 0 {
        let drafts: Vec<Draft> = (0..left.min(TRANSACTION))
            .zip(kinds.iter().cycle())
            .map(|(_, kind)| Draft::in_room(member, kind.clone(), ObjectId::new(), 7))
            .collect();
        left -= TRANSACTION;
        let mut transaction = store.transaction().await.unwrap();
        loop {
            transaction.begin().await.unwrap();
            // A transaction of the service reads before it notifies; `bulkWrite` cannot be the first command.
            let inbox = store.inboxes.find_one(doc! { "_id": member });
            inbox.session(&mut transaction.session).await.unwrap();
            let body = store
                .notify(drafts.clone(), now(), &mut transaction.session)
                .await;
            if transaction.end(body).await.unwrap().is_some() {
                break;
            }
        }
    }
}

/// Reads from whichever instance there is until the member's end is reached, and a little longer.
async fn read(
    client: Client,
    member: i64,
    behaviour: Reader,
    addresses: Addresses,
    ends: Arc<Vec<AtomicI64>>,
) {
    let end = &ends[usize::try_from(member).unwrap() - 1];
    let (mut last, mut streams) = (0, 0);
    loop {
        let address = {
            let addresses = addresses.lock().unwrap();
            addresses[rand::random_range(0..addresses.len())].clone()
        };
        let client = client.clone().at_chat(address, "");
        let Ok(mut stream) = client.events(Some(last)).await else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        streams += 1;
        let behaviour = match behaviour {
            Reader::Flighty(_) if streams > LEAVES => Reader::Quick,
            other => other,
        };
        if listen(&mut stream, &mut last, behaviour, end).await {
            return;
        }
    }
}

/// Reads one stream. Answers whether the end was reached and nothing came behind it.
async fn listen(stream: &mut EventStream, last: &mut i64, behaviour: Reader, end: &AtomicI64) -> bool {
    let mut read = 0;
    loop {
        // A heartbeat comes if nothing else does.
        let frame = timeout(BOUND, stream.next_frame())
            .await
            .expect("the stream lives or ends");
        let Ok(Some((frame, _))) = frame else {
            return false;
        };
        if frame.data.is_none() {
            let heartbeat = !frame.comments.is_empty() && frame.retry.is_none();
            if heartbeat && *last == end.load(Ordering::Acquire) {
                return true;
            }
            continue;
        }
        let id: i64 = frame.id.as_deref().unwrap().parse().unwrap();
        assert_eq!(id, *last + 1, "{behaviour:?}: {frame:?}");
        assert_ne!(frame.event.as_deref(), Some("reset"), "{behaviour:?}");
        *last = id;
        read += 1;
        match behaviour {
            Reader::Slow(ms) if read % 50 == 0 => sleep(Duration::from_millis(ms)).await,
            Reader::Flighty(events) if read == events => return false,
            _ => {}
        }
    }
}
