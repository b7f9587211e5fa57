//! A capture that was lost and made anew: what it missed is in no record, and that is noticed.

use chat_service::store::gaps::{Gap, GapKind};
use e2e::{
    eventually::{eventually, eventually_is},
    missed::{ask_connect, go_on_without_snapshot, lose_slot},
    world::{World, consumer_of},
};
use local_stack::capture::Capture;
use reqwest::Method;
use serde_json::Value;

use crate::{BOUND, chat_about, consumer::heartbeat, insert_posts};

const SELLER: i64 = 1;
const BUYER: i64 = 2;

/// Has Debezium read the table again while it goes on.
const INCREMENTAL: &str = r#"INSERT INTO debezium_signal VALUES
    ('again', 'execute-snapshot', '{"data-collections": ["public.trade_posts"], "type": "incremental"}')"#;

/// Rows that snapshots of either kind have read.
async fn read_records(world: &World) -> usize {
    let url = format!("{}/metrics", world.chat.admin_url());
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    let lines = text.lines().filter_map(|line| {
        let (labels, value) = line.strip_prefix("cdc_records_total")?.rsplit_once(' ')?;
        let reads = labels.contains("read\"") && labels.contains("applied");
        reads.then(|| value.parse::<usize>().unwrap())
    });
    lines.sum()
}

/// Waits until so many are read, and answers how many. A batch that a rebalance breaks off is read again, and counted.
async fn until_read(world: &World, rows: usize) -> usize {
    eventually(format!("{rows} rows of snapshots are read"), BOUND, async || {
        let read = read_records(world).await;
        if read >= rows { Ok(read) } else { Err(read) }
    })
    .await
}

/// Waits until chat-service's admin API tells of so many gaps.
pub async fn suspected(world: &World, gaps: usize) {
    eventually_is("the consumer tells", BOUND, Value::from(gaps), async || {
        consumer_of(&world.chat).await.unwrap()["suspected_gaps"].clone()
    })
    .await;
}

/// Checks that there is one gap, of this kind, and answers it.
async fn only_gap(world: &World, kind: GapKind) -> Gap {
    let mut gaps = world.store.gaps(None, 10).await.unwrap();
    let kinds: Vec<GapKind> = gaps.iter().map(|gap| gap.kind).collect();
    assert_eq!(kinds, [kind], "{gaps:?}");
    gaps.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_in_the_middle_of_the_stream_is_remembered_as_a_gap() {
    World::run_before_capture(async |world| {
        // The first snapshot, changes, and an incremental one are in order.
        let posts = insert_posts(world, SELLER, 20, "before the capture").await;
        world.capture(Capture::of_database(&world.name)).await;
        world.known(&posts, BOUND).await;
        let read = until_read(world, 20).await;
        let missed = insert_posts(world, SELLER, 2, "deleted while nobody looks").await;
        world.known(&missed, BOUND).await;
        let room = chat_about(world, missed[0], BUYER, 2).await;
        sqlx::query(INCREMENTAL).execute(&world.sql).await.unwrap();
        let read = until_read(world, read + 22).await;
        let going_on = insert_posts(world, SELLER, 2, "behind the incremental snapshot").await;
        world.known(&going_on, BOUND).await;
        assert_eq!(world.store.gaps(None, 10).await.unwrap(), []);

        lose_slot(world).await;
        ask_connect(world, Method::DELETE, "offsets").await;
        sqlx::query("DELETE FROM trade_posts WHERE id = ANY($1)")
            .bind(&missed)
            .execute(&world.sql)
            .await
            .unwrap();
        ask_connect(world, Method::PUT, "resume").await;
        until_read(world, read + 22).await;

        let gap = only_gap(world, GapKind::Snapshot).await;
        assert_eq!(gap.resolved_at, None, "{gap:?}");
        let log = std::fs::read_to_string(world.chat.server.log()).unwrap();
        let told = log
            .lines()
            .filter(|line| line.contains("changes may have been missed"));
        assert_eq!(told.filter(|line| line.contains(&gap.id)).count(), 1, "said once");
        suspected(world, 1).await;
        let open = world.member(BUYER).room(&room).await.unwrap();
        assert_eq!(
            open.trade_post.id, missed[0],
            "that its post was deleted is in no record"
        );

        // Read again by a process that knows nothing, it is the same suspicion.
        world.chat.server.restart().await.unwrap();
        let later = insert_posts(world, SELLER, 3, "later").await;
        world.known(&later, BOUND).await;
        assert_eq!(world.store.gaps(None, 10).await.unwrap().len(), 1);
    })
    .await;
}

/// They look as if the connector had begun anew. No heartbeat comes before them here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_changes_behind_a_snapshot_are_no_gap() {
    let capture = |world: &World| {
        let mut capture = Capture::of_database(&world.name);
        let hour = ("heartbeat.interval.ms".to_owned(), "3600000".to_owned());
        capture.settings.extend([hour]);
        capture
    };
    World::run_before_capture(async |world| {
        let posts = insert_posts(world, SELLER, 20, "before the capture").await;
        world.capture(capture(world)).await;
        world.known(&posts, BOUND).await;
        // All in one transaction, in each partition.
        let first = insert_posts(world, SELLER, 20, "behind the snapshot").await;
        world.known(&first, BOUND).await;
        let later = insert_posts(world, SELLER, 3, "later").await;
        world.known(&later, BOUND).await;
        assert_eq!(world.store.gaps(None, 10).await.unwrap(), []);

        lose_slot(world).await;
        go_on_without_snapshot(world, capture(world)).await;
        let anew = insert_posts(world, SELLER, 20, "begun anew").await;
        world.known(&anew, BOUND).await;
        only_gap(world, GapKind::BegunAnew).await;
    })
    .await;
}

