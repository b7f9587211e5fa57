//! Who is told of a new post by a keyword: once, whatever comes again or in which order, and nobody else.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use chat_service::{
    cdc::{
        change_event::{Arrival, Change, Event, Keyword, KeywordChange, KeywordEvent, Position, Post},
        keyword_plan::plan,
    },
    keyword::Kept,
    notification::{Kind, Notification},
    store::{Store, now},
};
use futures_util::{TryStreamExt, future::join_all};
use mongodb::bson::{DateTime, Document, doc};

use crate::bed::{Bed, SELLER, batch, create, delete, event, update};

pub fn keyword(id: i64, change: KeywordChange) -> Event {
    Event::Keyword(KeywordEvent {
        keyword_id: id,
        position: Position {
            partition: 0,
            offset: match change {
                KeywordChange::Upsert { lsn, .. } | KeywordChange::Delete { lsn } => lsn,
                KeywordChange::Tombstone => i64::MAX,
            },
        },
        change,
    })
}

/// `member` has kept `text` at `lsn`.
pub fn kept(id: i64, member: i64, text: &str, lsn: i64) -> Event {
    let keyword_of = Keyword {
        member_id: member,
        text: text.into(),
    };
    keyword(
        id,
        KeywordChange::Upsert {
            lsn,
            keyword: keyword_of,
        },
    )
}

/// Carries out one batch of keywords. Answers how many were told of posts that had come before.
pub async fn keep(store: &Store, events: impl IntoIterator<Item = Event>) -> u64 {
    store.take_in_keywords(&plan(events), now()).await.unwrap()
}

async fn posts(store: &Store, events: impl IntoIterator<Item = Event>) {
    batch(store, events, Duration::ZERO).await;
}

fn titled(post: i64, lsn: i64, title: &str) -> Event {
    let row = Post {
        seller_id: SELLER,
        title: title.into(),
        status: "on_sale".into(),
    };
    let change = Change::Upsert {
        lsn,
        post: row,
        arrival: Some(Arrival::Created),
    };
    event(post, lsn, change)
}

/// Matches all posts that are to be matched. Answers how many were told.
async fn matched(store: &Store) -> u64 {
    matched_at(store, now()).await
}

async fn matched_at(store: &Store, at: DateTime) -> u64 {
    let mut told = 0;
    while let Some(leased) = store.lease_matching(at).await.unwrap() {
        told += store.match_leased(&leased, || at).await.unwrap();
    }
    told
}

/// Members and posts of what was told, with the keyword; each member's numbers are checked to have no gap.
async fn told(store: &Store) -> Vec<(i64, i64, String)> {
    let all = store
        .notifications
        .find(doc! {})
        .sort(doc! { "member_id": 1, "seq": 1 });
    let all: Vec<Notification> = all.await.unwrap().try_collect().await.unwrap();
    let mut last = (0, 0);
    let mut told = Vec::new();
    for one in all {
        let next = if one.member_id == last.0 { last.1 + 1 } else { 1 };
        assert_eq!(one.seq, next, "member {}", one.member_id);
        last = (one.member_id, one.seq);
        let Kind::TradePostMatched { keyword } = one.kind else {
            panic!("{one:?}")
        };
        assert_eq!((one.room_id, one.read_at), (None, None));
        told.push((one.member_id, one.trade_post_id, keyword));
    }
    told
}

fn in_an_hour() -> DateTime {
    DateTime::from_millis(now().timestamp_millis() + 3_600_000)
}

