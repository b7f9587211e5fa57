//! Deletes that the capture has missed are found and repaired, beside changes that go on; nothing else is touched,
//! and nothing is closed unless it is confirmed.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use chat_service::{
    cdc::change_event::{Change, Event},
    keyword::Kept,
    reconciliation,
    room::DeletionId,
    store::{
        deletions::Deletion,
        posts::{PostState, TradePost},
    },
};
use connectors::{
    reconcile::{self, KeywordCandidate, PostCandidate, ReconcileError, State},
    schemas::Table,
};
use e2e::{
    chats::Deletions,
    eventually::{eventually, eventually_is},
    load::fill,
    missed::{Servers, ask_connect, go_on_without_snapshot, lose_slot},
    world::World,
};
use futures_util::TryStreamExt;
use local_stack::{capture::Capture, progress::Progress, services};
use mongodb::bson::{Document, doc};
use reqwest::Method;
use sqlx::{Postgres, Transaction};
use tokio::{process::Command, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{again::consumed, insert_posts, records::writer_schemas};

const POSTS: i64 = 10_000;
/// One post in so many is deleted while nobody captures.
const MISSED: i64 = 10;
/// Ids that the table does not come to.
const GHOSTS: i64 = 1_000_000;
const SELLER: i64 = 1;
const BUYER: i64 = 2;
/// Between a new post and the next.
const STEP: Duration = Duration::from_millis(10);
const BOUND: Duration = Duration::from_mins(2);
const TIMEOUT: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletes_that_were_missed_are_repaired_and_nothing_else_is_touched() {
    World::run_before_capture(async |world| {
        let capture = capture(world);
        world.capture(capture.clone()).await;
        let posts = insert_posts(world, SELLER, POSTS, "before").await;
        world.known(&posts, BOUND).await;
        fill::rooms(&world.store, &posts, BUYER, 2).await;
        let keywords = insert_keywords(world, 1..=6).await;
        live_keywords(world, &keywords).await;
        consumed(world, &world.name).await;

        lose_slot(world).await;
        let missed: BTreeSet<i64> = posts.iter().copied().filter(|post| post % MISSED == 0).collect();
        delete(world, &missed).await;
        let created_unseen = insert_posts(world, SELLER, 3, "unseen").await;
        let renamed = posts.iter().copied().find(|post| !missed.contains(post)).unwrap();
        rename(world, renamed, "아무도 못 본 제목").await;
        delete_keywords(world, &keywords[..2]).await;
        let kept_unseen = insert_keywords(world, 7..=7).await;
        go_on_without_snapshot(world, capture).await;

        let before = other_rooms(world, renamed).await;
        looked_at_and_left(world, &missed, renamed).await;
        assert!(other_rooms(world, renamed).await == before, "nothing is closed");
        world.known(&created_unseen, BOUND).await;

        // In earnest, while posts come, change and go.
        let churn = Churn::start(world);
        let late = *posts.iter().rev().find(|post| !missed.contains(post)).unwrap();
        let begun = Instant::now();
        let servers = Servers::of(world);
        let run = servers.begin(Table::TradePosts, TIMEOUT).await;
        // Written to the log now, and committed when all is over.
        let mut uncommitted = world.sql.begin().await.unwrap();
        let delete = sqlx::query("DELETE FROM trade_posts WHERE id = $1").bind(late);
        delete.execute(&mut *uncommitted).await.unwrap();
        let ready = run.ready(|_| {}).await.unwrap();
        println!("known after {:?}", begun.elapsed());
        assert_eq!(ready.candidates, Some(i64::try_from(missed.len()).unwrap()));
        let mut found = BTreeSet::new();
        run.second_look(|page: &[PostCandidate]| found.extend(page.iter().map(|post| post.trade_post_id)))
            .await
            .unwrap();
        assert_eq!(found, missed);
        let done = run.confirm(|_| {}).await.unwrap();
        println!("closed after {:?}", begun.elapsed());
        assert_eq!((done.posts_closed, done.rooms_closed), (1_000, 1_000));
        uncommitted.commit().await.unwrap();
        let churned = churn.stop().await;

        world.erased(missed.len() as u64 + 1, BOUND).await;
        println!("erased after {:?}", begun.elapsed());
        let start = world
            .store
            .reconciliation(&run.id)
            .await
            .unwrap()
            .unwrap()
            .span
            .start_lsn;
        let by_delete = deletions(world).await;
        let repaired: BTreeSet<i64> = by_delete
            .iter()
            .filter(|(_, lsn)| **lsn == start)
            .map(|(post, _)| *post)
            .collect();
        assert_eq!(repaired, missed, "exactly these");
        assert!(by_delete[&late] > start, "that one by its own delete");
        was_read_before_its_delete_was_committed(world, late, start).await;
        consumed(world, &world.name).await;
        world.known(&churned.living, BOUND).await;
        assert_eq!(world.orphans().await, (vec![], vec![]));
        assert_eq!(
            (world.count("rooms").await, world.count("messages").await),
            (8_999, 2 * 8_999)
        );
        let gone = before.iter().filter(|room| {
            let post = room.get_i64("trade_post_id").unwrap();
            missed.contains(&post) || post == late
        });
        let gone = gone.map(|room| room.get_object_id("_id").unwrap().to_hex());
        let told = gone.flat_map(|room| [SELLER, BUYER].map(|member| (room.clone(), member)));
        world.told_once(&told.collect()).await;
        assert_eq!(world.count("dead_letters").await, 0);

        let kept = [&keywords[2..], &kept_unseen[..]].concat();
        let kept = keywords_are_repaired(world, &keywords[..2], &kept).await;

        // A second one finds nothing.
        let one = cli(world, &["--yes", "--table", "keywords"]).await;
        assert_eq!(one.code, Some(0), "{one:?}");
        assert!(one.out.starts_with("keywords: waiting"), "{}", one.out);
        assert!(!one.out.contains("posts"), "{}", one.out);
        let again = cli(world, &["--yes"]).await;
        assert_eq!(again.code, Some(0), "{again:?}");
        assert_eq!(
            again.out.matches("no delete was missed").count(),
            2,
            "{}",
            again.out
        );
        assert!(again.out.contains("closed 0 posts"), "{}", again.out);
        assert!(again.out.contains("ended 0 keywords"), "{}", again.out);
        live_keywords(world, &kept).await;
    })
    .await;
}

/// In earnest, while one of them is deleted and one comes. Answers those that live then.
async fn keywords_are_repaired(world: &World, missed: &[i64], kept: &[i64]) -> Vec<i64> {
    let servers = Servers::of(world);
    let run = servers.begin(Table::Keywords, TIMEOUT).await;
    let (late, kept) = kept.split_first().unwrap();
    // Written to the log now, and committed when all is over.
    let mut uncommitted = world.sql.begin().await.unwrap();
    let delete = sqlx::query("DELETE FROM keywords WHERE id = $1").bind(late);
    delete.execute(&mut *uncommitted).await.unwrap();
    let come = insert_keywords(world, 8..=8).await;
    let ready = run.ready(|_| {}).await.unwrap();
    assert_eq!(ready.candidates, Some(missed.len().try_into().unwrap()));
    let mut found = Vec::new();
    run.second_look(|page: &[KeywordCandidate]| found.extend(page.iter().map(|keyword| keyword.keyword_id)))
        .await
        .unwrap();
    assert_eq!(found, missed);
    run.second_look(|page: &[PostCandidate]| assert_eq!(page, [], "it is not about posts"))
        .await
        .unwrap();
    let done = run.confirm(|_| {}).await.unwrap();
    assert_eq!((done.keywords_ended, done.posts_closed), (2, 0));
    uncommitted.commit().await.unwrap();
    let kept = [kept, &come].concat();
    live_keywords(world, &kept).await;
    kept
}

/// One keyword for each of these members.
async fn insert_keywords(world: &World, members: RangeInclusive<i64>) -> Vec<i64> {
    let mut ids = Vec::new();
    for member in members {
        let insert = "INSERT INTO keywords (member_id, keyword, place) VALUES ($1, '자전거', 1) RETURNING id";
        let id: i64 = sqlx::query_scalar(insert)
            .bind(member)
            .fetch_one(&world.sql)
            .await
            .unwrap();
        ids.push(id);
    }
    ids
}

async fn delete_keywords(world: &World, ids: &[i64]) {
    let delete = sqlx::query("DELETE FROM keywords WHERE id = ANY($1)").bind(ids);
    delete.execute(&world.sql).await.unwrap();
}

/// Waits until chat-service has these keywords, and no others.
async fn live_keywords(world: &World, ids: &[i64]) {
    eventually_is("keywords", BOUND, ids.to_vec(), async || {
        let live = doc! { "gram": { "$exists": true } };
        let live = world.store.keywords.find(live).sort(doc! { "_id": 1 });
        let live: Vec<Kept> = live.await.unwrap().try_collect().await.unwrap();
        live.iter().map(|keyword| keyword.id).collect()
    })
    .await;
}

/// All rooms but those of the post.
async fn other_rooms(world: &World, post: i64) -> Vec<Document> {
    let mut rooms = world.everything("rooms").await;
    rooms.retain(|room| room.get_i64("trade_post_id").is_ok_and(|about| about != post));
    rooms
}

/// Looked at, and then begun and left. What was changed unseen is known and told by the way.
async fn looked_at_and_left(world: &World, missed: &BTreeSet<i64>, renamed: i64) {
    let dry = cli(world, &["--dry-run"]).await;
    assert_eq!(dry.code, Some(0), "{dry:?}");
    assert_eq!(&listed(&dry.out), missed, "{}", dry.err);
    assert!(dry.out.contains("1000 posts with 1000 open rooms"), "{}", dry.out);
    assert!(
        dry.out.contains("\n2 keywords are not in the table"),
        "{}",
        dry.out
    );
    let strange = cli(world, &["--table", "posts"]).await;
    assert_eq!(strange.code, Some(2), "{strange:?}");
    assert!(strange.err.contains("trade-posts or keywords"), "{}", strange.err);
    let (left, held) = begun_and_left(world).await;
    held.rollback().await.unwrap();
    let refused = cli(world, &["--yes"]).await;
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(
        refused.err.contains(&format!("--cancel {left}")),
        "{}",
        refused.err
    );
    let cancelled = cli(world, &["--cancel", &left]).await;
    assert_eq!(cancelled.code, Some(0), "{cancelled:?}");
    let post = world.store.post(renamed).await.unwrap().unwrap();
    assert_eq!(post.title.as_deref(), Some("아무도 못 본 제목"));
    assert_eq!(
        world.count("notifications").await,
        2,
        "its two members are told, and nobody else"
    );
}

/// Small chunks, so that there are many; heartbeats often, so that nothing waits for them.
fn capture(world: &World) -> Capture {
    let mut capture = Capture::of_database(&world.name);
    for (setting, value) in [
        ("incremental.snapshot.chunk.size", "200"),
        ("heartbeat.interval.ms", "300"),
    ] {
        capture.settings.insert(setting.to_owned(), value.to_owned());
    }
    capture
}

/// Begins a reconciliation and goes away as soon as the table is being read. Answers its id, and what keeps the
/// reading from coming to its end.
async fn begun_and_left(world: &World) -> (String, Transaction<'static, Postgres>) {
    let servers = Servers::of(world);
    let run = servers.begin(Table::TradePosts, TIMEOUT).await;
    let id = run.id.clone();
    // Where Debezium writes a row before it reads the next chunk.
    let mut held = world.sql.begin().await.unwrap();
    let lock = sqlx::query("LOCK TABLE debezium_signal IN SHARE MODE");
    lock.execute(&mut *held).await.unwrap();
    let (seen, first) = tokio::sync::oneshot::channel();
    let mut seen = Some(seen);
    let reading = run.ready(|run| {
        if run.state != State::Waiting
            && let Some(seen) = seen.take()
        {
            seen.send(()).unwrap();
        }
    });
    tokio::select! {
        ready = reading => panic!("it was not left: {ready:?}"),
        seen = first => seen.unwrap(),
    }
    (id, held)
}

#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs the command without a terminal.
async fn cli(world: &World, arguments: &[&str]) -> Ended {
    let programs = services::programs(&Progress::for_tests()).await.unwrap();
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(&programs.connectors)
        .args(["reconcile", &world.name, "--timeout", "120"])
        .args(arguments)
        .env("CONNECT_URL", world.stack.connect.url())
        .env(
            "TRADE_DATABASE_URL",
            world.stack.postgres.connection_url(&world.name),
        )
        .env("CHAT_ADMIN_URL", world.chat.admin_url())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    Ended {
        code: status.code(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

/// The posts in a list that was printed.
fn listed(out: &str) -> BTreeSet<i64> {
    let posts = out.lines().filter_map(|line| line.strip_prefix("  post "));
    posts
        .map(|line| line.split(' ').next().unwrap().parse().unwrap())
        .collect()
}

async fn delete(world: &World, posts: &BTreeSet<i64>) {
    let posts: Vec<i64> = posts.iter().copied().collect();
    let delete = sqlx::query("DELETE FROM trade_posts WHERE id = ANY($1)").bind(&posts);
    let deleted = delete.execute(&world.sql).await.unwrap();
    assert_eq!(deleted.rows_affected(), posts.len() as u64);
}

async fn rename(world: &World, post: i64, title: &str) {
    let update = sqlx::query("UPDATE trade_posts SET title = $2 WHERE id = $1")
        .bind(post)
        .bind(title);
    update.execute(&world.sql).await.unwrap();
}

/// The posts of all deletions, each with its LSN.
async fn deletions(world: &World) -> BTreeMap<i64, i64> {
    let all: Vec<Deletion> = world
        .store
        .deletions
        .find(doc! {})
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let ids = all.into_iter().map(|deletion| deletion.id);
    ids.map(|DeletionId { post, lsn }| (post, lsn)).collect()
}

/// Checks that this was the case which it is about: the snapshot has shown the post at a position behind its delete.
async fn was_read_before_its_delete_was_committed(world: &World, post: i64, start: i64) {
    let records = world.topic().read().await;
    let (schemas, _) = writer_schemas(world, &records).await;
    let (mut read, mut deleted) = (None, None);
    for record in &records {
        match schemas.by_chat_service(record) {
            Ok(Event::Post(event)) if event.trade_post_id == post => match event.change {
                Change::Upsert { lsn, .. } if lsn > start => read = Some(lsn),
                Change::Delete { lsn, .. } => deleted = Some(lsn),
                _ => {}
            },
            _ => {}
        }
    }
    assert!(
        read > deleted && deleted.is_some(),
        "read at {read:?}, deleted at {deleted:?}"
    );
}

/// Posts that come, change and go until it is told to stop.
struct Churn {
    stop: CancellationToken,
    task: JoinHandle<Churned>,
}

struct Churned {
    living: Vec<i64>,
}

impl Churn {
    fn start(world: &World) -> Self {
        let stop = CancellationToken::new();
        let (sql, stopped) = (world.sql.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let mut living = Vec::new();
            let mut steps = tokio::time::interval(STEP);
            for number in 0.. {
                if stopped.is_cancelled() {
                    break;
                }
                let insert = "INSERT INTO trade_posts (seller_id, title, body, price, category)
                              VALUES (3, '새 글', '', 1, 'churn') RETURNING id";
                let post: i64 = sqlx::query_scalar(insert).fetch_one(&sql).await.unwrap();
                living.push(post);
                let update =
                    sqlx::query("UPDATE trade_posts SET status = 'reserved' WHERE id = $1").bind(post);
                update.execute(&sql).await.unwrap();
                if number % 2 == 0 {
                    let first = living.remove(0);
                    let delete = sqlx::query("DELETE FROM trade_posts WHERE id = $1").bind(first);
                    delete.execute(&sql).await.unwrap();
                }
                steps.tick().await;
            }
            Churned { living }
        });
        Self { stop, task }
    }

    async fn stop(self) -> Churned {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

/// Posts that chat-service takes for live and that were never in the table, each with a room.
async fn ghosts(world: &World, count: i64) -> BTreeSet<i64> {
    let ids: BTreeSet<i64> = (GHOSTS..GHOSTS + count).collect();
    let posts: Vec<TradePost> = ids
        .iter()
        .map(|id| TradePost {
            id: *id,
            seller_id: Some(SELLER),
            title: Some("없는 글".into()),
            status: Some("on_sale".into()),
            state: PostState::Live,
            lsn: 1,
            generation: 1,
            deleted_at: None,
            ends: Vec::new(),
            arrivals: Vec::new(),
        })
        .collect();
    world.store.posts.insert_many(&posts).await.unwrap();
    let ids_in_order: Vec<i64> = ids.iter().copied().collect();
    fill::rooms(&world.store, &ids_in_order, BUYER, 1).await;
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_repair_closes_nothing_and_a_confirmed_one_is_finished_whatever_dies() {
    World::run_before_capture(async |world| {
        let mut capture = capture(world);
        let settings = &mut capture.settings;
        // So many chunks that the connector is stopped among them.
        settings.insert("incremental.snapshot.chunk.size".to_owned(), "4".to_owned());
        world.capture(capture).await;
        let posts = insert_posts(world, SELLER, 1_000, "here").await;
        world.known(&posts, BOUND).await;
        let ghosts = ghosts(world, 3_000).await;

        // The connector is stopped while it reads the table, and the repair is given up.
        let servers = Servers::of(world);
        let (left, held) = begun_and_left(world).await;
        ask_connect(world, Method::PUT, "stop").await;
        let scanning = world.store.reconciliation(&left).await.unwrap().unwrap();
        assert_eq!(scanning.state, reconciliation::State::Scanning);
        servers.chat.cancel(&left).await.unwrap();
        held.rollback().await.unwrap();
        ask_connect(world, Method::PUT, "resume").await;
        let config = Capture::of_database(&world.name);
        eventually("the connector runs again", BOUND, async || {
            let checked = reconcile::check(&servers.connect, &servers.database, &config.connector).await;
            checked.map_err(|error| error.to_string())
        })
        .await;

        // The next one waits for the snapshot that was under way. A post that is there stops it.
        let run = servers.begin(Table::TradePosts, TIMEOUT).await;
        let ready = run.ready(|_| {}).await.unwrap();
        assert_eq!(ready.candidates, Some(3_000));
        let unseen = doc! { "$set": { "lsn": 1_i64 } };
        let one = doc! { "_id": posts[7] };
        world.store.posts.update_one(one, unseen).await.unwrap();
        match run.second_look(|_: &[PostCandidate]| {}).await {
            Err(ReconcileError::Exist { ids, .. }) => assert_eq!(ids, [posts[7]]),
            other => panic!("{other:?}"),
        }
        let stopped = world.store.reconciliation(&run.id).await.unwrap().unwrap();
        assert_eq!(stopped.state, reconciliation::State::Cancelled);
        assert_eq!(
            world.deletions().await,
            Deletions {
                done: 0,
                unfinished: 0
            }
        );

        // Away for a moment while the command waits for it, then confirmed, and killed at once.
        let run = servers.begin(Table::TradePosts, TIMEOUT).await;
        let (ready, again) = tokio::join!(run.ready(|_| {}), world.chat.server.restart());
        again.unwrap();
        assert_eq!(ready.unwrap().candidates, Some(3_000));
        let url = format!(
            "{}/admin/v1/reconciliations/{}/confirm",
            world.chat.admin_url(),
            run.id
        );
        let confirmed = reqwest::Client::new().post(url).send().await.unwrap();
        assert!(confirmed.status().is_success(), "{confirmed:?}");
        world.chat.server.kill().unwrap();
        world.end_transactions().await;
        let closed_before = world.deletions().await;
        world.chat.server.restart().await.unwrap();
        world.erased(3_000, BOUND).await;
        println!("{closed_before:?} when it was killed");
        eventually("the repair is done", BOUND, async || {
            let run = world.store.reconciliation(&run.id).await.unwrap().unwrap();
            let all = run.closed.posts == 3_000 && run.closed.rooms == 3_000;
            if run.state == reconciliation::State::Done && all {
                Ok(())
            } else {
                Err(run)
            }
        })
        .await;
        let closed: BTreeSet<i64> = deletions(world).await.into_keys().collect();
        assert_eq!(closed, ghosts);
        world.known(&posts, BOUND).await;
        let told = doc! { "kind": "room_closed" };
        assert_eq!(
            world.store.notifications.count_documents(told).await.unwrap(),
            6_000
        );
        assert_eq!(world.count("dead_letters").await, 0);
    })
    .await;
}
