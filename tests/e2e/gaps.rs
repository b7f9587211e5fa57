//! A capture that was lost and made anew: what it missed is in no record, and that is noticed.

use chat_service::store::gaps::GapKind;
use e2e::{
    eventually::{eventually, eventually_is},
    world::World,
};
use local_stack::capture::Capture;
use reqwest::Method;
use serde_json::Value;

use crate::{BOUND, chat_about, insert_posts};

const SELLER: i64 = 1;
const BUYER: i64 = 2;

/// Has Debezium read the table again while it goes on.
const INCREMENTAL: &str = r#"INSERT INTO debezium_signal VALUES
    ('again', 'execute-snapshot', '{"data-collections": ["public.trade_posts"], "type": "incremental"}')"#;

/// What an operator asks of the world's connector.
async fn connector(world: &World, method: Method, what: &str) {
    let url = format!("{}/connectors/{}/{what}", world.stack.connect.url(), world.name);
    eventually(format!("{method} {what}"), BOUND, async || {
        let request = reqwest::Client::new().request(method.clone(), &url);
        let answer = request.send().await.unwrap();
        // 409 while the workers divide their work.
        let status = answer.status();
        if status.is_success() { Ok(()) } else { Err(status) }
    })
    .await;
}

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_in_the_middle_of_the_stream_is_remembered_as_a_gap() {
    World::run_before_capture(async |world| {
        // The first snapshot, changes, and an incremental one are in order.
        let posts = insert_posts(world, SELLER, 20, "before the capture").await;
        world.capture(Capture::of_database(&world.name)).await;
        world.known(&posts, BOUND).await;
        eventually_is("the first snapshot is read", BOUND, 20, async || {
            read_records(world).await
        })
        .await;
        let missed = insert_posts(world, SELLER, 2, "deleted while nobody looks").await;
        world.known(&missed, BOUND).await;
        let room = chat_about(world, missed[0], BUYER, 2).await;
        sqlx::query(INCREMENTAL).execute(&world.sql).await.unwrap();
        eventually_is("the incremental snapshot is read", BOUND, 42, async || {
            read_records(world).await
        })
        .await;
        let going_on = insert_posts(world, SELLER, 2, "behind the incremental snapshot").await;
        world.known(&going_on, BOUND).await;
        assert_eq!(world.store.gaps(None, 10).await.unwrap(), []);

        connector(world, Method::PUT, "stop").await;
        let superuser = world.stack.postgres.superuser(&world.name).await;
        let mut superuser = superuser.unwrap();
        let drop =
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1";
        eventually("the slot is dropped", BOUND, async || {
            sqlx::query(drop)
                .bind(&world.name)
                .execute(&mut superuser)
                .await
                .map(|_| ())
        })
        .await;
        connector(world, Method::DELETE, "offsets").await;
        sqlx::query("DELETE FROM trade_posts WHERE id = ANY($1)")
            .bind(&missed)
            .execute(&world.sql)
            .await
            .unwrap();
        connector(world, Method::PUT, "resume").await;
        eventually_is("the second snapshot is read", BOUND, 64, async || {
            read_records(world).await
        })
        .await;

        let gaps = world.store.gaps(None, 10).await.unwrap();
        let [gap] = &gaps[..] else { panic!("{gaps:?}") };
        assert_eq!((gap.kind, gap.resolved_at), (GapKind::Snapshot, None), "{gap:?}");
        let log = std::fs::read_to_string(world.chat.server.log()).unwrap();
        let told = log
            .lines()
            .filter(|line| line.contains("changes may have been missed"));
        assert_eq!(told.filter(|line| line.contains(&gap.id)).count(), 1, "said once");
        let url = format!("{}/admin/v1/consumer", world.chat.admin_url());
        eventually_is("the consumer tells", BOUND, Value::from(1), async || {
            let consumer: Value = reqwest::get(&url).await.unwrap().json().await.unwrap();
            consumer["suspected_gaps"].clone()
        })
        .await;
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