#[tokio::test]
async fn a_member_is_told_once_of_a_post_whatever_comes_again() {
    let bed = Bed::new().await;
    let store = &bed.store;
    let keywords = || {
        [
            kept(1, 7, "로드", 10),
            kept(2, 7, "자전거", 11),
            kept(3, 8, "의자", 12),
        ]
    };
    assert_eq!(keep(store, keywords()).await, 0);
    let new = || [titled(1, 20, "로드 자전거"), titled(2, 21, "책상")];
    posts(store, new()).await;
    // Somebody died at work, before and after everybody was told.
    assert!(store.lease_matching(now()).await.unwrap().is_some());
    assert!(
        store.lease_matching(now()).await.unwrap().is_none(),
        "somebody is at it"
    );
    let slow = store.lease_matching(in_an_hour()).await.unwrap().unwrap();
    let later = DateTime::from_millis(in_an_hour().timestamp_millis() + 3_600_000);
    assert_eq!(matched_at(store, later).await, 1);
    assert_eq!(
        store.match_leased(&slow, now).await.unwrap(),
        0,
        "it goes on though it was taken for dead"
    );
    // The topics are read again.
    posts(store, new()).await;
    assert_eq!(keep(store, keywords()).await, 0);
    posts(store, new()).await;
    assert_eq!(matched(store).await, 0);
    // A change of title makes no new post.
    posts(store, [event(2, 30, update(30, "로드"))]).await;
    assert_eq!(matched(store).await, 0);
    // The id's next life is another post.
    posts(store, [event(1, 40, delete(40)), titled(1, 50, "자전거")]).await;
    assert_eq!(matched(store).await, 1);
    let first = told(store).await;
    assert_eq!((first.len(), first[0].0, first[0].1), (2, 7, 1));
    assert_eq!(first[1], (7, 1, "자전거".into()));
}

#[tokio::test]
async fn a_keyword_that_is_read_after_the_post_finds_it_if_it_was_there_before() {
    let bed = Bed::new().await;
    let store = &bed.store;
    posts(store, [titled(1, 100, "자전거"), titled(2, 200, "자전거")]).await;
    posts(store, [event(3, 250, update(250, "자전거"))]).await;
    assert_eq!(matched(store).await, 0);
    let late = || {
        [
            kept(1, 7, "자전거", 150),
            kept(2, 8, "자전거", 50),
            kept(3, 9, "자전거", 300),
        ]
    };
    assert_eq!(keep(store, late()).await, 3);
    let expected = [(7, 2), (8, 1), (8, 2)];
    let pairs = async || -> Vec<(i64, i64)> {
        let told = told(store).await;
        let mut pairs: Vec<_> = told.into_iter().map(|(member, post, _)| (member, post)).collect();
        pairs.sort_unstable();
        pairs
    };
    assert_eq!(pairs().await, expected);
    assert_eq!(keep(store, late()).await, 0, "read again");
    // It died when the keywords were kept, and not compared yet.
    let not_joined = doc! { "$set": { "joined": false } };
    store.keywords.update_many(doc! {}, not_joined).await.unwrap();
    assert_eq!(keep(store, late()).await, 0);
    // And when posts that nobody waited for are read again.
    posts(store, [titled(1, 100, "자전거"), titled(2, 200, "자전거")]).await;
    assert_eq!(matched(store).await, 0);
    assert_eq!(pairs().await, expected);
}

/// Instances read posts and keywords at the same time, with nothing to tell them who is first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_keywords_and_posts_meet_nobody_is_missed() {
    let bed = Bed::new().await;
    let (one, _) = bed.counted().await;
    let (other, _) = bed.counted().await;
    let mut expected = BTreeSet::new();
    for round in SELLER..=40 {
        let (id, lsn) = (round + 1, 1000 * (round + 1));
        let word = format!("낱말{round}");
        // Every other keyword came first. Each of them is the only one that anybody waits for.
        let since = if round % 2 == 0 { lsn - 1 } else { lsn + 1 };
        if since < lsn {
            expected.insert((id, id));
        }
        bed.store.keywords.delete_many(doc! {}).await.unwrap();
        let keeps = keep(&one, [kept(id, id, &word, since)]);
        let reads = async {
            posts(&other, [titled(id, lsn, &word)]).await;
            matched(&other).await
        };
        tokio::join!(keeps, reads);
        matched(&one).await;
    }
    let found = told(&bed.store).await;
    let pairs: BTreeSet<_> = found.iter().map(|(member, post, _)| (*member, *post)).collect();
    assert_eq!(pairs, expected);
    assert_eq!(found.len(), expected.len(), "each once");
}