/// The heartbeat is in every table's snapshot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_finds_no_post_is_remembered_as_a_gap() {
    World::run(async |world| {
        let posts = insert_posts(world, SELLER, 2, "the last of all").await;
        world.known(&posts, BOUND).await;
        eventually("a heartbeat", BOUND, async || heartbeat(world).await).await;
        assert_eq!(world.store.gaps(None, 10).await.unwrap(), []);
        lose_slot(world).await;
        ask_connect(world, Method::DELETE, "offsets").await;
        let delete = sqlx::query("DELETE FROM trade_posts");
        delete.execute(&world.sql).await.unwrap();
        ask_connect(world, Method::PUT, "resume").await;
        suspected(world, 1).await;
        only_gap(world, GapKind::Snapshot).await;
    })
    .await;
}

/// Twice, because a connector may begin anew more often than once, and the first time of a system is in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connector_that_begins_anew_with_no_snapshot_is_remembered_as_a_gap() {
    World::run_before_capture(async |world| {
        let mut first = Capture::of_database(&world.name);
        first
            .settings
            .insert("snapshot.mode".to_owned(), "no_data".to_owned());
        world.capture(first).await;
        let posts = insert_posts(world, SELLER, 3, "the first of all").await;
        world.known(&posts, BOUND).await;
        ask_connect(world, Method::PUT, "stop").await;
        ask_connect(world, Method::PUT, "resume").await;
        let posts = insert_posts(world, SELLER, 3, "read on after a halt").await;
        world.known(&posts, BOUND).await;
        assert_eq!(world.store.gaps(None, 10).await.unwrap(), []);

        for (times, missed) in (1..).zip(&posts[..2]) {
            lose_slot(world).await;
            sqlx::query("DELETE FROM trade_posts WHERE id = $1")
                .bind(missed)
                .execute(&world.sql)
                .await
                .unwrap();
            go_on_without_snapshot(world, Capture::of_database(&world.name)).await;
            // The connector's own heartbeat is enough.
            suspected(world, times).await;
            let later = insert_posts(world, SELLER, 20, "begun anew").await;
            world.known(&later, BOUND).await;
            let gaps = world.store.gaps(None, 10).await.unwrap();
            assert_eq!(gaps.len(), times, "{gaps:?}");
            assert!(gaps.iter().all(|gap| gap.kind == GapKind::BegunAnew), "{gaps:?}");
        }
    })
    .await;
}