#[tokio::test]
async fn who_may_not_or_need_not_know_is_not_told() {
    const BLOCKING: i64 = 11;
    const BLOCKED: i64 = 12;
    const ERASED: i64 = 13;
    const FORGOT: i64 = 14;
    const WAITS: i64 = 15;
    let bed = Bed::new().await;
    let store = &bed.store;
    let members = [SELLER, BLOCKING, BLOCKED, ERASED, FORGOT, WAITS];
    keep(
        store,
        members.map(|member| kept(member, member, "자전거", member)),
    )
    .await;
    store.block(BLOCKING, SELLER, now()).await.unwrap();
    store.block(SELLER, BLOCKED, now()).await.unwrap();
    store.request_erasure(ERASED, now()).await.unwrap();
    keep(store, [keyword(FORGOT, KeywordChange::Delete { lsn: 50 })]).await;
    posts(
        store,
        [
            titled(1, 100, "자전거"),
            titled(2, 101, "자전거"),
            titled(3, 102, "전거"),
            // Not created here: read by a snapshot, or moved from another id.
            event(4, 103, update(103, "자전거")),
        ],
    )
    .await;
    posts(store, [event(2, 110, delete(110))]).await;
    assert_eq!(matched(store).await, 1);
    assert_eq!(told(store).await, [(WAITS, 1, "자전거".into())]);
    // An erased member's keyword is not kept, and what was kept goes.
    keep(store, [kept(90, ERASED, "가방", 120)]).await;
    let fence: Kept = store
        .keywords
        .find_one(doc! { "_id": 90 })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(fence.live, None);
    let lease = store.lease_erasure(now()).await.unwrap().unwrap();
    store.finish_erasure(lease, now()).await.unwrap();
    assert_eq!(
        store
            .keywords
            .count_documents(doc! { "member_id": ERASED })
            .await
            .unwrap(),
        0
    );
    assert_eq!(
        store
            .keywords
            .count_documents(doc! { "member_id": WAITS })
            .await
            .unwrap(),
        1
    );
}

#[tokio::test]
async fn a_truncate_of_one_table_leaves_the_other() {
    let bed = Bed::new().await;
    let store = &bed.store;
    keep(store, [kept(1, 7, "자전거", 10), kept(2, 7, "의자", 40)]).await;
    posts(store, [titled(1, 20, "책상")]).await;
    keep(store, [Event::KeywordsTruncated { lsn: 30 }]).await;
    let live = doc! { "state": "live" };
    assert_eq!(store.posts.count_documents(live.clone()).await.unwrap(), 1);
    // An older row is read from another partition.
    keep(store, [kept(3, 8, "자전거", 25)]).await;
    let texts = async || -> Vec<String> {
        let all: Vec<Kept> = store
            .keywords
            .find(doc! {})
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        all.into_iter()
            .filter_map(|kept| Some(kept.live?.keyword))
            .collect()
    };
    assert_eq!(texts().await, ["의자"]);
    batch(
        store,
        [Event::Truncate {
            lsn: 50,
            times: chat_service::cdc::change_event::CaptureTimes::default(),
        }],
        Duration::ZERO,
    )
    .await;
    assert_eq!(store.posts.count_documents(live).await.unwrap(), 0);
    assert_eq!(texts().await, ["의자"]);
}

#[tokio::test]
async fn batches_without_new_posts_pay_nothing_and_new_posts_little() {
    let bed = Bed::new().await;
    let (store, commands) = bed.counted().await;
    let cost = async |events: Vec<Event>| {
        commands.take();
        posts(&store, events).await;
        (commands.of("find"), commands.of("update"))
    };
    let new = |first: i64, count: i64| {
        (first..first + count)
            .map(|id| titled(id, 100 + id, "자전거"))
            .collect()
    };
    // Of a truncate, and whether anybody waits.
    assert_eq!(cost(new(1, 500)).await, (2, 0));
    let without_keywords = cost(vec![
        event(1, 1000, update(1000, "의자")),
        event(2, 1001, delete(1001)),
    ])
    .await;
    keep(&bed.store, [kept(1, 7, "가방", 10)]).await;
    assert_eq!(
        cost(vec![
            event(3, 1000, update(1000, "의자")),
            event(4, 1001, delete(1001))
        ])
        .await,
        without_keywords
    );
    assert_eq!(cost(new(1001, 1)).await, (2, 1));
    assert_eq!(cost(new(2001, 500)).await, (2, 1));
}

/// 100,000 keywords of others, one that 10,000 members wait for, and 500 new posts at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_keywords_cost_the_consumer_nothing_and_one_of_many_members_is_told_in_parts() {
    const MANY: i64 = 10_000;
    let bed = Bed::new().await;
    let of = |id: i64, member: i64, text: &str| {
        doc! {
            "_id": id, "lsn": 1_i64, "last": { "partition": 0, "offset": id, "is_delete": false },
            "member_id": member, "keyword": text, "gram": text.chars().take(2).collect::<String>(),
            "since": 1_i64, "joined": true,
        }
    };
    let others = (0..100_000_i64).map(|id| {
        of(
            id + 1,
            50_000 + id,
            &format!(
                "{}{id}",
                char::from_u32(0xac00 + u32::try_from(id % 3000).unwrap()).unwrap()
            ),
        )
    });
    let waiting = (1..=MANY).map(|member| of(200_000 + member, 1_000 + member, "자전거"));
    let all: Vec<Document> = others.chain(waiting).collect();
    let keywords = bed.store.keywords.clone_with_type::<Document>();
    for some in all.chunks(10_000) {
        keywords.insert_many(some).await.unwrap();
    }
    let (store, commands) = bed.counted().await;
    let begun = Instant::now();
    posts(
        &store,
        (1..=500).map(|id| titled(id, 100 + id, &format!("책상 {id}"))),
    )
    .await;
    let (sent, took) = (commands.take(), begun.elapsed());
    println!("a batch of 500 new posts beside 110,000 keywords: {took:?}, {sent:?}");
    assert!(sent.values().sum::<usize>() < 10, "{sent:?}");
    let begun = Instant::now();
    assert_eq!(matched(&store).await, 0);
    println!(
        "compared with them in {:?}, {:?}",
        begun.elapsed(),
        commands.take()
    );

    posts(&store, [titled(1001, 2001, "자전거 팝니다")]).await;
    commands.take();
    // Two do it at once, as when one was taken for dead.
    let slow = store.lease_matching(now()).await.unwrap().unwrap();
    let quick = store.lease_matching(in_an_hour()).await.unwrap().unwrap();
    let begun = Instant::now();
    let told_by = join_all([&slow, &quick].map(|leased| bed.store.match_leased(leased, in_an_hour))).await;
    let told_by: u64 = told_by.into_iter().map(Result::unwrap).sum();
    println!("told {MANY} members in {:?}", begun.elapsed());
    assert_eq!(told_by, u64::try_from(MANY).unwrap());
    let told = told(&bed.store).await;
    assert_eq!(told.len(), usize::try_from(MANY).unwrap());
    assert!(told.iter().all(|(_, post, _)| *post == 1001));
    assert_eq!(matched_at(&store, in_an_hour()).await, 0, "nothing is left to do");
}

#[tokio::test]
async fn a_post_that_is_created_here_with_nobody_waiting_is_left_alone() {
    let bed = Bed::new().await;
    posts(&bed.store, [event(1, 10, create(10))]).await;
    assert!(bed.store.lease_matching(now()).await.unwrap().is_none());
}

/// Nobody waits for a post that is there already, under another id; nor for the one that was there before.
#[tokio::test]
async fn a_post_that_comes_from_another_id_is_no_new_one() {
    let bed = Bed::new().await;
    let store = &bed.store;
    keep(store, [kept(1, 7, "자전거", 5)]).await;
    let arrives = |post: i64, lsn: i64| {
        let Event::Post(mut event) = titled(post, lsn, "자전거") else {
            unreachable!()
        };
        if let Change::Upsert { arrival, .. } = &mut event.change {
            *arrival = Some(Arrival::Moved);
        }
        Event::Post(event)
    };
    posts(store, [arrives(1, 20)]).await;
    // In the place of one that was created, and is not matched yet; and behind one in its batch.
    posts(store, [titled(2, 10, "자전거")]).await;
    posts(store, [arrives(2, 20)]).await;
    posts(store, [titled(3, 10, "자전거"), arrives(3, 20)]).await;
    assert_eq!(matched(store).await, 0);
    assert_eq!(store.posts_to_match().await.unwrap(), 0);
    keep(store, [kept(2, 8, "자전거", 6)]).await;
    assert!(told(store).await.is_empty());
    posts(store, [titled(2, 30, "자전거")]).await;
    assert_eq!(matched(store).await, 2);
}
